//! What a file probably does not mean as it stands: warnings, never errors.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use super::{Ports, Rule, icmp};
use crate::diagnostics::Source;
use crate::sets::{Action, Direction};

/// Each entry once, in the order of the file; those that come again are warned about.
pub(super) fn once<T: Ord + Clone + Display>(
    source: &mut Source<'_>,
    entries: Vec<(T, Range<usize>)>,
) -> Vec<T> {
    let mut seen = std::collections::BTreeSet::new();
    let mut kept = Vec::with_capacity(entries.len());
    for (entry, span) in entries {
        if seen.insert(entry.clone()) {
            kept.push(entry);
        } else {
            source.warning(span, format!("`{entry}` stands here twice"), None);
        }
    }
    kept
}

/// Warns of what can never match in one of the families.
pub(super) fn ports(source: &mut Source<'_>, entry: Ports, span: &Range<usize>) {
    if let Ports::Icmp(kind) = entry
        && icmp::counterpart(kind).is_none()
    {
        let message = format!("`{entry}` has no counterpart in ICMPv6: it matches IPv4 only");
        source.warning(span.clone(), message, None);
    }
}

/// Warns of rules that say the same, and of a section that only denies.
pub(super) fn section(
    source: &mut Source<'_>,
    direction: Direction,
    rules: &[Rule],
    spans: &[Range<usize>],
) {
    let mut seen = BTreeMap::new();
    for (rule, span) in rules.iter().zip(spans) {
        let mut peers = rule.peers.clone();
        peers.sort();
        let mut ports = rule.ports.clone();
        if let Some(ports) = &mut ports {
            ports.sort();
        }
        let first = *seen
            .entry((peers, ports, rule.action))
            .or_insert(rule.at.line);
        if first != rule.at.line {
            let message = format!("this rule says the same as the one in line {first}");
            source.warning(span.clone(), message, None);
        }
    }
    if let Some(span) = spans.first()
        && rules.iter().all(|rule| rule.action == Action::Deny)
    {
        let word = direction.as_str();
        let message = format!("{word} has deny rules only: nothing passes");
        let help = format!(
            "a direction that a file mentions is closed but for what is allowed; add [[{word}]] rules that allow, here or in another file"
        );
        source.warning(span.clone(), message, Some(help));
    }
}
