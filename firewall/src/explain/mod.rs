//! Verdicts with their reasons.
//!
//! Walks the same steps as the [oracle](crate::oracle) and names at each the rule, default or built-in
//! rule that decided; where something denies, also what would have to be said to allow it.

mod show;
mod words;

use zone::ZoneName;

use crate::diagnostics::Position;
use crate::model::{Container, DefaultPolicy, Flow, Traffic, World, Zone};
use crate::oracle::{self, Party, Who};
use crate::policy::{Peer, PolicyFile, PolicySet, Rule, Section};
use crate::sets::{Action, Direction, Family};

pub use show::policy_of;
pub use words::{NotTraffic, traffic};
use words::{addition, carries, rule_words, who};

/// One rule or default that took part in a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The policy file; absent for a default or a built-in rule.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// Whose word it was: of the one who opens the connection, or of the one it is opened to.
    pub direction: Option<Direction>,
    /// What it did.
    pub action: Action,
    /// A sentence for people.
    pub text: String,
}

impl Reason {
    fn built_in(direction: Option<Direction>, action: Action, text: String) -> Self {
        Self {
            file: None,
            line: None,
            column: None,
            direction,
            action,
            text,
        }
    }

    fn in_file(
        file: &PolicyFile,
        at: Position,
        direction: Direction,
        action: Action,
        text: String,
    ) -> Self {
        Self {
            file: Some(file.file.clone()),
            line: Some(at.line),
            column: Some(at.column),
            direction: Some(direction),
            action,
            text,
        }
    }
}

/// Whether a connection may be opened, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Action,
    /// In the order in which they took part; never empty.
    pub reasons: Vec<Reason>,
}

impl Explanation {
    fn one(action: Action, text: String) -> Self {
        Self {
            verdict: action,
            reasons: vec![Reason::built_in(None, action, text)],
        }
    }
}

/// Whether a connection may be opened, and why. Agrees with [`oracle::allows`] always.
pub fn explain(world: &World, policies: &PolicySet, flow: &Flow) -> Explanation {
    let (from, to) = match (
        oracle::party(world, &flow.from, &flow.to, flow.family),
        oracle::party(world, &flow.to, &flow.from, flow.family),
    ) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(nobody), _) | (_, Err(nobody)) => {
            let text = format!("{nobody}: no packet comes from it or goes to it");
            return Explanation::one(Action::Deny, text);
        }
    };
    if let Some(text) = impossible(from, to, flow) {
        return Explanation::one(Action::Deny, text);
    }
    let (client, server) = match (from.who, to.who) {
        (Who::Container(client), Who::Container(server)) => (Some(client), Some(server)),
        (Who::Container(client), _) => (Some(client), None),
        (_, Who::Container(server)) => (None, Some(server)),
        (_, Who::Unused(zone)) => {
            let text = format!(
                "{} belongs to zone {} and to no container: what is sent to it is dropped",
                who(to),
                zone.name
            );
            return Explanation::one(Action::Deny, text);
        }
        (Who::World | Who::Special, Who::Host)
            if !is_host(from) && oracle::at_gateway(world, to) =>
        {
            let text = format!(
                "{} is a gateway: it serves its zone, not the outside",
                who(to)
            );
            return Explanation::one(Action::Deny, text);
        }
        _ => {
            let text = "netd rules over containers only: neither end is one".to_owned();
            return Explanation::one(Action::Allow, text);
        }
    };
    if let Some(text) = client.and_then(|client| gateway_service(world, client, to, flow)) {
        return Explanation::one(Action::Allow, text);
    }
    for (container, other) in client
        .filter(|_| !oracle::is_group(to))
        .map(|c| (c, to))
        .into_iter()
        .chain(server.map(|c| (c, from)))
    {
        if let Some(zone) = cut_off(world, container, other) {
            let text = format!(
                "zone {zone} of {} is internal: it has no path to or from {}, whatever policies say",
                container.name,
                who(other)
            );
            return Explanation::one(Action::Deny, text);
        }
    }
    let mut sides = Vec::new();
    if let Some(client) = client {
        sides.push(Side::new(world, policies, client, Direction::Egress, to, flow).judge());
    }
    if let Some(server) = server {
        let side = Side::new(world, policies, server, Direction::Ingress, from, flow);
        sides.push(side.published().unwrap_or_else(|| side.judge()));
    }
    let allowed = sides.iter().all(|(allowed, _)| *allowed);
    Explanation {
        verdict: if allowed { Action::Allow } else { Action::Deny },
        reasons: sides.into_iter().flat_map(|(_, reasons)| reasons).collect(),
    }
}

/// Why there is no such flow at all.
fn impossible(from: Party<'_>, to: Party<'_>, flow: &Flow) -> Option<String> {
    let known = match flow.traffic {
        Traffic::Icmp(kind) if flow.family == Family::V6 => {
            if crate::policy::icmp_counterpart(kind).is_none() {
                return Some(format!(
                    "{} has no counterpart in ICMPv6",
                    carries(flow.traffic)
                ));
            }
            true
        }
        Traffic::Icmp(_) => true,
        Traffic::Port(proto, _) => crate::policy::has_ports(proto),
        Traffic::Proto(proto) => !crate::policy::has_ports(proto) && !matches!(proto, 1 | 58),
    };
    if !known {
        return Some(format!(
            "{} says too little or too much: protocols with ports need one, others have none",
            carries(flow.traffic)
        ));
    }
    if let Who::Unused(zone) = from.who {
        return Some(format!(
            "{} belongs to zone {} and to no container: what comes from it is forged, and dropped",
            who(from),
            zone.name
        ));
    }
    if to.address.is_some_and(|address| address.is_loopback()) {
        let text =
            "loopback never leaves a container: what is sent to it from elsewhere is dropped";
        return Some(text.to_owned());
    }
    None
}

fn is_host(party: Party<'_>) -> bool {
    party.who == Who::Host || party.address.is_some_and(|address| address.is_loopback())
}

fn zone_of<'a>(world: &'a World, container: &Container) -> Option<&'a Zone> {
    world.zones.get(&container.zone)
}

fn cut_off<'a>(world: &'a World, container: &Container, other: Party<'_>) -> Option<&'a ZoneName> {
    let zone = zone_of(world, container).filter(|zone| zone.internal)?;
    let inside = is_host(other) || matches!(other.who, Who::Container(_));
    (!inside).then_some(&zone.name)
}

fn gateway_service(
    world: &World,
    client: &Container,
    to: Party<'_>,
    flow: &Flow,
) -> Option<String> {
    let zone = zone_of(world, client)?;
    let gateway = match flow.family {
        Family::V4 => zone.gateway4.map(std::net::IpAddr::V4),
        Family::V6 => zone.gateway6.map(std::net::IpAddr::V6),
    };
    let dhcp = matches!(
        (flow.traffic, flow.family),
        (Traffic::Port(17, 67), Family::V4)
    );
    let broadcast = to.address == Some(std::net::Ipv4Addr::BROADCAST.into());
    if to.address != Some(gateway?) && !(dhcp && broadcast) {
        return None;
    }
    let what = match (flow.traffic, flow.family) {
        (Traffic::Port(6 | 17, 53), _) => "the gateway's resolver",
        (Traffic::Port(17, 67), Family::V4) => "its zone's DHCP server",
        (Traffic::Icmp(8), _) => "its gateway by ICMP echo",
        _ => return None,
    };
    Some(format!(
        "built in: a container can always reach {what} (rate-limited)"
    ))
}

/// One side of a connection: the container whose word is asked, and whom about.
struct Side<'a> {
    world: &'a World,
    owner: &'a Container,
    direction: Direction,
    peer: Party<'a>,
    flow: &'a Flow,
    sections: Vec<(&'a PolicyFile, &'a Section)>,
}

impl<'a> Side<'a> {
    fn new(
        world: &'a World,
        policies: &'a PolicySet,
        owner: &'a Container,
        direction: Direction,
        peer: Party<'a>,
        flow: &'a Flow,
    ) -> Self {
        let sections = policies
            .applying(owner)
            .filter_map(|file| Some((file, file.section(direction)?)))
            .collect();
        Self {
            world,
            owner,
            direction,
            peer,
            flow,
            sections,
        }
    }

    /// What this side says, and why.
    fn judge(&self) -> (bool, Vec<Reason>) {
        if self.sections.is_empty() {
            return self.default();
        }
        let matching: Vec<(&PolicyFile, &Rule)> = self
            .sections
            .iter()
            .flat_map(|(file, section)| section.rules.iter().map(|rule| (*file, rule)))
            .filter(|(_, rule)| oracle::rule_matches(rule, self.peer, self.flow))
            .collect();
        let denied = matching.iter().any(|(_, rule)| rule.action == Action::Deny);
        let decisive = if denied { Action::Deny } else { Action::Allow };
        let mut reasons: Vec<Reason> = matching
            .into_iter()
            .filter(|(_, rule)| rule.action == decisive)
            .map(|(file, rule)| self.rule(file, rule))
            .collect();
        let allowed = !denied && !reasons.is_empty();
        if reasons.is_empty() {
            reasons = self.closed();
        }
        if let (Some(last), true) = (reasons.last_mut(), self.leaves_networks_out()) {
            last.text.push_str(
                " (rules about networks of the world are not counted: ask about an address)",
            );
        }
        (allowed, reasons)
    }

    fn rule(&self, file: &PolicyFile, rule: &Rule) -> Reason {
        let words = rule_words(rule, self.direction);
        let text = match rule.action {
            Action::Allow => format!(
                "{} of {} allows {words}",
                self.direction.as_str(),
                self.owner.name
            ),
            Action::Deny => format!(
                "{} of {} denies {words}: a deny always wins, so only changing this rule can open it",
                self.direction.as_str(),
                self.owner.name
            ),
        };
        Reason::in_file(file, rule.at, self.direction, rule.action, text)
    }

    /// No rule matches.
    fn closed(&self) -> Vec<Reason> {
        let mut reasons = Vec::with_capacity(self.sections.len());
        for (index, (file, section)) in self.sections.iter().enumerate() {
            let mut text = format!(
                "{} of {} is closed but for what is allowed, and no rule here allows {} {}",
                self.direction.as_str(),
                self.owner.name,
                self.preposition(),
                self.asked()
            );
            if index + 1 == self.sections.len() {
                text.push_str(&format!("; to allow it, add {}", self.addition()));
            }
            let reason = Reason::in_file(file, section.at, self.direction, Action::Deny, text);
            reasons.push(reason);
        }
        reasons
    }

    /// No file mentions the direction.
    fn default(&self) -> (bool, Vec<Reason>) {
        let allowed = oracle::default_allows(self.world, self.owner, self.direction, self.peer);
        let action = if allowed { Action::Allow } else { Action::Deny };
        let mut text = format!(
            "no file mentions {} of {}, and {}",
            self.direction.as_str(),
            self.owner.name,
            default_words(zone_of(self.world, self.owner), self.owner, self.direction)
        );
        if !allowed {
            if self.direction == Direction::Ingress && self.publishes() {
                text.push_str(
                    "; connections through its published port are open to world and host only",
                );
            }
            text.push_str(&format!(
                "; to allow it, put {} into a file that applies to it, such as policies/{}.toml (which closes its {} but for what files allow)",
                self.addition(),
                self.owner.name,
                self.direction.as_str()
            ));
        }
        let reason = Reason::built_in(Some(self.direction), action, text);
        (allowed, vec![reason])
    }

    /// A container that no file says anything of is open through its published ports.
    fn published(&self) -> Option<(bool, Vec<Reason>)> {
        let outside = is_host(self.peer) || self.peer.who == Who::World;
        if !self.flow.published || !self.sections.is_empty() || !outside || !self.publishes() {
            return None;
        }
        let text = format!(
            "came through a published port, and no file mentions ingress of {}: open to world and host",
            self.owner.name
        );
        let reason = Reason::built_in(Some(self.direction), Action::Allow, text);
        Some((true, vec![reason]))
    }

    /// Whether the port that is asked about is published.
    fn publishes(&self) -> bool {
        let Traffic::Port(proto, port) = self.flow.traffic else {
            return false;
        };
        let family = self.flow.family;
        let mut own = self.world.addresses(self.owner);
        let target = own.find(|address| Family::of(*address) == family);
        let meant = match self.flow.to {
            crate::model::Endpoint::Address(address) => Some(address),
            _ => target,
        };
        meant == target
            && zone_of(self.world, self.owner).is_some_and(|zone| !zone.internal)
            && self.owner.publish.iter().any(|publish| {
                let last = publish
                    .port
                    .saturating_add(publish.last.saturating_sub(publish.first));
                publish.proto == proto
                    && (publish.port..=last).contains(&port)
                    && publish.address.is_none_or(|a| Family::of(a) == family)
            })
    }

    /// Whether the answer is about the world in general while rules name parts of it.
    fn leaves_networks_out(&self) -> bool {
        let family = self.flow.family;
        let rules = self.sections.iter().flat_map(|(_, section)| &section.rules);
        self.peer.address.is_none()
            && rules.flat_map(|rule| &rule.peers).any(
                |peer| matches!(peer, Peer::Net(net) if Family::of(net.addr()) == family && net.prefix_len() > 0),
            )
    }

    fn preposition(&self) -> &'static str {
        match self.direction {
            Direction::Egress => "to",
            Direction::Ingress => "from",
        }
    }

    fn asked(&self) -> String {
        format!("{} on {}", who(self.peer), carries(self.flow.traffic))
    }

    fn addition(&self) -> String {
        addition(self.direction, self.peer, self.flow.traffic)
    }
}

/// What a zone's default says of a direction.
fn default_words(zone: Option<&Zone>, owner: &Container, direction: Direction) -> String {
    let Some(zone) = zone else {
        return format!("its zone {} does not exist, so nothing passes", owner.zone);
    };
    let what = match (zone.default, direction) {
        (DefaultPolicy::Egress, Direction::Egress) => "lets it out to world only",
        (DefaultPolicy::Egress, Direction::Ingress) => "lets nothing in",
        (DefaultPolicy::Deny, Direction::Egress) => "lets nothing out",
        (DefaultPolicy::Deny, Direction::Ingress) => "lets nothing in",
        (DefaultPolicy::Allow, Direction::Egress) => {
            "lets it out to its own zone, host and world, but not to other zones"
        }
        (DefaultPolicy::Allow, Direction::Ingress) => {
            "lets in its own zone, host and world, but not other zones"
        }
    };
    format!(
        "the default of zone {}, `{}`, {what}",
        zone.name,
        zone.default.as_str()
    )
}
