//! What would have to be added to allow a connection: rules, and the files they belong into.
//!
//! Nothing is suggested that does not work: each suggestion is tried on the policies first. It opens as
//! little as can be said: this peer, this port. A file that begins to mention a direction closes what the
//! zone's default opened there, so such a suggestion says that, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use zone::{DefaultPolicy, ZoneName};

use super::answer::Surroundings;
use super::side::Side;
use super::words::{carries, peer};
use super::zone_of;
use crate::model::{Container, Flow, Traffic, World};
use crate::oracle::{self, Who};
use crate::policy::{AppliesTo, Mode, PolicyFile, PolicySet, Section};
use crate::sets::Direction;

/// Lines to be added to a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// The file.
    pub file: String,
    /// Whether it is a new one; else the lines belong at its end.
    pub create: bool,
    /// The lines.
    pub text: String,
}

/// What would allow a flow that is denied. Empty where nothing that can be added does.
pub(super) fn fix(
    world: &World,
    policies: &PolicySet,
    flow: &Flow,
    surroundings: &Surroundings<'_>,
) -> Vec<Fix> {
    let (Ok(from), Ok(to)) = (
        oracle::party(world, &flow.from, &flow.to, flow.family),
        oracle::party(world, &flow.to, &flow.from, flow.family),
    ) else {
        return Vec::new();
    };
    if matches!(flow.traffic, Traffic::Port(_, 0)) {
        return Vec::new();
    }
    let sides = [
        (from, Direction::Egress, to),
        (to, Direction::Ingress, from),
    ];
    let mut fixes: Vec<Fix> = Vec::new();
    for (own, direction, other) in sides {
        let Who::Container(owner) = own.who else {
            continue;
        };
        let side = Side::new(world, policies, owner, direction, other, flow);
        if side.published().is_some_and(|(open, _)| open) || side.judge().0 {
            continue;
        }
        // A file about the container would close the direction at its other ports as well.
        let here = (world.ports_of(owner.name.container()).count() > 1).then_some(&owner.zone);
        let (file, create, head) = place(policies, owner, here, direction, surroundings, &fixes);
        let mut text = rule(direction, &peer(other), &[carries(flow.traffic)]);
        text.push_str(&kept(world, policies, owner, direction));
        match fixes.iter_mut().find(|fix| fix.file == file) {
            Some(fix) => fix.text.push_str(&format!("\n{text}")),
            None => fixes.push(Fix {
                file,
                create,
                text: head + &text,
            }),
        }
    }
    if works(world, policies, flow, &fixes) {
        fixes
    } else {
        Vec::new()
    }
}

fn rule(direction: Direction, peers: &str, ports: &[String]) -> String {
    let key = match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    let ports = if ports.is_empty() {
        String::new()
    } else {
        format!("ports = [{}]\n", quoted(ports))
    };
    format!("[[{}]]\n{key} = [{peers}]\n{ports}", direction.as_str())
}

fn quoted(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    items.join(", ")
}

/// Rules that keep open what is open because no file mentions the direction.
fn kept(world: &World, policies: &PolicySet, owner: &Container, direction: Direction) -> String {
    let mentioned = policies
        .applying(owner)
        .any(|file| file.section(direction).is_some());
    let Some(zone) = zone_of(world, owner).filter(|_| !mentioned) else {
        return String::new();
    };
    let by_default = match (zone.default, direction) {
        (DefaultPolicy::Egress, Direction::Egress) => "\"world\"".to_owned(),
        (DefaultPolicy::Allow, _) => format!("\"zone:{}\", \"host\", \"world\"", zone.name),
        _ => String::new(),
    };
    let mut text = String::new();
    if !by_default.is_empty() {
        text.push_str(&format!(
            "\n# what the default of zone {} opens, as long as no file mentions {}\n",
            zone.name,
            direction.as_str()
        ));
        text.push_str(&rule(direction, &by_default, &[]));
    } else if direction == Direction::Ingress && !zone.internal {
        let mut ports: Vec<String> = owner
            .publish
            .iter()
            .filter(|publish| publish.port > 0)
            .map(|publish| {
                let last = publish
                    .port
                    .saturating_add(publish.last.saturating_sub(publish.first));
                crate::policy::Ports::Range {
                    proto: publish.proto,
                    first: publish.port,
                    last,
                }
                .to_string()
            })
            .collect();
        ports.sort();
        ports.dedup();
        if !ports.is_empty() {
            text.push_str(
                "\n# its published ports, which are open as long as no file mentions ingress\n",
            );
            text.push_str(&rule(direction, "\"world\", \"host\"", &ports));
        }
    }
    text
}

/// The file for a rule about one container (in this zone only, where one is given): one that is about it alone and can
/// be added to, else a new one.
/// Returns its name, whether it is new, and what a new one begins with.
fn place(
    policies: &PolicySet,
    owner: &Container,
    here: Option<&ZoneName>,
    direction: Direction,
    surroundings: &Surroundings<'_>,
    fixes: &[Fix],
) -> (String, bool, String) {
    let container = owner.name.container();
    let own = |file: &&PolicyFile| {
        let target = &file.applies_to;
        target.container.as_ref().map(|name| name.as_str()) == Some(container)
            && here.is_none_or(|zone| target.zone.as_ref() == Some(zone))
    };
    let mut files: Vec<&PolicyFile> = policies
        .applying(owner)
        .filter(own)
        .filter(|file| file.section(direction).is_none_or(takes_more))
        .collect();
    // one that mentions the direction, one that is named after the container
    files.sort_by_key(|file| (file.section(direction).is_none(), file.name != container));
    if let Some(file) = files.first() {
        return (file.file.clone(), false, String::new());
    }
    let taken = |name: &str| {
        surroundings.taken.contains(name) || policies.0.values().any(|file| file.name == name)
    };
    let plain = match here {
        None => container.to_owned(),
        Some(zone) => format!("{container}-{zone}"),
    };
    let mut name = plain.clone();
    let mut n = 1;
    while taken(&name) {
        n += 1;
        name = format!("{plain}-{n}");
    }
    let path = match surroundings.folder.as_str() {
        "" => format!("{name}.toml"),
        folder => format!("{}/{name}.toml", folder.trim_end_matches('/')),
    };
    let head = match here {
        _ if fixes.iter().any(|fix| fix.file == path) => String::new(),
        Some(zone) => {
            format!("applies-to = {{ container = \"{container}\", zone = \"{zone}\" }}\n\n")
        }
        None if name == container => String::new(),
        None => format!("applies-to = {{ container = \"{container}\" }}\n\n"),
    };
    (path, true, head)
}

/// Whether `[[egress]]` may be added at the end of the file: not to `egress = []`, nor to rules within
/// brackets.
fn takes_more(section: &Section) -> bool {
    section
        .rules
        .first()
        .is_some_and(|rule| rule.at == section.at)
}

/// Whether a flow is allowed with what is suggested.
fn works(world: &World, policies: &PolicySet, flow: &Flow, fixes: &[Fix]) -> bool {
    let mut with = PolicySet(BTreeMap::clone(&policies.0));
    for (n, fix) in fixes.iter().enumerate() {
        // rules have no order and files add up: beside the file is the same as in it
        let Ok(mut file) = PolicyFile::parse("suggested.toml", &fix.text) else {
            return false;
        };
        file.mode = Mode::Enforce;
        if !fix.text.starts_with("applies-to") {
            let old = policies.0.values().find(|old| old.file == fix.file);
            file.applies_to = match old {
                Some(old) if !fix.create => old.applies_to.clone(),
                _ => AppliesTo {
                    container: stem(&fix.file).parse().ok(),
                    ..AppliesTo::default()
                },
            };
        }
        with.0.insert(format!("\0suggested {n}"), Arc::new(file));
    }
    !fixes.is_empty() && oracle::allows(world, &with, flow)
}

fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".toml").unwrap_or(name)
}
