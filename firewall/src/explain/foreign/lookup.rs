//! Lookups in sets and maps.

use super::expression::{Element, RulesetSet};
use super::value::{Truth, Value};

/// An element that may be found, and whether it is.
pub(super) type Found<'a> = (Truth, &'a Element);

/// The elements that a key may find, in the order of the set, and whether it finds one at all. At most one
/// is certain.
pub(super) fn find<'a>(set: &'a RulesetSet, key: &[(usize, Value)]) -> (Vec<Found<'a>>, Truth) {
    let mut found: Vec<Found<'a>> = if set.intervals && key.len() == 1 {
        key.first()
            .map(|(_, value)| intervals(set, value))
            .unwrap_or_default()
    } else {
        let elements = set.elements.iter().filter(|e| !e.catchall);
        elements
            .map(|element| (matches(element, key), element))
            .filter(|(truth, _)| *truth != Truth::No)
            .collect()
    };
    if let Some(hit) = found.iter().find(|(truth, _)| *truth == Truth::Yes) {
        return (vec![*hit], Truth::Yes);
    }
    let others = set.elements.iter().find(|e| e.catchall);
    if let Some(others) = others {
        let certain = found.is_empty() && !set.cut;
        found.push((Truth::of_certain(certain), others));
        return (found, Truth::Yes);
    }
    let truth = if found.is_empty() && !set.cut {
        Truth::No
    } else {
        Truth::Unknown
    };
    (found, truth)
}

impl Truth {
    fn of_certain(certain: bool) -> Self {
        if certain { Self::Yes } else { Self::Unknown }
    }
}

/// Whether an element has this key; the fields are compared one by one.
fn matches(element: &Element, key: &[(usize, Value)]) -> Truth {
    let field = |bytes: &[u8], at: usize, len: usize| -> Vec<u8> {
        let mut field = bytes.get(at..).unwrap_or_default().to_vec();
        field.truncate(len);
        field.resize(len, 0);
        field
    };
    key.iter().fold(Truth::Yes, |truth, (at, value)| {
        let first = field(&element.key, *at, value.len());
        truth.and(match &element.last {
            None => value.is(&first),
            Some(last) => {
                let last = field(last, *at, value.len());
                if first == last {
                    value.is(&first)
                } else {
                    value.within(&first, &last)
                }
            }
        })
    })
}

/// Ranges of one field: each begins with an element and ends before one that `ends`, or at the last key.
fn intervals<'a>(set: &'a RulesetSet, value: &Value) -> Vec<Found<'a>> {
    let mut elements: Vec<&Element> = set.elements.iter().filter(|e| !e.catchall).collect();
    // where one range ends and the next begins, the end comes first
    elements.sort_by(|a, b| (&a.key, !a.ends).cmp(&(&b.key, !b.ends)));
    let len = value.len();
    let cut = |key: &[u8]| {
        let mut key = key.to_vec();
        key.resize(len, 0);
        key
    };
    let mut found = Vec::new();
    for (n, element) in elements.iter().enumerate() {
        if element.ends {
            continue;
        }
        let first = cut(&element.key);
        let last = match elements.get(n + 1) {
            Some(next) => before(cut(&next.key)),
            None => Some(vec![0xff; len]),
        };
        let Some(last) = last else { continue };
        match value.within(&first, &last) {
            Truth::No => {}
            truth => found.push((truth, *element)),
        }
    }
    found
}

/// The key before this one.
fn before(mut key: Vec<u8>) -> Option<Vec<u8>> {
    for byte in key.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            return Some(key);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(key: &[u8], ends: bool) -> Element {
        Element {
            key: key.to_vec(),
            ends,
            ..Element::default()
        }
    }

    fn asked(set: &RulesetSet, key: &[u8]) -> Truth {
        find(set, &[(0, Value::known("key", key))]).1
    }

    #[test]
    fn ranges_end_before_their_end() {
        let set = RulesetSet {
            intervals: true,
            elements: vec![
                element(&[0, 0], true),
                element(&[0, 80], false),
                element(&[0, 90], true),
                element(&[0, 90], false),
                element(&[0, 91], true),
                element(&[255, 0], false),
            ],
            cut: false,
        };
        let table = [
            (79u16, Truth::No),
            (80, Truth::Yes),
            (90, Truth::Yes),
            (91, Truth::No),
            (65535, Truth::Yes),
        ];
        for (port, truth) in table {
            assert_eq!(asked(&set, &port.to_be_bytes()), truth, "{port}");
        }
        let unknown = find(&set, &[(0, Value::unknown("port", 2))]);
        assert_eq!((unknown.0.len(), unknown.1), (3, Truth::Unknown));
    }

    #[test]
    fn fields_are_compared_one_by_one() {
        let set = RulesetSet {
            elements: vec![element(&[6, 0, 0, 0, 0, 80, 0, 0], false)],
            ..RulesetSet::default()
        };
        let key = |proto: u8, port: Value| vec![(0, Value::known("proto", &[proto])), (4, port)];
        let port = |port: u16| Value::known("port", &port.to_be_bytes());
        assert_eq!(find(&set, &key(6, port(80))).1, Truth::Yes);
        assert_eq!(find(&set, &key(17, port(80))).1, Truth::No);
        assert_eq!(
            find(&set, &key(6, Value::unknown("port", 2))).1,
            Truth::Unknown
        );
        assert_eq!(find(&set, &key(17, Value::unknown("port", 2))).1, Truth::No);
    }

    #[test]
    fn what_is_not_read_is_unknown() {
        let set = RulesetSet {
            cut: true,
            ..RulesetSet::default()
        };
        assert_eq!(asked(&set, &[1]), Truth::Unknown);
    }
}
