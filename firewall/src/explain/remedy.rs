//! What to change in other programs' tables: in their own words where they are known.

use super::foreign::{Obstacle, Ruleset, TableFamily};
use super::is_host;
use crate::model::World;
use crate::oracle::{Party, Who};

/// What would let the connection pass an obstacle.
pub(super) fn remedy(
    world: &World,
    ruleset: &Ruleset,
    obstacle: &Obstacle,
    (from, to): (Party<'_>, Party<'_>),
) -> Option<String> {
    let (inward, outward) = (bridge(world, from), bridge(world, to));
    let mut bridges: Vec<&str> = [inward, outward].into_iter().flatten().collect();
    bridges.dedup();
    let table = ruleset
        .tables
        .iter()
        .find(|table| table.title() == obstacle.table)?;
    let has = |prefix: &str| table.chains.iter().any(|c| c.name.starts_with(prefix));
    let all = |line: &dyn Fn(&str) -> String| {
        let lines: Vec<String> = bridges.iter().map(|bridge| line(bridge)).collect();
        format!("`{}`", lines.join("`, `"))
    };
    Some(if table.name == "firewalld" {
        all(&|bridge| format!("firewall-cmd --permanent --zone=trusted --add-interface={bridge}"))
            + " and `firewall-cmd --reload`"
    } else if has("DOCKER-USER") && obstacle.chain == "FORWARD" {
        let program = match table.family {
            TableFamily::Ip6 => "ip6tables",
            _ => "iptables",
        };
        let line = |bridge: &str| {
            let one = |way| format!("{program} -I DOCKER-USER {way} {bridge} -j ACCEPT");
            format!("{}`, `{}", one("-i"), one("-o"))
        };
        all(&line)
    } else if has("ufw-") {
        match (inward, outward) {
            (Some(bridge), _) if is_host(to) => format!("`ufw allow in on {bridge}`"),
            (Some(bridge), _) => format!("`ufw route allow in on {bridge}`"),
            (None, Some(bridge)) => format!("`ufw route allow out on {bridge}`"),
            (None, None) => return None,
        }
    } else {
        let names = bridges.join(" and ");
        format!(
            "a rule in chain {} that accepts {names}, both ways",
            obstacle.chain
        )
    })
}

fn bridge<'a>(world: &'a World, party: Party<'a>) -> Option<&'a str> {
    match party.who {
        Who::Container(container) => {
            let zone = world.zones.get(&container.zone)?;
            Some(zone.bridge.as_str())
        }
        _ => None,
    }
}
