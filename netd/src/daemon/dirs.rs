//! Where in the three directories the daemon keeps what.

use std::path::PathBuf;

pub(crate) use crate::dirs::Dirs;

impl Dirs {
    /// The socket through which the keeper hands the tables' owner socket to a new daemon.
    pub(crate) fn keeper_socket(&self) -> PathBuf {
        self.runtime.join("keeper.sock")
    }

    /// Names of the bridges whose ports the keeper keeps apart while there is no daemon, one a line.
    pub(crate) fn zone_bridges(&self) -> PathBuf {
        self.runtime.join("zone-bridges")
    }

    /// Locked by the running daemon.
    pub(crate) fn lock(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// Zone files.
    pub(crate) fn zones(&self) -> PathBuf {
        self.config.join("zones")
    }

    /// Peers by name, shared by policy files.
    pub(crate) fn groups(&self) -> PathBuf {
        self.config.join("groups.toml")
    }

    /// The last good text of each file, so that a restart does not lose what was in force.
    pub(crate) fn good(&self) -> PathBuf {
        self.state.join("good")
    }

    /// What containers were seen doing.
    pub(crate) fn learned(&self) -> PathBuf {
        self.state.join("learned")
    }

    /// What a container was seen doing.
    pub(crate) fn lesson(&self, container: &zone::ContainerName) -> PathBuf {
        self.learned().join(format!("{container}.json"))
    }

    /// What names have opened.
    pub(crate) fn opened(&self) -> PathBuf {
        self.runtime.join("names")
    }

    /// Which interfaces forwarding was switched on for, and what was there before.
    pub(crate) fn forwarding(&self) -> PathBuf {
        self.runtime.join("forwarding.json")
    }

    /// What a bridge of somebody else's was like before a zone stood on it.
    pub(crate) fn bridge(&self, zone: &zone::ZoneName) -> PathBuf {
        self.runtime.join("bridges").join(format!("{zone}.json"))
    }
}
