//! Names that exist are valid: of containers, users, hosts.

use std::fmt;
use std::str::FromStr;

use crate::error::SpawnError;

/// A container's name: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 128 bytes. It is a file name, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineName(String);

impl MachineName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for MachineName {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let err = |reason| Err(SpawnError::setting("--machine=", text, reason));
        match text.bytes().next() {
            None => return err("is empty"),
            Some(b) if b.is_ascii_alphanumeric() => {}
            Some(_) => return err("must begin with a letter or a digit"),
        }
        if text.len() > 128 {
            return err("is longer than 128 bytes");
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !text.bytes().all(fits) {
            return err("may hold letters, digits, '_', '.' and '-' only");
        }
        Ok(Self(text.to_owned()))
    }
}

/// `--user=NAME`, `--user=UID` or `--user=UID:GID`; looked up in the container when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserName {
    /// A name, and optionally another primary group than the user's own.
    Name(String, Option<String>),
    /// Numbers. Without a group: that of the user of this number, or 0.
    Id(u32, Option<u32>),
}

impl FromStr for UserName {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let err = |reason| SpawnError::setting("--user=", text, reason);
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group.is_some_and(str::is_empty) || text.contains(['\n', '/']) {
            return Err(err("is not NAME, UID or UID:GID"));
        }
        match (user.parse(), group.map(str::parse)) {
            (Ok(uid), None) => Ok(Self::Id(uid, None)),
            (Ok(uid), Some(Ok(gid))) => Ok(Self::Id(uid, Some(gid))),
            (Ok(_), Some(Err(_))) => Err(err("has a number and a name: both must be of one kind")),
            (Err(_), _) => Ok(Self::Name(user.to_owned(), group.map(str::to_owned))),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(user, None) => write!(f, "{user}"),
            Self::Name(user, Some(group)) => write!(f, "{user}:{group}"),
            Self::Id(uid, None) => write!(f, "{uid}"),
            Self::Id(uid, Some(gid)) => write!(f, "{uid}:{gid}"),
        }
    }
}

/// Whether this can be a host name.
pub(super) fn is_hostname(name: &str) -> bool {
    // HOST_NAME_MAX, uts(7)
    (1..=64).contains(&name.len())
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names() {
        for good in ["web", "W-1_.x", &"0".repeat(128)] {
            assert!(good.parse::<MachineName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", &"0".repeat(129)] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn users() {
        assert_eq!(
            "web".parse::<UserName>().unwrap(),
            UserName::Name("web".into(), None)
        );
        assert_eq!("7".parse::<UserName>().unwrap(), UserName::Id(7, None));
        assert_eq!("7:8".parse::<UserName>().unwrap(), UserName::Id(7, Some(8)));
        for bad in ["", ":7", "7:", "7:web", "a/b"] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
    }
}
