//! Live connections: verdicts are remembered, and forgotten the moment a rule is tightened.

use std::io::{Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use firewall::kernel::conntrack;
use firewall::sets::{Action, Changes, Element, Family, Key, SetId, Shape, group};

use crate::elements::{EGRESS, INGRESS, zone};
use crate::lab::{HOST4, HOST6, Lab, WORLD4, sh};
use crate::probe::{PATIENCE, connect, serve, tcp};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn connections() -> String {
    sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null")
}

fn marks() -> Vec<u32> {
    connections()
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("mark=")?.parse().ok())
        .collect()
}

#[test]
fn a_verdict_is_remembered_with_the_generation() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(2).ns, 80);
    let rules = [
        lab.c(1).group(EGRESS, Action::Allow, zone(0), None),
        lab.c(2).group(INGRESS, Action::Allow, zone(0), None),
    ];
    lab.add(rules.concat());
    sh("conntrack -F 2>/dev/null");
    let to = lab.c(2).ip4;
    lab.c(1).ns.run(|| {
        let (mut stream, _) = connect(to, 80).unwrap();
        let mut echo = || {
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        };
        echo();
        sh("true");
    });
    let generation = lab.tables.generation().unwrap();
    assert_eq!(marks(), [generation]);
    // Somebody else's mark is left alone, and the connection is judged packet by packet.
    sh(
        "nft -f - <<'X'\ntable ip theirs { chain c { type filter hook prerouting priority -150; ct mark 0 ct mark set 0x77; }; }\nX",
    );
    sh("conntrack -F 2>/dev/null");
    assert!(tcp(&lab.c(1).ns, to, 80).is_open());
    assert_eq!(marks(), [0x77]);
}

/// Opens connections over both families and returns what carries a byte and back over them.
fn streams(lab: &Lab) -> Vec<std::net::TcpStream> {
    let to = lab.c(2).ips();
    lab.c(1)
        .ns
        .run(move || to.map(|to| connect(to, 80).unwrap().0).into())
}

fn alive(stream: &mut std::net::TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

#[test]
fn tightening_stops_live_connections_both_ways() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(2).ns, 80);
    let egress = lab.c(1).group(EGRESS, Action::Allow, zone(0), None);
    let ingress = lab.c(2).group(INGRESS, Action::Allow, zone(0), None);
    for tightened in [egress.clone(), ingress.clone()] {
        lab.tables
            .install(&[lab.base(), egress.clone(), ingress.clone()].concat(), &[])
            .unwrap();
        let mut open = streams(&lab);
        assert!(open.iter_mut().all(alive) && open.iter_mut().all(alive));
        // Forgetting alone cuts nothing.
        lab.tighten(vec![]);
        assert!(open.iter_mut().all(alive));
        lab.tighten(tightened);
        assert!(!open.iter_mut().any(alive));
    }
    // A deny on top of an allow does the same.
    lab.tables
        .install(&[lab.base(), egress, ingress].concat(), &[])
        .unwrap();
    let mut open = streams(&lab);
    assert!(open.iter_mut().all(alive));
    let deny = lab
        .c(2)
        .peer(INGRESS, Action::Deny, lab.c(1), Some((TCP, 80)));
    let remove = lab.nodeny(2, INGRESS);
    lab.tables
        .apply(&Changes {
            limits: None,
            remove,
            add: deny,
            forget: true,
        })
        .unwrap();
    assert!(!open.iter_mut().any(alive));
}

#[test]
fn a_stream_of_replies_alone_stops_too() {
    let Some(mut lab) = Lab::new() else { return };
    let egress = lab
        .c(1)
        .group(EGRESS, Action::Allow, group::WORLD, Some((UDP, 7000)));
    lab.add(egress.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let server = lab.world.run(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    let stopped = stop.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        let (_, client) = server.recv_from(&mut buffer).unwrap();
        while !stopped.load(Ordering::Relaxed) {
            let _ = server.send_to(b"data", client);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let client = lab.c(1).ns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    client.send_to(b"go", (WORLD4, 7000)).unwrap();
    let mut buffer = [0; 16];
    for _ in 0..50 {
        client.recv(&mut buffer).unwrap();
    }
    lab.tighten(egress);
    // What was on the way may still come.
    let end = Instant::now() + Duration::from_millis(50);
    while Instant::now() < end && client.recv(&mut buffer).is_ok() {}
    assert!(client.recv(&mut buffer).is_err(), "replies go on");
    stop.store(true, Ordering::Relaxed);
}

/// Asks by UDP again and again; counts answers and silences.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    again: Arc<AtomicUsize>,
}

impl Probe {
    /// A new connection each time, or one for all.
    pub(crate) fn start(lab: &Lab, to: IpAddr, each_new: bool) -> Self {
        let probe = Self {
            stop: Arc::default(),
            asked: Arc::default(),
            answered: Arc::default(),
            again: Arc::default(),
        };
        let (stop, asked, answered, again) = (
            probe.stop.clone(),
            probe.asked.clone(),
            probe.answered.clone(),
            probe.again.clone(),
        );
        lab.c(1).ns.spawn(move || {
            let any: IpAddr = if to.is_ipv4() {
                [0u8; 4].into()
            } else {
                [0u16; 8].into()
            };
            let open = || {
                let socket = UdpSocket::bind((any, 0)).unwrap();
                socket.connect((to, 80)).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_millis(500)))
                    .unwrap();
                socket
            };
            let mut socket = open();
            while !stop.load(Ordering::Relaxed) {
                if each_new {
                    socket = open();
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let ask = || {
                    let sent = socket.send(b"?");
                    sent.and_then(|_| socket.recv(&mut [0; 64]))
                };
                // A packet that two batches overtake while it is judged is dropped in silence, for it comes again.
                let answer = ask().or_else(|error| match error.kind() {
                    std::io::ErrorKind::WouldBlock => {
                        again.fetch_add(1, Ordering::Relaxed);
                        ask()
                    }
                    _ => Err(error),
                });
                if answer.is_ok() {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        probe
    }

    /// How often it had to ask a second time.
    pub(crate) fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }

    /// (asked, answered)
    pub(crate) fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1200));
        (
            self.asked.load(Ordering::Relaxed),
            self.answered.load(Ordering::Relaxed),
        )
    }
}

/// Sends denied packets without waiting for anything.
pub(crate) struct Blast {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    server: UdpSocket,
}

impl Blast {
    pub(crate) fn start(lab: &Lab) -> Self {
        let server = lab.c(3).ns.run(|| UdpSocket::bind("0.0.0.0:82").unwrap());
        server.set_nonblocking(true).unwrap();
        let blast = Self {
            stop: Arc::default(),
            sent: Arc::default(),
            server,
        };
        let (stop, sent, to) = (blast.stop.clone(), blast.sent.clone(), lab.c(3).ip4);
        lab.c(1).ns.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                for _ in 0..20 {
                    sent.fetch_add(
                        usize::from(socket.send_to(b"x", (to, 82)).is_ok()),
                        Ordering::Relaxed,
                    );
                }
            }
        });
        blast
    }

    /// (sent, arrived)
    pub(crate) fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut arrived = 0;
        while self.server.recv(&mut [0; 16]).is_ok() {
            arrived += 1;
        }
        (self.sent.load(Ordering::Relaxed), arrived)
    }
}

#[test]
fn installs_and_edits_lose_nothing_allowed_and_pass_nothing_denied() {
    let Some(mut lab) = Lab::new() else { return };
    for n in [2, 3] {
        serve(&lab.c(n).ns, 80);
    }
    let mut elements = lab.base();
    elements.extend(lab.c(1).group(EGRESS, Action::Allow, zone(0), None));
    elements.extend(
        lab.c(2)
            .peer(INGRESS, Action::Allow, lab.c(1), Some((UDP, 80))),
    );
    elements.extend(
        lab.c(3)
            .peer(INGRESS, Action::Allow, lab.c(4), Some((UDP, 80))),
    );
    // Over IPv4 by ranges under numbers; beside them others come and go, as those of idle bundles do.
    let by_group = SetId::Rule(EGRESS, Family::V4, Action::Allow, Shape::Group);
    elements.retain(|element| element.set != by_group);
    elements.extend(
        lab.c(1)
            .range(EGRESS, Action::Allow, "10.99.0.0/24", UDP, (80, 80)),
    );
    let idle = |number: u32| -> [Element; 2] {
        let set = |shape| SetId::Rule(EGRESS, Family::V4, Action::Allow, shape);
        let net = |octets: [u8; 4]| Key::new().mark(number).ip(octets.into());
        let port = |port| Key::new().mark(number).proto(UDP).port(port);
        [
            Element::range(
                set(Shape::Net),
                net([10, 0, 0, 0]),
                net([10, 255, 255, 255]),
            ),
            Element::range(set(Shape::Ports), port(0), port(65535)),
        ]
    };
    lab.tables.install(&elements, &[]).unwrap();
    let allowed = [
        Probe::start(&lab, lab.c(2).ip4, false),
        Probe::start(&lab, lab.c(2).ip4, true),
        Probe::start(&lab, lab.c(2).ip6, true),
    ];
    let denied = [
        Probe::start(&lab, lab.c(3).ip4, true),
        Probe::start(&lab, lab.c(3).ip6, true),
    ];
    let blast = Blast::start(&lab);
    let noise: Vec<Element> = lab
        .c(3)
        .group(INGRESS, Action::Allow, zone(1), Some((UDP, 81)));
    let begin = Instant::now();
    let (mut installs, mut edits) = (0, 0);
    while begin.elapsed() < Duration::from_secs(4) {
        let now = [&elements[..], &idle(0x8000_0000 + installs)].concat();
        lab.tables.install(&now, &[]).unwrap();
        installs += 1;
        if installs % 8 == 0 {
            assert_eq!(lab.tables.verify(&now).unwrap(), [""; 0]);
        }
        for _ in 0..20 {
            lab.add(noise.clone());
            lab.tighten(noise.clone());
            edits += 2;
        }
    }
    let (sent, arrived) = blast.end();
    let again = allowed.iter().map(Probe::again).max().unwrap_or_default();
    let allowed = allowed.map(Probe::end);
    let denied = denied.map(Probe::end);
    println!(
        "{installs} installs, {edits} edits; allowed {allowed:?}, {again} again, denied {denied:?}, {sent} more sent"
    );
    assert!(again <= 2, "{again} packets lost in {installs} installs");
    assert!(sent > 1000 && arrived == 0, "{arrived} of {sent} arrived");
    for (asked, answered) in allowed {
        assert!(
            asked > 100 && asked == answered,
            "{asked} asked, {answered} answered"
        );
    }
    for (asked, answered) in denied {
        assert!(
            asked > 5 && answered == 0,
            "{asked} asked, {answered} answered"
        );
    }
}

#[test]
fn an_address_that_changes_hands_has_no_connections() {
    let Some(mut lab) = Lab::new() else { return };
    for n in [2, 3] {
        serve(&lab.c(n).ns, 80);
    }
    let rules: Vec<_> = (1..=3).flat_map(|n| lab.c(n).open()).collect();
    lab.add(rules);
    for to in [lab.c(2).ips(), lab.c(3).ips()].concat() {
        assert!(tcp(&lab.c(1).ns, to, 80).is_open());
    }
    let there = |n: usize| {
        lab.c(n)
            .ips()
            .iter()
            .all(|a| connections().contains(&format!("={a} ")))
    };
    assert!(there(2) && there(3));
    assert!(conntrack::delete_for(&lab.c(2).ips()).unwrap() >= 2);
    for address in lab.c(2).ips() {
        assert!(!connections().contains(&format!("={address} ")));
    }
    assert!(there(3));
    assert_eq!(conntrack::delete_for(&[]).unwrap(), 0);
    assert_eq!(
        conntrack::delete_for(&["203.0.113.9".parse().unwrap()]).unwrap(),
        0
    );
    // As client too, and more than fit in one message.
    let udp = |port: u16| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let _ = socket.send_to(b"x", (WORLD4, port));
    };
    lab.c(1).ns.run(|| (1000..3000).for_each(udp));
    let deleted = conntrack::delete_for(&lab.c(1).ips()).unwrap();
    assert!(deleted > 1500, "{deleted}");
    assert!(!connections().contains("=10.99.0.11 "));
}

#[test]
fn flows_to_published_ports_go_and_no_others() {
    let Some(mut lab) = Lab::new() else { return };
    serve(&lab.c(1).ns, 53);
    serve(&lab.c(2).ns, 53);
    let mut rules: Vec<_> = (1..=2).flat_map(|n| lab.c(n).open()).collect();
    let publish = |n: usize| -> Vec<Element> {
        let udp = |element| Element {
            key: Key::new().proto(UDP).port(5353),
            ..element
        };
        lab.c(n)
            .publish(None, 5353, 53)
            .into_iter()
            .map(udp)
            .collect()
    };
    let (one, two) = (publish(1), publish(2));
    rules.extend(one.clone());
    lab.add(rules);
    let client = |host: &'static str| {
        lab.world.run(move || {
            let any = if host == HOST4 { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect((host, 5353)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    };
    let clients = [client(HOST4), client(HOST6)];
    let answered = |socket: &UdpSocket| {
        let mut buffer = [0; 64];
        // what an earlier question was answered with an error does not count
        (0..2).any(|_| {
            socket
                .send(b"?")
                .and_then(|_| socket.recv(&mut buffer))
                .is_ok()
        })
    };
    assert!(clients.iter().all(answered));
    // many others, some of them to the same port of somebody else
    let other = |port: u16| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let _ = socket.send_to(b"x", (WORLD4, port));
    };
    lab.c(2).ns.run(move || (5000..5600).for_each(other));
    let others = || {
        connections()
            .matches("src=10.99.0.12 dst=192.0.2.2 ")
            .count()
    };
    let before = others();
    assert!(before >= 600);
    let host: Arc<[IpAddr]> = [HOST4, HOST6].map(|a| a.parse().unwrap()).into();
    let towards = |lab: &Lab, to: usize| {
        let ports = lab.c(to).ips().map(|to| conntrack::HostPorts {
            family: Family::of(to),
            proto: UDP,
            ports: (5353, 5353),
            at: None,
            host: host.clone(),
            to,
        });
        conntrack::delete_towards(&ports).unwrap()
    };
    assert_eq!(towards(&lab, 1), 0, "they go where the port leads");
    assert!(clients.iter().all(answered));
    // The port leads to another: the old flows go, and the clients reach the new one from the same port.
    lab.tables
        .apply(&Changes {
            remove: one,
            add: two,
            ..Changes::default()
        })
        .unwrap();
    assert_eq!(towards(&lab, 2), 2);
    assert!(clients.iter().all(answered));
    let led = |n: usize| {
        let to = lab.c(n).ips().map(|a| format!("src={a} "));
        let told = connections();
        let through = told
            .lines()
            .filter(|line| line.contains("dport=5353 ") && line.contains("sport=53 "));
        through
            .filter(|line| to.iter().any(|a| line.contains(a)))
            .count()
    };
    assert!(led(1) == 0 && led(2) >= 2);
    // Gone at detach as well; flows of the container's own stay.
    assert_eq!(conntrack::delete_led_to(&lab.c(2).ips()).unwrap(), 2);
    assert_eq!(conntrack::delete_led_to(&lab.c(2).ips()).unwrap(), 0);
    assert_eq!(others(), before);
}
