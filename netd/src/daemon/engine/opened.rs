//! What answers of the resolver open, as `dns:` rules say: put in force before an answer leaves, ended in time, and known
//! again after a restart.

use std::time::{Duration, Instant};

use dns::Opens;
use firewall::sets::Changes;
use rustix::time::{ClockId, clock_gettime};
use zone::PortName;

use super::Engine;
use crate::daemon::chain;
use crate::daemon::opened::{Line, Opened, Opening};

/// Seconds that an address is open for at least: programs resolve a name once and then try its addresses one after the
/// other, and keep what they were told for longer than a second, whatever the answer said.
const LEAST: u32 = 60;

/// Seconds of the kernel's monotonic clock: the one that elements of sets live by.
fn now() -> u64 {
    u64::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap_or_default()
}

impl Engine {
    /// Puts in force what answers open to containers. They may leave once this returns.
    pub(crate) fn open_names(&mut self, opens: &[Opens]) {
        let now = now();
        let mut changes = Changes::default();
        let mut lines = Vec::new();
        for opens in opens {
            let Ok(asker) = opens.container.parse::<PortName>() else {
                continue;
            };
            let until = |ttl: u32| now + u64::from(ttl.clamp(LEAST, dns::LONGEST_OPEN));
            let addresses: Vec<_> = opens
                .addresses
                .iter()
                .map(|(address, ttl)| (*address, until(*ttl)))
                .collect();
            // By whichever port it asked: it may connect by another.
            for record in self.ports.of_container(asker.container()) {
                let port = record.port();
                let more = self.firewall.open(&port, &opens.name, &addresses);
                if more.is_empty() {
                    continue;
                }
                tracing::debug!(container = %port, name = %opens.name, ?addresses, "opened by name");
                lines.push(Line::Open(Opening {
                    container: port.to_string(),
                    name: opens.name.clone(),
                    addresses: addresses.clone(),
                }));
                join(&mut changes, more);
            }
        }
        if lines.is_empty() {
            return;
        }
        // First the file: what is open and not in it would be closed by a restart.
        self.note_opened(&lines);
        self.apply_names(&changes);
    }

    /// Ends what does not hold any more.
    pub(super) fn lapse_names(&mut self) {
        let changes = self.firewall.lapse(now());
        self.apply_names(&changes);
    }

    /// When to call [`Engine::lapse_names`] next.
    pub(super) fn lapse_due(&self) -> Option<Instant> {
        let left = self.firewall.lapse_due()?.saturating_sub(now());
        Some(Instant::now() + Duration::from_secs(left))
    }

    /// A container went; whoever gets its name was given nothing yet.
    pub(super) fn close_names(&mut self, container: &PortName) {
        if self.opened_names.remove(container) {
            self.note_opened(&[Line::Closed(container.to_string())]);
        }
    }

    /// Takes over what the daemon before had opened to containers that are still attached. Sends nothing.
    pub(super) fn recall_names(&mut self, lines: Vec<Line>) {
        let now = now();
        for line in lines {
            match line {
                Line::Boot(_) => {}
                Line::Closed(container) => {
                    if let Ok(container) = container.parse() {
                        self.firewall.close(&container);
                    }
                }
                Line::Open(mut opening) => {
                    opening.addresses.retain(|(_, until)| *until > now);
                    if let Ok(container) = opening.container.parse::<PortName>() {
                        let addresses = &opening.addresses;
                        self.firewall.open(&container, &opening.name, addresses);
                    }
                }
            }
        }
        self.write_opened();
    }

    /// Sends what changes nobody's policy: the resolver need not ask anew.
    fn apply_names(&mut self, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        if let Err(e) = self.tables.apply(changes) {
            tracing::warn!(error = %chain(&e), "what a name opens does not fit the ruleset in force; writing it anew");
            if let Err(e) = self.install() {
                tracing::error!(error = %chain(&e), "write the ruleset");
            }
        }
    }

    fn note_opened(&mut self, lines: &[Line]) {
        for line in lines {
            if let Line::Open(opening) = line
                && let Ok(container) = opening.container.parse()
            {
                self.opened_names.insert(container);
            }
        }
        match self.opened.add(lines.iter()) {
            Ok(false) => {}
            Ok(true) => self.write_opened(),
            Err(e) => tracing::error!(error = %e, "note what names open: a restart will close it"),
        }
    }

    /// Writes down all that is open now, and nothing else.
    fn write_opened(&mut self) {
        let resolved = &self.firewall.world().resolved;
        self.opened_names = resolved.keys().cloned().collect();
        let mut lines = Vec::new();
        for (container, addresses) in resolved {
            for (address, names) in addresses {
                let each = names.iter().map(|(name, until)| {
                    Line::Open(Opening {
                        container: container.to_string(),
                        name: name.to_string(),
                        addresses: vec![(*address, *until)],
                    })
                });
                lines.extend(each);
            }
        }
        if let Err(e) = self.opened.rewrite(lines.iter()) {
            tracing::error!(error = %e, "write down what names opened: a restart will close it");
        }
    }
}

/// The file, with what the daemon before wrote.
pub(super) fn open(dirs: &crate::daemon::Dirs) -> (Opened, Vec<Line>) {
    Opened::read(dirs.opened())
}

/// Of two changes of one element the later one counts.
fn join(changes: &mut Changes, more: Changes) {
    for element in more.remove {
        match changes.add.iter().position(|added| *added == element) {
            Some(at) => drop(changes.add.remove(at)),
            None => changes.remove.push(element),
        }
    }
    changes.add.extend(more.add);
}
