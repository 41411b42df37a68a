//! Names that exist are valid: private fields, checked on the way in.
//!
//! Interface names follow systemd-nspawn: bridge `vz-ZONE`, host end `vb-CONTAINER`, inside `host0`.
//! What does not fit in 15 bytes is shortened with a hash, and the full name becomes an altname.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A name that is not one, with the reason. Quotes the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {input:?} {reason}")]
pub struct NameError {
    kind: &'static str,
    input: String,
    reason: &'static str,
}

impl NameError {
    fn new(kind: &'static str, input: &str, reason: &'static str) -> Self {
        Self {
            kind,
            input: input.to_owned(),
            reason,
        }
    }
}

macro_rules! string_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

string_name! {
    /// A zone: `[a-z0-9][a-z0-9-]*`, at most 32 bytes.
    ZoneName
}

impl ZoneName {
    /// Longest zone name, in bytes.
    pub const MAX: usize = 32;

    /// The zone's bridge, `vz-ZONE`, shortened with a hash where that is over 15 bytes.
    pub fn bridge(&self) -> IfName {
        IfName::derived("vz-", &self.0)
    }
}

impl FromStr for ZoneName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let err = |reason| Err(NameError::new("zone", text, reason));
        let mut bytes = text.bytes();
        match bytes.next() {
            None => return err("is empty"),
            Some(b'a'..=b'z' | b'0'..=b'9') => {}
            Some(_) => return err("must begin with a lower-case letter or a digit"),
        }
        if text.len() > Self::MAX {
            return err("is longer than 32 bytes");
        }
        if !bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return err("may hold lower-case letters, digits and '-' only");
        }
        Ok(Self(text.to_owned()))
    }
}

string_name! {
    /// A container: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 128 bytes.
    ContainerName
}

impl ContainerName {
    /// Longest container name, in bytes: ids of container runtimes (64) fit.
    pub const MAX: usize = 128;

    /// The host end of its link, `vb-CONTAINER`, shortened with a hash where that is over 15 bytes.
    pub fn host_ifname(&self) -> IfName {
        IfName::derived("vb-", &self.0)
    }

    /// The host end of a veth that is no port of any bridge, as systemd-nspawn names it (`ve-NAME`).
    pub fn veth_ifname(&self) -> IfName {
        IfName::derived("ve-", &self.0)
    }

    /// Its hardware address: locally administered, unicast, derived from the name alone, so that it
    /// is the same after every restart and on every host.
    pub fn mac(&self) -> MacAddr {
        mac_of(&self.0)
    }
}

fn mac_of(name: &str) -> MacAddr {
    let digest = Sha256::digest(name.as_bytes());
    let mut mac = [0u8; 6];
    mac.copy_from_slice(&digest[..6]);
    mac[0] = (mac[0] & 0xfc) | 0x02;
    MacAddr(mac)
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let err = |reason| Err(NameError::new("container", text, reason));
        let mut bytes = text.bytes();
        match bytes.next() {
            None => return err("is empty"),
            Some(b) if b.is_ascii_alphanumeric() => {}
            Some(_) => return err("must begin with a letter or a digit"),
        }
        if text.len() > Self::MAX {
            return err("is longer than 128 bytes");
        }
        if !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
            return err("may hold letters, digits, '_', '.' and '-' only");
        }
        Ok(Self(text.to_owned()))
    }
}

string_name! {
    /// A container's port in one zone: `CONTAINER` for its first network, `CONTAINER@ZONE` for a further one. Most
    /// containers have one network, so most ports have their names, and everything that is derived from a name (the
    /// link, the hardware address) is theirs.
    PortName
}

impl PortName {
    /// Stands between container and zone; no name of either holds it.
    const AT: char = '@';

    /// The port in a zone of the container's network with this number, counted from 0.
    pub fn of(container: &ContainerName, zone: &ZoneName, place: u8) -> Self {
        match place {
            0 => Self(container.0.clone()),
            _ => Self(format!("{container}{}{zone}", Self::AT)),
        }
    }

    /// The container's name.
    pub fn container(&self) -> &str {
        self.0.split(Self::AT).next().unwrap_or(&self.0)
    }

    /// The container's name.
    pub fn container_name(&self) -> ContainerName {
        ContainerName(self.container().to_owned())
    }

    /// Whether it is that of the container's first network.
    pub fn is_first(&self) -> bool {
        !self.0.contains(Self::AT)
    }

    /// What is before the names of a container's further ports, and the first name behind them.
    pub fn further(container: &str) -> (String, String) {
        // '@' and what follows it in ASCII
        (format!("{container}@"), format!("{container}A"))
    }

    /// The host end of its link: `vb-CONTAINER` ([`ContainerName::host_ifname`]); for a further port always
    /// shortened, with a hash that the zone is part of.
    pub fn host_ifname(&self) -> IfName {
        if self.is_first() {
            return IfName::derived("vb-", &self.0);
        }
        IfName::hashed("vb-", self.container(), &self.0)
    }

    /// Its hardware address: for the first port the container's ([`ContainerName::mac`]).
    pub fn mac(&self) -> MacAddr {
        mac_of(&self.0)
    }
}

impl From<&ContainerName> for PortName {
    fn from(container: &ContainerName) -> Self {
        Self(container.0.clone())
    }
}

impl From<ContainerName> for PortName {
    fn from(container: ContainerName) -> Self {
        Self(container.0)
    }
}

impl FromStr for PortName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once(Self::AT) {
            None => ContainerName::from_str(text).map(Self::from),
            Some((container, zone)) => {
                let (container, zone) = (container.parse()?, zone.parse()?);
                Ok(Self::of(&container, &zone, 1))
            }
        }
    }
}

string_name! {
    /// A network interface: 1 to 15 bytes, no '/', no white space, not `.` or `..`.
    IfName
}

impl IfName {
    /// Longest interface name, in bytes: IFNAMSIZ (16) counts the trailing NUL.
    pub const MAX: usize = 15;

    /// `prefix` + `name`, or a shortened form of it with eight hex digits of its hash.
    /// Distinct names give distinct results but for hash collisions, which the caller's uniqueness
    /// check on attach finds.
    fn derived(prefix: &str, name: &str) -> Self {
        let full = format!("{prefix}{name}");
        if full.len() <= Self::MAX {
            return Self(full);
        }
        Self::hashed(prefix, name, name)
    }

    /// `prefix`, as much of `name` as fits, and eight hex digits of the hash of `whole`.
    fn hashed(prefix: &str, name: &str, whole: &str) -> Self {
        let digest = Sha256::digest(whole.as_bytes());
        let keep = name.len().min(Self::MAX - prefix.len() - 8);
        let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self(format!("{prefix}{}{hash:08x}", &name[..keep]))
    }
}

impl FromStr for IfName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let err = |reason| Err(NameError::new("interface", text, reason));
        if text.is_empty() {
            return err("is empty");
        }
        if text.len() > Self::MAX {
            return err("is longer than 15 bytes");
        }
        if text == "." || text == ".." {
            return err("is reserved");
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        {
            return err("may hold printable characters without white space, '/' or ':' only");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A 48-bit hardware address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The link-local IPv6 address the kernel forms from it (RFC 4291, appendix A: modified EUI-64).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let m = self.0;
        let eui = [m[0] ^ 0x02, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]];
        let mut octets = [0u8; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&eui);
        octets.into()
    }

    /// The hardware address that such a link-local address follows from, if it follows from one.
    pub fn of_link_local(address: std::net::Ipv6Addr) -> Option<MacAddr> {
        let o = address.octets();
        let mac = MacAddr([o[8] ^ 0x02, o[9], o[10], o[13], o[14], o[15]]);
        (mac.link_local() == address).then_some(mac)
    }

    /// Whether frames may be sent from it: neither a group address nor all zeroes.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let err = || NameError::new("hardware address", text, "is not six pairs of hex digits");
        let mut mac = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(err)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| err())?;
        }
        if parts.next().is_some() {
            return Err(err());
        }
        Ok(Self(mac))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_names() {
        for good in ["web", "0", "a-b", &"z".repeat(32)] {
            assert!(good.parse::<ZoneName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a.b", "ä", &"z".repeat(33)] {
            assert!(bad.parse::<ZoneName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn container_names() {
        for good in ["web", "Web_1.x-y", &"0".repeat(128)] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a b", "ü", &"0".repeat(129)] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_are_shortened_with_a_hash() {
        let name = |text: &str| text.parse::<ContainerName>().map(|c| c.host_ifname());
        assert_eq!(name("web").map(|n| n.to_string()), Ok("vb-web".into()));
        assert_eq!(
            name("exactly12chr").map(|n| n.to_string()),
            Ok("vb-exactly12chr".into())
        );
        let long = name("a-name-that-does-not-fit").map(|n| n.to_string());
        let other = name("a-name-that-does-not-fit-2").map(|n| n.to_string());
        assert!(
            long.as_ref()
                .is_ok_and(|n| n.len() == 15 && n.starts_with("vb-a-na"))
        );
        assert_ne!(long, other);
    }

    #[test]
    fn the_first_port_is_the_containers_and_others_say_their_zone() {
        let (web, b) = (ContainerName("web".into()), ZoneName("b".into()));
        let first = PortName::of(&web, &b, 0);
        assert_eq!((first.as_str(), first.is_first()), ("web", true));
        assert_eq!(
            (first.host_ifname(), first.mac()),
            (web.host_ifname(), web.mac())
        );
        let second = PortName::of(&web, &b, 1);
        assert_eq!((second.as_str(), second.is_first()), ("web@b", false));
        assert_eq!(second.container_name(), web);
        assert_eq!("web@b".parse(), Ok(second.clone()));
        assert!(second.host_ifname().as_str().starts_with("vb-web"));
        assert!(second.host_ifname().as_str().len() <= IfName::MAX);
        assert_ne!(second.host_ifname(), first.host_ifname());
        assert_ne!(second.mac(), first.mac());
        let (before, behind) = PortName::further("web");
        for (name, inside) in [
            ("web@b", true),
            ("web", false),
            ("web-1", false),
            ("webA", false),
        ] {
            let within = before.as_str() <= name && name < behind.as_str();
            assert_eq!(within, inside, "{name}");
        }
        for bad in ["web@", "@b", "web@B", "web@a@b", "we b@a"] {
            assert!(bad.parse::<PortName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn macs_are_stable_local_and_unicast() {
        let mac = |text: &str| text.parse::<ContainerName>().map(|c| c.mac());
        assert_eq!(mac("web"), mac("web"));
        assert_ne!(mac("web"), mac("db"));
        assert!(mac("web").is_ok_and(|m| m.is_unicast() && m.0[0] & 2 == 2));
        assert_eq!(
            "02:00:00:00:01:01"
                .parse::<MacAddr>()
                .map(|m| m.link_local().to_string()),
            Ok("fe80::ff:fe00:101".into())
        );
    }
}
