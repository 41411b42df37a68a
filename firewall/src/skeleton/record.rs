//! What watched containers do, told to the log: new connections that pass, packets that are refused.
//!
//! Each connection and each container is told at a limited rate; what is over it, or what nobody
//! listens to, is not told. The verdict never depends on it.

use super::ir::*;
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
        chains.push(chain(
            tell.clone(),
            Family::ALL.map(|f| now(f, prefix)).into(),
        ));
        let mut rules = Vec::new();
        for f in Family::ALL {
            for side in [Ct::Client(f), Ct::Server(f)] {
                rules.push(rule([
                    family(f),
                    Step::In(vec![Load::Ct(side)], SetId::Watched(f)),
                    goto(tell.clone()),
                ]));
            }
        }
        chains.push(chain(name, rules));
    }
    chains
}

fn now(f: Family, prefix: &'static str) -> Rule {
    let [connection, client, server] = names(f);
    let load = |ct| Load::Ct(ct);
    let meter = |name, key, bucket| Step::Meter { name, key, bucket };
    rule([
        family(f),
        meter(
            connection,
            vec![
                load(Ct::Client(f)),
                load(Ct::Server(f)),
                load(Ct::Protocol),
                load(Ct::ServerPort),
            ],
            OF_CONNECTION,
        ),
        meter(client, vec![load(Ct::Client(f))], OF_CONTAINER),
        meter(server, vec![load(Ct::Server(f))], OF_CONTAINER),
        Step::Log { prefix },
    ])
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
