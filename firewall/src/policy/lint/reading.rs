//! What is told while a file is read.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;

use super::{ONE_FAMILY, TWICE};
use crate::diagnostics::Source;
use crate::policy::{Ports, icmp};

/// An entry of a list that stands there already.
pub(in crate::policy) fn twice(source: &mut Source<'_>, span: Range<usize>, text: &str) {
    let message = format!("`{text}` stands here twice");
    source.lint(TWICE, span, message, Some("remove one of them".into()));
}

/// Each entry once, in the order of the file; those that come again are warned about.
pub(in crate::policy) fn once<T: Ord + Clone + Display>(
    source: &mut Source<'_>,
    entries: &[(T, Range<usize>)],
) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::with_capacity(entries.len());
    for (entry, span) in entries {
        if seen.insert(entry) {
            kept.push(entry.clone());
        } else {
            twice(source, span.clone(), &entry.to_string());
        }
    }
    kept
}

/// Warns of what can never match in one of the families.
pub(in crate::policy) fn ports(source: &mut Source<'_>, entry: Ports, span: &Range<usize>) {
    if let Ports::Icmp(kind) = entry
        && icmp::counterpart(kind).is_none()
    {
        let message = format!("`{entry}` has no counterpart in ICMPv6: it matches IPv4 only");
        let help = "nothing is to be done where IPv4 alone is meant";
        source.lint(ONE_FAMILY, span.clone(), message, Some(help.into()));
    }
}
