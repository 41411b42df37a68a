//! What is attached, as one small file for each port under `RUNTIME/ports/`: `CONTAINER.json`, and `CONTAINER@ZONE.json`
//! for a further network of it.
//!
//! A record is written before an attach is acknowledged and removed by detach. It needs no fsync: it
//! survives a killed daemon, and a reboot that takes it takes the links as well. After a start, the
//! records and the kernel's links together tell what runs: a link without a record was never
//! acknowledged and is undone, a record without a link is over.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use firewall::bandwidth::Bandwidth;
use firewall::model::Publish;
use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use zone::{Configure, ContainerName, IfName, MacAddr, PortName, ZoneName};

/// A container attached to a zone, as it was asked for and as it became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) container: ContainerName,
    pub(crate) zone: ZoneName,
    pub(crate) ifname: IfName,
    pub(crate) host_ifname: IfName,
    pub(crate) ifindex: u32,
    pub(crate) mac: MacAddr,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) configure: Configure,
    pub(crate) labels: BTreeMap<String, String>,
    /// As parsed, with the text it came from.
    pub(crate) publish: Vec<(String, Publish)>,
    /// Device and inode of the network namespace: tells whether a request is the same again.
    pub(crate) netns: (u64, u64),
    /// Further names of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<String>,
    /// How much it may send and receive, as its runtime asked.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub(crate) bandwidth: Bandwidth,
    /// The key under which a door finds it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Whether somebody else made and plugged in the port.
    #[serde(default)]
    pub(crate) adopted: bool,
    /// Prefixes that were delegated to it.
    #[serde(default)]
    pub(crate) delegated: Vec<Ipv6Net>,
    /// Which of the container's networks it is: the lowest number that was free.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(crate) place: u8,
}

/// Most containers have one network, and their records say nothing of it.
fn is_first(place: &u8) -> bool {
    *place == 0
}

impl Record {
    /// The port's name: the container's, with the zone for a further network of it.
    pub(crate) fn port(&self) -> PortName {
        PortName::of(&self.container, &self.zone, self.place)
    }

    /// Its addresses without prefix length.
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|net| net.addr()).collect()
    }

    /// Prefixes of its own in a zone with this subnet: the one around its address, and delegated ones.
    pub(crate) fn prefixes(&self, subnet: Option<Ipv6Net>) -> Vec<Ipv6Net> {
        let own = self.ips().into_iter().filter_map(|ip| match (ip, subnet) {
            (IpAddr::V6(address), Some(subnet)) => zone::prefix::of(subnet, address),
            _ => None,
        });
        own.chain(self.delegated.iter().copied()).collect()
    }
}

/// The folder of records.
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens `RUNTIME/ports`, making it where missing.
    pub(crate) fn open(runtime_dir: &Path) -> io::Result<Self> {
        let dir = runtime_dir.join("ports");
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, port: &PortName) -> PathBuf {
        self.dir.join(format!("{port}.json"))
    }

    /// Always with the zone: the name may have an address in another one that is not durable either.
    fn note(&self, zone: &ZoneName, container: &ContainerName) -> PathBuf {
        self.dir.join(format!("{container}@{zone}.kept"))
    }

    /// Writes a record: complete under its name, or not there at all.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        let port = record.port();
        let temporary = self.dir.join(format!(".{port}.tmp"));
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, self.path(&port))
    }

    /// Removes a record; absent is fine.
    pub(crate) fn remove(&self, port: &PortName) -> io::Result<()> {
        match std::fs::remove_file(self.path(port)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Turns a record into a note that the name has these addresses: for an address that is not
    /// durable yet when its container is detached.
    pub(crate) fn keep_addresses(&self, record: &Record) -> io::Result<()> {
        let kept = self.note(&record.zone, &record.container);
        match std::fs::rename(self.path(&record.port()), kept) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Takes such notes away, once what they say is durable.
    pub(crate) fn forget_kept(&self, zone: &ZoneName, container: &ContainerName) -> io::Result<()> {
        match std::fs::remove_file(self.note(zone, container)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// The notes that a daemon before us left.
    pub(crate) fn kept(&self) -> io::Result<Vec<Record>> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "kept") {
                let note = std::fs::read(&path)
                    .ok()
                    .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
                let Some(record) = note else { continue };
                // Before there were several networks it was `CONTAINER.kept`.
                let name = self.note(&record.zone, &record.container);
                if name != path {
                    std::fs::rename(&path, name)?;
                }
                kept.push(record);
            }
        }
        Ok(kept)
    }

    /// Every record that can be read; the paths of those that cannot.
    pub(crate) fn read(&self) -> io::Result<(Vec<Record>, Vec<PathBuf>)> {
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "kept") {
                continue;
            }
            if path.extension().is_none_or(|e| e != "json") {
                // A half-written record of a daemon that was killed: never acknowledged.
                std::fs::remove_file(&path)?;
                continue;
            }
            match std::fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
            {
                Some(record) => records.push(record),
                None => unreadable.push(path),
            }
        }
        records.sort_by_cached_key(Record::port);
        Ok((records, unreadable))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What a daemon wrote that knew of one network only.
    const BEFORE: &str = r#"{"container":"web","zone":"dmz","ifname":"host0","host_ifname":"vb-web","ifindex":7,
        "mac":"02:00:00:00:00:07","addresses":["10.89.0.2/24"],"configure":"static","labels":{},"publish":[],
        "netns":[4,4026532000],"adopted":false,"delegated":[]}"#;

    #[test]
    fn records_of_the_time_of_one_network_are_read_and_written_alike() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let file = dir.path().join("ports/web.json");
        std::fs::write(&file, BEFORE).unwrap();
        let (read, unreadable) = records.read().unwrap();
        assert!(unreadable.is_empty());
        let [web] = read.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!((web.place, web.port().as_str()), (0, "web"));
        records.write(web).unwrap();
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(value(&written), value(BEFORE));
        // a further network has a file beside it
        let second = Record {
            zone: "lan".parse().unwrap(),
            place: 1,
            ..web.clone()
        };
        records.write(&second).unwrap();
        let (read, _) = records.read().unwrap();
        let ports: Vec<_> = read.iter().map(Record::port).collect();
        assert_eq!(ports, ["web".parse().unwrap(), "web@lan".parse().unwrap()]);
        records.remove(&second.port()).unwrap();
        assert!(file.exists());
    }

    #[test]
    fn notes_of_addresses_are_found_under_their_former_name() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("ports/web.kept"), BEFORE).unwrap();
        let kept = records.kept().unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(
            records.kept().unwrap(),
            kept,
            "it stays until it is durable"
        );
        records
            .forget_kept(&kept[0].zone, &kept[0].container)
            .unwrap();
        assert!(records.kept().unwrap().is_empty());
        // one name, two zones, none of them durable yet
        for zone in ["dmz", "lan"] {
            let record = Record {
                zone: zone.parse().unwrap(),
                ..kept[0].clone()
            };
            records.write(&record).unwrap();
            records.keep_addresses(&record).unwrap();
        }
        assert_eq!(records.kept().unwrap().len(), 2);
    }
}
