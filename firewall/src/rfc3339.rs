//! Times as people and programs read them: RFC 3339, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-22T09:30:00.123Z`. Times before 1970 are shown as its beginning.
pub fn millis(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = seconds(time);
    let whole = text.strip_suffix('Z').unwrap_or(&text);
    format!("{whole}.{:03}Z", since.subsec_millis())
}

/// `2026-11-22T09:30:00Z`
pub fn seconds(time: SystemTime) -> String {
    let since = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (year, month, day) = date(since / 86_400);
    let (hour, minute, second) = (since / 3600 % 24, since / 60 % 60, since % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads what [`millis`] and [`seconds`] write, and any other fraction of a second; a zone other than
/// `Z` is not understood.
pub fn parse(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator, widths: [usize; 3]| -> Option<[u64; 3]> {
        let parts: Vec<&str> = text.split(separator).collect();
        let parts: [&str; 3] = parts.try_into().ok()?;
        let mut numbers = [0; 3];
        for ((number, part), width) in numbers.iter_mut().zip(parts).zip(widths) {
            let digits = part.len() == width && part.bytes().all(|b| b.is_ascii_digit());
            *number = part.parse().ok().filter(|_| digits)?;
        }
        Some(numbers)
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let nanos: u32 = match fraction.len() {
        1..=9 if fraction.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{fraction:0<9}").parse().ok()?
        }
        _ => return None,
    };
    let days = days(year, month, day)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before the first of January of a year, since the year 1 of a calendar that was always Gregorian.
fn days_before(year: u64) -> u64 {
    let past = year.saturating_sub(1);
    past * 365 + past / 4 - past / 100 + past / 400
}

const EPOCH: u64 = 1970;

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < EPOCH || !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) {
        return None;
    }
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    Some(days_before(year) - days_before(EPOCH) + months + day - 1)
}

/// The date so many days after the first of January 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + days_before(EPOCH);
    // At most one year too late: no year is longer than 366 days.
    let mut year = days / 366 + 1;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut left = days - days_before(year);
    let mut month = 1;
    while left >= days_of(year, month) {
        left -= days_of(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (1_795_340_999, "2026-11-22T09:49:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(unix);
            assert_eq!(seconds(time), text);
            assert_eq!(parse(text), Some(time));
        }
        let time = UNIX_EPOCH + Duration::from_millis(7);
        assert_eq!(millis(time), "1970-01-01T00:00:00.007Z");
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T09:49:59",
            "2026-11-22T09:49:59+01:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T09:49:60Z",
            "2026-11-22T9:49:00Z",
            "2026-11-22T09:49:00.Z",
            "2026-11-22T09:49:00.1234567890Z",
            "2026-11-22T09:49:00.-1Z",
            "1969-12-31T23:59:59Z",
            "+026-11-22T09:49:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(unix in 0u64..200_000_000_000, ms in 0u64..1000) {
            let time = UNIX_EPOCH + Duration::from_secs(unix) + Duration::from_millis(ms);
            prop_assert_eq!(parse(&millis(time)), Some(time));
        }

        #[test]
        fn whatever_is_read_is_a_time(text in "[0-9TZ:.+-]{0,30}") {
            let _ = parse(&text);
        }
    }
}
