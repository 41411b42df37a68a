//! A `.nspawn` file (systemd.nspawn(5)): what it says of the network, and what is left without that.

use std::path::PathBuf;

/// A line that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {why}", .path.display())]
pub(crate) struct SettingsError {
    path: PathBuf,
    line: usize,
    why: &'static str,
}

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
    /// Takes a file apart. A line that ends in a backslash goes on in the next, comments in between left out
    /// (systemd.syntax(7)).
    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self, SettingsError> {
        let mut network = Network::default();
        let mut rest = String::new();
        let mut section = String::new();
        let mut lines = text.lines().enumerate();
        while let Some((number, first)) = lines.next() {
            let wrong = |why| SettingsError {
                path: path.clone(),
                line: number + 1,
                why,
            };
            let mut raw = format!("{first}\n");
            let mut whole = first.to_owned();
            let comment = |line: &str| line.trim_start().starts_with(['#', ';']);
            if !comment(first) {
                while let Some(begun) = whole.strip_suffix('\\') {
                    let Some((_, next)) = lines.next() else {
                        return Err(wrong("ends in a backslash, and nothing follows"));
                    };
                    raw.push_str(next);
                    raw.push('\n');
                    whole = match comment(next) {
                        true => format!("{begun}\\"),
                        false => format!("{begun} {next}"),
                    };
                }
            }
            let line = whole.trim();
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']');
                section = name
                    .ok_or_else(|| wrong("a section's name does not end"))?
                    .to_owned();
            } else if section == "Network" && !line.is_empty() && !comment(line) {
                let pair = line.split_once('=');
                let (key, value) = pair.ok_or_else(|| wrong("is no KEY=VALUE"))?;
                network.take(key.trim(), value.trim()).map_err(wrong)?;
            }
            if section != "Network" {
                rest.push_str(&raw);
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

/// As systemd has it (parse_boolean of src/basic/parse-util.c).
fn boolean(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err("is neither yes nor no"),
    }
}
