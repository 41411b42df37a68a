//! Domain names as they travel: labels with their lengths, ending in the root's empty one (RFC 1035 §3.1).
//!
//! Everything in this crate compares names in lower case (RFC 4343), so [`Name`] and [`NameBuf`] hold nothing else. What
//! was asked in another case is answered in that case, since the question is copied from the query.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Bytes of the longest name, the root's label included (RFC 1035 §2.3.4).
pub(crate) const MAX_NAME: usize = 255;
/// Bytes of the longest label (RFC 1035 §2.3.4).
pub(crate) const MAX_LABEL: usize = 63;

/// A domain name in lower case, such as `dmz.internal`. Its labels are of letters, digits, `-` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The root, `.`.
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    pub(crate) fn view(&self) -> View<'_> {
        View(&self.0)
    }

    /// This name in front of another one. `None` where the result is too long.
    pub(crate) fn before(&self, domain: View<'_>) -> Option<Name> {
        let labels = &self.0[..self.0.len() - 1];
        let whole = [labels, domain.0].concat();
        (whole.len() <= MAX_NAME).then(|| Name(whole.into()))
    }

    /// Whether `text` is a hostname label: letters, digits and inner hyphens, 63 at most (RFC 1123 §2.1).
    pub fn is_host_label(text: &str) -> bool {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=MAX_LABEL).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
}

impl FromStr for Name {
    type Err = Error;

    /// Reads `dmz.internal` or `dmz.internal.`; a single `.` is the root.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Name(text.to_owned());
        let mut wire = Vec::with_capacity(text.len() + 2);
        let labels = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(bad());
        }
        for label in labels.split('.').filter(|_| !labels.is_empty()) {
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !(1..=MAX_LABEL).contains(&label.len()) || !label.bytes().all(good) {
                return Err(bad());
            }
            wire.push(label.len() as u8); // at most MAX_LABEL
            wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        wire.push(0);
        if wire.len() > MAX_NAME {
            return Err(bad());
        }
        Ok(Self(wire.into()))
    }
}

/// Tables of names are searched with what was read from a message, without a copy. Both sides hash as their bytes.
impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// A name read from a message, lower case, on the stack.
#[derive(Clone, Copy)]
pub(crate) struct NameBuf {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl NameBuf {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; MAX_NAME],
            length: 0,
        }
    }

    /// Adds a label with its length byte, or the root's. False where the name becomes too long.
    pub(crate) fn push(&mut self, label: &[u8]) -> bool {
        let end = self.length + label.len();
        let Some(room) = self.bytes.get_mut(self.length..end) else {
            return false;
        };
        for (to, from) in room.iter_mut().zip(label) {
            // a length byte is at most 63, so it is no upper-case letter
            *to = from.to_ascii_lowercase();
        }
        self.length = end;
        true
    }

    pub(crate) fn view(&self) -> View<'_> {
        View(&self.bytes[..self.length])
    }
}

/// A whole name, lower case, wherever it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// The bytes, with lengths and the root's label.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The first label and the rest of the name; `None` for the root.
    pub(crate) fn split(self) -> Option<(&'a [u8], View<'a>)> {
        let (&length, rest) = self.0.split_first()?;
        let length = usize::from(length);
        (length > 0).then(|| (&rest[..length], View(&rest[length..])))
    }

    /// The labels, first to last, without the root's.
    pub(crate) fn labels(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let (label, after) = rest.split()?;
            rest = after;
            Some(label)
        })
    }

    /// The name and its parents up to the root, longest first.
    pub(crate) fn ancestors(self) -> impl Iterator<Item = View<'a>> {
        std::iter::successors(Some(self), |name| name.split().map(|(_, parent)| parent))
    }

    /// Whether this is `domain` or a name beneath it, label by label.
    pub(crate) fn is_within(self, domain: View<'_>) -> bool {
        self.0.len() >= domain.0.len() && self.ancestors().any(|name| name.0 == domain.0)
    }

    /// Whether this is the name of these labels.
    pub(crate) fn is(self, labels: &[&str]) -> bool {
        self.labels()
            .eq(labels.iter().map(|label| label.as_bytes()))
    }

    pub(crate) fn to_name(self) -> Name {
        Name(self.0.into())
    }
}

impl fmt::Display for View<'_> {
    /// As text, with what is no plain character written as `\DDD` (RFC 1035 §5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.split().is_none() {
            return f.write_str(".");
        }
        for (n, label) in self.labels().enumerate() {
            if n > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", byte as char)?,
                    b'!'..=b'~' => write!(f, "{}", byte as char)?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_read_back_in_lower_case() {
        for (text, shown) in [
            ("Web.DMZ.internal", "web.dmz.internal"),
            ("a.", "a"),
            (".", "."),
            ("_sip._tcp.example.org", "_sip._tcp.example.org"),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), shown);
        }
        let long = ["a".repeat(64), "a.".repeat(128), "ä".to_owned()];
        for text in ["", "..", "a..b", ".a", "a b"]
            .into_iter()
            .chain(long.iter().map(String::as_str))
        {
            let error = text.parse::<Name>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn beneath_goes_by_label() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let domain = name("example.org");
        for (text, within) in [
            ("example.org", true),
            ("www.Example.ORG", true),
            ("evilexample.org", false),
            ("org", false),
            ("example.org.evil", false),
        ] {
            assert_eq!(name(text).view().is_within(domain.view()), within, "{text}");
        }
        assert!(domain.view().is_within(name(".").view()));
    }

    #[test]
    fn host_labels_are_those_of_rfc_1123() {
        for good in ["web", "Web-1", "0", &"a".repeat(63)] {
            assert!(Name::is_host_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!Name::is_host_label(bad), "{bad}");
        }
    }
}
