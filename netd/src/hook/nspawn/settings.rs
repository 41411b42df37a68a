//! A `.nspawn` file (systemd.nspawn(5)): what it says of the network, and what is left without that.

use std::path::PathBuf;

use crate::nspawn::{FileError, syntax};

/// A file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) network: Network,
    /// The file without its section `[Network]`, all else as it was.
    pub(super) without_network: String,
}

/// The section `[Network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) zone: Option<String>,
    pub(super) bridge: Option<String>,
    pub(super) ports: Vec<String>,
    pub(super) private: Option<bool>,
    /// Keys that are set, and give other interfaces than the zone's.
    pub(super) others: Vec<String>,
}

impl Settings {
    /// Takes a file apart.
    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self, FileError> {
        let wrong = |line, why: String| FileError::Line {
            path: path.clone(),
            line,
            why,
        };
        let mut network = Network::default();
        let mut rest = String::new();
        for line in syntax::lines(text).map_err(|w| wrong(w.line, w.why))? {
            if line.section != "Network" {
                rest.push_str(line.raw);
                rest.push('\n');
            } else if let Some((key, value)) = &line.assignment {
                let taken = network.take(key, value);
                taken.map_err(|why| wrong(line.number, why.to_owned()))?;
            }
        }
        Ok(Self {
            path,
            network,
            without_network: rest,
        })
    }
}

impl Network {
    /// One assignment. An empty value takes back what came before.
    fn take(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let text = (!value.is_empty()).then(|| value.to_owned());
        match key {
            "Zone" => self.zone = text,
            "Bridge" => self.bridge = text,
            "Port" => match text {
                Some(port) => self.ports.push(port),
                None => self.ports.clear(),
            },
            "Private" => self.private = text.map(|t| boolean(&t)).transpose()?,
            "VirtualEthernet" => {
                // a zone is one anyway
                text.map(|t| boolean(&t)).transpose()?;
            }
            "VirtualEthernetExtra" | "Interface" | "MACVLAN" | "IPVLAN" | "NamespacePath" => {
                self.others.retain(|other| other != key);
                self.others.extend(text.map(|_| key.to_owned()));
            }
            _ => return Err("is no key of [Network] that netd knows"),
        }
        Ok(())
    }
}

fn boolean(text: &str) -> Result<bool, &'static str> {
    spawner::boolean(text).ok_or("is neither yes nor no")
}
