//! Rules with hours: the firewall is told what time it is.

use chrono::{Datelike, Local, Timelike};
use firewall::model::Clock;
use tokio::time::Duration;

use super::Engine;

/// The minute of the week, in the host's local time.
fn now() -> Clock {
    let now = Local::now();
    let day = now.weekday().num_days_from_monday();
    let minute = (day * 24 + now.hour()) * 60 + now.minute();
    Clock::at_minute(u16::try_from(minute).unwrap_or_default())
}

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
        self.firewall.clock_due().is_some()
    }
}
