#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::lease::State;

fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

fn lease(host: u8, machine: u8, state: State, expires: u64) -> Lease {
    Lease {
        mac: [2, 0, 0, 0, 0, machine],
        client_id: None,
        address: address(host),
        hostname: None,
        state,
        expires,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, State, u64),
    Remove(u8),
    Pick,
}

fn any_step() -> impl Strategy<Value = Step> {
    let state = prop_oneof![
        Just(State::Offered),
        Just(State::Bound),
        Just(State::Released),
        Just(State::Declined),
        Just(State::Expired)
    ];
    prop_oneof![
        4 => (0u8..12, 0u8..4, state, 1u64..50).prop_map(|(h, m, s, e)| Step::Put(h, m, s, e)),
        2 => (0u8..12).prop_map(Step::Remove),
        2 => Just(Step::Pick),
    ]
}

proptest! {
    // The naive model is a list of leases. The pool is 10.0.0.2 to 10.0.0.9, and .5 is reserved.
    #[test]
    fn the_indexes_agree_with_a_plain_list(steps in proptest::collection::vec(any_step(), 0..80)) {
        let mut table = Table::default();
        table.set_pool(Some(Pool::new(address(2), address(9))));
        let mut list: Vec<Lease> = Vec::new();
        for step in steps {
            match step {
                Step::Put(host, machine, state, expires) => {
                    let lease = lease(host, machine, state, expires);
                    list.retain(|l| l.address != lease.address);
                    list.push(lease.clone());
                    table.put(lease);
                }
                Step::Remove(host) => {
                    let was = list.iter().position(|l| l.address == address(host));
                    let was = was.map(|at| list.remove(at));
                    prop_assert_eq!(table.remove(address(host)), was);
                }
                Step::Pick => {
                    let free: Vec<_> = (2..=9)
                        .filter(|&host| host != 5)
                        .map(address)
                        .filter(|a| list.iter().all(|l| l.address != *a || l.is_over()))
                        .collect();
                    match table.pick(|a| a == address(5)) {
                        Some(found) => {
                            prop_assert!(free.contains(&found), "{found} is not free");
                            // what is picked is used
                            let lease = lease(found.octets()[3], 9, State::Offered, 99);
                            list.retain(|l| l.address != found);
                            list.push(lease.clone());
                            table.put(lease);
                        }
                        None => prop_assert!(free.is_empty(), "{free:?}"),
                    }
                }
            }
            list.sort_by_key(|l| l.address);
            prop_assert!(table.iter().eq(list.iter()));
            // an address is idle once or not at all, however often it changed hands
            let idle = table.pool.as_ref().unwrap().idle_len();
            prop_assert!(idle <= 8, "{idle} idle of 8");
            let first = list.iter().filter(|l| !l.is_over()).map(|l| l.expires).min();
            prop_assert_eq!(table.next_deadline(), first);
            for machine in 0..4 {
                let mac = [2, 0, 0, 0, 0, machine];
                let count = list.iter().filter(|l| l.mac == mac).count();
                prop_assert_eq!(table.of(mac).count(), count);
            }
        }
    }
}

// RFC 2131 §4.3.1: a machine that returns should find its old address free.
#[test]
fn what_was_never_given_goes_first_then_what_was_idle_longest() {
    let mut table = Table::default();
    table.set_pool(Some(Pool::new(address(1), address(3))));
    let pick = |table: &mut Table, expires| {
        let found = table.pick(|_| false)?;
        table.put(lease(found.octets()[3], 1, State::Bound, expires));
        Some(found.octets()[3])
    };
    assert_eq!(pick(&mut table, 10), Some(1));
    table.put(lease(1, 1, State::Released, 5));
    assert_eq!(pick(&mut table, 10), Some(2));
    table.put(lease(2, 1, State::Expired, 4));
    assert_eq!(pick(&mut table, 10), Some(3));
    assert_eq!(pick(&mut table, 10), Some(2), "idle since 4");
    assert_eq!(pick(&mut table, 10), Some(1), "idle since 5");
    assert_eq!(pick(&mut table, 10), None);
}
