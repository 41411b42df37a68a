//! World and policies → set elements, event by event.
