//! What watched containers do, told to the log: new connections that pass, packets that are refused.
//!
//! Each connection and each container is told at a limited rate; what is over it, or what nobody
//! listens to, is not told. The verdict never depends on it.

use super::ir::*;
use super::lane::Side;
use super::{LOG_DENY, LOG_PASS};
use crate::sets::{Family, Field, SetId};

/// Of one client, server, protocol and port.
const OF_CONNECTION: Bucket = Bucket::a_second(2, 10);
/// Of one container.
const OF_CONTAINER: Bucket = Bucket::a_second(500, 2_000);

fn names(f: Family) -> [&'static str; 3] {
    match f {
        Family::V4 => ["told4", "told_client4", "told_server4"],
        Family::V6 => ["told6", "told_client6", "told_server6"],
    }
}

pub(super) fn meters() -> Vec<MeterSpec> {
    let meters = |f| {
        let ip = match f {
            Family::V4 => Field::Ip4,
            Family::V6 => Field::Ip6,
        };
        let [connection, client, server] = names(f);
        let meter = |name, key| MeterSpec {
            name,
            key,
            connections: false,
        };
        [
            meter(connection, vec![ip, ip, Field::Proto, Field::Port]),
            meter(client, vec![ip]),
            meter(server, vec![ip]),
        ]
    };
    Family::ALL.into_iter().flat_map(meters).collect()
}

pub(super) fn chains() -> Vec<Chain> {
    let mut chains = Vec::new();
    for (name, prefix) in [("told_pass", LOG_PASS), ("told_deny", LOG_DENY)] {
        let tell = format!("{name}_now");
        let mut told = vec![now(Family::V4, [false; 2], prefix)];
        for known in [[false, false], [false, true], [true, false], [true, true]] {
            told.push(now(Family::V6, known, prefix));
        }
        chains.push(chain(tell.clone(), told));
        let mut rules = Vec::new();
        for f in Family::ALL {
            for side in [Side::Client, Side::Server] {
                for by_prefix in [false, true] {
                    if by_prefix && f == Family::V4 {
                        continue;
                    }
                    rules.push(rule([
                        family(f),
                        Step::In(vec![load(side, f, by_prefix)], SetId::Watched(f)),
                        goto(tell.clone()),
                    ]));
                }
            }
        }
        chains.push(chain(name, rules));
    }
    chains
}

fn load(side: Side, f: Family, by_prefix: bool) -> Load {
    match by_prefix {
        false => side.whole(f),
        true => side.prefix(),
    }
}

/// `by_prefix`: whether client and server are known by their prefixes, and so have one bucket for all they use.
fn now(f: Family, by_prefix: [bool; 2], prefix: &'static str) -> Rule {
    let names = names(f);
    let meter = |name, key, bucket| Step::Meter { name, key, bucket };
    let sides = [(Side::Client, by_prefix[0]), (Side::Server, by_prefix[1])];
    let [client, server] = sides.map(|(side, by_prefix)| load(side, f, by_prefix));
    let mut steps = vec![family(f)];
    if f == Family::V6 {
        steps.extend(sides.map(|(side, by_prefix)| {
            let key = vec![side.prefix()];
            match by_prefix {
                true => Step::In(key, SetId::Own(f)),
                false => Step::NotIn(key, SetId::Own(f)),
            }
        }));
    }
    steps.extend([
        meter(
            names[0],
            vec![
                client,
                server,
                Load::Ct(Ct::Protocol),
                Load::Ct(Ct::ServerPort),
            ],
            OF_CONNECTION,
        ),
        meter(names[1], vec![client], OF_CONTAINER),
        meter(names[2], vec![server], OF_CONTAINER),
        Step::Log { prefix },
    ]);
    Rule {
        steps,
        comment: None,
    }
}

/// A new connection passes.
pub(super) fn pass() -> Rule {
    let new = Step::Any(Load::Ct(Ct::State), Value::bit32(8, "new"));
    rule([new, jump("told_pass")])
}

/// A packet of the one who opens the connection is refused.
pub(super) fn deny() -> Rule {
    let original = Step::Is(Load::Ct(Ct::Direction), Value::byte(0, "original"));
    rule([original, jump("told_deny")])
}
