//! Router advertisements: RFC 4861 §6.1.1, §6.2; RFC 8106; RFC 8273.

use dhcp::v6::router::{MAX_INTERVAL, MIN_INTERVAL};
use dhcp::v6::{Advertiser, RouterConfig, Silence};

use crate::world::{START, link_local, mac};

const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

fn config() -> RouterConfig {
    RouterConfig {
        mac: mac(1),
        subnet: "fd00::/64".parse().unwrap(),
        mtu: 1400,
        dns: vec!["fd00::1".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        search: vec!["dmz.internal".into(), "example.test".into()],
    }
}

fn advertiser() -> Advertiser {
    Advertiser::new(config(), 7).unwrap()
}

/// What an advertisement says, in words. Read by the letter of RFC 4861 §4.2, not by our own code.
fn words(m: &[u8]) -> Vec<String> {
    assert_eq!((m[0], m[1], m[12..16] == [0; 4]), (134, 0, true));
    let lifetime = u16::from_be_bytes([m[6], m[7]]);
    let mut words = vec![format!(
        "router {lifetime} s, hops {}, flags {:02x}",
        m[4], m[5]
    )];
    let mut rest = &m[16..];
    let number = |b: &[u8]| u32::from_be_bytes(b.try_into().unwrap());
    let ip = |b: &[u8]| std::net::Ipv6Addr::from(<[u8; 16]>::try_from(b).unwrap());
    while !rest.is_empty() {
        let (option, after) = rest.split_at(usize::from(rest[1]) * 8);
        words.push(match option[0] {
            1 => format!("from {:x?}", &option[2..8]),
            5 => format!("mtu {}", number(&option[4..8])),
            3 => format!(
                "prefix {}/{} flags {:02x} {}/{} s",
                ip(&option[16..32]),
                option[2],
                option[3],
                number(&option[8..12]),
                number(&option[4..8])
            ),
            25 => {
                let list: Vec<_> = option[8..].chunks(16).map(ip).collect();
                format!("rdnss {} s {list:?}", number(&option[4..8]))
            }
            31 => {
                let text = String::from_utf8_lossy(&option[8..]).replace('\0', ".");
                format!("dnssl {} s {text:?}", number(&option[4..8]))
            }
            other => panic!("option {other}"),
        });
        rest = after;
    }
    words
}

/// §4.2, §4.6; RFC 8106 §5: never on-link; addresses of one's own making only with a prefix of one's own.
#[test]
fn what_is_said() {
    let mut router = advertiser();
    router.add(START, mac(2), None);
    router.add(START, mac(3), Some("fd00:0:0:3::/64".parse().unwrap()));
    let mut ask = |n| {
        let told = router.solicited(START, mac(n), link_local(n), 255, &SOLICITATION);
        let told = told.unwrap();
        assert_eq!((told.mac, told.to), (mac(n), link_local(n)));
        words(&told.message)
    };
    let common = |prefix: &str| {
        [
            "router 9000 s, hops 64, flags c0",
            "from [2, 0, 0, 0, 0, 1]",
            "mtu 1400",
            prefix,
            "rdnss 9000 s [fd00::1, 2001:db8::53]",
            "dnssl 9000 s \"\\u{3}dmz\\u{8}internal.\\u{7}example\\u{4}test.....\"",
        ]
        .map(str::to_owned)
    };
    let mut shared = common("prefix fd00::/64 flags 00 14400/86400 s");
    shared[5] = ask(2)[5].clone(); // told apart below
    assert_eq!(ask(2), shared);
    assert_eq!(ask(3)[3], "prefix fd00:0:0:3::/64 flags 40 14400/86400 s");
    assert!(
        shared[5].contains("dmz") && shared[5].contains("example"),
        "{}",
        shared[5]
    );
}

/// §6.2.4: at once, twice more within 16 s each, then between the two intervals for ever.
#[test]
fn unasked() {
    let mut router = advertiser();
    router.add(START, mac(2), None);
    let mut times = Vec::new();
    for _ in 0..50 {
        let at = router.next_deadline().unwrap();
        assert!(
            router.poll(at - 1, 9).is_empty(),
            "early calls are harmless"
        );
        let told = router.poll(at, 9);
        assert_eq!((told.len(), told[0].to.to_string()), (1, "ff02::1".into()));
        times.push(at);
    }
    assert_eq!(times[0], START);
    let gaps: Vec<u64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps[..2].iter().all(|gap| *gap <= 16), "{gaps:?}");
    let later = &gaps[2..];
    let range = MIN_INTERVAL..=MAX_INTERVAL;
    assert!(later.iter().all(|gap| range.contains(gap)), "{gaps:?}");
    assert!(
        later.iter().any(|gap| gap != &later[0]),
        "not random: {gaps:?}"
    );
}

#[test]
fn many_are_told_in_turns_and_a_clock_set_back_silences_nobody() {
    let mut router = advertiser();
    for n in 0..100 {
        router.add(START, mac(n), None);
    }
    let told: usize = (0..10).map(|_| router.poll(START, 30).len()).sum();
    assert_eq!(told, 100);
    assert_eq!(router.poll(START - 100_000, 1000).len(), 100);
}

/// §6.2.5
#[test]
fn farewell() {
    let mut router = advertiser();
    router.add(START, mac(2), Some("fd00:0:0:3::/64".parse().unwrap()));
    router.add(START, mac(3), None);
    router.remove(mac(3));
    let told = router.farewell();
    assert_eq!(told.len(), 1);
    let said = words(&told[0].message);
    assert_eq!(said[0], "router 0 s, hops 64, flags c0");
    assert_eq!(said[3], "prefix fd00:0:0:3::/64 flags 40 0/0 s");
    assert!(said[4].starts_with("rdnss 0 s") && said[5].starts_with("dnssl 0 s"));
}

/// §6.1.1
#[test]
fn solicitations_that_are_none() {
    let none = std::net::Ipv6Addr::UNSPECIFIED;
    let with = |option: &[u8]| [&SOLICITATION[..], option].concat();
    let own = with(&[1, 1, 2, 0, 0, 0, 0, 2]);
    let cases: [(&str, std::net::Ipv6Addr, u8, Vec<u8>); 7] = [
        ("hop limit", link_local(2), 254, SOLICITATION.to_vec()),
        ("code", link_local(2), 255, vec![133, 1, 0, 0, 0, 0, 0, 0]),
        ("shorter", link_local(2), 255, vec![133, 0, 0, 0]),
        (
            "length 0",
            link_local(2),
            255,
            with(&[1, 0, 2, 0, 0, 0, 0, 2]),
        ),
        (
            "cut off",
            link_local(2),
            255,
            with(&[1, 2, 2, 0, 0, 0, 0, 2]),
        ),
        ("cut off", link_local(2), 255, with(&[1])),
        ("hardware address", none, 255, own.clone()),
    ];
    let mut router = advertiser();
    router.add(START, mac(2), None);
    for (what, source, hops, message) in cases {
        let told = router.solicited(START, mac(2), source, hops, &message);
        let Err(Silence::BadSolicitation(why)) = told else {
            panic!("{what}: {told:?}");
        };
        assert!(why.contains(what), "{what}: {why}");
    }
    assert!(
        router
            .solicited(START, mac(2), link_local(2), 255, &own)
            .is_ok()
    );
    let unaddressed = router.solicited(START, mac(2), none, 255, &SOLICITATION);
    assert_eq!(unaddressed.unwrap().to.to_string(), "ff02::1");
}

#[test]
fn who_is_not_answered() {
    let mut router = advertiser();
    let ask = |router: &mut Advertiser, n, after| {
        router.solicited(START + after, mac(n), link_local(n), 255, &SOLICITATION)
    };
    assert_eq!(
        ask(&mut router, 2, 0),
        Err(Silence::Configured(mac(2))),
        "configured from outside"
    );
    router.add(START, mac(2), None);
    for _ in 0..10 {
        ask(&mut router, 2, 0).unwrap();
    }
    assert_eq!(ask(&mut router, 2, 0), Err(Silence::RateLimited(mac(2))));
    // coming again is no way around the limit
    router.add(START, mac(2), None);
    assert_eq!(ask(&mut router, 2, 0), Err(Silence::RateLimited(mac(2))));
    ask(&mut router, 2, 1).unwrap();
}
