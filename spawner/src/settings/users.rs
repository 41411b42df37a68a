//! `--private-users=`, `--private-users-ownership=`.

use std::str::FromStr;

use crate::error::SpawnError;

/// Which of the host's ids the container's users are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PrivateUsers {
    /// `no`: the host's own.
    #[default]
    No,
    /// `pick` and `yes`: the range that the root's owner tells, if that is one, else one that is free.
    Pick,
    /// `FIRST[:SIZE]`
    Fixed {
        /// The host's id of the container's root.
        base: u32,
        /// How many ids there are.
        size: u32,
    },
    /// `identity`: the same numbers, in a user namespace.
    Identity,
}

impl PrivateUsers {
    /// Whether there is a user namespace.
    pub fn is_private(self) -> bool {
        self != Self::No
    }
}

impl FromStr for PrivateUsers {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let bad = |reason: &str| SpawnError::setting("--private-users=", text, reason);
        match text {
            "pick" => return Ok(Self::Pick),
            "identity" => return Ok(Self::Identity),
            _ => {}
        }
        let numeric = text.starts_with(|c: char| c.is_ascii_digit());
        match super::boolean(text) {
            // `0` and `1` are numbers here, as for systemd-nspawn `0` is the first id of the host
            Some(yes) if !numeric => return Ok(if yes { Self::Pick } else { Self::No }),
            _ => {}
        }
        let (base, size) = text.split_once(':').unwrap_or((text, "65536"));
        let (Ok(base), Ok(size)) = (base.parse::<u32>(), size.parse::<u32>()) else {
            return Err(bad("is not pick, yes, no, identity or FIRST[:SIZE]"));
        };
        // 65,535 and 2^32-1 are "no id", setuid(2)
        match base.checked_add(size).filter(|_| size > 0) {
            Some(end) if end < u32::MAX => Ok(Self::Fixed { base, size }),
            _ => Err(bad("is a range that is empty, or goes past the last id")),
        }
    }
}

/// How the files of the root come to belong to the container's users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ownership {
    /// Mapped, but where they belong to the range already.
    #[default]
    Auto,
    /// As they are.
    Off,
    /// Changed on disk.
    Chown,
    /// Mapped while the container runs.
    Map,
}

impl FromStr for Ownership {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "chown" => Ok(Self::Chown),
            "map" => Ok(Self::Map),
            _ => Err(SpawnError::setting(
                "--private-users-ownership=",
                text,
                "is not off, chown, map or auto",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users() {
        let users = |text: &str| text.parse::<PrivateUsers>().unwrap();
        assert_eq!(users("pick"), PrivateUsers::Pick);
        assert_eq!(users("yes"), PrivateUsers::Pick);
        assert_eq!(users("no"), PrivateUsers::No);
        assert_eq!(users("off"), PrivateUsers::No);
        assert_eq!(users("identity"), PrivateUsers::Identity);
        assert_eq!(
            users("0"),
            PrivateUsers::Fixed {
                base: 0,
                size: 65536
            }
        );
        assert_eq!(
            users("524288:1000"),
            PrivateUsers::Fixed {
                base: 524_288,
                size: 1000
            }
        );
        for bad in ["", "maybe", "5:", "5:0", "4294967295", "-1", "1:2:3"] {
            assert!(bad.parse::<PrivateUsers>().is_err(), "{bad}");
        }
        assert!("chmod".parse::<Ownership>().is_err());
        assert_eq!("map".parse::<Ownership>().unwrap(), Ownership::Map);
    }
}
