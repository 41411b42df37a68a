//! What time it is.

use chrono::{Datelike, Local, Timelike};
use firewall::model::Clock;

/// The minute of the week, in the host's local time.
pub(crate) fn now() -> Clock {
    let now = Local::now();
    let day = now.weekday().num_days_from_monday();
    let minute = (day * 24 + now.hour()) * 60 + now.minute();
    Clock::at_minute(u16::try_from(minute).unwrap_or_default())
}
