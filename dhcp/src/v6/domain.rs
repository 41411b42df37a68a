//! Domain names as they go over the wire (RFC 1035 §3.1), uncompressed.

use crate::error::Error;

/// Longest name in bytes, lengths and root included (RFC 1035 §2.3.4).
const LONGEST: usize = 255;
/// Longest label in bytes.
const LABEL: usize = 63;

/// Names one behind the other.
///
/// # Errors
/// [`Error::Domain`]: one is no domain name.
pub(super) fn encode<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for name in names {
        let start = bytes.len();
        for label in name.trim_end_matches('.').split('.') {
            let plain = label.bytes().all(|b| b.is_ascii_graphic());
            if label.is_empty() || label.len() > LABEL || !plain {
                return Err(Error::Domain(name.to_owned()));
            }
            bytes.push(label.len() as u8); // at most 63
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        if bytes.len() - start > LONGEST {
            return Err(Error::Domain(name.to_owned()));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_labels_with_their_lengths() {
        assert_eq!(encode(["a.bc", "d."]).unwrap(), b"\x01a\x02bc\0\x01d\0");
        for bad in ["", ".", "a..b", "a b", &"x".repeat(64), &"x.".repeat(128)] {
            assert_eq!(encode([bad]), Err(Error::Domain(bad.to_owned())));
        }
    }
}
