//! Rules with hours: the firewall is told what time it is.

use chrono::{Local, Timelike};
use tokio::time::Duration;

use super::Engine;
use crate::clock::now;

/// How long until the next minute begins.
pub(crate) fn next_minute() -> Duration {
    let now = Local::now();
    let millis = u64::from(now.second()) * 1000 + u64::from(now.nanosecond() / 1_000_000);
    Duration::from_millis(60_000_u64.saturating_sub(millis).max(1))
}

impl Engine {
    /// Rules with hours that begin or end now come into force, or go. Also right after the clock was set
    /// or the machine slept.
    pub(crate) fn follow_clock(&mut self) {
        let clock = now();
        if self.firewall.world().clock == clock {
            return;
        }
        let changes = self.firewall.set_clock(clock);
        self.names.forget_verdicts();
        if changes.is_empty() {
            return;
        }
        tracing::info!(
            begin = changes.add.len(),
            end = changes.remove.len(),
            "hours of rules"
        );
        if let Err(e) = self.apply(&changes) {
            tracing::error!("{}", crate::daemon::control::message(&e));
        }
    }

    /// Whether some rule has hours.
    pub(crate) fn has_hours(&self) -> bool {
        self.firewall.has_hours()
    }
}
