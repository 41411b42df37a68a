//! Packets of the stories: namespaces, servers, probes, raw frames and traps.

pub mod clients;
pub mod dhcp;
pub mod dns;
pub mod ears;
pub mod flow;
pub mod frame;
pub mod life;
pub mod netns;
pub mod packet;
pub mod probe;
pub mod raw;
pub mod server;
pub mod steady;
pub mod trap;
pub mod volley;
