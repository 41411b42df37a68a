//! `bandwidth = "100mbit"` or `bandwidth = { ingress = "100mbit", egress = "20mbit", burst = "256kb" }`.

use toml::Spanned;
use toml::de::DeValue;

use super::lint::POINTLESS;
use super::read::Reader;
use crate::bandwidth::{Bandwidth, LEAST, LEAST_BURST, Limits, MOST, MOST_BURST, Shape};
use crate::diagnostics::Position;

pub(super) const KEYS: [&str; 3] = ["ingress", "egress", "burst"];

/// Bits a second of each unit; those with `i` count by 1,024.
pub(super) const RATES: [(&str, u64); 7] = [
    ("bit", 1),
    ("kbit", 1_000),
    ("mbit", 1_000_000),
    ("gbit", 1_000_000_000),
    ("kibit", 1 << 10),
    ("mibit", 1 << 20),
    ("gibit", 1 << 30),
];

/// Bytes of each unit, as tc counts them.
pub(super) const SIZES: [(&str, u64); 3] = [("b", 1), ("kb", 1 << 10), ("mb", 1 << 20)];

/// Bits a second that one packet of 1,500 bytes needs.
const ONE_PACKET: u64 = 12_000;

/// What is wrong with a text, and what to write instead.
type Wrong = (String, String);

/// A whole number and its unit.
fn split(text: &str) -> Option<(u64, String)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().ok()?;
    // `007` is read by parse, and by nobody else
    (number.to_string() == digits).then(|| (number, unit.to_ascii_lowercase()))
}

/// Reads a rate: bits a second.
fn rate(text: &str) -> Result<u64, Wrong> {
    let help = "write a whole number and bit, kbit, mbit or gbit, such as \"100mbit\"";
    let wrong = |what: String, help: &str| Err((format!("bandwidth {text:?} {what}"), help.into()));
    let Some((number, unit)) = split(text) else {
        return wrong("is not a rate".into(), help);
    };
    let Some((_, size)) = RATES.iter().find(|(word, _)| *word == unit) else {
        let bytes = [
            ("bps", 1),
            ("kbps", 1_000),
            ("mbps", 1_000_000),
            ("gbps", 1_000_000_000),
        ];
        if bytes.iter().any(|(word, _)| *word == unit) {
            let bits = unit.replace("ps", "it");
            let help = format!(
                "{unit} means bytes to tc and bits to others: write \"{number}{bits}\" for bits or \"{}{bits}\" for bytes",
                number.saturating_mul(8)
            );
            return wrong(format!("has the unit {unit:?}, which is ambiguous"), &help);
        }
        return wrong(format!("has an unknown unit {unit:?}"), help);
    };
    let bits = number.saturating_mul(*size);
    if number == 0 {
        return wrong(
            "lets nothing through".into(),
            "close a direction with ingress = [] or egress = []; leave the key out for no limit",
        );
    }
    if bits < LEAST {
        return wrong(
            "is under 1kbit, the least there is".into(),
            "close a direction with ingress = [] or egress = []",
        );
    }
    if bits > MOST {
        return wrong("is over 1000gbit".into(), "leave it out: that is no limit");
    }
    Ok(bits)
}

/// Reads a size: bytes.
fn size(text: &str) -> Result<u64, Wrong> {
    let help = "write a whole number and b, kb or mb (bytes, by 1,024), such as \"256kb\"";
    let wrong = |what: &str| Err((format!("burst {text:?} {what}"), help.to_owned()));
    let Some((number, unit)) = split(text) else {
        return wrong("is not a size");
    };
    let Some((_, size)) = SIZES.iter().find(|(word, _)| *word == unit) else {
        return wrong("has an unknown unit");
    };
    match number.checked_mul(*size) {
        Some(bytes) if bytes < LEAST_BURST => {
            wrong("is under 2kb: no packet of a larger network would fit")
        }
        Some(bytes) if bytes <= MOST_BURST => Ok(bytes),
        _ => wrong("is over 1024mb"),
    }
}

/// Reads what is asked for outside of policy files, in their words: `100mbit` for each way, or `ingress=100mbit`,
/// `egress=20mbit` and `burst=256kb`, separated by commas or blanks.
///
/// # Errors
/// A sentence that says what is wrong and what to write.
pub fn asked(text: &str) -> Result<Bandwidth, String> {
    let wrong = |(what, help): Wrong| format!("{what}: {help}");
    let (mut ingress, mut egress, mut bucket) = (None, None, None);
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    for word in words.filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or(("", word));
        let shape = |value| -> Result<Option<Shape>, String> {
            let rate = rate(value).map_err(wrong)?;
            Ok(Some(Shape { rate, burst: None }))
        };
        let twice = match key {
            "" => {
                let before = ingress.is_some() || egress.is_some();
                ingress = shape(value)?;
                egress = ingress;
                before
            }
            "ingress" => std::mem::replace(&mut ingress, shape(value)?).is_some(),
            "egress" => std::mem::replace(&mut egress, shape(value)?).is_some(),
            "burst" => bucket.replace(size(value).map_err(wrong)?).is_some(),
            other => {
                let known = KEYS.join(", ");
                return Err(format!(
                    "bandwidth has no {other:?}: only {known} are known"
                ));
            }
        };
        if twice {
            return Err(format!("bandwidth {text:?} says the same twice"));
        }
    }
    if ingress.is_none() && egress.is_none() {
        return Err(format!(
            "bandwidth {text:?} names no rate: write \"100mbit\", or \"ingress=100mbit,egress=20mbit\""
        ));
    }
    for shape in [&mut ingress, &mut egress].into_iter().flatten() {
        shape.burst = bucket;
    }
    Ok(Bandwidth { ingress, egress })
}

impl Reader<'_> {
    /// What the key says, if all of it can be read.
    pub(super) fn bandwidth(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Limits> {
        match value.get_ref() {
            DeValue::String(_) => {
                let both = self.rate_of(value, "bandwidth");
                both.map(|both| Limits {
                    ingress: Some(both),
                    egress: Some(both),
                })
            }
            DeValue::Table(keys) => {
                let mut limits = Limits {
                    ingress: None,
                    egress: None,
                };
                let mut burst = None;
                for (key, value) in keys.iter() {
                    match &**key.get_ref() {
                        "ingress" => limits.ingress = self.rate_of(value, "ingress"),
                        "egress" => limits.egress = self.rate_of(value, "egress"),
                        "burst" => burst = self.size_of(value),
                        other => self.unknown_key(key.span(), other, &KEYS, "`bandwidth`"),
                    }
                }
                if !["ingress", "egress"]
                    .iter()
                    .any(|key| keys.contains_key(*key))
                {
                    self.error(
                        value.span(),
                        "`bandwidth` names no direction",
                        Some("give ingress (what comes to the container), egress (what it sends), or both".into()),
                    );
                }
                for (shape, _) in [&mut limits.ingress, &mut limits.egress]
                    .into_iter()
                    .flatten()
                {
                    shape.burst = burst;
                }
                Some(limits)
            }
            _ => {
                let expected =
                    "a rate such as \"100mbit\", or a table such as { egress = \"20mbit\" }";
                self.wrong_type(value, "bandwidth", expected);
                None
            }
        }
    }

    fn rate_of(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Option<(Shape, Position)> {
        let rate = self.read_by(value, key, "a rate such as \"100mbit\"", rate)?;
        if rate < ONE_PACKET {
            let message =
                format!("{rate} bits a second are less than one packet of 1,500 bytes a second");
            let help = "write kbit or mbit where that is meant; a direction is closed by ingress = [] or egress = []";
            self.source
                .lint(POINTLESS, value.span(), message, Some(help.into()));
        }
        let at = self.source.position(value.span().start);
        Some((Shape { rate, burst: None }, at))
    }

    fn size_of(&mut self, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        self.read_by(value, "burst", "a size such as \"256kb\"", size)
    }

    fn read_by(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        expected: &str,
        read: fn(&str) -> Result<u64, Wrong>,
    ) -> Option<u64> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, key, expected);
            return None;
        };
        read(text)
            .map_err(|(message, help)| self.error(value.span(), message, Some(help)))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::policy::PolicyFile;

    fn shown(value: &str) -> Result<(Option<String>, Option<String>), String> {
        let file = PolicyFile::parse("web.toml", &format!("bandwidth = {value}\n"));
        let limits = file.map_err(|e| e.to_string())?.bandwidth.unwrap();
        let text = |limit: Option<(super::Shape, _)>| limit.map(|(shape, _)| shape.to_string());
        Ok((text(limits.ingress), text(limits.egress)))
    }

    #[test]
    fn limits_are_read_as_tc_writes_them() {
        let some = |text: &str| Some(text.to_owned());
        for (value, ingress, egress) in [
            ("'100mbit'", some("100mbit"), some("100mbit")),
            ("'1Gbit'", some("1gbit"), some("1gbit")),
            ("'1500kbit'", some("1500kbit"), some("1500kbit")),
            ("'8kibit'", some("8192bit"), some("8192bit")),
            ("{ ingress = '20mbit' }", some("20mbit"), None),
            (
                "{ egress = '2mbit', burst = '64kb' }",
                None,
                some("2mbit burst 64kb"),
            ),
            (
                "{ ingress = '1mbit', egress = '2mbit', burst = '1mb' }",
                some("1mbit burst 1mb"),
                some("2mbit burst 1mb"),
            ),
        ] {
            assert_eq!(shown(value), Ok((ingress, egress)), "{value}");
        }
    }

    #[test]
    fn what_is_no_limit_is_told_with_its_place_and_a_remedy() {
        for (value, place, words) in [
            ("'0mbit'", "1:13", "lets nothing through"),
            ("'0'", "1:13", "is not a rate"),
            ("'999bit'", "1:13", "under 1kbit"),
            ("'2000gbit'", "1:13", "over 1000gbit"),
            ("'99999999999999999999gbit'", "1:13", "is not a rate"),
            ("'100mbps'", "1:13", "800mbit"),
            ("'100m'", "1:13", "unknown unit"),
            ("'1.5mbit'", "1:13", "unknown unit"),
            ("'-1mbit'", "1:13", "is not a rate"),
            ("'05mbit'", "1:13", "is not a rate"),
            ("100", "1:13", "not an integer"),
            ("{ }", "1:13", "names no direction"),
            ("{ burst = '4kb' }", "1:13", "names no direction"),
            (
                "{ ingres = '4kbit', egress = '1mbit' }",
                "1:15",
                "did you mean `ingress`",
            ),
            ("{ egress = '1mbit', burst = '1b' }", "1:41", "under 2kb"),
            (
                "{ egress = '1mbit', burst = '1gb' }",
                "1:41",
                "unknown unit",
            ),
        ] {
            let error = shown(value).unwrap_err();
            assert!(
                error.contains(&format!("web.toml:{place}")),
                "{value}: {error}"
            );
            assert!(error.contains(words), "{value}: {error}");
        }
    }

    #[test]
    fn less_than_a_packet_a_second_is_warned_about() {
        let warnings = |text: &str| PolicyFile::parse("web.toml", text).unwrap().warnings;
        let told = warnings("bandwidth = '1kbit'\n").to_string();
        assert!(
            told.contains("web.toml:1:13") && told.contains("pointless"),
            "{told}"
        );
        assert!(warnings("bandwidth = '12kbit'\n").is_empty());
    }

    #[test]
    fn what_is_asked_for_in_words() {
        let shown = |text: &str| {
            let asked = super::asked(text)?;
            let of = |shape: Option<crate::bandwidth::Shape>| shape.map(|shape| shape.to_string());
            Ok::<_, String>((of(asked.ingress), of(asked.egress)))
        };
        let some = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            ("100mbit", (some("100mbit"), some("100mbit"))),
            ("ingress=1gbit", (some("1gbit"), None)),
            (
                "egress=20mbit, burst=256kb",
                (None, some("20mbit burst 256kb")),
            ),
            ("ingress=1mbit egress=2mbit", (some("1mbit"), some("2mbit"))),
        ] {
            assert_eq!(shown(text).unwrap(), expected, "{text}");
        }
        let both = super::asked("ingress=1gbit,egress=20mbit,burst=256kb").unwrap();
        assert_eq!(
            both.to_string(),
            "egress 20mbit burst 256kb, ingress 1gbit burst 256kb"
        );
        assert_eq!(
            crate::bandwidth::Bandwidth::default().to_string(),
            "unlimited"
        );
        for (text, words) in [
            ("", "names no rate"),
            ("burst=4kb", "names no rate"),
            ("fast", "is not a rate"),
            ("10mbps", "ambiguous"),
            ("both=1mbit", "only ingress, egress, burst"),
            ("1mbit,egress=1mbit", "twice"),
            ("egress=1mbit,egress=2mbit", "twice"),
            ("1mbit,burst=1b", "under 2kb"),
        ] {
            let said = shown(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
