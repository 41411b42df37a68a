//! The client FQDN option (81, RFC 4702): who tells the DNS which name the client has.
//!
//! The names of attached machines are the zone's own: its resolver answers for them, whatever the client would
//! like. For guests nobody tells the DNS anything.

use crate::wire::{code, push_option};

/// The client wants the server to tell the DNS its address (RFC 4702 §2.1).
const S: u8 = 0x01;
/// The server did otherwise than the client wished.
const O: u8 = 0x02;
/// The name is in the encoding of the DNS (RFC 1035 §3.1), not in ASCII.
const E: u8 = 0x04;
/// Nobody tells the DNS anything.
const N: u8 = 0x08;
/// RCODE1 and RCODE2: of no meaning any more (§2.2), 255 in what servers send.
const RCODES: [u8; 2] = [255, 255];

/// What a client said in the option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fqdn {
    flags: u8,
    /// The name, without a dot at its end; empty if it has none or none that can be read.
    pub(crate) name: String,
}

impl Fqdn {
    /// Reads the option's value; `None` if it is too short to be one.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let [flags, _, _, name @ ..] = value else {
            return None;
        };
        let name = if flags & E != 0 {
            from_labels(name)
        } else {
            let text = std::str::from_utf8(name).ok();
            text.map(|text| text.trim_end_matches(['\0', '.']).to_owned())
        };
        Some(Self {
            flags: *flags,
            name: name.unwrap_or_default(),
        })
    }

    /// The answer, encoded with code and length: `name` is what the machine is called, `served` whether the zone's
    /// resolver answers for it.
    pub(crate) fn answer(&self, name: &str, served: bool) -> Vec<u8> {
        let wanted = self.flags & S != 0;
        let mut flags = self.flags & E;
        if served {
            flags |= S;
        } else {
            flags |= N;
        }
        if wanted != served {
            flags |= O;
        }
        let mut value = vec![flags];
        value.extend(RCODES);
        if flags & E == 0 {
            value.extend(name.bytes());
        } else {
            push_labels(&mut value, name);
        }
        let mut out = Vec::new();
        // §2: at most 255 bytes, which a name of at most 253 may not leave: then the name is left out.
        value.truncate(if value.len() > 255 { 3 } else { value.len() });
        push_option(&mut out, code::FQDN, &value);
        out
    }
}

/// Labels with their lengths, ended by an empty one if the name is whole; a partial name may lack it (§2.3.1).
fn from_labels(mut rest: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    while let [length, tail @ ..] = rest {
        if *length == 0 {
            break;
        }
        let label = tail.get(..usize::from(*length)).filter(|_| *length < 64)?;
        labels.push(std::str::from_utf8(label).ok()?);
        rest = &tail[label.len()..];
    }
    Some(labels.join("."))
}

fn push_labels(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let bytes = &label.as_bytes()[..label.len().min(63)];
        out.push(bytes.len() as u8); // at most 63
        out.extend_from_slice(bytes);
    }
    out.push(0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_encodings_are_read() {
        let read = |bytes: &[u8]| Fqdn::read(bytes).map(|fqdn| fqdn.name);
        assert_eq!(read(b"\x01\0\0web.example."), Some("web.example".into()));
        assert_eq!(
            read(b"\x05\0\0\x03web\x07example\0"),
            Some("web.example".into())
        );
        assert_eq!(read(b"\x04\0\0\x03web"), Some("web".into()));
        // lengths that lie, and no name at all
        assert_eq!(read(b"\x04\0\0\x09web"), Some(String::new()));
        assert_eq!(read(b"\x04\0\0\xc0\x0c"), Some(String::new()));
        assert_eq!(read(b"\x00\0\0\xff"), Some(String::new()));
        assert_eq!(read(b"\x05\0\0"), Some(String::new()));
        assert_eq!(read(b"\x05\0"), None);
    }

    #[test]
    fn a_name_too_long_for_the_option_is_left_out() {
        let name = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
        let fqdn = Fqdn::read(&[E, 0, 0]).unwrap();
        assert_eq!(fqdn.answer(&name, true), [81, 3, S | O | E, 255, 255]);
    }
}
