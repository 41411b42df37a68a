//! One file a comparison: what is set up, what is measured, what is printed.

pub(crate) mod attach;
pub(crate) mod connect;
pub(crate) mod contrast;
pub(crate) mod detach;
pub(crate) mod dhcp;
pub(crate) mod dns;
pub(crate) mod edit;
pub(crate) mod floor;
pub(crate) mod labels;
pub(crate) mod memory;
pub(crate) mod rtt;
pub(crate) mod start;
pub(crate) mod sustained;
