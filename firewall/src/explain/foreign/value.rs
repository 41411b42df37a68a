//! Values of which not every bit is known, and truth of three values.

use std::cmp::Ordering;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Unknown,
}

impl Truth {
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    /// What is true of several possible cases.
    pub(super) fn of_all(cases: impl IntoIterator<Item = Self>) -> Self {
        let mut cases = cases.into_iter();
        let first = cases.next().unwrap_or(Self::Unknown);
        if cases.all(|case| case == first) {
            first
        } else {
            Self::Unknown
        }
    }
}

/// A byte, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Byte {
    value: u8,
    /// Bits that are known.
    known: u8,
    /// It belongs to an address that no rule names: equal to nothing in particular.
    unnamed: bool,
}

impl Byte {
    pub(super) const UNKNOWN: Self = Self {
        value: 0,
        known: 0,
        unnamed: false,
    };
    pub(super) const UNNAMED: Self = Self {
        value: 0,
        known: 0,
        unnamed: true,
    };

    pub(super) fn known(value: u8) -> Self {
        Self::bits(value, 0xff)
    }

    pub(super) fn bits(value: u8, known: u8) -> Self {
        Self {
            value: value & known,
            known,
            unnamed: false,
        }
    }
}

/// What a register holds: one of several possible values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// Never empty, all of one length.
    cases: Vec<Vec<Byte>>,
    /// What it is, for when it is not known.
    pub(super) what: String,
}

impl Value {
    pub(super) fn new(what: impl Into<String>, bytes: Vec<Byte>) -> Self {
        Self {
            cases: vec![bytes],
            what: what.into(),
        }
    }

    /// One of several, of one length.
    pub(super) fn of_cases(what: impl Into<String>, cases: Vec<Vec<Byte>>) -> Self {
        Self {
            cases,
            what: what.into(),
        }
    }

    pub(super) fn known(what: impl Into<String>, bytes: &[u8]) -> Self {
        Self::one_of(what, [bytes])
    }

    pub(super) fn one_of<'a>(
        what: impl Into<String>,
        cases: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let known = |case: &[u8]| case.iter().map(|b| Byte::known(*b)).collect();
        let cases = cases.into_iter().map(known).collect();
        Self {
            cases,
            what: what.into(),
        }
    }

    pub(super) fn unknown(what: impl Into<String>, len: usize) -> Self {
        Self::new(what, vec![Byte::UNKNOWN; len])
    }

    /// Something that is there and that no rule names.
    pub(super) fn unnamed(what: impl Into<String>, len: usize) -> Self {
        Self::new(what, vec![Byte::UNNAMED; len])
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.cases.first().map_or(0, Vec::len)
    }

    pub(super) fn is(&self, other: &[u8]) -> Truth {
        Truth::of_all(self.cases.iter().map(|case| is(case, other)))
    }

    /// Whether a comparison of the two has an outcome that `wanted` names.
    pub(super) fn compares(&self, other: &[u8], wanted: impl Fn(Ordering) -> bool) -> Truth {
        Truth::of_all(self.cases.iter().map(|case| {
            order(case, other).map_or(Truth::Unknown, |order| Truth::of(wanted(order)))
        }))
    }

    pub(super) fn within(&self, first: &[u8], last: &[u8]) -> Truth {
        if first.iter().all(|b| *b == 0) && last.iter().all(|b| *b == 0xff) {
            return Truth::Yes;
        }
        if self.is_unnamed() {
            return Truth::No;
        }
        self.compares(first, Ordering::is_ge)
            .and(self.compares(last, Ordering::is_le))
    }

    /// Whether it is of an address that no rule names.
    pub(super) fn is_unnamed(&self) -> bool {
        self.cases.iter().all(|case| case.iter().any(|b| b.unnamed))
    }

    /// `(x & mask) ^ xor`
    pub(super) fn masked(&self, mask: &[u8], xor: &[u8]) -> Self {
        let byte = |(n, byte): (usize, &Byte)| {
            let mask = mask.get(n).copied().unwrap_or(0);
            let xor = xor.get(n).copied().unwrap_or(0);
            if byte.unnamed && mask != 0 {
                return Byte::UNNAMED;
            }
            Byte::bits((byte.value & mask) ^ xor, byte.known | !mask)
        };
        let masked = |case: &Vec<Byte>| case.iter().enumerate().map(byte).collect();
        Self {
            cases: self.cases.iter().map(masked).collect(),
            what: self.what.clone(),
        }
    }

    /// Units of so many bytes turned round, where this machine's order is not the network's.
    pub(super) fn turned(&self, size: usize) -> Self {
        if cfg!(target_endian = "big") || size == 0 {
            return self.clone();
        }
        let turn = |case: &Vec<Byte>| {
            let units = case.chunks(size);
            units.flat_map(|unit| unit.iter().rev().copied()).collect()
        };
        Self {
            cases: self.cases.iter().map(turn).collect(),
            what: self.what.clone(),
        }
    }
}

fn is(case: &[Byte], other: &[u8]) -> Truth {
    let mut truth = if case.len() < other.len() {
        Truth::Unknown
    } else {
        Truth::Yes
    };
    for (byte, wanted) in case.iter().zip(other) {
        if byte.value & byte.known != wanted & byte.known || byte.unnamed {
            return Truth::No;
        }
        if byte.known != 0xff {
            truth = Truth::Unknown;
        }
    }
    truth
}

fn order(case: &[Byte], other: &[u8]) -> Option<Ordering> {
    for (byte, wanted) in case.iter().zip(other) {
        if byte.known != 0xff {
            return None;
        }
        match byte.value.cmp(wanted) {
            Ordering::Equal => {}
            different => return Some(different),
        }
    }
    Some(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_neither() {
        let half = Value::new("x", vec![Byte::known(1), Byte::UNKNOWN]);
        assert_eq!(half.is(&[2, 0]), Truth::No);
        assert_eq!(half.is(&[1, 0]), Truth::Unknown);
        assert_eq!(half.is(&[1]), Truth::Yes);
        assert_eq!(half.compares(&[2, 9], Ordering::is_lt), Truth::Yes);
        assert_eq!(half.compares(&[1, 9], Ordering::is_lt), Truth::Unknown);
        assert_eq!(half.masked(&[0xff, 0], &[0, 7]).is(&[1, 7]), Truth::Yes);
    }

    #[test]
    fn some_bits_are_enough() {
        let dnat = Value::new("status", vec![Byte::bits(0x20, 0x30)]);
        assert_eq!(dnat.masked(&[0x20], &[0]).is(&[0]), Truth::No);
        assert_eq!(dnat.masked(&[0x10], &[0]).is(&[0]), Truth::Yes);
        assert_eq!(dnat.masked(&[0x01], &[0]).is(&[0]), Truth::Unknown);
    }

    #[test]
    fn one_of_several() {
        let mark = Value::one_of("mark", [&[1u8, 0][..], &[1, 1]]);
        assert_eq!(mark.is(&[1]), Truth::Yes);
        assert_eq!(mark.is(&[1, 1]), Truth::Unknown);
        assert_eq!(mark.is(&[2, 1]), Truth::No);
    }

    #[test]
    fn an_unnamed_address_is_in_no_network_but_that_of_everything() {
        let world = Value::unnamed("saddr", 4);
        assert_eq!(world.is(&[192, 0]), Truth::No);
        assert_eq!(world.masked(&[0; 4], &[0; 4]).is(&[0; 4]), Truth::Yes);
        assert_eq!(
            world.masked(&[255, 0, 0, 0], &[0; 4]).is(&[10, 0, 0, 0]),
            Truth::No
        );
        assert_eq!(
            world.within(&[10, 0, 0, 0], &[10, 255, 255, 255]),
            Truth::No
        );
        assert_eq!(world.within(&[0; 4], &[255; 4]), Truth::Yes);
    }
}
