//! Root file systems of machines.
