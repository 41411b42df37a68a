//! Questions in words, and their answers as the control socket carries them; the daemon's and those from
//! files alone.

mod name;
mod path;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall::explain::foreign::Ruleset;
use firewall::explain::{self, Question, Surroundings, Way};
use firewall::model::{Endpoint, Traffic, World};
use firewall::oracle::{self, Who};
use firewall::policy::PolicySet;
use firewall::sets::{Action, Family};
use serde::Serialize;

use crate::api;
use name::Name;

/// A question as it is typed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Asked<'a> {
    /// Who opens the connection: a container, `host`, `world`, an address.
    pub(crate) from: &'a str,
    /// To whom.
    pub(crate) to: &'a str,
    /// With what; `tcp/80` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) traffic: Option<&'a str>,
    /// 4 or 6; absent: those that both ends have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<i64>,
    /// A moment of a week, `Sat 22:00`; now when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<&'a str>,
}

/// What is asked about where nothing is said.
pub(crate) const TRAFFIC: &str = "tcp/80";

/// What is known besides world and policies.
pub(crate) struct Known<'a> {
    /// Other tables.
    pub(crate) foreign: Option<Ruleset>,
    /// Tells how the host reaches an address.
    pub(crate) ways: Option<&'a dyn Fn(IpAddr) -> Option<Way>>,
    /// Whether netd itself forwards what is published on `::1`.
    pub(crate) user_loopback: bool,
    /// The folder of policy files.
    pub(crate) folder: String,
    /// Stems of files there that are not in force.
    pub(crate) taken: BTreeSet<String>,
}

/// Addresses that stand for the world where the host's way out is asked for; nothing is sent there.
const ANYWHERE: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(9, 9, 9, 9),
    Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe),
);

/// Answers a question.
pub(crate) fn explain(
    mut world: World,
    policies: &PolicySet,
    asked: &Asked<'_>,
    known: &Known<'_>,
) -> Result<api::Explanation, api::Error> {
    order_host(&mut world);
    let from = endpoints(&world, asked.from)?;
    let to = match asked.to.starts_with("dns:") {
        // of the world, whichever address it has
        true => vec![Endpoint::World],
        false => endpoints(&world, asked.to)?,
    };
    let ways = path::ways(&world, &from, &to);
    let Some((first, others)) = ways.split_first() else {
        return Err(no_such_container(asked.from));
    };
    if others.is_empty() {
        return explain_way(world, policies, asked, known, first);
    }
    let mut explanation = explain_way(world.clone(), policies, asked, known, first)?;
    let path = |way: &path::Way, verdict: String| api::Path {
        from: path::text(&world, &way.from, asked.from),
        to: path::text(&world, &way.to, asked.to),
        verdict,
    };
    explanation.paths = vec![path(first, explanation.verdict.clone())];
    for way in others {
        let other = explain_way(world.clone(), policies, asked, known, way)?;
        explanation.paths.push(path(way, other.verdict));
    }
    Ok(explanation)
}

/// Answers a question about one way.
fn explain_way(
    mut world: World,
    policies: &PolicySet,
    asked: &Asked<'_>,
    known: &Known<'_>,
    way: &path::Way,
) -> Result<api::Explanation, api::Error> {
    let invalid = |message: String| api::Error::Invalid {
        message: format!("explain: {message}"),
    };
    let from = way.from.clone();
    let name = Name::new(asked.to, &from).transpose().map_err(invalid)?;
    let stands = match &name {
        Some(name) => name.stands(&mut world, policies),
        None => Vec::new(),
    };
    let to = match stands.first() {
        Some((_, stands)) => Endpoint::Address(stands.address),
        None => way.to.clone(),
    };
    let traffic: Traffic =
        explain::traffic(asked.traffic.unwrap_or(TRAFFIC)).map_err(|e| invalid(e.to_string()))?;
    if let Some(at) = asked.at {
        world.clock = explain::moment(at).map_err(|e| invalid(e.to_string()))?;
    }
    let stand = |family: Family| stands.iter().find(|(f, _)| *f == family);
    let families = match &name {
        // those of the addresses that stand for it
        Some(_) => families(&world, &from, &from, asked.family)
            .map(|found| found.into_iter().filter(|f| stand(*f).is_some()).collect()),
        None => families(&world, &from, &to, asked.family),
    };
    let answers: Vec<api::Answer> = families
        .map_err(invalid)?
        .into_iter()
        .map(|family| {
            let stands = stand(family).map(|(_, stands)| stands);
            let question = Question {
                from: from.clone(),
                to: stands.map_or_else(|| to.clone(), |s| Endpoint::Address(s.address)),
                traffic,
                family,
            };
            let surroundings = Surroundings {
                way: known
                    .ways
                    .and_then(|ways| ways(outside(&world, &question)?)),
                foreign: known.foreign.as_ref(),
                user_loopback: known.user_loopback,
                folder: known.folder.clone(),
                taken: known.taken.clone(),
            };
            let mut answer = answer(&explain::answer(&world, policies, &question, &surroundings));
            if let (Some(name), Some(stands)) = (&name, stands) {
                name.tell(stands, &mut answer);
            }
            answer
        })
        .collect();
    let denied = answers.iter().find(|answer| answer.verdict != "allow");
    let Some(decides) = denied.or(answers.first()).cloned() else {
        return Err(invalid(match name {
            Some(_) => format!("{} has no address of that family", asked.to),
            None => "no family to ask about".to_owned(),
        }));
    };
    Ok(api::Explanation {
        verdict: decides.verdict,
        reasons: decides.reasons,
        steps: decides.steps,
        foreign: decides.foreign,
        fix: decides.fix,
        families: answers,
        paths: Vec::new(),
    })
}

/// The host's addresses as others meet them: loopback is nobody else's, link-local ones come last.
fn order_host(world: &mut World) {
    world.host.retain(|address| !address.is_loopback());
    world.host.sort_by_key(is_link_local);
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// Who is meant by a word. `container:NAME` is a container, also one that is called `host`: all of its ports, or that in
/// one zone, `NAME@ZONE`.
fn endpoints(world: &World, text: &str) -> Result<Vec<Endpoint>, api::Error> {
    let name = text.strip_prefix("container:").unwrap_or(text);
    if let Some(ports) = path::ports(world, name) {
        return Ok(ports);
    }
    match text {
        "host" => Ok(vec![Endpoint::Host]),
        "world" => Ok(vec![Endpoint::World]),
        _ => match text.parse() {
            Ok(address) => Ok(vec![Endpoint::Address(address)]),
            Err(_) => Err(no_such_container(name)),
        },
    }
}

fn no_such_container(name: &str) -> api::Error {
    let world = match name.contains('.') {
        true => format!("; a name of the world is written dns:{name}"),
        false => String::new(),
    };
    api::Error::NoSuchContainer {
        message: format!(
            "no such container: {name} (`netd list` shows those that are attached{world})"
        ),
    }
}

/// The families to ask about: the one that is wanted, that of an address, else those that both ends have.
fn families(
    world: &World,
    from: &Endpoint,
    to: &Endpoint,
    wanted: Option<i64>,
) -> Result<Vec<Family>, String> {
    let mut wanted = match wanted {
        None => None,
        Some(4) => Some(Family::V4),
        Some(6) => Some(Family::V6),
        Some(other) => return Err(format!("family {other} is neither 4 nor 6")),
    };
    for end in [from, to] {
        let Endpoint::Address(address) = end else {
            continue;
        };
        let family = Family::of(*address);
        if *wanted.get_or_insert(family) != family {
            let other = if address.is_ipv4() { 6 } else { 4 };
            return Err(format!("{address} is no IPv{other} address"));
        }
    }
    if let Some(family) = wanted {
        return Ok(vec![family]);
    }
    let has =
        |end: &Endpoint, other: &Endpoint, family| match oracle::party(world, end, other, family) {
            Ok(party) => {
                *end != Endpoint::Host || party.address.is_some_and(|a| !is_link_local(&a))
            }
            Err(_) => false,
        };
    let both = |family: &Family| has(from, to, *family) && has(to, from, *family);
    let found: Vec<Family> = Family::ALL.into_iter().filter(both).collect();
    // none: the answer for IPv4 says why
    Ok(if found.is_empty() {
        vec![Family::V4]
    } else {
        found
    })
}

/// The address of the end that is of the world.
fn outside(world: &World, question: &Question) -> Option<IpAddr> {
    let ends = [
        (&question.from, &question.to),
        (&question.to, &question.from),
    ];
    ends.into_iter().find_map(|(end, other)| {
        let party = oracle::party(world, end, other, question.family).ok()?;
        match (party.who, party.address, question.family) {
            (Who::World | Who::Special, Some(a), _) if !a.is_loopback() && !a.is_multicast() => {
                Some(a)
            }
            (Who::World, None, Family::V4) => Some(ANYWHERE.0.into()),
            (Who::World, None, Family::V6) => Some(ANYWHERE.1.into()),
            _ => None,
        }
    })
}

fn action(action: Action) -> String {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    }
    .to_owned()
}

/// A reason of the firewall as the control socket carries it.
pub(crate) fn reason(reason: &explain::Reason) -> api::Reason {
    api::Reason {
        file: reason.file.clone(),
        line: reason.line.map(i64::from),
        column: reason.column.map(i64::from),
        direction: reason.direction.map(|d| d.as_str().to_owned()),
        action: action(reason.action),
        text: reason.text.clone(),
    }
}

fn answer(answer: &explain::Answer) -> api::Answer {
    let steps = answer.steps.iter().map(|step| api::Step {
        kind: step.kind.as_str().to_owned(),
        text: step.text.clone(),
        from: step.from.clone(),
        to: step.to.clone(),
    });
    let foreign = answer.foreign.iter().map(|obstacle| api::Obstacle {
        table: obstacle.table.clone(),
        chain: obstacle.chain.clone(),
        verdict: if obstacle.certain { "drop" } else { "maybe" }.to_owned(),
        text: obstacle.text.clone(),
    });
    let fix = answer.fix.iter().map(|fix| api::Fix {
        file: fix.file.clone(),
        create: fix.create,
        text: fix.text.clone(),
    });
    api::Answer {
        family: match answer.family {
            Family::V4 => 4,
            Family::V6 => 6,
        },
        verdict: action(answer.verdict),
        reasons: answer.reasons.iter().map(reason).collect(),
        steps: steps.collect(),
        foreign: foreign.collect(),
        fix: fix.collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use firewall::model::{Container, DefaultPolicy, Zone};
    use firewall::policy::PolicyFile;

    use super::*;

    /// The container `web` in a zone in which nothing is open, and its policy.
    pub(super) fn shop(policy: &str) -> (World, PolicySet) {
        let mut world = World::default();
        let zone = Zone {
            name: "dmz".parse().unwrap(),
            bridge: "vz-dmz".parse().unwrap(),
            subnet4: "10.89.0.0/24".parse().ok(),
            subnet6: "fd00::/64".parse().ok(),
            gateway4: "10.89.0.1".parse().ok(),
            gateway6: "fd00::1".parse().ok(),
            internal: false,
            default: DefaultPolicy::Deny,
            masquerade6: true,
            uplink: None,
            relays: Vec::new(),
        };
        world.zones.insert(zone.name.clone(), zone);
        let web = Container {
            name: "web".parse().unwrap(),
            zone: "dmz".parse().unwrap(),
            ifindex: 7,
            mac: zone::MacAddr([2, 0, 0, 0, 0, 7]),
            addresses: ["10.89.0.2", "fd00::2"].map(|a| a.parse().unwrap()).into(),
            labels: Default::default(),
            publish: Vec::new(),
        };
        world.containers.insert(web.name.clone(), web);
        let file = PolicyFile::parse("web.toml", policy).unwrap();
        let files = [("web.toml".to_owned(), std::sync::Arc::new(file))];
        (world, PolicySet(files.into()))
    }

    #[test]
    fn an_address_decides_the_family_and_two_must_agree() {
        let world = World::default();
        let address = |text: &str| Endpoint::Address(text.parse().unwrap());
        let asked = |from, to, wanted| families(&world, &from, &to, wanted);
        assert_eq!(
            asked(Endpoint::World, address("fd00::1"), None),
            Ok(vec![Family::V6])
        );
        let wrong = asked(address("10.0.0.1"), address("fd00::1"), None).unwrap_err();
        assert_eq!(wrong, "fd00::1 is no IPv4 address");
        let wrong = asked(Endpoint::World, address("10.0.0.1"), Some(6)).unwrap_err();
        assert_eq!(wrong, "10.0.0.1 is no IPv6 address");
        assert!(asked(Endpoint::World, Endpoint::World, Some(5)).is_err());
        let both = asked(Endpoint::World, Endpoint::World, None).unwrap();
        assert_eq!(both.len(), 2);
        // a host without IPv6, but for what every interface has
        let mut world = World {
            host: ["::1", "fe80::1", "127.0.0.1", "192.0.2.1"]
                .map(|a| a.parse().unwrap())
                .into(),
            ..World::default()
        };
        order_host(&mut world);
        assert_eq!(
            families(&world, &Endpoint::World, &Endpoint::Host, None),
            Ok(vec![Family::V4])
        );
    }
}
