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
    /// An interface of the host goes inside, perhaps under another name, and comes back afterwards; may be repeated
    #[arg(long, value_name = "IFNAME[:IFNAME]")]
    pub(crate) network_interface: Vec<Pair>,
    /// A macvlan of this interface, `mv-IFNAME` where no other name is given; may be repeated
    #[arg(long, value_name = "IFNAME[:IFNAME]")]
    pub(crate) network_macvlan: Vec<Pair>,
    /// An ipvlan of this interface, `iv-IFNAME` where no other name is given; may be repeated
    #[arg(long, value_name = "IFNAME[:IFNAME]")]
    pub(crate) network_ipvlan: Vec<Pair>,
    /// The network namespace that it runs in, such as /run/netns/NAME
    #[arg(long, value_name = "PATH", value_parser = super::absolute)]
    pub(crate) network_namespace_path: Option<PathBuf>,
}

/// A name here, and one inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) host: IfName,
    pub(crate) inside: Option<IfName>,
}

impl FromStr for Pair {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (host, inside) = match text.split_once(':') {
            Some((host, inside)) => (host, Some(inside)),
            None => (text, None),
        };
        Ok(Self {
            host: host.parse()?,
            inside: inside.map(str::parse).transpose()?,
        })
    }
}
