//! What rules that log and files on trial record of real packets, and what is learned of it.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::net::probe::probe;
use crate::world::Verdict::{Allow, Deny};
use crate::world::World;

/// How long a record may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every line of the log, by `netd policy log`.
fn log(world: &World, options: &str) -> Vec<Value> {
    let lines = world.netd(&format!("policy log --json {options}")).ok();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    lines.lines().map(parse).collect()
}

/// Waits for a record and returns it.
#[track_caller]
fn recorded(world: &World, options: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let lines = log(world, options);
        if let Some(found) = lines.iter().find(|line| wanted(line)) {
            return found.clone();
        }
        assert!(
            started.elapsed() < PATIENCE,
            "no record of {what}: {lines:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `file.toml:LINE` of a record.
fn place(record: &Value) -> String {
    let file = record["file"].as_str().unwrap_or("default");
    let name = file.rsplit('/').next().unwrap();
    format!("{name}:{}", record["line"])
}

fn is(record: &Value, key: &str, value: &str) -> bool {
    record[key].as_str() == Some(value)
}

/// Waits until everything that was judged is written: each line waits some milliseconds for others.
fn quiet(world: &World, options: &str) -> Vec<Value> {
    let mut before = log(world, options);
    loop {
        std::thread::sleep(Duration::from_millis(400));
        let now = log(world, options);
        if now == before {
            return now;
        }
        before = now;
    }
}

pub fn a_file_on_trial_changes_nothing_and_is_recorded() {
    let world = World::new("trial");
    world.zone("web").default("allow").create();
    world.zone("dmz").default("deny").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    let shut = world.container("shut").in_zone("dmz").start();

    // What would deny.
    world.policy(
        "one",
        "mode = \"audit\"\negress = []\n[[ingress]]\nfrom = [\"container:two\"]\nports = [\"tcp/80\"]\n",
    );
    world.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Allow, "one", "world", "udp/123"),
        (Allow, "two", "one", "tcp/80"),
        (Allow, "two", "one", "tcp/81"),
        (Allow, "host", "one", "icmp/echo-request"),
    ]);
    let record = recorded(&world, "one", "tcp/80 to two", |r| {
        is(r, "traffic", "tcp/80") && is(&r["to"], "container", "two")
    });
    assert_eq!(
        (place(&record), &record["audit"]),
        ("one.toml:2".into(), &true.into())
    );
    assert!(
        is(&record, "verdict", "allow") && is(&record, "would", "deny"),
        "{record}"
    );
    assert!(
        is(&record, "direction", "egress") && is(&record, "zone", "web"),
        "{record}"
    );
    assert!(is(&record["from"], "container", "one"), "{record}");
    let both = [one.v4().to_string(), one.v6().to_string()];
    assert!(
        both.contains(&record["from"]["address"].as_str().unwrap().to_owned()),
        "{record}"
    );
    let record = recorded(&world, "one", "udp/123 to the world", |r| {
        is(r, "traffic", "udp/123")
    });
    assert!(is(&record["to"], "who", "world"), "{record}");
    let record = recorded(&world, "one", "tcp/81 from two", |r| {
        is(r, "traffic", "tcp/81")
    });
    assert_eq!(place(&record), "one.toml:3");
    assert!(is(&record, "direction", "ingress") && is(&record["from"], "container", "two"));
    for family in [4, 6] {
        let record = recorded(&world, "one", "echo requests of the host", |r| {
            is(r, "traffic", "icmp/echo-request") && r["family"] == family
        });
        assert!(is(&record["from"], "who", "host"), "{record}");
        assert_eq!(record["icmp_type"], 8);
    }
    // What it allows as well is no change of verdict, and nobody else is on trial.
    for record in log(&world, "") {
        assert!(is(&record, "container", "one"), "{record}");
        let allowed = is(&record, "direction", "ingress") && is(&record, "traffic", "tcp/80");
        assert!(!allowed, "{record}");
    }

    // What would allow.
    world.policy(
        "shut",
        "mode = \"audit\"\n\n[[egress]]\nto = [\"world\"]\nports = [\"tcp/80\"]\n",
    );
    world.verdicts(&[
        (Deny, "shut", "world", "tcp/80"),
        (Deny, "shut", "world", "udp/123"),
    ]);
    let record = recorded(&world, "shut --audit", "tcp/80 to the world", |r| {
        is(r, "traffic", "tcp/80")
    });
    assert_eq!(place(&record), "shut.toml:3");
    assert!(
        is(&record, "verdict", "deny") && is(&record, "would", "allow"),
        "{record}"
    );
    let lines = quiet(&world, "shut");
    assert!(
        lines.iter().all(|r| is(r, "traffic", "tcp/80")),
        "{lines:#?}"
    );
    // In force it does what it said.
    world.policy(
        "shut",
        "[[egress]]\nto = [\"world\"]\nports = [\"tcp/80\"]\n",
    );
    world.verdicts(&[(Allow, "shut", "world", "tcp/80")]);

    // People read it too.
    let text = world.netd("policy log one").ok();
    assert!(text.contains("egress of one: allow one ("), "{text}");
    assert!(
        text.contains("(on trial: would deny)") && text.contains("one.toml:2:"),
        "{text}"
    );
    drop((one, two, shut));
}

pub fn a_rule_that_logs_is_recorded_with_what_it_did() {
    let world = World::new("log");
    world.zone("web").default("deny").create();
    let _one = world.container("one").in_zone("web").start();
    let _two = world
        .container("two")
        .in_zone("web")
        .publish("8080:80")
        .start();
    world.write_policy("one", "[[egress]]\nto = [\"any\"]\n");
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"container:one\", \"world\"]\nports = [\"tcp/80\"]\nlog = true\n\
         [[ingress]]\naction = \"deny\"\nfrom = [\"any\"]\nports = [\"tcp/81\"]\nlog = true\n",
    );
    world.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
        (Deny, "one", "two", "udp/53"),
        (Allow, "one", "world", "tcp/80"),
    ]);
    for target in ["192.0.2.1", "2001:db8:1::1"] {
        let reach = probe(&world.outside, target.parse().unwrap(), "tcp/8080");
        assert!(reach.passed(), "{target}: {reach:?}");
    }
    for (traffic, verdict, wanted) in [
        ("tcp/80", "allow", "two.toml:1"),
        ("tcp/81", "deny", "two.toml:5"),
        ("udp/53", "deny", "two.toml:1"),
    ] {
        for family in [4, 6] {
            let record = recorded(&world, "two", traffic, |r| {
                is(r, "traffic", traffic)
                    && is(&r["from"], "container", "one")
                    && r["family"] == family
            });
            assert_eq!(
                (record["audit"].clone(), place(&record)),
                (false.into(), wanted.into())
            );
            assert!(
                is(&record, "verdict", verdict) && record["would"].is_null(),
                "{record}"
            );
            assert!(is(&record, "direction", "ingress") && !record["published"].as_bool().unwrap());
        }
    }
    // Through the published port: the container's own port, the true client.
    for client in ["192.0.2.2", "2001:db8:1::2"] {
        let record = recorded(&world, "two", client, |r| is(&r["from"], "address", client));
        assert!(
            is(&record, "traffic", "tcp/80") && is(&record["from"], "who", "world"),
            "{record}"
        );
        assert!(record["published"].as_bool().unwrap(), "{record}");
    }
    assert_eq!(log(&world, "one"), [Value::Null; 0], "its rules do not log");
    assert_eq!(log(&world, "--audit"), [Value::Null; 0]);

    // A connection that an edit ends is a refusal.
    world.policy("two", "[[ingress]]\nfrom = [\"world\"]\nlog = true\n");
    world.verdicts(&[(Deny, "one", "two", "tcp/80")]);
    recorded(&world, "two", "tcp/80 from one refused", |r| {
        is(r, "verdict", "deny") && is(r, "traffic", "tcp/80")
    });
    // Without logs nothing is recorded any more.
    world.policy("two", "[[ingress]]\nfrom = [\"any\"]\n");
    let before = quiet(&world, "");
    world.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Allow, "one", "two", "udp/53"),
    ]);
    assert_eq!(quiet(&world, ""), before);
}

pub fn what_is_over_a_rate_is_told_with_it() {
    let world = World::new("rate");
    world.zone("web").default("allow").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"any\"]\nrate = \"1/day\"\nlog = true\n",
    );
    let mut refused = 0;
    for _ in 0..3 {
        refused += usize::from(!one.tcp(two.v4(), 80).passed());
    }
    assert_eq!(refused, 2);
    let record = recorded(&world, "two", "what is over the rate", |r| {
        is(r, "verdict", "deny")
    });
    assert_eq!(place(&record), "two.toml:1");
    assert!(
        record["text"]
            .as_str()
            .unwrap()
            .contains("rate 1/day burst 1"),
        "{record}"
    );
}

pub fn rules_count_what_they_match() {
    let world = World::new("hits");
    world.zone("web").default("deny").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    let three = world.container("three").in_zone("web").start();
    world.write_policy(
        "all",
        "applies-to = { zone = \"web\" }\n[[egress]]\nto = [\"any\"]\n",
    );
    world.policy(
        "one",
        "[[ingress]]\nfrom = [\"container:two\"]\nports = [\"tcp/80\"]\n\
         [[ingress]]\nfrom = [\"zone:web\"]\nports = [\"tcp/81-90\"]\n\
         [[ingress]]\naction = \"deny\"\nfrom = [\"container:three\"]\nports = [\"tcp/81\"]\n\
         [[ingress]]\nfrom = [\"host\"]\n",
    );
    // One connection of each family in each row.
    world.verdicts(&[
        (Allow, "two", "one", "tcp/80"),
        (Allow, "two", "one", "tcp/81"),
        (Deny, "three", "one", "tcp/81"),
    ]);
    let shown = world.netd("policy show one --json").json();
    let hits: Vec<Option<u64>> = ingress(&shown).map(|rule| rule["hits"].as_u64()).collect();
    // A probe may be asked again, so these are at least; the default that closes the rest has none.
    assert_eq!(hits.len(), 5, "{shown}");
    assert!(
        hits[0] >= Some(2) && hits[1] >= Some(2) && hits[2] >= Some(2),
        "{hits:?}"
    );
    assert_eq!((hits[3], hits[4]), (Some(0), None));
    let before = hits[0].unwrap();
    for _ in 0..10 {
        assert!(
            two.tcp_to(&one, 80)
                .iter()
                .all(crate::net::probe::Reach::passed)
        );
    }
    let shown = world.netd("policy show one --json").json();
    let after = ingress(&shown).next().unwrap()["hits"].as_u64().unwrap();
    assert!(
        (before + 20..before + 100).contains(&after),
        "{before} and then {after}"
    );
    let text = world.netd("policy show one").ok();
    assert!(
        text.contains("HITS") && text.contains(&after.to_string()),
        "{text}"
    );
    drop(three);
}

fn ingress(shown: &Value) -> impl Iterator<Item = &Value> {
    let rules = shown["rules"].as_array().unwrap().iter();
    rules.filter(|rule| is(rule, "direction", "ingress"))
}

pub fn a_flood_harms_no_packet_and_no_disk() {
    const FLOOD: u32 = 30_000;
    let world = World::new("flood");
    world.zone("web").default("allow").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    world.policy("two", "mode = \"audit\"\ningress = []\n");
    let sink = two.netns.enter(|| UdpSocket::bind(("0.0.0.0", 9))).unwrap();
    sink.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let counter = std::thread::spawn(move || {
        let mut buffer = [0; 16];
        let mut got = 0u32;
        while sink.recv(&mut buffer).is_ok() {
            got += 1;
        }
        got
    });
    // Each from a port of its own: that many connections.
    let to = (two.v4(), 9);
    let sent = one.netns.enter(|| {
        let mut sent = 0;
        while sent < FLOOD {
            let sockets: Vec<UdpSocket> = (0..500)
                .map(|_| UdpSocket::bind("0.0.0.0:0").unwrap())
                .collect();
            for socket in &sockets {
                sent += u32::from(socket.send_to(b"x", to).is_ok());
            }
        }
        // and while it goes on, others are served
        assert!(one.tcp(two.v4(), 80).passed());
        sent
    });
    let got = counter.join().unwrap();
    eprintln!("measured: {got} of {sent} datagrams of a flood of new connections arrived");
    // A socket's buffer may overflow, but the log costs nobody a packet.
    assert!(got > sent / 2, "{got} of {sent}");
    let lines = quiet(&world, "two");
    eprintln!("measured: they were recorded by {} lines", lines.len());
    assert!(!lines.is_empty() && lines.len() < 5_000, "{}", lines.len());
    // Learning goes on, and one kind is one kind.
    let lesson = world.netd("policy learn two --json").json();
    let kinds = lesson["seen"].as_array().unwrap();
    assert!(kinds.len() <= 2, "{kinds:#?}");

    // Many ports: more than a container is recorded for at once.
    let scan = |first: u16| {
        one.netns.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for port in first..first + 10_000 {
                let _ = socket.send_to(b"x", (two.v4(), port));
            }
        });
    };
    scan(10_000);
    scan(20_000);
    assert!(one.tcp(two.v4(), 80).passed());
    let lines = quiet(&world, "two");
    assert!(lines.len() < 10_000, "{}", lines.len());
    let lost = |lines: &[Value]| lines.iter().filter_map(|l| l["lost"].as_u64()).sum::<u64>();
    assert!(one.tcp(two.v4(), 81).passed());
    let record = recorded(&world, "two", "what comes after a flood", |r| {
        is(r, "traffic", "tcp/81")
    });
    let lines = log(&world, "two");
    eprintln!(
        "measured: a scan of 20,000 ports is {} lines, and {} lost",
        lines.len(),
        lost(&lines)
    );
    assert!(lost(&lines) > 0, "{record}");
    let lesson = world.netd("policy learn two --json").json();
    assert!(lesson["seen"].as_array().unwrap().len() <= 4096);
    let size = fs::metadata(world.folder("state").join("decisions.jsonl"))
        .unwrap()
        .len();
    assert!(size <= 8 << 20, "{size}");
}

pub fn what_is_learned_allows_what_was_seen_and_nothing_else() {
    let world = World::new("learn");
    world.zone("web").default("allow").create();
    world.zone("dmz").default("allow").create();
    let _app = world
        .container("app")
        .in_zone("web")
        .publish("8080:80")
        .start();
    let _db = world.container("db").in_zone("web").start();
    let _other = world.container("other").in_zone("web").start();
    let nothing = world.netd("policy learn app").fails(1);
    assert!(nothing.contains("mode = \"audit\""), "{nothing}");
    world.netd("policy learn nobody").fails(3);
    world.policy("app", "mode = \"audit\"\ningress = []\negress = []\n");
    let seen = [
        (Allow, "app", "db", "tcp/80"),
        (Allow, "app", "db", "icmp/echo-request"),
        (Allow, "app", "elsewhere", "tcp/80"),
        (Allow, "app", "host", "udp/123"),
        (Allow, "host", "app", "tcp/81"),
        (Allow, "db", "app", "udp/53"),
    ];
    let others = [
        ("app", "db", "tcp/81"),
        ("app", "other", "tcp/80"),
        ("app", "world", "tcp/80"),
        ("app", "host", "tcp/80"),
        ("host", "app", "tcp/80"),
        ("other", "app", "udp/53"),
        ("db", "app", "tcp/80"),
    ];
    world.verdicts(&seen);
    let reach = probe(&world.outside, "192.0.2.1".parse().unwrap(), "tcp/8080");
    assert!(reach.passed(), "{reach:?}");
    quiet(&world, "");
    let first = world.netd("policy learn app").ok();
    // What was learned outlives the daemon, and what comes later is added to it.
    world.restart_netd();
    assert_eq!(world.netd("policy learn app").ok(), first);
    let mut lines: Vec<&str> = first
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    lines.retain(|line| !line.is_empty());
    assert_eq!(
        lines,
        [
            "applies-to = { container = \"app\" }",
            "[[egress]]",
            "to    = [\"container:db\"]",
            "ports = [\"tcp/80\", \"icmp/echo-request\"]",
            "[[egress]]",
            "to    = [\"198.51.100.7\", \"2001:db8:7::7\"]",
            "ports = [\"tcp/80\"]",
            "[[egress]]",
            "to    = [\"host\"]",
            "ports = [\"udp/123\"]",
            "[[ingress]]",
            "from  = [\"container:db\"]",
            "ports = [\"udp/53\"]",
            "[[ingress]]",
            "from  = [\"192.0.2.2\"]",
            "ports = [\"tcp/80\"]",
            "[[ingress]]",
            "from  = [\"host\"]",
            "ports = [\"tcp/81\"]",
        ],
        "{first}"
    );
    let since = world.netd("policy learn app --since 7d").ok();
    assert_eq!(since, first);
    let later = world
        .netd("policy learn app --since 2099-01-01T00:00:00Z")
        .fails(1);
    assert!(later.contains("nothing was recorded"), "{later}");
    world.netd("policy learn app --since yesterday").fails(2);

    // learn → check → in force
    let file = world.dir.join("learned.toml");
    fs::write(&file, &first).unwrap();
    world.netd(&format!("policy check {}", file.display())).ok();
    world.policy("app", &first);
    world.verdicts(&seen);
    let refused: Vec<_> = others
        .map(|(from, to, traffic)| (Deny, from, to, traffic))
        .into();
    world.verdicts(&refused);
    let reach = probe(&world.outside, "192.0.2.1".parse().unwrap(), "tcp/8080");
    assert!(reach.passed(), "{reach:?}");

    // A daemon that is killed forgets the last second at most.
    std::thread::sleep(Duration::from_millis(1500));
    world.kill_netd();
    world.start_netd();
    world.netd("policy learn app").ok();
    assert_eq!(
        world.netd("policy learn app --forget --json").json()["forgotten"],
        true
    );
    world.netd("policy learn app").fails(1);
}

pub fn the_journal_is_told_and_a_log_can_be_followed() {
    let world = World::without_daemon("journal");
    // A /run of this host's own: the machine may have a journal, or none.
    let run = world.dir.join("run");
    world.sh(&format!(
        "mkdir {run}; mount -n -t tmpfs none {run}; mkdir -p {run}/netns {run}/systemd/journal; \
         mount -n --move /run/netns {run}/netns; mount -n --move {run} /run",
        run = run.display()
    ));
    let journal = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    journal.set_read_timeout(Some(PATIENCE)).unwrap();
    world.start_netd();
    world.zone("web").default("allow").create();
    let one = world.container("one").in_zone("web").start();
    world.policy("one", "[[egress]]\nlog = true\n");
    let mut follower = world
        .netns
        .enter(|| {
            let mut command = world.command();
            command.args(["policy", "log", "one", "--follow", "--json"]);
            command.stdout(std::process::Stdio::piped()).spawn()
        })
        .unwrap();
    assert!(
        one.tcp(
            crate::world::OUTSIDE[0]
                .parse::<std::net::IpAddr>()
                .unwrap(),
            80
        )
        .passed()
    );
    let mut buffer = [0; 4096];
    let len = journal.recv(&mut buffer).unwrap();
    let entry = String::from_utf8_lossy(&buffer[..len]);
    for line in [
        "NETD_CONTAINER=one",
        "NETD_VERDICT=allow",
        "NETD_DIRECTION=egress",
        "NETD_TO_ADDRESS=192.0.2.2",
        "NETD_TRAFFIC=tcp/80",
        "NETD_LINE=1",
        "SYSLOG_IDENTIFIER=netd",
    ] {
        assert!(entry.lines().any(|l| l == line), "{line}: {entry}");
    }
    let out = follower.stdout.take().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    let record: Value = serde_json::from_str(&line).unwrap();
    assert!(
        is(&record, "traffic", "tcp/80") && is(&record, "container", "one"),
        "{record}"
    );
    follower.kill().unwrap();
    follower.wait().unwrap();
    // Nobody else may read it.
    use std::os::unix::fs::PermissionsExt;
    let file = world.folder("state").join("decisions.jsonl");
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
}
