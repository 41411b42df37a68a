//! The slow, obvious answer to the question whether a connection may be opened.
