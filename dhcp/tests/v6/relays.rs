//! RFC 8415 §19: messages through relay agents, and the way back.

use dhcp::v6::wire::kind::*;
use dhcp::v6::{Config, Outcome, Silence};

use crate::world::*;

fn trusting() -> Config {
    Config {
        pool: Some((ip(0x10), ip(0x12))),
        relays: vec!["fd00::99/128".parse().unwrap()],
        leases_per_machine: 1,
        ..config()
    }
}

/// §19.3: the answer goes back through each agent, with its interface-id, and to the port of servers.
#[test]
fn there_and_back() {
    let mut dhcp = attached(trusting(), &[]);
    let said = says(5, REQUEST).na(1, &[]);
    let said = said.relayed(ip(1), 0, Some(b"port-7"));
    let said = said.relayed("::".parse().unwrap(), 1, None);
    let Outcome::Commit { leases, then } = said.to(&mut dhcp, 0) else {
        panic!("no grant");
    };
    assert_eq!((leases.len(), then.port), (1, 547));
    assert_eq!(then.to, said.from);
    // outermost: relay-reply, 1 hop, link ::, peer as received
    let outer = &then.bytes;
    assert_eq!((outer[0], outer[1]), (RELAY_REPL, 1));
    assert_eq!(outer[2..18], [0; 16]);
    // its relay-message option begins the inner relay-reply
    assert_eq!(outer[34..36], [0, 9]);
    let inner = &outer[38..];
    assert_eq!((inner[0], inner[1]), (RELAY_REPL, 0));
    assert_eq!(inner[2..18], ip(1).octets());
    assert_eq!(inner[18..34], link_local(5).octets());
    assert_eq!(inner[34..44], *b"\0\x12\0\x06port-7");
    assert_eq!(inner[44..46], [0, 9]);
    assert!(words(&inner[48..]).contains("fd00::10"));
}

#[test]
fn two_clients_of_one_agent_are_two() {
    let mut dhcp = attached(trusting(), &[]);
    for (n, address) in [(5, "fd00::10"), (6, "fd00::11"), (5, "fd00::10")] {
        let mut said = says(n, REQUEST).na(1, &[]).relayed(ip(1), 0, None);
        said.n = 0x99;
        let Outcome::Commit { leases, .. } = said.to(&mut dhcp, 0) else {
            panic!("no grant");
        };
        assert_eq!(leases[0].net.addr().to_string(), address);
    }
}

#[test]
fn only_configured_agents_and_links() {
    let mut dhcp = attached(trusting(), &[2]);
    let mut said = says(5, REQUEST).na(1, &[]).relayed(ip(1), 0, None);
    said.from = ip(0x98);
    assert_eq!(said.silence(&mut dhcp), Silence::UnknownRelay(ip(0x98)));
    let link = "2001:db8::1".parse().unwrap();
    let elsewhere = says(5, REQUEST).na(1, &[]).relayed(link, 0, None);
    assert_eq!(elsewhere.silence(&mut dhcp), Silence::OtherLink(link));
    // a container's own word for a relay agent's: not by default
    let mut dhcp = attached(config(), &[2]);
    let said = says(2, REQUEST).na(1, &[]).relayed(ip(1), 0, None);
    assert_eq!(said.silence(&mut dhcp), Silence::UnknownRelay(said.from));
}

/// An agent has no say about the address of an attached machine.
#[test]
fn attached_addresses_are_out_of_reach() {
    let mut dhcp = attached(trusting(), &[2, 0x11]);
    says(2, REQUEST).na(1, &[]).told(&mut dhcp, 0);
    for what in [RELEASE, DECLINE] {
        let mut said = says(2, what).na(1, &[ip(2)]).relayed(ip(1), 0, None);
        said.n = 0x99;
        assert!(
            matches!(said.to(&mut dhcp, 1), Outcome::Send(_)),
            "NoBinding"
        );
    }
    let said = says(5, REQUEST).na(1, &[ip(0x11)]).relayed(ip(1), 0, None);
    let Outcome::Commit { leases, .. } = said.to(&mut dhcp, 1) else {
        panic!("no grant");
    };
    assert_eq!(leases[0].net.addr(), ip(0x10));
}

#[test]
fn not_too_many() {
    let mut dhcp = attached(trusting(), &[]);
    let mut said = says(5, REQUEST).na(1, &[]);
    for hops in 0..8 {
        said = said.relayed(ip(1), hops, None);
    }
    assert!(matches!(said.to(&mut dhcp, 0), Outcome::Commit { .. }));
    let ninth = said.clone().relayed(ip(1), 7, None);
    assert_eq!(ninth.silence(&mut dhcp), Silence::TooManyRelays);
    let counted = says(5, REQUEST).na(1, &[]).relayed(ip(1), 8, None);
    assert_eq!(counted.silence(&mut dhcp), Silence::TooManyRelays);
}
