//! DHCP under load: what was acknowledged holds whatever happens to the daemon, and who shouts harms nobody.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::dhcp_zone::{dhcp_status, zone_file};
use crate::net::dhcp::{Agent, text};
use crate::net::frame;
use crate::net::raw::PacketSocket;
use crate::world::World;

pub fn kill_9_under_load_loses_no_acknowledged_lease() {
    let world = World::new("dhcp-kill");
    let zone = "subnet4 = \"10.77.0.0/16\"\nsubnet6 = \"none\"\n\
                [dhcp]\npool = \"10.77.1.0-10.77.254.231\"\nrelays = [\"10.77.0.2\"]\n";
    zone_file(&world, "lab", zone).ok();
    let inside = world
        .container("agent")
        .in_zone("lab")
        .option("--ip", "10.77.0.2")
        .bare()
        .start();
    let agent = Agent::new(&inside.netns, inside.v4(), inside.gateway4());
    let over = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| agent.crowd(0, |_| over.load(Ordering::Relaxed)));
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(400));
            world.kill_netd();
            world.start_netd();
        }
        std::thread::sleep(Duration::from_millis(300));
        // … and the last one with nobody to make anything durable afterwards
        world.kill_netd();
        over.store(true, Ordering::Relaxed);
        let acknowledged = crowd.join().unwrap();
        world.start_netd();
        acknowledged
    });
    assert!(
        acknowledged.len() > 500,
        "only {} leases: no load",
        acknowledged.len()
    );
    let mut owners: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    for (mac, address) in &acknowledged {
        let owner = owners.entry(*address).or_insert_with(|| text(*mac));
        assert_eq!(*owner, text(*mac), "{address} was given to two");
    }
    let leases = world.netd("lease list --json").json();
    let told: BTreeMap<String, (String, String)> = leases
        .as_array()
        .unwrap()
        .iter()
        .map(|lease| {
            let word = |key: &str| lease[key].as_str().unwrap_or_default().to_owned();
            (word("address"), (word("mac"), word("state")))
        })
        .collect();
    for (address, mac) in &owners {
        let found = told.get(&address.to_string());
        assert_eq!(
            found,
            Some(&(mac.clone(), "bound".to_owned())),
            "{address} was acknowledged to {mac}, one of {}",
            owners.len()
        );
    }
    let files = world.sh(&format!("ls {}", world.folder("state").display()));
    assert!(
        files.matches("leases-").count() <= 2,
        "old files are left: {files}"
    );
}

pub fn garbage_and_floods_cost_no_lease() {
    let world = World::new("dhcp-flood");
    world.zone("web").create();
    let good = world.container("good").in_zone("web").dhcp().start();
    let bad = world.container("bad").in_zone("web").bare().start();
    let ask = "udhcpc -i host0 -f -n -q -t 10 -T 1 -s /bin/true";
    good.sh(ask);
    let lease = || {
        let leases = world.netd("lease list --json").json();
        let mut all = leases.as_array().unwrap().iter();
        all.find(|l| l["container"] == "good" && l["address"] == good.v4().to_string())
            .unwrap()
            .clone()
    };
    let before = lease();
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.netd_pid())).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .unwrap()
            .to_owned();
        line.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let quiet = memory();
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            bad.netns.enter(|| {
                let socket = PacketSocket::open("host0").unwrap();
                let frames = messages(bad.mac(), good.mac(), bad.v4(), good.v4(), bad.gateway4());
                let mut sent = 0u64;
                while !over.load(Ordering::Relaxed) {
                    for frame in &frames {
                        sent += u64::from(socket.send(frame).is_ok());
                    }
                }
                sent
            })
        });
        // The other one renews and asks anew all the while.
        let started = Instant::now();
        let mut rounds = 0;
        while started.elapsed() < Duration::from_secs(4) || rounds < 3 {
            good.sh(ask);
            rounds += 1;
            std::thread::sleep(Duration::from_millis(400));
        }
        over.store(true, Ordering::Relaxed);
        flood.join().unwrap()
    });
    assert!(sent > 10_000, "only {sent} frames: no flood");
    let after = lease();
    assert_eq!(
        (&after["state"], &after["mac"]),
        (&"bound".into(), &before["mac"]),
        "{after}"
    );
    assert!(memory() < quiet + 4096, "from {quiet} to {} KiB", memory());
    let status = dhcp_status(&world, "web");
    // What the guard lets through of one port is a trickle, and of that most is not answered.
    let received = status["received"].as_u64().unwrap();
    assert!(
        received < 2000,
        "{received} of {sent} came through: {status}"
    );
    assert_eq!(bad.status()["addresses"], bad.attached["addresses"]);
}

/// Frames of all sorts: honest ones, garbage, lies about who speaks, and attempts to end another's lease.
fn messages(
    own: frame::Mac,
    other: frame::Mac,
    mine: Ipv4Addr,
    theirs: Ipv4Addr,
    server: Ipv4Addr,
) -> Vec<Vec<u8>> {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let all = Ipv4Addr::BROADCAST;
    let message = |chaddr: frame::Mac, ciaddr: Ipv4Addr, options: &[u8]| {
        let mut bytes = vec![0u8; 240];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[12..16].copy_from_slice(&ciaddr.octets());
        bytes[28..34].copy_from_slice(&chaddr);
        bytes[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        bytes.extend_from_slice(options);
        bytes.push(255);
        bytes
    };
    let framed = |from: frame::Mac, source: Ipv4Addr, to: Ipv4Addr, data: &[u8]| {
        let packet = frame::udp4((source, 68), (to, 67), data);
        frame::ethernet(frame::BROADCAST, from, frame::IPV4, &packet)
    };
    let id = |code: u8, address: Ipv4Addr| {
        let [a, b, c, d] = address.octets();
        [code, 4, a, b, c, d]
    };
    let release = [&[53, 1, 7][..], &id(54, server)].concat();
    let decline = [&[53, 1, 4][..], &id(54, server), &id(50, theirs)].concat();
    let steal = [&[53, 1, 3][..], &id(54, server), &id(50, theirs)].concat();
    vec![
        framed(own, nobody, all, &message(own, nobody, &[53, 1, 1])),
        framed(own, nobody, all, &[0xa5; 600]),
        framed(
            own,
            nobody,
            all,
            &message(own, nobody, &[61, 255].repeat(60)),
        ),
        framed(own, nobody, all, &message(other, nobody, &[53, 1, 1])),
        framed(other, nobody, all, &message(other, nobody, &[53, 1, 1])),
        framed(own, theirs, server, &message(other, theirs, &release)),
        framed(other, theirs, server, &message(other, theirs, &release)),
        framed(own, mine, server, &message(own, theirs, &release)),
        framed(own, nobody, all, &message(own, nobody, &decline)),
        framed(own, nobody, all, &message(own, nobody, &steal)),
        framed(
            own,
            mine,
            server,
            &message(own, nobody, &[53, 1, 3, 52, 1, 3, 255]),
        ),
    ]
}
