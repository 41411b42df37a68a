//! What the `[dhcp]` part of a zone file does: options, reservations, relay agents, and reasons for silence.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use crate::net::dhcp::{Agent, machine, text};
use crate::net::netns::Ran;
use crate::world::World;

/// Writes the file of a zone and puts it in force.
pub(super) fn zone_file(world: &World, name: &str, text: &str) -> Ran {
    let folder = world.folder("config/zones");
    fs::create_dir_all(&folder).unwrap();
    let aside = folder.join(format!(".{name}.new"));
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, folder.join(format!("{name}.toml"))).unwrap();
    world.netd("reload")
}

/// What `netd status` says of DHCP in a zone.
pub(super) fn dhcp_status(world: &World, zone: &str) -> Value {
    let status = world.netd("status --json").json();
    let zones = status["dhcp"].as_array().expect("no dhcp in the status");
    let found = zones.iter().find(|entry| entry["zone"] == zone);
    found
        .unwrap_or_else(|| panic!("no zone {zone}: {status}"))
        .clone()
}

const ZONE: &str = "subnet4 = \"10.77.0.0/16\"\nsubnet6 = \"none\"\n";

pub fn options_and_reservations_reach_a_client() {
    let world = World::new("dhcp-options");
    let dhcp = r#"
[dhcp]
lease = "10m"
ntp = ["10.77.0.3"]
search = ["one.test", "two.test"]
routes = [{ to = "192.168.7.0/24", via = "10.77.0.9" }]
[dhcp.options]
tftp-server-name = "boot.test"
150 = "10.77.0.4"
224 = { u16 = 258 }
225 = { value = "always", always = true }
[[dhcp.reservation]]
container = "web"
address = "10.77.5.5"
"#;
    zone_file(&world, "lab", &format!("{ZONE}{dhcp}")).ok();
    let web = world.container("web").in_zone("lab").dhcp().start();
    assert_eq!(web.v4(), Ipv4Addr::new(10, 77, 5, 5));
    let asked = "udhcpc -i host0 -f -n -q -t 5 -T 1 -O search -O ntpsrv -O tftp -O staticroutes -O 150 -O 224 -s";
    let script = world.dir.join("told.sh");
    fs::write(&script, "#!/bin/sh\nenv\n").unwrap();
    world.sh(&format!("chmod +x {}", script.display()));
    let told = web.sh(&format!("{asked} {}", script.display()));
    for line in [
        "ip=10.77.5.5",
        "lease=600",
        "ntpsrv=10.77.0.3",
        "search=one.test two.test",
        "tftp=boot.test",
        "opt224=0102",
        "opt225=616c77617973",
        "staticroutes=192.168.7.0/24 10.77.0.9 0.0.0.0/0 10.77.0.1",
    ] {
        assert!(
            told.lines().any(|l| l == line),
            "{line} is missing:\n{told}"
        );
    }
    assert!(told.contains("opt150=0a4d0004"), "{told}");

    // the reserved address is nobody else's, and a name that has none gets another
    let other = world.container("other").in_zone("lab").start();
    assert_ne!(other.v4(), web.v4());
    let refused = world
        .container("thief")
        .in_zone("lab")
        .option("--ip", "10.77.5.5")
        .try_start();
    assert!(refused.is_err());

    // an edit is in force at once, with the lease kept; a bad one changes nothing and says where it is
    let edited = format!("{ZONE}{}", dhcp.replace("\"10m\"", "\"20m\""));
    zone_file(&world, "lab", &edited).ok();
    let leases = world.netd("lease list --json").ok();
    assert!(leases.contains("\"bound\""), "{leases}");
    let told = web.sh(&format!("{asked} {}", script.display()));
    assert!(told.contains("lease=1200"), "{told}");
    let bad = format!("{ZONE}[dhcp.options]\nntp-servers = \"noon\"\n");
    let refused = zone_file(&world, "lab", &bad).fails(1);
    assert!(refused.contains("lab.toml:4:15: "), "{refused}");
    let told = web.sh(&format!("{asked} {}", script.display()));
    assert!(told.contains("lease=1200"), "{told}");
}

pub fn relay_agents_are_heard_where_the_zone_names_them() {
    let world = World::new("dhcp-relay");
    let pool = "[dhcp]\npool = \"10.77.1.0-10.77.1.49\"\n";
    zone_file(&world, "lab", &format!("{ZONE}{pool}")).ok();
    let container = |name: &str, ip: &str| {
        world
            .container(name)
            .in_zone("lab")
            .option("--ip", ip)
            .bare()
            .start()
    };
    let (inside, liar) = (
        container("agent", "10.77.0.2"),
        container("liar", "10.77.0.3"),
    );
    let server = inside.gateway4();
    let agent = Agent::new(&inside.netns, inside.v4(), server);
    let patience = Duration::from_millis(700);
    assert_eq!(agent.lease(machine(1), patience), None, "nobody named it");

    zone_file(
        &world,
        "lab",
        &format!("{ZONE}{pool}relays = [\"10.77.0.2\"]\n"),
    )
    .ok();
    let patience = Duration::from_secs(5);
    let first = agent
        .lease(machine(1), patience)
        .expect("no lease by the agent");
    assert_eq!(first, Ipv4Addr::new(10, 77, 1, 0));
    assert_eq!(
        agent.lease(machine(1), patience),
        Some(first),
        "it keeps its address"
    );
    let leases = world.netd("lease list --json").json();
    let lease = leases
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["mac"] == text(machine(1)));
    let lease = lease.unwrap_or_else(|| panic!("no lease of it: {leases}"));
    assert_eq!(
        (&lease["address"], &lease["state"]),
        (&"10.77.1.0".into(), &"bound".into())
    );

    // another container is none, whatever it writes into giaddr; nor does the agent speak for attached ones
    let other = Agent::new(&liar.netns, liar.v4(), server);
    assert_eq!(other.lease(machine(2), Duration::from_millis(700)), None);
    let victim = liar.mac();
    assert_eq!(agent.lease(victim, Duration::from_millis(700)), None);
    let status = dhcp_status(&world, "lab");
    let silent = status["silent"].as_array().unwrap();
    assert!(
        silent
            .iter()
            .any(|s| s["reason"] == "attached-behind-relay"),
        "{status}"
    );
    assert_eq!(
        (&status["pool"], &status["pool_used"]),
        (&50.into(), &1.into()),
        "{status}"
    );

    // what guests may have is never a container's
    for n in 0..5 {
        let got = world
            .container(&format!("c{n}"))
            .in_zone("lab")
            .bare()
            .start()
            .v4();
        assert_ne!(got.octets()[2], 1, "{got} is of the pool for guests");
    }
    assert!(
        world
            .container("bold")
            .in_zone("lab")
            .option("--ip", "10.77.1.7")
            .bare()
            .try_start()
            .is_err()
    );

    // a restart forgets nothing, and the pool ends where it ends
    world.kill_netd();
    world.start_netd();
    assert_eq!(agent.lease(machine(1), patience), Some(first));
    let mut got: Vec<_> = (2..51)
        .map(|n| agent.lease(machine(n), patience).expect("a lease"))
        .collect();
    got.push(first);
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 50);
    assert_eq!(agent.lease(machine(99), Duration::from_millis(700)), None);
    let status = dhcp_status(&world, "lab").to_string();
    assert!(status.contains("pool-exhausted"), "{status}");
}

pub fn silence_has_a_reason() {
    let world = World::new("dhcp-silence");
    world.zone("web").create();
    let one = world.container("one").in_zone("web").start();
    let before = dhcp_status(&world, "web");
    assert_eq!(before["received"], 0, "{before}");
    let mut message = vec![0u8; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&one.mac());
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    let socket = one
        .netns
        .enter(|| std::net::UdpSocket::bind("0.0.0.0:68"))
        .unwrap();
    let say = |options: &[u8]| {
        let bytes = [&message[..], options].concat();
        socket.send_to(&bytes, (one.gateway4(), 67)).unwrap();
    };
    say(&[255]); // no message type
    say(&[53, 1, 7, 255]); // RELEASE without anything
    say(&[53, 1, 3, 255]); // REQUEST without anything
    say(&[53, 1, 3, 50, 4, 10, 0, 0, 9, 54, 4, 192, 0, 2, 1, 255]); // another server's
    for _ in 0..40 {
        say(&[53, 1, 1, 255]);
    }
    let wanted = [
        "not-for-servers",
        "missing-option",
        "other-server",
        "rate-limited",
    ];
    let started = std::time::Instant::now();
    loop {
        let status = dhcp_status(&world, "web");
        let reasons: Vec<_> = status["silent"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["reason"].clone())
            .collect();
        if wanted
            .iter()
            .all(|reason| reasons.iter().any(|r| r == reason))
        {
            assert!(status["offers"].as_i64().unwrap() > 0, "{status}");
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let shown = world.netd("status").ok();
    assert!(
        shown.contains("rate-limited") && shown.contains("sends too much"),
        "{shown}"
    );
}
