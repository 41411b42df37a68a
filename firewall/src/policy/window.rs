//! `time = "Mon-Fri 08:00-18:00, Sat 10:00-12:00"`: when a rule counts.

use std::fmt;

use crate::model::Clock;

/// Minutes of a week.
const WEEK: u16 = 7 * DAY;
const DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The times of a week at which a rule counts, in the host's local time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// As the file has it.
    text: String,
    /// Minutes of the week, from the first to before the second; sorted, apart, never empty.
    spans: Vec<(u16, u16)>,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Window {
    /// Whether the rule counts at a time.
    pub fn contains(&self, clock: Clock) -> bool {
        self.spans
            .iter()
            .any(|&(first, end)| (first..end).contains(&clock.minute))
    }

    /// Whether that is the whole week.
    pub(super) fn is_always(&self) -> bool {
        self.spans == [(0, WEEK)]
    }

    /// Whether it has all the time of another one.
    pub(super) fn covers(&self, other: &Window) -> bool {
        other.spans.iter().all(|&(first, end)| {
            let mut spans = self.spans.iter();
            spans.any(|&(from, to)| from <= first && end <= to)
        })
    }

    /// Minutes until the rule begins or ceases to count, from the beginning of this minute; at least 1.
    /// `None` when it never does either: its windows are the whole week.
    pub fn changes_in(&self, clock: Clock) -> Option<u16> {
        let now = self.contains(clock);
        let edges = self.spans.iter().flat_map(|&(first, end)| [first, end]);
        edges
            .filter(|edge| self.contains(Clock::at_minute(*edge)) != now)
            .map(|edge| match (edge % WEEK + WEEK - clock.minute) % WEEK {
                0 => WEEK,
                minutes => minutes,
            })
            .min()
    }
}

const HELP: &str =
    "write days and hours, such as \"Mon-Fri 08:00-18:00\", \"Sat,Sun\" or \"22:00-06:00\"";

/// Reads a window, or says what is wrong with it. A part without days means every day, one without hours
/// the whole day; hours that end before they begin end on the next day.
pub(super) fn parse(text: &str) -> Result<Window, (String, String)> {
    let wrong = |what: &str| (format!("time {text:?} {what}"), HELP.to_owned());
    let mut spans = Vec::new();
    // a comma separates days where no hours came before it, and parts where they did
    let mut days: Vec<u16> = Vec::new();
    for part in text.split(',') {
        let mut hours = None;
        for word in part.split_whitespace() {
            if hours.is_some() {
                return Err(wrong("has something after the hours"));
            }
            if word.starts_with(|c: char| c.is_ascii_digit()) {
                hours = Some(hours_of(word).ok_or_else(|| wrong("has hours that are none"))?);
            } else {
                days.extend(days_of(word).ok_or_else(|| wrong("has days that are none"))?);
            }
        }
        if part.trim().is_empty() {
            return Err(wrong("has an empty part"));
        }
        if let Some(hours) = hours {
            add(&mut spans, &days, hours);
            days.clear();
        }
    }
    if !days.is_empty() {
        add(&mut spans, &days, (0, DAY));
    }
    Ok(Window {
        text: text.to_owned(),
        spans: union(spans),
    })
}

fn add(spans: &mut Vec<(u16, u16)>, days: &[u16], (from, to): (u16, u16)) {
    let every = [0, 1, 2, 3, 4, 5, 6];
    for day in if days.is_empty() { &every } else { days } {
        let first = day * DAY + from;
        let end = day * DAY + to + if to <= from { DAY } else { 0 };
        spans.push((first, end.min(WEEK)));
        if end > WEEK {
            spans.push((0, end - WEEK));
        }
    }
}

fn union(mut spans: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    spans.sort_unstable();
    let mut out: Vec<(u16, u16)> = Vec::new();
    for (first, end) in spans {
        match out.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            _ => out.push((first, end)),
        }
    }
    out
}

/// `Mon`, `Fri-Mon`, in any case, in full or by the first three letters.
fn days_of(word: &str) -> Option<Vec<u16>> {
    const FULL: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let day = |name: &str| {
        let name = name.to_ascii_lowercase();
        (0..7u16).find(|&n| {
            let n = usize::from(n);
            name == FULL[n] || name == DAYS[n].to_ascii_lowercase()
        })
    };
    match word.split_once('-') {
        None => Some(vec![day(word)?]),
        Some((first, last)) => {
            let (first, last) = (day(first)?, day(last)?);
            let count = (last + 7 - first) % 7;
            Some((0..=count).map(|n| (first + n) % 7).collect())
        }
    }
}

/// `08:00-18:00` in minutes of the day; `24:00` may end it.
fn hours_of(word: &str) -> Option<(u16, u16)> {
    let time = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two = |part: &str| {
            (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse::<u16>().ok())
                .flatten()
        };
        let (hour, minute) = (two(hour)?, two(minute)?);
        (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
    };
    let (first, last) = word.split_once('-')?;
    let (first, last) = (time(first)?, time(last)?);
    (first != last && first < DAY).then_some((first, last))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(text: &str) -> Clock {
        let (day, time) = text.split_once(' ').unwrap();
        let day = days_of(day).unwrap()[0];
        let minute = hours_of(&format!("{time}-24:00")).unwrap().0;
        Clock::at_minute(day * DAY + minute)
    }

    #[test]
    fn windows_say_when() {
        let table = [
            ("Mon-Fri 08:00-18:00", "Mon 08:00", true),
            ("Mon-Fri 08:00-18:00", "Fri 17:59", true),
            ("Mon-Fri 08:00-18:00", "Fri 18:00", false),
            ("Mon-Fri 08:00-18:00", "Sat 10:00", false),
            ("Sat,Sun", "Sun 23:59", true),
            ("Sat,Sun", "Mon 00:00", false),
            ("22:00-06:00", "Wed 23:00", true),
            ("22:00-06:00", "Wed 05:59", true),
            ("22:00-06:00", "Wed 06:00", false),
            ("Sun 22:00-06:00", "Mon 05:00", true),
            ("Sun 22:00-06:00", "Sun 05:00", false),
            ("Fri-Mon", "Sun 12:00", true),
            ("Fri-Mon", "Tue 12:00", false),
            ("Mon,Wed 10:00-12:00, Sat", "Wed 11:00", true),
            ("Mon,Wed 10:00-12:00, Sat", "Sat 03:00", true),
            ("Mon,Wed 10:00-12:00, Sat", "Tue 11:00", false),
            ("saturday 00:00-24:00", "Sat 23:59", true),
        ];
        for (text, time, wanted) in table {
            assert_eq!(
                parse(text).unwrap().contains(at(time)),
                wanted,
                "{text} at {time}"
            );
        }
    }

    #[test]
    fn what_is_no_window() {
        for text in [
            "",
            ",",
            "Mon-",
            "Mon 8:00-18:00",
            "25:00-26:00",
            "10:00-10:00",
            "Mon 10:00-12:00 Tue",
            "24:00-08:00",
            "Mo",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn windows_say_until_when() {
        let table = [
            ("Mon-Fri 08:00-18:00", "Mon 07:00", Some(60)),
            ("Mon-Fri 08:00-18:00", "Mon 08:00", Some(600)),
            ("Mon-Fri 08:00-18:00", "Fri 18:00", Some(62 * 60)),
            ("Sun 22:00-06:00", "Sun 23:00", Some(7 * 60)),
            ("Sat,Sun", "Mon 00:00", Some(5 * DAY)),
            ("Mon-Sun", "Mon 00:00", None),
        ];
        for (text, time, wanted) in table {
            assert_eq!(
                parse(text).unwrap().changes_in(at(time)),
                wanted,
                "{text} at {time}"
            );
        }
    }
}
