//! `rate = "50/second burst 100"`: new connections of each source.

use std::fmt;

/// A token bucket for each source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    /// New connections, at least 1 …
    pub count: u32,
    /// … in so many seconds: 1, 60, 3,600 or 86,400.
    pub seconds: u32,
    /// Size of the bucket, at least 1; `count` where the file gives none.
    pub burst: u32,
}

/// The highest rate.
const MOST_A_SECOND: u32 = 1_000_000;
/// Seconds that an empty bucket may take to fill.
const LONGEST: u64 = 366 * 86_400;

pub(super) const UNITS: [(&str, u32); 4] = [
    ("second", 1),
    ("minute", 60),
    ("hour", 3_600),
    ("day", 86_400),
];

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|u| u.1 == self.seconds)
            .map_or("?", |u| u.0);
        write!(f, "{}/{unit} burst {}", self.count, self.burst)
    }
}

/// Reads a rate, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Rate, (String, String)> {
    let wrong = |what: &str| {
        let message = format!("rate {text:?} {what}");
        let help =
            "write COUNT/UNIT or COUNT/UNIT burst SIZE, with second, minute, hour or day for UNIT";
        (message, help.to_owned())
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (rate, burst) = match words.as_slice() {
        [rate] => (*rate, None),
        [rate, "burst", burst] => (*rate, Some(*burst)),
        _ => return Err(wrong("is not a rate")),
    };
    let (count, unit) = rate
        .split_once('/')
        .ok_or_else(|| wrong("has no unit of time"))?;
    let number = |text: &str, what: &str| {
        text.parse::<u32>()
            .ok()
            // `+5` and `05` are read by parse, and by nobody else
            .filter(|n| *n > 0 && n.to_string() == text)
            .ok_or_else(|| wrong(what))
    };
    let count = number(count, "has no count from 1 to 4294967295")?;
    let seconds = UNITS
        .iter()
        .find(|u| u.0 == unit)
        .ok_or_else(|| wrong("has an unknown unit of time"))?
        .1;
    let burst = match burst {
        Some(burst) => number(burst, "has no burst from 1 to 4294967295")?,
        None => count,
    };
    // beyond either the kernel's arithmetic of buckets is not exact, or overflows (nft_limit.c)
    if count / seconds > MOST_A_SECOND {
        return Err(wrong("is over 1000000 a second: leave it out"));
    }
    if u64::from(burst) * u64::from(seconds) / u64::from(count) > LONGEST {
        return Err(wrong("has a bucket that takes more than a year to fill"));
    }
    Ok(Rate {
        count,
        seconds,
        burst,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let shown = |text| parse(text).map(|rate| rate.to_string()).ok();
        assert_eq!(
            shown("50/second burst 100").as_deref(),
            Some("50/second burst 100")
        );
        assert_eq!(shown("5/minute").as_deref(), Some("5/minute burst 5"));
        for bad in [
            "",
            "5",
            "5/",
            "/second",
            "0/second",
            "5/fortnight",
            "5/second burst",
            "5/second burst 0",
            "5/second bust 7",
            "-1/second",
            "1000002/second",
            "1/day burst 367",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
