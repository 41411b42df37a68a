//! The host's own files about resolvers: its resolv.conf(5), and those of systemd-resolved(8).

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::cli::HostFile;

/// Where systemd-resolved's stub listens.
const STUB: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 53), 53);

/// A host, by its root directory.
pub(super) struct Host(PathBuf);

impl Host {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Where it has a file, or would have it.
    pub(super) fn path(&self, file: HostFile) -> PathBuf {
        self.0.join(match file {
            HostFile::Host => "etc/resolv.conf",
            HostFile::Static => "usr/lib/systemd/resolv.conf",
            HostFile::Uplink => "run/systemd/resolve/resolv.conf",
            HostFile::Stub => "run/systemd/resolve/stub-resolv.conf",
        })
    }

    /// What a container that shares the host's network is told: systemd-resolved's stub where it runs, else what the host
    /// asks itself.
    pub(super) fn auto(&self) -> Option<HostFile> {
        let there = |file| self.path(file).exists();
        if there(HostFile::Stub) && listens(&self.0) {
            Some(HostFile::Stub)
        } else {
            there(HostFile::Host).then_some(HostFile::Host)
        }
    }
}

/// Whether somebody listens where the stub does, as proc_net(5) tells. (The file may be left over.)
fn listens(root: &Path) -> bool {
    let sockets = std::fs::read_to_string(root.join("proc/net/udp")).unwrap_or_default();
    sockets.lines().any(|line| {
        let local = line.split_whitespace().nth(1);
        local.and_then(socket) == Some(STUB)
    })
}

/// `3500007F:0035`: the address as the processor has it in memory, and the port.
fn socket(text: &str) -> Option<(Ipv4Addr, u16)> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((Ipv4Addr::from(address.to_ne_bytes()), port))
}
