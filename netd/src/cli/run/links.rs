//! Options of `netd run` about networks that are not netd's zones.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use zone::{IfName, NameError};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct LinkArgs {
    /// A veth to the host: `ve-NAME` here, host0 inside. No zone: nobody judges what passes
    #[arg(short = 'n', long)]
    pub(crate) network_veth: bool,
    /// Another veth, by its name here and inside; may be repeated
    #[arg(long, value_name = "IFNAME[:IFNAME]")]
    pub(crate) network_veth_extra: Vec<Pair>,
    /// The veth's host end, `vb-NAME`, becomes a port of this bridge; of a zone's bridge it is attached to the zone
    #[arg(long, value_name = "BRIDGE")]
    pub(crate) network_bridge: Option<IfName>,
    /// An interface of the host goes inside, and comes back afterwards; may be repeated
    #[arg(long, value_name = "IFNAME")]
    pub(crate) network_interface: Vec<IfName>,
    /// A macvlan, `mv-IFNAME`, of this interface; may be repeated
    #[arg(long, value_name = "IFNAME")]
    pub(crate) network_macvlan: Vec<IfName>,
    /// An ipvlan, `iv-IFNAME`, of this interface; may be repeated
    #[arg(long, value_name = "IFNAME")]
    pub(crate) network_ipvlan: Vec<IfName>,
    /// The network namespace that it runs in, such as /run/netns/NAME
    #[arg(long, value_name = "PATH", value_parser = super::absolute)]
    pub(crate) network_namespace_path: Option<PathBuf>,
}

/// Names of the two ends of a veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) host: IfName,
    pub(crate) inside: IfName,
}

impl FromStr for Pair {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (host, inside) = text.split_once(':').unwrap_or((text, text));
        Ok(Self {
            host: host.parse()?,
            inside: inside.parse()?,
        })
    }
}
