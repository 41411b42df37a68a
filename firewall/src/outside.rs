//! What the resolver has to know of policies: which names may be asked outside for a container, and whether one container
//! may reach another at all. Walks the policies as text, as the oracle does.

use std::collections::BTreeSet;

use zone::PortName;

use crate::model::{Container, DefaultPolicy, Endpoint, Flow, Traffic, World, Zone};
use crate::oracle;
use crate::policy::{Mode, Peer, PolicySet, Ports, Rule, number};
use crate::sets::{Action, Direction, Family};

/// The names that a container's egress could use an answer about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Every name: it may reach the world, or a network outside the zones.
    pub everything: bool,
    /// Those of its `dns:` rules, as they are written: `www.example.org`, `*.example.org`.
    pub names: BTreeSet<String>,
    /// Those of files on trial: what they resolve to has to be known to tell what would be, and opens nothing.
    pub tried: BTreeSet<String>,
}

/// What may be asked outside for a container. Ports do not matter: an answer is of use if any of them is open.
pub fn outside(world: &World, policies: &PolicySet, container: &Container) -> Outside {
    match world.zones.get(&container.zone) {
        Some(zone) if !zone.internal => Outside {
            tried: tried(policies, container),
            ..in_force(world, zone, policies, container)
        },
        _ => Outside::default(),
    }
}

fn tried(policies: &PolicySet, container: &Container) -> BTreeSet<String> {
    let files = policies.0.values().filter(|file| file.mode == Mode::Audit);
    let files = files.filter(|file| file.applies_to.matches(container));
    let rules = files
        .filter_map(|file| file.section(Direction::Egress))
        .flat_map(|section| &section.rules);
    let peers = rules
        .filter(|rule| rule.action == Action::Allow)
        .flat_map(|rule| &rule.peers);
    peers
        .filter_map(|peer| match peer {
            Peer::Dns(name) => Some(name.clone()),
            _ => None,
        })
        .collect()
}

fn in_force(world: &World, zone: &Zone, policies: &PolicySet, container: &Container) -> Outside {
    let mut outside = Outside::default();
    let sections: Vec<_> = policies
        .applying(container)
        .filter_map(|file| file.section(Direction::Egress))
        .collect();
    if sections.is_empty() {
        outside.everything = zone.default != DefaultPolicy::Deny;
        return outside;
    }
    let rules = sections.iter().flat_map(|section| &section.rules);
    let rules: Vec<&Rule> = number(rules.map(|rule| ((), rule)))
        .filter(|(_, rule, counts)| counts.at(rule, world.clock))
        .map(|(_, rule, _)| rule)
        .collect();
    // a deny always wins, and this one leaves nothing of the world
    let shut = |rule: &&Rule| {
        rule.action == Action::Deny
            && rule.ports.is_none()
            && rule
                .peers
                .iter()
                .any(|p| matches!(p, Peer::World | Peer::Any))
    };
    if rules.iter().any(shut) {
        return outside;
    }
    let allows = rules.iter().filter(|rule| rule.action == Action::Allow);
    for peer in allows.flat_map(|rule| &rule.peers) {
        match peer {
            Peer::World | Peer::Any => outside.everything = true,
            Peer::Net(net) => outside.everything |= !within_a_zone(world, *net),
            Peer::Dns(name) => {
                outside.names.insert(name.clone());
            }
            Peer::Container(_) | Peer::Zone(_) | Peer::Label(..) | Peer::Host => {}
        }
    }
    outside
}

fn within_a_zone(world: &World, net: ipnet::IpNet) -> bool {
    let mut zones = world.zones.values();
    zones.any(|zone| {
        let v4 = zone.subnet4.map(ipnet::IpNet::V4);
        let v6 = zone.subnet6.map(ipnet::IpNet::V6);
        v4.into_iter().chain(v6).any(|subnet| subnet.contains(&net))
    })
}

/// Whether some connection from one container to another passes.
pub fn reaches(world: &World, policies: &PolicySet, from: &PortName, to: &PortName) -> bool {
    let ends = [from, to].map(|name| world.containers.get(name));
    let [Some(client), Some(server)] = ends else {
        return false;
    };
    let files = policies.applying(client).chain(policies.applying(server));
    let sections = files.flat_map(|file| {
        [Direction::Egress, Direction::Ingress].map(|direction| file.section(direction))
    });
    let rules = sections.flatten().flat_map(|section| &section.rules);
    let traffic: BTreeSet<Probe> = [
        Probe::Port(6, 1),
        Probe::Port(17, 1),
        Probe::Icmp(8),
        Probe::Proto(47),
    ]
    .into_iter()
    .chain(
        rules
            .flat_map(|rule| rule.ports.iter().flatten())
            .flat_map(probes),
    )
    .collect();
    traffic.into_iter().any(|probe| {
        [Family::V4, Family::V6].into_iter().any(|family| {
            let flow = Flow {
                from: Endpoint::Container(from.clone()),
                to: Endpoint::Container(to.clone()),
                traffic: probe.traffic(),
                family,
                published: false,
            };
            oracle::allows(world, policies, &flow)
        })
    })
}

/// Traffic, in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Probe {
    Port(u8, u16),
    Icmp(u8),
    Proto(u8),
}

impl Probe {
    fn traffic(self) -> Traffic {
        match self {
            Probe::Port(proto, port) => Traffic::Port(proto, port),
            Probe::Icmp(kind) => Traffic::Icmp(kind),
            Probe::Proto(proto) => Traffic::Proto(proto),
        }
    }
}

/// What to try for the sake of one entry of `ports`: where several ranges are cut out of one another, what is left begins
/// at the first port of one, or behind the last of another.
fn probes(ports: &Ports) -> Vec<Probe> {
    match *ports {
        Ports::Range { proto, first, last } => {
            let behind = last.checked_add(1);
            let mut all = vec![Probe::Port(proto, first)];
            all.extend(behind.map(|port| Probe::Port(proto, port)));
            all
        }
        Ports::Proto(proto) if crate::policy::has_ports(proto) => vec![Probe::Port(proto, 1)],
        Ports::Proto(proto) => vec![Probe::Proto(proto)],
        Ports::Icmp(kind) => vec![Probe::Icmp(kind)],
        Ports::EveryIcmp => vec![Probe::Icmp(8)],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::policy::PolicyFile;

    fn world() -> World {
        let mut world = World::default();
        for (name, third, internal, default) in [
            ("dmz", 0, false, DefaultPolicy::Egress),
            ("shut", 1, false, DefaultPolicy::Deny),
            ("vault", 2, true, DefaultPolicy::Allow),
        ] {
            let zone = Zone {
                name: name.parse().unwrap(),
                bridge: format!("vz-{name}").parse().unwrap(),
                subnet4: format!("10.89.{third}.0/24").parse().ok(),
                subnet6: None,
                gateway4: format!("10.89.{third}.1").parse().ok(),
                gateway6: None,
                internal,
                default,
                masquerade6: false,
                uplink: None,
                relays: Vec::new(),
            };
            world.zones.insert(zone.name.clone(), zone);
            let container = Container {
                name: format!("in-{name}").parse().unwrap(),
                zone: name.parse().unwrap(),
                ifindex: 1,
                mac: zone::MacAddr([2, 0, 0, 0, 0, third]),
                addresses: vec![format!("10.89.{third}.2").parse().unwrap()],
                labels: Default::default(),
                publish: Vec::new(),
            };
            world.containers.insert(container.name.clone(), container);
        }
        world
    }

    fn policies(files: &[(&str, &str)]) -> PolicySet {
        let parsed = files.iter().map(|(name, text)| {
            let path = format!("{name}.toml");
            let file = PolicyFile::parse(&path, text).unwrap();
            (path, Arc::new(file))
        });
        PolicySet(parsed.collect())
    }

    fn asks(name: &str, text: Option<&str>) -> Outside {
        let world = world();
        let files: Vec<_> = text.map(|text| (name, text)).into_iter().collect();
        let name: PortName = name.parse().unwrap();
        outside(&world, &policies(&files), &world.containers[&name])
    }

    #[test]
    fn names_may_be_asked_where_an_answer_is_of_use() {
        let to = |peer: &str| format!("[[egress]]\nto = [\"{peer}\"]\nports = [\"tcp/443\"]\n");
        for (container, text, everything) in [
            ("in-dmz", None, true),
            ("in-shut", None, false),
            ("in-vault", None, false),
            ("in-dmz", Some("egress = []".to_owned()), false),
            ("in-shut", Some(to("world")), true),
            ("in-shut", Some(to("any")), true),
            ("in-shut", Some(to("198.51.100.0/24")), true),
            ("in-shut", Some(to("0.0.0.0/0")), true),
            ("in-shut", Some(to("10.89.0.0/25")), false),
            ("in-shut", Some(to("zone:dmz")), false),
            ("in-shut", Some(to("host")), false),
            ("in-vault", Some(to("world")), false),
            (
                "in-dmz",
                Some("[[ingress]]\nfrom = [\"world\"]".to_owned()),
                true,
            ),
            (
                "in-dmz",
                Some(to("world") + "[[egress]]\naction = \"deny\"\nto = [\"world\"]"),
                false,
            ),
            (
                "in-dmz",
                Some(to("world") + "[[egress]]\naction = \"deny\"\nto = [\"198.51.100.7\"]"),
                true,
            ),
        ] {
            let outside = asks(container, text.as_deref());
            assert_eq!(outside.everything, everything, "{container} {text:?}");
            assert!(outside.names.is_empty());
        }
    }

    #[test]
    fn names_on_trial_are_told_apart_from_those_in_force() {
        let egress = "[[egress]]\nto = [\"dns:a.example\", \"dns:*.b.example\"]\n";
        for (container, everything) in [("in-dmz", true), ("in-shut", false)] {
            let asked = asks(container, Some(&format!("mode = \"audit\"\n{egress}")));
            assert_eq!(asked.everything, everything);
            assert!(asked.names.is_empty());
            assert!(asked.tried.iter().eq(["*.b.example", "a.example"]));
            let asked = asks(container, Some(egress));
            assert_eq!((asked.names.len(), asked.tried.len()), (2, 0));
        }
        let internal = asks("in-vault", Some(&format!("mode = \"audit\"\n{egress}")));
        assert_eq!(internal, Outside::default());
    }

    #[test]
    fn containers_reach_one_another_where_both_sides_leave_some_port_open() {
        let world = world();
        let name = |text: &str| text.parse::<PortName>().unwrap();
        let egress = |ports: &str| format!("[[egress]]\nto = [\"zone:shut\"]\nports = [{ports}]\n");
        let ingress =
            |ports: &str| format!("[[ingress]]\nfrom = [\"zone:dmz\"]\nports = [{ports}]\n");
        let deny = |ports: &str| {
            format!("[[ingress]]\naction = \"deny\"\nfrom = [\"zone:dmz\"]\nports = [{ports}]\n")
        };
        for (out, into, reach) in [
            (String::new(), String::new(), false),
            (egress("\"tcp/80\""), String::new(), false),
            (egress("\"tcp/80\""), ingress("\"tcp/80\""), true),
            (egress("\"tcp/80\""), ingress("\"tcp/81\""), false),
            (egress("\"tcp/80-90\""), ingress("\"tcp/85-95\""), true),
            (egress("\"tcp/*\""), ingress("\"tcp/7000\""), true),
            (
                egress("\"tcp/80-90\""),
                ingress("\"tcp/*\"") + &deny("\"tcp/1-89\""),
                true,
            ),
            (
                egress("\"tcp/80-90\""),
                ingress("\"tcp/*\"") + &deny("\"tcp/1-90\""),
                false,
            ),
            (
                egress("\"icmp/echo-request\""),
                ingress("\"icmp/echo-request\""),
                true,
            ),
        ] {
            let set = policies(&[("in-dmz", &out), ("in-shut", &into)]);
            let reached = reaches(&world, &set, &name("in-dmz"), &name("in-shut"));
            assert_eq!(reached, reach, "{out} {into}");
            assert!(!reaches(&world, &set, &name("in-shut"), &name("in-dmz")));
        }
    }
}
