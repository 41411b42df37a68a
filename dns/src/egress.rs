//! Which names a container may have looked up outside, and which of them open addresses to it.

use std::str::FromStr;
use std::sync::Arc;

use crate::error::Error;
use crate::name::{Name, View};

/// `www.example.org`, or `*.example.org` for every name beneath it (at whatever depth, and not itself).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    beneath: bool,
    name: Name,
}

impl Pattern {
    pub(crate) fn matches(&self, name: View<'_>) -> bool {
        if !self.beneath {
            return name == self.name.view();
        }
        let parent = name.split().map(|(_, parent)| parent);
        parent.is_some_and(|parent| parent.is_within(self.name.view()))
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (beneath, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let name: Name = rest.parse().map_err(|_| Error::Pattern(text.to_owned()))?;
        if name.view().split().is_none() {
            return Err(Error::Pattern(text.to_owned()));
        }
        Ok(Self { beneath, name })
    }
}

/// What the caller knows of policies. It is asked when an answer depends on it, and only then, so that an edit of a policy
/// costs the resolver nothing and counts at once.
pub trait Policy {
    /// Whether a container may learn of one in another zone: whether it may reach it.
    fn reaches(&mut self, asker: &str, other: &str) -> bool;

    /// What may be asked outside for a container.
    fn egress(&mut self, container: &str) -> Arc<Egress>;
}

/// What of the outside a container's policy lets it use, and so ask for. A resolver that forwarded more would be a way
/// out for a container that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Every name: it may reach `world`, `any`, or a network outside the zones.
    pub everything: bool,
    /// The names of its `dns:` rules. The addresses in answers for these are opened to it.
    pub names: Vec<Pattern>,
    /// Names that are of interest, though no rule in force is about them: what they resolve to is told as if it were
    /// opened. They may be asked only if something else lets them.
    pub noted: Vec<Pattern>,
}

impl Egress {
    /// It may reach the world.
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// It may reach nobody outside the zones.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These names alone open its way out.
    pub fn names(names: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            names: names.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether a question about this name may leave the host.
    pub(crate) fn may_ask(&self, name: View<'_>) -> bool {
        self.everything || self.opens(name)
    }

    /// Whether it has to be told what this name resolves to.
    pub(crate) fn tells(&self, name: View<'_>) -> bool {
        self.opens(name) || self.noted.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether what this name resolves to is opened.
    pub(crate) fn opens(&self, name: View<'_>) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wildcards_go_by_label() {
        let table = [
            ("*.example.org", "www.example.org", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "WWW.Example.Org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "evilexample.org", false),
            ("*.example.org", "www.example.org.evil", false),
            ("www.example.org", "www.example.org", true),
            ("www.example.org", "a.www.example.org", false),
        ];
        for (pattern, name, matches) in table {
            let name: Name = name.parse().unwrap();
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(name.view()), matches, "{pattern:?} {name}");
        }
        for bad in ["", "*", "*.", ".", "a.*.org", "*.*.org"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
