//! `--resolv-conf=`, with the words of systemd-nspawn(1).

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// What becomes of the container's /etc/resolv.conf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ResolvConf {
    /// What suits the network and the root.
    #[default]
    Auto,
    /// It is left alone.
    Off,
    /// It is taken away.
    Delete,
    /// A file of the host takes its place.
    Put(How, HostFile),
}

/// How a file of the host gets inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Its text is written into the container's own file, unless that is no plain file.
    Copy,
    /// The same, in the place of whatever is there.
    Replace,
    /// It is shown over the container's own file, read-only.
    Bind,
}

/// A resolv.conf of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostFile {
    /// /etc/resolv.conf.
    Host,
    /// The one that comes with systemd-resolved: its stub, without a search domain.
    Static,
    /// systemd-resolved's own resolvers.
    Uplink,
    /// systemd-resolved's stub.
    Stub,
}

use HostFile::{Host, Static, Stub, Uplink};

/// Each mode with its name.
const MODES: [(&str, ResolvConf); 15] = [
    ("auto", ResolvConf::Auto),
    ("off", ResolvConf::Off),
    ("copy-host", ResolvConf::Put(How::Copy, Host)),
    ("copy-static", ResolvConf::Put(How::Copy, Static)),
    ("copy-uplink", ResolvConf::Put(How::Copy, Uplink)),
    ("copy-stub", ResolvConf::Put(How::Copy, Stub)),
    ("replace-host", ResolvConf::Put(How::Replace, Host)),
    ("replace-static", ResolvConf::Put(How::Replace, Static)),
    ("replace-uplink", ResolvConf::Put(How::Replace, Uplink)),
    ("replace-stub", ResolvConf::Put(How::Replace, Stub)),
    ("bind-host", ResolvConf::Put(How::Bind, Host)),
    ("bind-static", ResolvConf::Put(How::Bind, Static)),
    ("bind-uplink", ResolvConf::Put(How::Bind, Uplink)),
    ("bind-stub", ResolvConf::Put(How::Bind, Stub)),
    ("delete", ResolvConf::Delete),
];

/// The modes alone, in the order of [`MODES`].
const VALUES: [ResolvConf; MODES.len()] = {
    let mut values = [ResolvConf::Auto; MODES.len()];
    let mut n = 0;
    while n < MODES.len() {
        values[n] = MODES[n].1;
        n += 1;
    }
    values
};

impl ResolvConf {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        let named = MODES.iter().find(|(_, mode)| *mode == self);
        named.map_or("auto", |(name, _)| name)
    }
}

impl ValueEnum for ResolvConf {
    fn value_variants<'a>() -> &'a [Self] {
        &VALUES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_found_by_its_name() {
        for (name, mode) in MODES {
            assert_eq!(ResolvConf::from_str(name, false), Ok(mode));
            assert_eq!(mode.as_str(), name);
        }
        for bad in ["", "bind", "copy-all", "AUTO"] {
            assert!(ResolvConf::from_str(bad, false).is_err(), "{bad}");
        }
    }
}
