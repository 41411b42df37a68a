//! Decisions in the journal, with a field each, by its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::decision::Decision;

/// Where the journal listens, if there is one.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a journal that is not there is not asked for again.
const PATIENCE: Duration = Duration::from_secs(5);

/// One and the same for every decision, so that they can be found by it: `journalctl MESSAGE_ID=…`.
const MESSAGE_ID: &str = "8937dbab51bf4859ad692c995a96be24";

/// The way to the journal.
pub(super) struct Journal {
    socket: Option<UnixDatagram>,
    path: PathBuf,
    absent_until: Option<Instant>,
}

impl Journal {
    pub(super) fn new(path: &Path) -> Self {
        let socket = UnixDatagram::unbound()
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .inspect_err(|e| tracing::warn!(error = %e, "no socket for the journal"))
            .ok();
        Self {
            socket,
            path: path.to_owned(),
            absent_until: None,
        }
    }

    /// Tells the journal, if it is there and has room. Otherwise the file has the decision all the same.
    pub(super) fn send(&mut self, decision: &Decision, now: Instant) {
        let Some(socket) = &self.socket else { return };
        if self.absent_until.is_some_and(|until| now < until) {
            return;
        }
        self.absent_until = None;
        if let Err(e) = socket.send_to(&entry(decision), &self.path)
            && e.kind() != io::ErrorKind::WouldBlock
        {
            self.absent_until = Some(now + PATIENCE);
        }
    }
}

/// A decision in one sentence.
pub(crate) fn message(decision: &Decision) -> String {
    let mut text = format!(
        "{} of {}: {} {} → {} {}",
        decision.direction,
        decision.container,
        decision.verdict,
        decision.from.shown(),
        decision.to.shown(),
        decision.traffic
    );
    if let Some(would) = &decision.would {
        text.push_str(&format!(" (on trial: would {would})"));
    }
    if let Some(place) = decision.place() {
        text.push_str(&format!(", {place}"));
    }
    text.push_str(&format!(": {}", decision.text));
    text
}

fn entry(decision: &Decision) -> Vec<u8> {
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    // syslog's notice and info
    let priority = if decision.verdict == "deny" { "5" } else { "6" };
    let fields: [(&str, Option<String>); 24] = [
        ("MESSAGE", Some(message(decision))),
        ("MESSAGE_ID", Some(MESSAGE_ID.to_owned())),
        ("PRIORITY", Some(priority.to_owned())),
        ("SYSLOG_IDENTIFIER", Some("netd".to_owned())),
        ("NETD_CONTAINER", Some(decision.container.clone())),
        ("NETD_ZONE", Some(decision.zone.clone())),
        ("NETD_DIRECTION", Some(decision.direction.clone())),
        ("NETD_VERDICT", Some(decision.verdict.clone())),
        ("NETD_AUDIT", Some(decision.audit.to_string())),
        ("NETD_WOULD", decision.would.clone()),
        ("NETD_FILE", decision.file.clone()),
        ("NETD_LINE", number(decision.line)),
        ("NETD_COLUMN", number(decision.column)),
        ("NETD_TEXT", Some(decision.text.clone())),
        ("NETD_FROM", decision.from.container.clone()),
        ("NETD_FROM_ADDRESS", Some(decision.from.address.clone())),
        ("NETD_TO", decision.to.container.clone()),
        ("NETD_TO_ADDRESS", Some(decision.to.address.clone())),
        ("NETD_TRAFFIC", Some(decision.traffic.clone())),
        ("NETD_PROTOCOL", Some(decision.protocol.clone())),
        ("NETD_PORT", decision.port.map(|port| port.to_string())),
        ("NETD_FAMILY", Some(decision.family.to_string())),
        ("NETD_PUBLISHED", Some(decision.published.to_string())),
        ("NETD_LOST", Some(decision.lost.to_string())),
    ];
    let mut bytes = Vec::with_capacity(1024);
    for (name, value) in fields {
        if let Some(value) = value {
            field(name, &value, &mut bytes);
        }
    }
    bytes
}

/// `NAME=value`, or with its length where the value has lines of its own.
fn field(name: &str, value: &str, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::UNIX_EPOCH;

    use firewall::model::Traffic;
    use firewall::sets::Action;

    use super::*;
    use crate::decision::tests::record;

    #[test]
    fn fields_of_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let decision = Decision::new(&record(Traffic::Port(6, 80), Action::Allow), UNIX_EPOCH, 3);
        let now = Instant::now();
        let mut journal = Journal::new(&path);
        journal.send(&decision, now);
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        // it was not there just now
        journal.send(&decision, now);
        let mut buffer = [0; 4096];
        assert!(listener.recv(&mut buffer).is_err());
        journal.send(&decision, now + PATIENCE);
        let len = listener.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..len]).unwrap();
        for line in [
            "MESSAGE=egress of web: allow web (10.89.0.2) → db (10.89.0.3) tcp/80 (on trial: would deny), \
             policies/web.toml:3:1: denies to container:db on tcp/5432",
            "PRIORITY=6",
            "NETD_CONTAINER=web",
            "NETD_VERDICT=allow",
            "NETD_AUDIT=true",
            "NETD_WOULD=deny",
            "NETD_FILE=policies/web.toml",
            "NETD_LINE=3",
            "NETD_TO=db",
            "NETD_PORT=80",
            "NETD_LOST=3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn a_journal_that_is_full_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = UnixDatagram::bind(&path).unwrap();
        let decision = Decision::new(&record(Traffic::Icmp(8), Action::Deny), UNIX_EPOCH, 0);
        let mut journal = Journal::new(&path);
        for _ in 0..5000 {
            journal.send(&decision, Instant::now());
        }
    }

    #[test]
    fn values_of_several_lines_have_a_length() {
        let mut bytes = Vec::new();
        field("A", "b\nc", &mut bytes);
        assert_eq!(bytes, b"A\n\x03\0\0\0\0\0\0\0b\nc\n");
    }
}
