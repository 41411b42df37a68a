//! What is refused before it can do harm: configurations, bindings and stored leases.

use std::time::Duration;

use dhcp::{Error, Extra, Lease, Responder, ServerConfig, State, When};

use crate::world::*;

fn refused(config: ServerConfig) -> String {
    Responder::new(config).unwrap_err().to_string()
}

#[test]
fn configurations_that_cannot_be_served() {
    let with = |change: fn(&mut ServerConfig)| {
        let mut config = config();
        change(&mut config);
        refused(config)
    };
    let subnet = |c: &mut ServerConfig| c.subnet = "10.89.0.0/31".parse().unwrap();
    assert_eq!(
        with(subnet),
        "subnet 10.89.0.0/31 is too small to serve addresses from (a /30 is the smallest)"
    );
    let server = |c: &mut ServerConfig| c.server = [192, 0, 2, 1].into();
    assert_eq!(
        with(server),
        "server 192.0.2.1 is not a host address of 10.89.0.0/24"
    );
    let router = |c: &mut ServerConfig| c.router = Some(ip(255));
    assert_eq!(
        with(router),
        "router 10.89.0.255 is not a host address of 10.89.0.0/24"
    );
    let pool = |c: &mut ServerConfig| c.pool = Some((ip(9), ip(5)));
    assert_eq!(with(pool), "pool 10.89.0.9-10.89.0.5 ends before it begins");
    let pool = |c: &mut ServerConfig| c.pool = Some((ip(0), ip(5)));
    assert_eq!(
        with(pool),
        "pool's first address 10.89.0.0 is not a host address of 10.89.0.0/24"
    );
    let lease = |c: &mut ServerConfig| c.lease = Duration::from_secs(1);
    assert_eq!(
        with(lease),
        "lease time of 1 s is not between 10 s and 4294967294 s"
    );
    let mtu = |c: &mut ServerConfig| c.mtu = 60;
    assert_eq!(with(mtu), "mtu 60 is below 68, the least that IPv4 allows");
    for bad in ["", ".", "a b", "ä.example", "a..b"] {
        let text = refused(ServerConfig {
            domain: Some(bad.into()),
            ..config()
        });
        assert_eq!(text, format!("{bad:?} is not a domain name"));
    }
    for code in [0, 50, 51, 53, 54, 55, 61, 82, 255] {
        let extra = vec![Extra {
            code,
            value: vec![1],
            when: When::Always,
        }];
        let error = Responder::new(ServerConfig { extra, ..config() }).unwrap_err();
        assert_eq!(error, Error::ReservedOption(code));
    }
    let extra = vec![Extra {
        code: 224,
        value: vec![1; 4000],
        when: When::Always,
    }];
    assert!(refused(ServerConfig { extra, ..config() }).contains("would not fit"));
}

#[test]
fn a_configuration_that_is_refused_leaves_the_old_one() {
    let mut world = World::with_web_and_db(config());
    let bad = ServerConfig {
        domain: Some("a b".into()),
        mtu: 9000,
        ..config()
    };
    assert!(world.dhcp.reconfigure(bad).is_err());
    assert_eq!(world.dhcp.config(), &config());
    assert_eq!(world.gets_address(1), ip(2));
}

#[test]
fn addresses_that_cannot_be_bound() {
    let mut world = World::with_web_and_db(config_with_pool(100, 199));
    let guest = world.gets_address(8);
    let mut refused = |mac, address| world.dhcp.bind(mac, address, None).unwrap_err();
    assert_eq!(
        refused(mac(3), ip(2)),
        Error::Bound {
            address: ip(2),
            mac: mac(1)
        }
    );
    assert_eq!(refused(mac(3), SERVER), Error::Own(SERVER));
    assert!(matches!(refused(mac(3), ip(255)), Error::Outside { .. }));
    assert!(matches!(
        refused(mac(3), [192, 0, 2, 1].into()),
        Error::Outside { .. }
    ));
    assert_eq!(refused([0; 6], ip(5)), Error::NotUnicast([0; 6]));
    assert_eq!(
        refused([255; 6], ip(5)).to_string(),
        "ff:ff:ff:ff:ff:ff is not the hardware address of one machine"
    );
    let leased = refused(mac(3), guest);
    assert_eq!(
        leased,
        Error::Leased {
            address: guest,
            mac: mac(8),
            expires: START + 3600
        }
    );
    assert_eq!(
        leased.to_string(),
        "10.89.0.100 is leased to 02:00:00:00:00:08 until 1003600 s since the epoch"
    );

    // nothing changed by all that
    assert_eq!(world.gets_address(1), ip(2));
    // an offer gives way, and so does a lease that is over
    world.told(&discover(9).requested(ip(150)));
    assert_eq!(world.dhcp.bind(mac(3), ip(150), None).unwrap().len(), 1);
    world.recorded(&release(8, guest));
    assert_eq!(world.dhcp.bind(mac(4), guest, None).unwrap().len(), 1);
    // binding the same again is nothing new
    assert_eq!(world.dhcp.bind(mac(4), guest, None), Ok(vec![]));
}

fn lease(n: u8, host: u8, state: State, expires: u64) -> Lease {
    Lease {
        mac: mac(n),
        client_id: Some(Box::from(&b"\0id"[..])),
        address: ip(host),
        hostname: Some("vm".into()),
        state,
        expires,
    }
}

#[test]
fn stored_leases_that_no_longer_hold() {
    let mut world = World::with_web_and_db(config_with_pool(100, 199));
    let bound = |n, host| lease(n, host, State::Bound, START + 9);
    let taken = world.dhcp.restore(bound(8, 2)).unwrap_err();
    assert_eq!(
        taken,
        Error::Bound {
            address: ip(2),
            mac: mac(1)
        }
    );
    // web is at .2 now, whatever it had
    let moved = world.dhcp.restore(bound(1, 150)).unwrap_err();
    assert_eq!(
        moved,
        Error::Bound {
            address: ip(2),
            mac: mac(1)
        }
    );
    assert_eq!(world.dhcp.restore(bound(8, 1)), Err(Error::Own(SERVER)));
    assert!(world.dhcp.restore(bound(8, 255)).is_err());

    // of two for one address the running one stays, in whatever order they come
    world
        .dhcp
        .restore(lease(8, 150, State::Expired, START + 99))
        .unwrap();
    world.dhcp.restore(bound(9, 150)).unwrap();
    assert!(
        world
            .dhcp
            .restore(lease(8, 150, State::Released, START + 99))
            .is_err()
    );
    assert_eq!(world.leases(), ["02:00:00:00:00:09 10.89.0.150 Bound"]);
}

// The store keeps them as serde writes them.
#[test]
fn leases_survive_serialisation() {
    for state in [
        State::Offered,
        State::Bound,
        State::Released,
        State::Declined,
        State::Expired,
    ] {
        let lease = lease(8, 150, state, 12);
        let text = serde_json::to_string(&lease).unwrap();
        assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease);
    }
    let text = serde_json::to_value(lease(8, 150, State::Bound, 12)).unwrap();
    assert_eq!(text["state"], "bound");
    assert_eq!(text["address"], "10.89.0.150");
}
