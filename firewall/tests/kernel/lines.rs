//! Sets in which the whole key is one number to the kernel: what they hold, what nft makes of them, and
//! that nothing denied passes while a range is cut anew.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use firewall::sets::{Action, Changes, Element, Family, Key, SetId, Shape, group};

use crate::elements::{EGRESS, INGRESS, nets, nets_number, number_of, zone};
use crate::lab::{Lab, WORLD4, WORLD6, sh};
use crate::live::{Blast, Probe};
use crate::probe::{serve, tcp, udp};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(action: Action, shape: Shape, first: Key, last: Key, family: Family) -> Element {
    Element {
        last: Some(last),
        ..crate::elements::element(SetId::Rule(EGRESS, family, action, shape), first)
    }
}

fn net(own: IpAddr, action: Action, shape: Shape, what: Option<(u8, u16)>, net: &str) -> Element {
    net_under(nets_number(own, EGRESS, action), action, shape, what, net)
}

fn net_under(
    number: u32,
    action: Action,
    shape: Shape,
    what: Option<(u8, u16)>,
    net: &str,
) -> Element {
    let net: ipnet::IpNet = net.parse().unwrap();
    let key = |address| {
        let key = Key::new().mark(number);
        let key = match (shape, what) {
            (Shape::NetProto, Some((proto, _))) => key.proto(proto),
            (Shape::NetPort, Some((proto, port))) => key.proto(proto).port(port),
            _ => key,
        };
        key.ip(address)
    };
    let (first, last) = (key(net.network()), key(net.broadcast()));
    range(action, shape, first, last, Family::of(net.addr()))
}

/// A list of ports, and what leads there.
fn list(own: IpAddr, shape: Shape, lead: Key, first: (u8, u16), last: (u8, u16)) -> [Element; 2] {
    let number = number_of(&(own, &lead, first, last));
    let key = |(proto, port)| Key::new().mark(number).proto(proto).port(port);
    let set = SetId::Rule(EGRESS, Family::of(own), Action::Allow, shape);
    let (allow, family) = (Action::Allow, Family::of(own));
    [
        Element::entry(set, lead, Key::new().mark(number)),
        range(allow, Shape::Ports, key(first), key(last), family),
    ]
}

fn ports(own: IpAddr, peer: IpAddr, first: (u8, u16), last: (u8, u16)) -> [Element; 2] {
    let lead = Key::new().ip(own).ip(peer);
    list(own, Shape::PeerList, lead, first, last)
}

fn group_ports(own: IpAddr, group: u32, first: (u8, u16), last: (u8, u16)) -> [Element; 2] {
    let lead = Key::new().ip(own).mark(group);
    list(own, Shape::GroupList, lead, first, last)
}

#[test]
fn each_owner_and_protocol_has_its_own_ranges_up_to_both_ends() {
    let Some(mut lab) = Lab::new() else { return };
    for port in [79, 80, 81] {
        serve(&lab.world, port);
    }
    let (one, other) = (lab.c(1).ip4, lab.c(2).ip4);
    let allow = Action::Allow;
    let all = [
        // the end of one is the beginning of the other
        net(one, allow, Shape::Net, None, "0.0.0.0/0"),
        net(other, allow, Shape::Net, None, "0.0.0.0/0"),
        net(lab.c(1).ip6, allow, Shape::Net, None, "::/0"),
        net(other, allow, Shape::NetProto, Some((255, 0)), "255.0.0.0/8"),
    ];
    let lists = [
        group_ports(one, u32::MAX, (0, 0), (255, 65535)),
        ports(one, ip("255.255.255.255"), (TCP, 1), (TCP, 65535)),
    ];
    let everything = [all.to_vec(), lists.concat()].concat();
    let elements = [lab.base(), everything.clone()].concat();
    lab.tables.install(&elements, &[]).unwrap();
    assert_eq!(lab.tables.verify(&elements).unwrap(), [""; 0]);
    for n in [1, 2] {
        assert!(tcp(&lab.c(n).ns, ip(WORLD4), 80).is_open(), "{n}");
    }
    assert!(!tcp(&lab.c(3).ns, ip(WORLD4), 80).is_open());
    assert!(tcp(&lab.c(1).ns, ip(WORLD6), 80).is_open());
    lab.tighten(everything);
    assert!(!tcp(&lab.c(1).ns, ip(WORLD4), 80).is_open());

    // One port of a network, its neighbours closed; then the network without the host in question.
    let own = lab.c(1).ip4;
    let wide = net(own, allow, Shape::NetPort, Some((TCP, 80)), "192.0.2.0/24");
    lab.add(vec![wide.clone()]);
    for (port, open) in [(79, false), (80, true), (81, false)] {
        assert_eq!(
            tcp(&lab.c(1).ns, ip(WORLD4), port).is_open(),
            open,
            "{port}"
        );
    }
    assert!(!udp(&lab.c(1).ns, ip(WORLD4), 80).is_open());
    let what = Some((TCP, 80));
    let narrow = net_under(7, allow, Shape::NetPort, what, "192.0.2.128/25");
    let (old, new) = (nets_number(own, EGRESS, allow), 7);
    let leads = |number| nets(own, EGRESS, allow, number);
    lab.tables
        .apply(&Changes {
            remove: vec![wide, leads(old)],
            add: vec![narrow.clone(), leads(new)],
            forget: true,
            ..Default::default()
        })
        .unwrap();
    assert!(!tcp(&lab.c(1).ns, ip(WORLD4), 80).is_open());
    let mut elements = [lab.base(), vec![narrow, leads(new)]].concat();
    elements.retain(|element| *element != leads(old));
    assert_eq!(lab.tables.verify(&elements).unwrap(), [""; 0]);
}

#[test]
fn a_range_may_begin_in_one_protocol_and_end_in_another() {
    let Some(mut lab) = Lab::new() else { return };
    for port in [79, 80, 81] {
        serve(&lab.world, port);
    }
    let own = lab.c(1).ip4;
    // from tcp/80 to udp/79
    lab.add(group_ports(own, group::WORLD, (TCP, 80), (UDP, 79)).to_vec());
    let (c1, to) = (&lab.c(1).ns, ip(WORLD4));
    for (port, by_tcp, by_udp) in [(79, false, true), (80, true, false), (81, true, false)] {
        assert_eq!(tcp(c1, to, port).is_open(), by_tcp, "tcp {port}");
        assert_eq!(udp(c1, to, port).is_open(), by_udp, "udp {port}");
    }
}

#[test]
fn nft_can_list_them() {
    let Some(mut lab) = Lab::new() else { return };
    let (own, six) = (lab.c(1).ip4, lab.c(1).ip6);
    let allow = Action::Allow;
    let lists = [
        ports(own, lab.c(2).ip4, (TCP, 80), (TCP, 90)),
        group_ports(own, zone(0), (TCP, 8000), (TCP, 8099)),
        group_ports(six, zone(0), (TCP, 8000), (TCP, 8099)),
    ];
    lab.add(lists.concat());
    lab.add(vec![
        net(own, allow, Shape::Net, None, "198.51.100.0/24"),
        net(own, allow, Shape::Net, None, "203.0.113.0/24"),
        net(lab.c(2).ip4, allow, Shape::Net, None, "0.0.0.0/0"),
        net(own, allow, Shape::NetProto, Some((TCP, 0)), "0.0.0.0/0"),
        net(own, allow, Shape::NetPort, Some((TCP, 80)), "0.0.0.0/0"),
        net(six, allow, Shape::NetPort, Some((TCP, 80)), "2001:db8::/32"),
    ]);
    // As numbers: `netd policy show --nft` is for people.
    let json = sh("nft -j list ruleset");
    for (own, rest) in [
        (own, "0600000000500000ffffffff"),
        (six, "060000000050000020010db8ffffffffffffffffffffffff"),
    ] {
        let number = nets_number(own, EGRESS, allow).to_ne_bytes();
        let number: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
        let range = format!(
            "\"0x{}\"",
            format!("{number}{rest}").trim_start_matches('0')
        );
        assert!(json.contains(&range), "no {range} in what nft lists");
    }
    let text = sh("nft list ruleset");
    let lookup = "meta mark . ct protocol . ct reply ip saddr @eg4_allow_net_proto meta mark set";
    assert!(text.contains(lookup), "no {lookup:?} in {text}");
}

/// One range and two that cover the same, in each other's place again and again.
#[test]
fn what_is_cut_anew_is_denied_all_the_while() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(2).ns, 80);
    let own = lab.c(1).ip4;
    let mut elements = lab.base();
    let no_deny = lab.nodeny(1, EGRESS);
    elements.retain(|element| !no_deny.contains(element));
    elements.extend(
        lab.c(1)
            .group(EGRESS, Action::Allow, zone(0), Some((UDP, 82))),
    );
    for n in [2, 3] {
        elements.extend(lab.c(n).group(INGRESS, Action::Allow, zone(0), None));
    }
    elements.retain(|element| !matches!(element.set, SetId::Nets(..)));
    let cut = |action, port, cut: &[&str]| -> Vec<Element> {
        let number = number_of(&(action, cut));
        let under = |n: &&str| net_under(number, action, Shape::NetPort, Some((UDP, port)), n);
        let leads = [nets(own, EGRESS, action, number)];
        leads.into_iter().chain(cut.iter().map(under)).collect()
    };
    let whole = ["10.99.0.0/24"];
    let parts = [
        "10.99.0.0/29",
        "10.99.0.8/29",
        "10.99.0.16/28",
        "10.99.0.32/27",
    ];
    let of = |nets: &[&str]| [cut(Action::Deny, 82, nets), cut(Action::Allow, 80, nets)].concat();
    elements.extend(of(&whole));
    lab.tables.install(&elements, &[]).unwrap();
    let allowed = Probe::start(&lab, lab.c(2).ip4, true);
    let blast = Blast::start(&lab);
    let begin = Instant::now();
    let mut cuts = 0;
    while begin.elapsed() < Duration::from_secs(3) {
        for (remove, add) in [(of(&whole), of(&parts)), (of(&parts), of(&whole))] {
            let change = Changes {
                remove,
                add,
                forget: true,
                ..Default::default()
            };
            lab.tables.apply(&change).unwrap();
            cuts += 1;
        }
    }
    let (sent, arrived) = blast.end();
    let (asked, answered) = allowed.end();
    println!(
        "{cuts} cuts; {arrived} of {sent} denied arrived; {answered} of {asked} allowed answered"
    );
    assert!(
        cuts > 20 && sent > 1000 && asked > 20,
        "{cuts} {sent} {asked}"
    );
    assert_eq!(arrived, 0, "of {sent} denied packets");
    assert_eq!(lab.tables.verify(&elements).unwrap(), [""; 0]);
}
