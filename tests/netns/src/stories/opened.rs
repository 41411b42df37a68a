//! `dns:` rules: what the gateway's resolver gives a container is open to it, and nothing else is, nor to anybody else.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode::{NXDomain, NoError, Refused};

use super::names::resolv_conf;
use crate::net::dns::{Over, Server, Told, ask, is_deaf};
use crate::world::Verdict::{Allow, Deny};
use crate::world::{Container, ELSEWHERE, OUTSIDE, World};

const V4: &str = ELSEWHERE[0];
const V6: &str = ELSEWHERE[1];

/// A world with a resolver outside, and a zone in which nothing is open.
fn closed(title: &str, records: &[&str]) -> (World, Server) {
    let world = World::without_daemon(title);
    let server = Server::start(&world.outside, "192.0.2.2:53", records);
    resolv_conf(&world, "nameserver 192.0.2.2\n");
    world.start_netd();
    world.zone("dmz").default("deny").create();
    (world, server)
}

#[track_caller]
fn told(container: &Container, over: Over, name: &str, kind: &str) -> Told {
    ask(&container.netns, container.gateway4(), over, name, kind)
}

fn opens(name: &str, ports: &str) -> String {
    format!("[[egress]]\nto = [\"dns:{name}\"]\nports = [{ports}]\n")
}

pub fn a_name_opens_what_it_resolves_to() {
    let (world, server) = closed(
        "opened",
        &[
            &format!("www.example.org A {V4}"),
            &format!("www.example.org AAAA {V6}"),
            &format!("other.example.net A {V4}"),
            "alias.example.com CNAME far.example.net",
            "far.example.net CNAME www.example.org",
        ],
    );
    let web = world.container("web").in_zone("dmz").start();
    let db = world.container("db").in_zone("dmz").start();
    let policy = opens("*.example.org", "\"tcp/80\", \"icmp/echo-request\"");
    world.policy("web", &policy);
    world.policy("db", &policy);
    let none = [
        (Deny, "web", V4, "tcp/80"),
        (Deny, "web", V6, "tcp/80"),
        (Deny, "db", V4, "tcp/80"),
    ];
    world.verdicts(&none);
    // Names that no rule is about are not even asked outside.
    assert_eq!(
        told(&web, Over::Udp, "other.example.net", "A").code,
        Refused
    );
    assert_eq!(told(&web, Over::Udp, "example.org", "A").code, Refused);
    assert_eq!(server.seen(), [""; 0]);
    // Who asks somebody else is told nothing, and nothing is open.
    assert!(is_deaf(
        &web.netns,
        OUTSIDE[0].parse::<IpAddr>().unwrap(),
        "www.example.org"
    ));
    world.verdicts(&none);
    // Open from the answer on: to who asked, for the family and the ports.
    assert_eq!(told(&web, Over::Udp, "WWW.example.org", "A").answers, [V4]);
    let open = [
        (Allow, "web", V4, "tcp/80"),
        (Allow, "web", V4, "icmp/echo-request"),
        (Deny, "web", V4, "tcp/22"),
        (Deny, "web", V4, "udp/123"),
        (Deny, "web", V6, "tcp/80"),
        (Deny, "web", "world", "tcp/80"),
        (Deny, "db", V4, "tcp/80"),
    ];
    world.verdicts(&open);
    assert_eq!(
        told(&web, Over::Tcp, "www.example.org", "AAAA").answers,
        [V6]
    );
    world.verdicts(&[(Allow, "web", V6, "tcp/80"), (Deny, "db", V6, "tcp/80")]);
    // From the cache, for another one.
    let seen = server.seen();
    assert_eq!(told(&db, Over::Udp, "www.example.org", "A").answers, [V4]);
    assert_eq!(server.seen(), seen);
    world.verdicts(&[(Allow, "db", V4, "tcp/80"), (Deny, "db", V6, "tcp/80")]);
    // Explained with the rule, by address and by name, also one that nobody asked for yet.
    for to in [V4, "dns:www.example.org", "dns:new.example.org"] {
        let explained = world.netd(&format!("explain web {to} tcp/80"));
        assert!(explained.stdout.contains("web.toml:1:1"), "{explained}");
    }
    world
        .netd("explain web dns:www.example.org tcp/22")
        .fails(10);
    world
        .netd("explain db dns:www.example.net tcp/80")
        .fails(10);
    let step = &world
        .netd("explain web dns:www.example.org tcp/80 -4 --json")
        .json()["steps"][0];
    assert_eq!(
        (step["kind"].as_str(), step["to"].as_str()),
        (Some("name"), Some(V4))
    );
    // Another file of policies, by what it means.
    let new = world.dir.join("new");
    std::fs::create_dir(&new).unwrap();
    for (name, pattern) in [("web", "www.example.org"), ("db", "*.example.org")] {
        let text = opens(pattern, "\"tcp/80\", \"icmp/echo-request\"");
        std::fs::write(new.join(format!("{name}.toml")), text).unwrap();
    }
    let rows = world.netd(&format!("policy diff {}", new.display())).ok();
    // (www.example.org is open before and after.)
    assert_eq!(rows.lines().count(), 1, "{rows}");
    assert!(
        rows.starts_with("web -> dns:*.example.org icmp/echo-request, tcp/80 allow -> deny "),
        "{rows}"
    );
    // A new daemon knows it, and so does the one after one that was killed.
    world.restart_netd();
    let both = [
        (Allow, "web", V4, "tcp/80"),
        (Allow, "web", V6, "tcp/80"),
        (Deny, "db", V6, "tcp/80"),
    ];
    world.verdicts(&both);
    world.kill_netd();
    world.verdicts(&[]);
    world.start_netd();
    world.verdicts(&both);
    // A deny wins; the ports are those of the rule as it is now; another name opens nothing of this one's.
    world.policy("more", &format!("applies-to = {{ container = \"web\" }}\n[[egress]]\naction = \"deny\"\nto = [\"{V4}\"]\n"));
    world.verdicts(&[(Deny, "web", V4, "tcp/80"), (Allow, "web", V6, "tcp/80")]);
    world.no_policy("more");
    world.policy("web", &opens("www.example.org", "\"tcp/22\""));
    world.verdicts(&[(Allow, "web", V4, "tcp/22"), (Deny, "web", V4, "tcp/80")]);
    world.policy("web", &opens("*.www.example.org", "\"tcp/22\""));
    world.verdicts(&[(Deny, "web", V4, "tcp/22")]);
    // By another name, along a chain of them, which ends where another rule is about.
    world.policy("web", &opens("alias.example.com", "\"tcp/80\""));
    world.verdicts(&[(Deny, "web", V4, "tcp/80")]);
    assert_eq!(
        told(&web, Over::Udp, "alias.example.com", "A").code,
        NoError
    );
    world.verdicts(&[(Allow, "web", V4, "tcp/80"), (Deny, "web", V6, "tcp/80")]);
    // Whoever comes by its name was given nothing.
    web.stop();
    let web = world.container("web").in_zone("dmz").start();
    world.verdicts(&[(Deny, "web", V4, "tcp/80")]);
    world.restart_netd();
    world.verdicts(&[(Deny, "web", V4, "tcp/80")]);
    assert_eq!(
        told(&web, Over::Udp, "alias.example.com", "A").code,
        NoError
    );
    world.verdicts(&[(Allow, "web", V4, "tcp/80")]);
    server.end();
}

pub fn conditions_count_for_names_too() {
    let (world, server) = closed("opened-limits", &[&format!("www.example.org A {V4}")]);
    let web = world.container("web").in_zone("dmz").start();
    let rule = opens("*.example.org", "\"tcp/80\"") + "rate = \"2/hour burst 2\"\n";
    world.policy("web", &rule);
    assert!(!web.tcp(V4.parse::<IpAddr>().unwrap(), 80).passed());
    told(&web, Over::Udp, "www.example.org", "A");
    let passed = (0..6)
        .filter(|_| web.tcp(V4.parse::<IpAddr>().unwrap(), 80).passed())
        .count();
    assert_eq!(
        passed, 2,
        "the bucket has two, and what came before was no match"
    );
    server.end();
}

// What a name leads to must be of the world, whatever its owner says.
pub fn no_name_leads_back() {
    let gateway = "10.89.0.1";
    let (world, server) = closed(
        "rebinding",
        &[
            &format!("gateway.evil.example A {gateway}"),
            "host.evil.example A 192.0.2.1",
            "host.evil.example AAAA 2001:db8:1::1",
            "db.evil.example A 10.89.0.3",
            "unused.evil.example A 10.89.0.77",
            "loopback.evil.example A 127.0.0.1",
            "loopback.evil.example AAAA ::1",
            "metadata.evil.example A 169.254.169.254",
            "group.evil.example A 224.0.0.1",
            "later.evil.example A 10.90.0.1",
            &format!("mixed.evil.example A {V4}"),
            "mixed.evil.example A 192.0.2.1",
        ],
    );
    let web = world.container("web").in_zone("dmz").start();
    let db = world.container("db").in_zone("dmz").start();
    assert_eq!(
        (web.gateway4().to_string(), db.v4().to_string()),
        (gateway.into(), "10.89.0.3".into())
    );
    world.policy("web", "[[egress]]\nto = [\"dns:*.evil.example\"]\n");
    world.policy("db", "[[ingress]]\nfrom = [\"any\"]\n");
    for name in [
        "gateway", "host", "db", "unused", "loopback", "metadata", "group", "later", "mixed",
    ] {
        for kind in ["A", "AAAA"] {
            told(&web, Over::Udp, &format!("{name}.evil.example"), kind);
        }
    }
    let rows = [
        (Deny, "web", "host", "tcp/22"),
        (Deny, "web", "192.0.2.1", "tcp/22"),
        (Deny, "web", "2001:db8:1::1", "tcp/22"),
        (Deny, "web", "db", "tcp/80"),
        (Allow, "web", V4, "tcp/80"),
    ];
    world.verdicts(&rows);
    let elements = world.nft("list map inet netd resolved4");
    for address in [
        "10.89.0.1 ",
        "10.89.0.3 :",
        "10.89.0.77",
        "127.0.0.1",
        "169.254",
        "224.0.0.1",
        "192.0.2.1 ",
    ] {
        assert!(
            !elements.stdout.contains(&format!(". {address}")),
            "{address}: {elements}"
        );
    }
    // What was of the world when it was told, and is a zone's now.
    assert!(elements.stdout.contains(". 10.90.0.1"), "{elements}");
    world
        .zone("late")
        .option("--subnet4", "10.90.0.0/24")
        .default("allow")
        .create();
    world.verdicts(&[
        (Deny, "web", "10.90.0.1", "tcp/22"),
        (Allow, "web", V4, "tcp/80"),
    ]);
    server.end();
}

pub fn a_name_is_no_tunnel() {
    let (world, server) = closed("tunnel", &[&format!("www.example.org A {V4}")]);
    let web = world.container("web").in_zone("dmz").start();
    let shut = world.container("shut").in_zone("dmz").start();
    world.policy("web", &opens("www.example.org", "\"tcp/443\""));
    for secret in [
        "x1.attacker.example",
        "data.www.example.org",
        "example.org",
        "www.example.org.attacker.example",
    ] {
        for kind in ["A", "TXT", "NULL"] {
            for container in [&web, &shut] {
                assert_eq!(
                    told(container, Over::Udp, secret, kind).code,
                    Refused,
                    "{secret}"
                );
            }
        }
    }
    assert_eq!(told(&shut, Over::Tcp, "www.example.org", "A").code, Refused);
    assert_eq!(
        told(&web, Over::Udp, "a.b.dmz.internal", "A").code,
        NXDomain
    );
    assert_eq!(server.seen(), [""; 0], "nothing left the host");
    told(&web, Over::Udp, "www.example.org", "A");
    assert_eq!(server.seen(), ["udp www.example.org. A"]);
    // Nor are resolvers outside reached, whatever they are called.
    for address in OUTSIDE {
        assert!(is_deaf(
            &web.netns,
            address.parse::<IpAddr>().unwrap(),
            "www.example.org"
        ));
    }
    server.end();
}

// An answer with a short life holds for a minute; a connection that was opened meanwhile goes on.
pub fn what_a_name_opened_ends() {
    let (world, server) = closed("opened-ends", &[&format!("www.example.org A {V4}")]);
    let web = world.container("web").in_zone("dmz").start();
    world.policy("web", &opens("www.example.org", "\"tcp/80\", \"tcp/7777\""));
    server.ttl(1);
    let at = SocketAddr::new(V4.parse().unwrap(), 7777);
    let listener = world.outside.enter(|| TcpListener::bind(at)).unwrap();
    let asked = Instant::now();
    assert_eq!(told(&web, Over::Udp, "www.example.org", "A").answers, [V4]);
    let mut inside = web.netns.enter(|| TcpStream::connect(at)).unwrap();
    let (mut outside, _) = listener.accept().unwrap();
    world.verdicts(&[(Allow, "web", V4, "tcp/80")]);
    while web.tcp(V4.parse::<IpAddr>().unwrap(), 80).passed() {
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(
        asked.elapsed().as_secs() >= 58,
        "closed before its time: {:?}",
        asked.elapsed()
    );
    world.verdicts(&[(Deny, "web", V4, "tcp/80")]);
    inside.write_all(b"still here").unwrap();
    let mut heard = [0; 10];
    outside.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
    // With the daemon dead it ends too.
    assert_eq!(told(&web, Over::Udp, "www.example.org", "A").answers, [V4]);
    assert!(web.tcp(V4.parse::<IpAddr>().unwrap(), 80).passed());
    world.kill_netd();
    // One that does not pass may be lost on a busy machine.
    let mut shut = 0;
    while shut < 3 {
        let passed = web.tcp(V4.parse::<IpAddr>().unwrap(), 80).passed();
        shut = if passed { 0 } else { shut + 1 };
        std::thread::sleep(Duration::from_millis(500));
    }
    world.start_netd();
    world.verdicts(&[(Deny, "web", V4, "tcp/80")]);
    server.end();
}

pub fn a_name_on_trial_opens_nothing_and_is_known() {
    let (world, server) = closed("opened-trial", &[&format!("www.example.org A {V4}")]);
    world.zone("open").create();
    let web = world.container("web").in_zone("open").start();
    let shut = world.container("shut").in_zone("dmz").start();
    let rule = opens("*.example.org", "\"tcp/80\"");
    world.policy("web", &format!("mode = \"audit\"\n{rule}"));
    world.policy("shut", &format!("mode = \"audit\"\n{rule}"));
    told(&web, Over::Udp, "www.example.org", "A");
    // The one may go everywhere as before, and what would not be so is recorded: not what the name would open.
    world.verdicts(&[
        (Allow, "web", V4, "tcp/80"),
        (Allow, "web", V4, "tcp/22"),
        (Allow, "web", OUTSIDE[0], "tcp/80"),
    ]);
    let recorded = |address: &str, port: &str| {
        let log = world.netd("policy log web --json").ok();
        let mut records = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.any(|r| r["to"]["address"] == address && r["traffic"] == port)
    };
    let started = Instant::now();
    while !recorded(V4, "tcp/22") || !recorded(OUTSIDE[0], "tcp/80") {
        assert!(started.elapsed() < Duration::from_secs(20), "not recorded");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!recorded(V4, "tcp/80"), "the name would open it");
    // The other stays closed, to questions too.
    assert_eq!(told(&shut, Over::Udp, "www.example.org", "A").code, Refused);
    world.verdicts(&[(Deny, "shut", V4, "tcp/80")]);
    let elements = world.nft("list map inet netd resolved4");
    assert!(!elements.stdout.contains(V4), "{elements}");
    // In force, what was told already is open.
    world.policy("web", &rule);
    world.verdicts(&[
        (Allow, "web", V4, "tcp/80"),
        (Deny, "web", V4, "tcp/22"),
        (Deny, "web", OUTSIDE[0], "tcp/80"),
    ]);
    server.end();
}
