//! Moments of a week: `Sat 22:00`.

use crate::model::Clock;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const FULL: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const DAY: u16 = 24 * 60;

/// A text that is no moment of a week.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no moment of a week, write it like \"Sat 22:00\"")]
pub struct NotMoment(String);

/// What `Sat 22:00` on a command line stands for.
///
/// # Errors
/// When the text is no day and time.
pub fn moment(text: &str) -> Result<Clock, NotMoment> {
    parse(text).ok_or_else(|| NotMoment(text.to_owned()))
}

fn parse(text: &str) -> Option<Clock> {
    let mut words = text.split_whitespace();
    let (day, time) = (words.next()?, words.next()?);
    let is = |name: &&str| name.eq_ignore_ascii_case(day);
    let day = DAYS
        .iter()
        .position(is)
        .or_else(|| FULL.iter().position(is))?;
    let (hour, minute) = time.split_once(':')?;
    let two = |part: &str| {
        (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<u16>().ok())
            .flatten()
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let good = hour < 24 && minute < 60 && words.next().is_none();
    good.then(|| Clock::at_minute(day as u16 * DAY + hour * 60 + minute))
}

/// As [`moment`] reads it.
pub(super) fn words(clock: Clock) -> String {
    let day = DAYS.get(usize::from(clock.minute / DAY)).unwrap_or(&"?");
    let minute = clock.minute % DAY;
    format!("{day} {:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_back_as_written() {
        for text in ["Mon 00:00", "Sat 22:00", "Sun 23:59"] {
            assert_eq!(parse(text).map(words).as_deref(), Some(text));
        }
        assert_eq!(parse("saturday 22:00"), parse("Sat 22:00"));
        for bad in [
            "",
            "Sat",
            "22:00",
            "Sat 24:00",
            "Sat 1:00",
            "Sat 10:60",
            "Sut 10:00",
            "Sat 10:00 x",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
