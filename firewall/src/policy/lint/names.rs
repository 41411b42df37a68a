//! Names that nobody has.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Finding, Subject, Surroundings, UNKNOWN_NAME, UNREACHABLE};
use crate::policy::Peer;
use crate::policy::suggest::nearest;
use crate::sets::Direction;

pub(super) fn find(subject: &Subject<'_>, around: &Surroundings, out: &mut Vec<Finding>) {
    let mut names: BTreeMap<Peer, Range<usize>> = BTreeMap::new();
    for direction in Direction::ALL {
        for place in subject.places.of(direction) {
            for (peers, span) in &place.peers {
                for peer in peers {
                    // each name once a file, where it stands first
                    let first = names.entry(peer.clone()).or_insert_with(|| span.clone());
                    if span.start < first.start {
                        *first = span.clone();
                    }
                }
            }
        }
    }
    for (peer, span) in &names {
        if let Some((message, help)) = unknown(peer, around) {
            out.push(Finding::new(UNKNOWN_NAME, span, message, help));
        }
    }
    target(subject, around, out);
}

/// To whom the file applies.
fn target(subject: &Subject<'_>, around: &Surroundings, out: &mut Vec<Finding>) {
    let target = &subject.file.applies_to;
    let span = &subject.places.target;
    let container = target.container.clone().map(Peer::Container);
    let zone = target.zone.clone().map(Peer::Zone);
    let labels = target.labels.clone().into_iter();
    let labels = labels.map(|(key, value)| Peer::Label(key, value));
    let names = container.into_iter().chain(zone).chain(labels);
    let mut all_known = true;
    for peer in names {
        if let Some((message, help)) = unknown(&peer, around) {
            all_known = false;
            let message = format!("this file applies to nobody now: {message}");
            out.push(Finding::new(UNKNOWN_NAME, span, message, help));
        }
    }
    let Some(containers) = around.containers.as_ref().filter(|_| all_known) else {
        return;
    };
    let mut ports = containers
        .iter()
        .flat_map(|(name, ports)| ports.iter().map(move |port| (name, port)));
    let applies = ports.any(|(name, attached)| {
        target.container.as_ref().is_none_or(|n| n == name)
            && target.zone.as_ref().is_none_or(|z| *z == attached.zone)
            && target
                .labels
                .iter()
                .all(|(key, value)| attached.labels.get(key) == Some(value))
    });
    let keys = usize::from(target.container.is_some())
        + usize::from(target.zone.is_some())
        + target.labels.len();
    if !applies && keys > 1 {
        let message = "this file applies to nobody now: no attached container has all that `applies-to` asks for";
        let help = "all given keys must match: `netd list` shows zones and labels";
        out.push(Finding::new(UNREACHABLE, span, message, help));
    }
}

/// What is said of a name that nobody has.
fn unknown(peer: &Peer, around: &Surroundings) -> Option<(String, String)> {
    match peer {
        Peer::Zone(name) => {
            let zones = around.zones.as_ref()?;
            if zones.contains_key(name) {
                return None;
            }
            let near = nearest(name.as_str(), zones.keys().map(|n| n.as_str()));
            let help = match near {
                Some(near) => format!("did you mean `zone:{near}`?"),
                None => format!("`netd zone create {name}` makes it"),
            };
            Some((format!("there is no zone {name}"), help))
        }
        Peer::Container(name) => {
            let containers = around.containers.as_ref()?;
            if containers.contains_key(name) {
                return None;
            }
            let near = nearest(name.as_str(), containers.keys().map(|n| n.as_str()));
            let help = match near {
                Some(near) => format!("did you mean `container:{near}`?"),
                None => "it counts as soon as one of that name is attached".into(),
            };
            Some((format!("no container {name} is attached"), help))
        }
        Peer::Label(key, value) => {
            let containers = around.containers.as_ref()?;
            let pairs = || containers.values().flatten().flat_map(|c| &c.labels);
            if pairs().any(|pair| pair == (key, value)) {
                return None;
            }
            let written = format!("{key}={value}");
            let known: BTreeSet<String> = pairs().map(|(k, v)| format!("{k}={v}")).collect();
            let help = match nearest(&written, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `label:{near}`?"),
                None => "it counts as soon as a container with it is attached".into(),
            };
            let message = format!("no attached container has the label {written}");
            Some((message, help))
        }
        _ => None,
    }
}
