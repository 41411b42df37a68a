//! `netd explain` about the whole way of a connection, held to packets: published ports, other programs' tables,
//! what would open it, and answers from files alone.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use crate::net::netns;
use crate::net::probe::probe;
use crate::world::{Container, HOST, OUTSIDE, World};

/// Asks `netd explain FROM TO …  --json`; the verdict and the exit code agree.
#[track_caller]
fn explain(world: &World, words: &str) -> Value {
    let ran = world.netd(&format!("explain {words} --json"));
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran}"));
    let code = if said["verdict"] == "allow" { 0 } else { 10 };
    assert_eq!(ran.code, code, "{ran}");
    said
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.map(|one| one["text"].as_str().unwrap().to_owned())
        .collect()
}

fn kinds(said: &Value) -> Vec<&str> {
    let steps = said["steps"].as_array().into_iter().flatten();
    steps.map(|step| step["kind"].as_str().unwrap()).collect()
}

pub fn published_ports_lead_to_the_container() {
    let world = World::new("explain-publish");
    world.zone("web").create();
    let web = world
        .container("web")
        .in_zone("web")
        .publish("8080:80")
        .publish("127.0.0.1:8081:81")
        .publish("192.0.2.1:8082:81")
        .start();
    let other = world.container("other").in_zone("web").start();
    let holds = |from: &str, netns: &netns::Netns, to: &str, traffic: &str| {
        let said = explain(&world, &format!("{from} {to} {traffic}"));
        let reach = probe(netns, to.parse().unwrap(), traffic);
        assert_eq!(
            said["verdict"] == "allow",
            reach.passed(),
            "{from} → {to} {traffic}: {reach:?}, {said:#}"
        );
        (said, reach)
    };
    for (n, host) in HOST.into_iter().enumerate() {
        let (said, reach) = holds("world", &world.outside, host, "tcp/8080");
        assert_eq!(reach.who(), "web");
        let own = web.addresses()[n].to_string();
        let step = &said["steps"][0];
        assert_eq!(step["kind"], "dnat");
        assert!(
            step["text"].as_str().unwrap().contains("published by web")
                && step["to"].as_str().unwrap().contains(&own),
            "{said:#}"
        );
        // the host's loopback is not the world's business
        let said = explain(&world, &format!("world {host} tcp/8081"));
        let v4 = texts(&said["reasons"])[0].contains("publishes it on 127.0.0.1:8081 only");
        assert_eq!((v4, kinds(&said).len()), (n == 0, 0), "{said:#}");
        holds("host", &world.netns, host, "tcp/8080");
        holds("other", &other.netns, host, "tcp/8080");
        // nobody publishes it
        holds("world", &world.outside, host, "tcp/22");
    }
    holds("world", &world.outside, HOST[0], "tcp/8082");
    for loopback in ["127.0.0.1", "::1"] {
        let (said, reach) = holds("host", &world.netns, loopback, "tcp/8080");
        assert_eq!(reach.who(), "web");
        assert_eq!(kinds(&said), ["dnat", "masquerade"], "{said:#}");
        let gateway = said["steps"][1]["to"].as_str().unwrap();
        assert_eq!(reach.source(), gateway.parse().ok(), "{said:#}");
    }
    holds("host", &world.netns, "127.0.0.1", "tcp/8081");

    // Back into the zone: both sides have to say so, and the container sees its gateway.
    world.policy(
        "other",
        "[[egress]]\nto = [\"container:web\"]\nports = [\"tcp/80\"]\n",
    );
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"container:other\", \"container:web\"]\nports = [\"tcp/80\"]\n\
         [[egress]]\nto = [\"container:web\", \"world\"]\n",
    );
    for host in HOST {
        for (name, netns) in [("other", &other.netns), ("web", &web.netns)] {
            let (said, reach) = holds(name, netns, host, "tcp/8080");
            assert_eq!(reach.who(), "web", "{said:#}");
            assert_eq!(kinds(&said), ["dnat", "hairpin"], "{said:#}");
            let seen = said["steps"][1]["to"].as_str().unwrap();
            assert_eq!(reach.source(), seen.parse().ok(), "{said:#}");
        }
        // policy closes what is published
        let (said, _) = holds("world", &world.outside, host, "tcp/8080");
        assert_eq!(said["verdict"], "deny");
    }
    // On the way out the world sees the host.
    for (outside, host) in OUTSIDE.into_iter().zip(HOST) {
        let (said, reach) = holds("web", &web.netns, outside, "tcp/80");
        assert_eq!(kinds(&said), ["masquerade"], "{said:#}");
        assert_eq!(said["steps"][0]["to"], host);
        assert_eq!(reach.source(), host.parse().ok());
        assert!(
            texts(&said["steps"])[0].contains("up0"),
            "the interface is named: {said:#}"
        );
    }
}

pub fn a_zone_off_its_uplink_is_explained() {
    let world = World::new("explain-uplink");
    world.zone("right").option("--uplink", "up0").create();
    world.zone("wrong").option("--uplink", "up1").create();
    let _right = world.container("right").in_zone("right").start();
    let _wrong = world.container("wrong").in_zone("wrong").start();
    for outside in ["world", OUTSIDE[0], OUTSIDE[1]] {
        assert_eq!(
            explain(&world, &format!("right {outside} tcp/80"))["verdict"],
            "allow"
        );
        let said = explain(&world, &format!("wrong {outside} tcp/80"));
        assert_eq!(said["verdict"], "deny");
        let why = texts(&said["reasons"]).join("\n");
        assert!(why.contains("up1") && why.contains("up0"), "{said:#}");
    }
}

/// As ufw makes it, in nft's own words.
const UFW: &str = "
table inet ufw {
  set bogons { type ipv4_addr; flags interval; elements = { 0.0.0.0/8, 198.18.0.0/15 } }
  chain input {
    type filter hook input priority filter; policy drop;
    iifname \"lo\" accept
    jump before-input
    jump user-input
  }
  chain before-input {
    ct state related,established accept
    ct state invalid drop
    ip saddr @bogons drop
    icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } accept
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept
    udp sport 67 udp dport 68 accept
    jump not-local
  }
  chain not-local {
    fib daddr type { local, multicast, broadcast } return
    limit rate 3/minute burst 10 packets log prefix \"[UFW BLOCK] \"
    drop
  }
  chain user-input { tcp dport 22 accept comment \"ssh\"; }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    meta l4proto { icmp, ipv6-icmp } accept
    iifname \"vz-*\" oifname \"up*\" tcp dport { 80, 443 } accept
  }
  chain output { type filter hook output priority filter; policy accept; ct state invalid drop; }
}";

/// As firewalld makes it: everything ends in a reject.
const FIREWALLD: &str = "
table inet firewalld {
  chain mangle_PREROUTING {
    type filter hook prerouting priority mangle + 10; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname \"lo\" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT_ZONES {
    iifname \"up0\" goto filter_IN_public
    goto filter_IN_trusted
  }
  chain filter_IN_public { tcp dport 22 accept; icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept; icmp type echo-request accept; }
  chain filter_IN_trusted { accept; }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname \"lo\" accept
    ct state invalid drop
    iifname . oifname vmap { \"vz-web\" . \"up0\" : jump filter_FWD_out }
    reject with icmpx admin-prohibited
  }
  chain filter_FWD_out { udp dport 123 accept; meta l4proto { icmp, ipv6-icmp } accept; }
}";

/// As Docker makes it: forwarding is for its own bridge, and for IPv4 only.
const DOCKER: &str = "
table ip filter {
  chain DOCKER-USER { counter return; }
  chain DOCKER-FORWARD {
    oifname \"docker0\" ct state related,established accept
    iifname \"docker0\" accept
  }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    jump DOCKER-USER
    jump DOCKER-FORWARD
  }
}";

/// A firewall that lets connections out and forgot the answers.
const ONE_WAY: &str = "
table inet oneway {
  chain forward {
    type filter hook forward priority filter - 5; policy drop;
    iifname \"vz-web\" accept
  }
}";

/// On the layer of bridges, by port and protocol.
const BRIDGE: &str = "
table bridge other {
  chain prerouting {
    type filter hook prerouting priority 0; policy accept;
    iifname \"vb-two\" ether type ip ip protocol udp drop
  }
  chain output {
    type filter hook output priority 0; policy accept;
    oifname \"vb-one\" ether type ip6 ip6 nexthdr tcp drop
  }
}";

const PATHS: [(&str, &str); 8] = [
    ("one", "world"),
    ("world", "one"),
    ("one", "host"),
    ("host", "one"),
    ("one", "two"),
    ("two", "one"),
    ("two", "world"),
    ("two", "host"),
];

pub fn other_tables_are_read() {
    let world = World::new("explain-foreign");
    world.zone("web").default("allow").create();
    let serves = ["udp/123"];
    let one = world.container("one").in_zone("web").serves(&serves);
    let one = one.publish("8080:80").start();
    let two = world
        .container("two")
        .in_zone("web")
        .serves(&serves)
        .start();
    let zone = world.netd("zone show web --json").json();
    let gateways = ["gateway4", "gateway6"].map(|key| zone[key].as_str().unwrap().to_owned());
    let others = [
        ("inet ufw", UFW),
        ("inet firewalld", FIREWALLD),
        ("ip filter", DOCKER),
        ("inet oneway", ONE_WAY),
        ("bridge other", BRIDGE),
    ];
    for (table, rules) in others {
        let script = world.folder("state").join("other.nft");
        fs::write(&script, rules).unwrap();
        world.sh(&format!("nft -f {}", script.display()));
        let rows = PATHS.into_iter().flat_map(|(from, to)| {
            let traffic = ["tcp/80", "udp/123", "icmp/echo-request"];
            traffic
                .into_iter()
                .flat_map(move |traffic| [0, 1].map(|family| (from, to, traffic, family)))
        });
        let passes: Vec<bool> = std::thread::scope(|scope| {
            let judge = |(from, to, traffic, family): (&str, &str, &str, usize)| {
                let passed = packet(&world, [&one, &two], &gateways, (from, to, family), traffic);
                let version = [4, 6][family];
                let said = explain(&world, &format!("{from} {to} {traffic} -{version}"));
                assert_eq!(
                    said["verdict"] == "allow",
                    passed,
                    "{table}: {from} → {to} {traffic} over IPv{version}: passed is {passed}, {said:#}"
                );
                let foreign = said["foreign"].as_array().unwrap();
                assert!(
                    foreign
                        .iter()
                        .all(|f| f["verdict"] == "drop" && f["table"] == table),
                    "nothing here is doubtful: {said:#}"
                );
                assert_eq!(foreign.is_empty(), passed, "{said:#}");
                passed
            };
            let threads: Vec<_> = rows.map(|row| scope.spawn(move || judge(row))).collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        assert!(
            passes.contains(&true) && passes.contains(&false),
            "{table}: {passes:?}"
        );
        // through the published port
        for (host, version) in HOST.into_iter().zip([4, 6]) {
            let passed = probe(&world.outside, host.parse().unwrap(), "tcp/8080").passed();
            let said = explain(&world, &format!("world host tcp/8080 -{version}"));
            assert_eq!(
                said["verdict"] == "allow",
                passed,
                "{table}: world → {host} tcp/8080: passed is {passed}, {said:#}"
            );
        }
        world.sh(&format!("nft delete table {table}"));
    }
    assert_eq!(
        explain(&world, "one world tcp/80")["foreign"],
        serde_json::json!([]),
        "our own tables are no obstacle"
    );
}

/// What is not known is said to be, and does not make a verdict.
pub fn what_cannot_be_known_of_other_tables_may_drop() {
    let world = World::new("explain-maybe");
    world.zone("web").default("allow").create();
    let _one = world.container("one").in_zone("web").start();
    world.sh(
        "nft 'table inet other { chain fw { type filter hook forward priority 0; \
         meta cpu 4000 drop comment \"odd\"; }; }'",
    );
    let said = explain(&world, "one world tcp/80");
    assert_eq!(said["verdict"], "allow");
    let foreign = &said["foreign"][0];
    assert_eq!(
        (&foreign["verdict"], &foreign["chain"]),
        (&"maybe".into(), &"fw".into())
    );
    let text = foreign["text"].as_str().unwrap();
    assert!(text.contains("meta cpu") && text.contains("odd"), "{text}");
}

/// Whether a packet gets there.
fn packet(
    world: &World,
    [one, two]: [&Container; 2],
    gateways: &[String; 2],
    (from, to, family): (&str, &str, usize),
    traffic: &str,
) -> bool {
    let netns = match from {
        "one" => &one.netns,
        "two" => &two.netns,
        "host" => &world.netns,
        _ => &world.outside,
    };
    let address: IpAddr = match to {
        "one" => one.addresses()[family],
        "two" => two.addresses()[family],
        "host" => gateways[family].parse().unwrap(),
        _ => OUTSIDE[family].parse().unwrap(),
    };
    // a loaded machine may answer late
    probe(netns, address, traffic).passed() || probe(netns, address, traffic).passed()
}

pub fn what_is_suggested_opens_it() {
    let world = World::new("explain-fix");
    world.zone("web").create();
    world.zone("db").default("deny").create();
    let web = world.container("web").in_zone("web").start();
    let db = world
        .container("db")
        .in_zone("db")
        .serves(&["tcp/5432"])
        .start();
    world.policy(
        "db",
        "[[ingress]]\nfrom = [\"host\"]\nports = [\"tcp/80\"]\n",
    );
    let said = explain(&world, "web db tcp/5432");
    assert_eq!(said["verdict"], "deny");
    let fixes = said["fix"].as_array().unwrap();
    assert_eq!(fixes.len(), 2, "both sides: {said:#}");
    assert!(!db.addresses().iter().any(|a| web.tcp(*a, 5432).passed()));
    for fix in fixes {
        let file = fix["file"].as_str().unwrap();
        let text = fix["text"].as_str().unwrap();
        let old = fs::read_to_string(file).unwrap_or_default();
        assert_eq!(fix["create"].as_bool().unwrap(), old.is_empty(), "{fix}");
        fs::write(file, old + text).unwrap();
    }
    world.netd("reload").ok();
    assert_eq!(explain(&world, "web db tcp/5432")["verdict"], "allow");
    for address in db.addresses() {
        assert_eq!(web.tcp(address, 5432).who(), "db");
        assert!(!web.tcp(address, 80).passed(), "and nothing else");
    }
    // What the default opened stays open.
    for outside in OUTSIDE {
        assert!(probe(&web.netns, outside.parse().unwrap(), "tcp/80").passed());
    }
}

pub fn files_alone_are_enough() {
    let world = World::without_daemon("explain-files");
    let zones = world.folder("config/zones");
    fs::write(zones.join("web.toml"), "").unwrap();
    world.write_policy(
        "web",
        "[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\"]\ntime = \"Mon-Fri 08:00-18:00\"\n",
    );
    let config = world.folder("config");
    let asked = |words: &str| {
        let mut command: Command = world.command();
        command.args(["explain", "--files", config.to_str().unwrap()]);
        command.args(words.split('|'));
        // nobody in particular; there is no daemon, and none may be started
        command.env("NETD_AUTOSTART", "1");
        netns::run(&mut command)
    };
    let open = asked("world|web|tcp/80|--at|Mon 09:00");
    assert_eq!(open.code, 0, "{open}");
    assert!(
        open.stdout
            .starts_with("allow: world → web tcp/80 at Mon 09:00")
            && open.stdout.contains("web.toml:1:1")
            && open.stdout.contains("now Mon 09:00: within"),
        "{open}"
    );
    let closed = asked("world|web|tcp/80|--at|Sat 22:00");
    assert_eq!(closed.code, 10, "{closed}");
    assert!(closed.stdout.contains("now Sat 22:00: outside"), "{closed}");
    asked("world|web|--in|web=none").fails(3);
    asked("10.0.0.1|fd00::1").fails(2);
    assert!(
        !world.folder("runtime").join("netd.sock").exists(),
        "no daemon was started"
    );
}
