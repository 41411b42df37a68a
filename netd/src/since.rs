//! Since when: a time, or how long ago.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::values::ValueError;

/// `2026-11-22T09:30:00Z`, or `90s`, `90min`, `12h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// From a time on.
    Time(SystemTime),
    /// In the last while.
    Ago(Duration),
}

impl FromStr for Since {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let time = firewall::rfc3339::parse(text).map(Self::Time);
        time.or_else(|| span(text).map(Self::Ago)).ok_or_else(|| {
            ValueError::new(
                text,
                "is neither a time such as 2026-11-22T09:30:00Z nor a span such as 90min, 12h or 7d",
            )
        })
    }
}

fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let span = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    Some(Duration::from_secs(span))
}

impl Since {
    /// The time that is meant; none before 1970.
    pub(crate) fn time(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Time(time) => time,
            Self::Ago(span) => now
                .checked_sub(span)
                .map_or(UNIX_EPOCH, |time| time.max(UNIX_EPOCH)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_and_times() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (text, seconds) in [
            ("90s", 999_910),
            ("90min", 994_600),
            ("2h", 992_800),
            ("7d", 395_200),
            ("99999d", 0),
            ("18446744073709551615s", 0),
            ("1970-01-01T00:00:05Z", 5),
        ] {
            let time = text.parse::<Since>().unwrap().time(now);
            assert_eq!(time, UNIX_EPOCH + Duration::from_secs(seconds), "{text}");
        }
        for wrong in [
            "",
            "5",
            "h",
            "5 h",
            "-5h",
            "5hours",
            "yesterday",
            "18446744073709551615min",
        ] {
            let error = wrong.parse::<Since>().unwrap_err().to_string();
            assert!(error.contains("90min"), "{error}");
        }
    }
}
