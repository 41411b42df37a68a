//! The host's resolvers: resolv.conf(5), followed as it changes.
//!
//! Where it names only this machine (systemd-resolved's stub, a dnsmasq), the resolvers behind systemd-resolved are in a
//! second file; without that the local one is asked, which works, since this daemon is on the host too.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use inotify::{Inotify, WatchMask};

use super::Context;

const OWN: &str = "/etc/resolv.conf";
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// As many as are of use: the C library asks three.
const MOST: usize = 8;
/// What no news tell of (a file system mounted over another) is seen after this time.
const AGAIN: Duration = Duration::from_secs(30);

/// Tells the engine what the files say now.
pub(super) fn read(context: &Context) {
    context.engine.borrow_mut().set_upstream(servers());
}

/// Follows the files.
pub(super) async fn follow(context: Rc<Context>) {
    let mut watch = match Watch::new().and_then(super::super::sys::readable) {
        Ok(watch) => Some(watch),
        Err(e) => {
            tracing::warn!(error = %e, "watch {OWN}: it is looked at now and then");
            None
        }
    };
    // What changed before the watch was there.
    read(&context);
    loop {
        let news = async {
            match &mut watch {
                Some(watch) => {
                    let mut guard = watch.readable_mut().await?;
                    guard.get_inner_mut().take()?;
                    guard.clear_ready();
                    Ok::<(), io::Error>(())
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = news => if let Err(e) = outcome {
                tracing::warn!(error = %e, "watch {OWN}");
                watch = None;
            },
            () = tokio::time::sleep(AGAIN) => {}
        }
        read(&context);
    }
}

/// A watch on the files, and on the folders they come and go in.
pub(crate) struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Watch {
    fn new() -> io::Result<Self> {
        let watch = Self(Inotify::init()?);
        watch.add();
        Ok(watch)
    }

    /// Watches what is there now. The same again is no second watch.
    fn add(&self) {
        let file = WatchMask::CLOSE_WRITE | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let folder = WatchMask::MOVED_TO | WatchMask::CREATE | WatchMask::DELETE;
        for path in [OWN, RESOLVED].map(Path::new) {
            // Where a link leads is watched too; what is not there is not.
            let target = path.canonicalize().ok();
            for path in target.iter().map(AsRef::as_ref).chain([path]) {
                let _ = self.0.watches().add(path, file);
                if let Some(parent) = path.parent() {
                    let _ = self.0.watches().add(parent, folder);
                }
            }
        }
    }

    /// Takes the news, and watches what is there by now.
    fn take(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.0.read_events(&mut buffer) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        self.add();
        Ok(())
    }
}

/// The resolvers that the files name now.
fn servers() -> Vec<SocketAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    choose(&read(OWN), &read(RESOLVED))
}

fn choose(own: &str, resolved: &str) -> Vec<SocketAddr> {
    let own = nameservers(own);
    if own.iter().any(|server| !server.ip().is_loopback()) {
        return own;
    }
    let behind: Vec<SocketAddr> = nameservers(resolved)
        .into_iter()
        .filter(|server| !server.ip().is_loopback())
        .collect();
    if behind.is_empty() { own } else { behind }
}

/// The `nameserver` lines of a resolv.conf(5).
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let keyword = words.next()?;
        (keyword == "nameserver").then(|| words.next()).flatten()
    });
    let mut servers = Vec::new();
    for server in lines.filter_map(server) {
        if !servers.contains(&server) && servers.len() < MOST {
            servers.push(server);
        }
    }
    servers
}

/// `192.0.2.53`, `2001:db8::53`, or `fe80::1%eth0`.
fn server(word: &str) -> Option<SocketAddr> {
    let (address, scope) = match word.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    match (address, scope) {
        (IpAddr::V6(address), Some(scope)) => {
            let index = scope
                .parse()
                .ok()
                .or_else(|| super::super::sys::ifindex(scope))?;
            Some(SocketAddrV6::new(address, dns::PORT, 0, index).into())
        }
        (_, Some(_)) => None,
        (address, None) if address.is_unspecified() || address.is_multicast() => None,
        (address, None) => Some(SocketAddr::new(address, dns::PORT)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chosen(own: &str, resolved: &str) -> Vec<String> {
        let servers = choose(own, resolved);
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_are_read_as_the_c_library_does() {
        let text = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53 \n\tnameserver\t2001:db8::53\n\
                    nameserver banana\nnameserver 192.0.2.53\nnameservers 192.0.2.9\nnameserver 0.0.0.0\n\
                    nameserver fe80::1%7\nnameserver 10.0.0.1%7\n";
        assert_eq!(
            chosen(text, ""),
            ["192.0.2.53:53", "[2001:db8::53]:53", "[fe80::1%7]:53"]
        );
    }

    #[test]
    fn a_stub_of_this_machine_gives_way_to_what_is_behind_it() {
        let stub = "nameserver 127.0.0.53\n";
        let behind = "nameserver 192.0.2.53\nnameserver ::1\n";
        assert_eq!(chosen(stub, behind), ["192.0.2.53:53"]);
        assert_eq!(chosen("", behind), ["192.0.2.53:53"]);
        assert_eq!(chosen(stub, ""), ["127.0.0.53:53"]);
        assert_eq!(chosen(stub, "nameserver 127.0.0.1\n"), ["127.0.0.53:53"]);
        assert_eq!(chosen("nameserver 192.0.2.9\n", behind), ["192.0.2.9:53"]);
    }
}
