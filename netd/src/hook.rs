//! Doors for container runtimes: what a runtime says on standard input becomes an attach or a detach.
//!
//! A hook that fails stops the container from starting, so everything that is unclear is an error.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::error::{Error, chain};

pub(crate) mod cni;
pub(crate) mod link;
pub(crate) mod machined;
pub(crate) mod netavark;
pub(crate) mod nspawn;
pub(crate) mod oci;
mod state;

/// Where the system log listens (syslog(3)).
const LOG: &str = "/dev/log";
/// Facility daemon, severity error (RFC 3164).
const PRIORITY: u8 = 3 << 3 | 3;

/// Tells the system log, too, what a hook failed of: runtimes keep to themselves what hooks say. Where there is no log,
/// or it is full, nothing is waited for.
pub(crate) fn tell_log(error: &Error) {
    tell(Path::new(LOG), &format!("hook: {}", chain(error)));
}

fn tell(log: &Path, text: &str) {
    let line = format!("<{PRIORITY}>netd[{}]: {text}", std::process::id());
    if let Ok(socket) = UnixDatagram::unbound()
        && socket.set_nonblocking(true).is_ok()
    {
        let _ = socket.send_to(line.as_bytes(), log);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_log_is_told_and_need_not_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        tell(&path, "nobody hears it");
        let log = UnixDatagram::bind(&path).unwrap();
        tell(&path, "container c1: no zone");
        let mut line = [0; 256];
        let length = log.recv(&mut line).unwrap();
        let expected = format!("<27>netd[{}]: container c1: no zone", std::process::id());
        assert_eq!(std::str::from_utf8(&line[..length]).unwrap(), expected);
    }
}
