//! Properties that hold for every input: files round-trip, a pool gives no address twice.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use zone::{
    ContainerName, DefaultPolicy, IfName, MacAddr, Pool, Subnet6, Taken, ZoneFile, ZoneName,
    resolve,
};

fn subnet4() -> impl Strategy<Value = Ipv4Net> {
    (any::<u32>(), 8u8..=30).prop_map(|(bits, length)| {
        let private = 10 << 24 | bits & 0x00ff_ffff;
        Ipv4Net::new(private.into(), length).unwrap().trunc()
    })
}

fn subnet6() -> impl Strategy<Value = Subnet6> {
    let net = (any::<u128>(), 48u8..=120).prop_map(|(bits, length)| {
        let unique_local = 0xfd << 120 | bits >> 8;
        let net = Ipv6Net::new(unique_local.into(), length).unwrap();
        Subnet6::Net(net.trunc())
    });
    prop_oneof![Just(Subnet6::Auto), Just(Subnet6::None), net]
}

fn resolver() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u32..0xe000_0000).prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u64>().prop_map(|bits| Ipv6Addr::from(0x2001 << 112 | u128::from(bits)).into()),
    ]
}

fn server() -> impl Strategy<Value = SocketAddr> {
    (resolver(), prop_oneof![Just(53), 1u16..]).prop_map(SocketAddr::from)
}

prop_compose! {
    fn zone_file()(
        subnet4 in proptest::option::of(subnet4()),
        subnet6 in subnet6(),
        internal: bool,
        v6_alone: bool,
        uplink in proptest::option::of("[a-z][a-z0-9.\"\\\\]{0,14}"),
        default in prop_oneof![
            Just(DefaultPolicy::Egress), Just(DefaultPolicy::Deny), Just(DefaultPolicy::Allow)
        ],
        mtu in proptest::option::of(1280u32..=65535),
        domain in proptest::option::of("[a-z0-9]{1,20}(\\.[a-z]{1,10}){0,3}"),
        pool in proptest::option::of((any::<u32>(), any::<u32>())),
        dns in proptest::collection::vec(resolver(), 0..4),
        upstream in proptest::collection::vec(server(), 0..4),
        upstream_domains in proptest::collection::btree_map(
            "[a-z0-9]{1,20}(\\.[a-z]{1,10}){0,3}", proptest::collection::vec(server(), 1..3), 0..3
        ),
    ) -> ZoneFile {
        let pool = pool.map(|(a, b)| match subnet4 {
            // a pool is within a subnet that is given
            Some(net) => {
                let (base, size) = (u32::from(net.network()), 1u64 << (32 - net.prefix_len()));
                let within = |n: u32| base + (u64::from(n) % size) as u32;
                (within(a).min(within(b)).into(), within(a).max(within(b)).into())
            }
            None => (a.min(b).into(), a.max(b).into()),
        });
        let uplink = uplink.map(|name| name.parse().unwrap());
        let without_ipv4 = v6_alone && subnet4.is_none() && pool.is_none() && subnet6 != Subnet6::None;
        let dhcp = zone::dhcp::Dhcp::default();
        ZoneFile {
            bridge: None, subnet4, without_ipv4, subnet6, internal, uplink, default, mtu, domain, pool, dns, dhcp, upstream,
            upstream_domains,
        }
    }
}

/// What happens to a pool.
#[derive(Debug, Clone)]
enum Op {
    Assign(u8, Option<u8>),
    Reserve(u8, u8),
    Forget(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u8..12, proptest::option::of(any::<u8>())).prop_map(|(n, wanted)| Op::Assign(n, wanted)),
        (0u8..12, any::<u8>()).prop_map(|(n, address)| Op::Reserve(n, address)),
        (0u8..12).prop_map(Op::Forget),
    ]
}

proptest! {
    #[test]
    fn zone_files_round_trip(file in zone_file()) {
        let text = file.to_toml();
        prop_assert_eq!(ZoneFile::parse("z.toml", &text).map_err(|e| e.to_string()), Ok(file));
    }

    #[test]
    fn garbage_is_an_error_with_a_place(text in "[a-z0-9= \"\\[\\]{}.\n#ü-]{0,60}") {
        if let Err(error) = ZoneFile::parse("z.toml", &text) {
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert!((1..=lines.len()).contains(&error.line), "{error}");
            let width = lines[error.line - 1].chars().count();
            prop_assert!((1..=width + 1).contains(&error.column), "{error} in {text:?}");
        }
    }

    /// Against the obvious model: a map from address to owner.
    #[test]
    fn a_pool_never_gives_an_address_twice(
        bits in 26u8..=30,
        bounds in proptest::option::of((any::<u8>(), any::<u8>())),
        six: bool,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let net = Ipv4Net::new([10, 0, 0, 0].into(), bits).unwrap();
        let size = 1u32 << (32 - bits);
        let at = |n: u8| Ipv4Addr::from(u32::from(net.network()) + u32::from(n) % size);
        let file = ZoneFile {
            subnet4: Some(net),
            subnet6: if six { Subnet6::Auto } else { Subnet6::None },
            pool: bounds.map(|(a, b)| (at(a).min(at(b)), at(a).max(at(b)))),
            ..ZoneFile::default()
        };
        let zone = resolve(&"z".parse().unwrap(), &file, &Taken::default(), b"m").unwrap();
        let mut pool = Pool::new(&zone);
        let mut model: BTreeMap<IpAddr, ContainerName> = BTreeMap::new();
        let name = |n: u8| -> ContainerName { format!("c{n}").parse().unwrap() };
        let usable = |a: Ipv4Addr| {
            a != net.network() && a != net.broadcast() && Some(a) != zone.gateway4
        };
        for op in ops {
            match op {
                Op::Assign(n, wanted) => {
                    let name = name(n);
                    let had = pool.of(&name);
                    let wanted = wanted.map(at);
                    let list: Vec<IpAddr> = wanted.into_iter().map(IpAddr::V4).collect();
                    match pool.assign(&name, &list) {
                        Ok(given) => {
                            prop_assert_eq!(given.len(), 1 + usize::from(six));
                            for address in &given {
                                prop_assert!(model.get(address).is_none_or(|who| *who == name));
                                let IpAddr::V4(four) = *address else { continue };
                                prop_assert!(net.contains(&four) && usable(four));
                                let unasked = wanted.is_none() && !had.contains(address);
                                let bounds = zone.pool.unwrap_or((net.network(), net.broadcast()));
                                prop_assert!(!unasked || (bounds.0..=bounds.1).contains(&four));
                            }
                            if let Some(wanted) = wanted {
                                prop_assert!(given.contains(&wanted.into()));
                            } else if !had.is_empty() {
                                prop_assert!(had.iter().all(|address| given.contains(address)));
                            }
                            model.retain(|_, who| *who != name);
                            model.extend(given.into_iter().map(|address| (address, name.clone())));
                        }
                        Err(_) => {
                            prop_assert_eq!(&pool.of(&name), &had, "a refusal changes nothing");
                            let first = zone.pool.map_or(net.network(), |p| p.0);
                            let last = zone.pool.map_or(net.broadcast(), |p| p.1);
                            let free = (u32::from(first)..=u32::from(last)).map(Ipv4Addr::from)
                                .any(|a| usable(a) && !model.contains_key(&a.into()));
                            let refused = wanted.is_some_and(|a| {
                                !usable(a) || model.get(&a.into()).is_some_and(|who| *who != name)
                            });
                            prop_assert!(refused || !free, "refused although one is free");
                        }
                    }
                }
                Op::Reserve(n, address) => {
                    let (name, address) = (name(n), at(address));
                    let taken = model.get(&address.into()).is_some_and(|who| *who != name);
                    let result = pool.reserve(&name, address.into());
                    prop_assert_eq!(result.is_ok(), usable(address) && !taken);
                    if result.is_ok() {
                        model.retain(|a, who| *who != name || a.is_ipv6());
                        model.insert(address.into(), name);
                    }
                }
                Op::Forget(n) => {
                    pool.forget(&name(n));
                    model.retain(|_, who| *who != name(n));
                }
            }
            for (address, who) in &model {
                prop_assert_eq!(pool.owner(*address), Some(who));
            }
            prop_assert_eq!(pool.iter().map(|(_, list)| list.len()).sum::<usize>(), model.len());
        }
    }

    #[test]
    fn names_round_trip(
        zone in "[a-z0-9][a-z0-9-]{0,31}",
        container in "[A-Za-z0-9][A-Za-z0-9_.-]{0,127}",
        mac: [u8; 6],
    ) {
        let name: ZoneName = zone.parse().unwrap();
        prop_assert_eq!(name.to_string(), zone);
        let bridge = name.bridge();
        prop_assert_eq!(bridge.as_str().parse::<IfName>().unwrap(), bridge);
        let name: ContainerName = container.parse().unwrap();
        prop_assert_eq!(name.to_string(), container);
        let host = name.host_ifname();
        prop_assert_eq!(host.as_str().parse::<IfName>().unwrap(), host);
        prop_assert!(name.mac().is_unicast());
        prop_assert_eq!(MacAddr(mac).to_string().parse::<MacAddr>().unwrap(), MacAddr(mac));
    }
}
