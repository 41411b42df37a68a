//! Everything that can be wrong: a clear error each, nothing lost, nothing half made.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::mount::{self, MountFlags, UnmountFlags};

use crate::net::netns::Netns;
use crate::world::Verdict::Allow;
use crate::world::World;

/// Each with its exit code and words that the message must have.
#[track_caller]
fn all_fail(world: &World, cases: &[(&str, i32, &[&str])]) {
    for (line, code, words) in cases {
        let said = world.netd(line).fails(*code);
        for word in *words {
            assert!(
                said.contains(word),
                "`netd {line}` does not say {word:?}: {said}"
            );
        }
        assert!(
            said.starts_with("netd: ") || *code == 2,
            "`netd {line}`: {said}"
        );
    }
}

pub fn wrong_requests() {
    let world = World::new("wrong-requests");
    world
        .zone("web")
        .option("--subnet4", "10.77.0.0/24")
        .create();
    let one = world.container("one").in_zone("web").start();
    let netns = Netns::create("spare");
    let before = (
        world.links(),
        world.netd("list --json").ok(),
        world.netd("zone list --json").ok(),
    );
    all_fail(
        &world,
        &[
            ("zone create Web", 2, &["Web"]),
            ("zone create new --subnet4 10.0.0.0/33", 2, &["10.0.0.0/33"]),
            ("zone create new --subnet4 10.0.0.1", 2, &["10.0.0.1"]),
            ("zone create new --default maybe", 2, &["maybe"]),
            ("zone create new --mtu 1", 2, &["1"]),
            // overlapping: another zone's, by either side, and the host's own
            (
                "zone create new --subnet4 10.77.0.0/16",
                1,
                &["10.77.0.0/16", "web"],
            ),
            (
                "zone create new --subnet4 10.77.0.128/25",
                1,
                &["10.77.0.128/25", "web"],
            ),
            (
                "zone create new --subnet4 192.0.2.0/25",
                1,
                &["192.0.2.0/2"],
            ),
            // the same name with another request: the difference is named
            (
                "zone create web --subnet4 10.78.0.0/24",
                1,
                &["web", "10.78.0.0/24", "10.77.0.0/24"],
            ),
            (
                "zone create web --subnet4 10.77.0.0/24 --internal",
                1,
                &["web", "internal"],
            ),
            ("zone show none", 3, &["none"]),
            ("zone set none --mtu 1400", 3, &["none"]),
            ("zone delete web", 1, &["web", "one"]),
            (
                "attach two --zone none --netns /run/netns/spare",
                3,
                &["none"],
            ),
            (
                "attach two --zone web --netns /run/netns/missing",
                1,
                &["missing"],
            ),
            (
                "attach two --zone web --netns /etc/hostname",
                1,
                &["/etc/hostname"],
            ),
            ("attach two --zone web --pid 4194303", 1, &["4194303"]),
            ("attach two --zone web", 2, &["--netns"]),
            (
                "attach .two --zone web --netns /run/netns/spare",
                2,
                &[".two"],
            ),
            (
                "attach two --zone web --netns /run/netns/spare --ip 10.1.2.3",
                1,
                &["10.1.2.3", "10.77.0.0"],
            ),
            (
                "attach two --zone web --netns /run/netns/spare --ip 10.77.0.1",
                1,
                &["10.77.0.1"],
            ),
            (
                "attach two --zone web --netns /run/netns/spare --publish 70000:1",
                2,
                &["70000"],
            ),
            (
                "attach two --zone web --netns /run/netns/spare --mac 01:00:00:00:00:01",
                2,
                &["01:00:00:00:00:01"],
            ),
            // the same name with another request
            (
                "attach one --zone web --netns /run/netns/one --label a=b",
                1,
                &["one", "label"],
            ),
            (
                "attach one --zone web --netns /run/netns/spare",
                1,
                &["one", "namespace"],
            ),
            ("detach one --zone other", 1, &["one", "web"]),
            ("status none", 3, &["none"]),
            ("policy show none", 3, &["none"]),
            ("explain none one tcp/80", 3, &["none"]),
            ("explain one world tcp/no", 2, &["tcp/no"]),
        ],
    );
    // An address that somebody has is named with its owner.
    let said = world
        .netd(&format!(
            "attach two --zone web --netns /run/netns/spare --ip {}",
            one.v4()
        ))
        .fails(1);
    assert!(
        said.contains(&one.v4().to_string()) && said.contains("one"),
        "{said}"
    );
    // An address in the daemon's own namespace, and an interface that is there already.
    let said = world
        .netd(&format!(
            "attach two --zone web --pid {}",
            std::process::id()
        ))
        .fails(1);
    assert!(said.contains("namespace"), "{said}");
    netns.sh("ip link add host0 type bridge");
    let said = world
        .netd("attach two --zone web --netns /run/netns/spare")
        .fails(1);
    assert!(said.contains("host0"), "{said}");
    netns.sh("ip link del host0");

    let after = (
        world.links(),
        world.netd("list --json").ok(),
        world.netd("zone list --json").ok(),
    );
    assert_eq!(before, after, "something was half made");
    assert_eq!(
        netns.sh("ip -br link").lines().count(),
        1,
        "something is left inside"
    );
    // And idempotence is no error.
    world.netd("zone create web --subnet4 10.77.0.0/24").ok();
    world
        .netd("attach one --zone web --netns /run/netns/one")
        .ok();
    world.netd("detach two").ok();
    world.netd("zone delete none").ok();
    world.verdicts(&[(Allow, "one", "world", "tcp/80")]);
}

pub fn wrong_zone_files() {
    let world = World::new("wrong-zones");
    world.zone("web").create();
    let _one = world.container("one").in_zone("web").start();
    let path = world.folder("config/zones").join("web.toml");
    let good = fs::read_to_string(&path).unwrap();
    for (text, place, word) in [
        (
            "subnet4 = \"10.0.0.0/33\"\n",
            "web.toml:1:11",
            "10.0.0.0/33",
        ),
        ("nonsense = 1\n", "web.toml:1:1", "nonsense"),
        ("default = \"perhaps\"\n", "web.toml:1:11", "perhaps"),
        ("subnet4 = [\n", "web.toml:", ""),
    ] {
        fs::write(&path, text).unwrap();
        let said = world.netd("reload").fails(1);
        assert!(
            said.contains(place) && said.contains(word),
            "{text:?}: {said}"
        );
        world.verdicts(&[(Allow, "one", "world", "tcp/80")]);
    }
    fs::write(&path, good).unwrap();
    world.netd("reload").ok();
    assert_eq!(
        world.netd("status --json").json()["problems"],
        serde_json::json!([])
    );
}

pub fn garbage_on_the_socket() {
    let world = World::new("garbage");
    world.zone("web").create();
    let one = world.container("one").in_zone("web").start();
    let path = world.folder("runtime").join("netd.sock");
    let noise: Vec<u8> = (0..100_000u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let deep = format!("{}\0", "[".repeat(50_000));
    let messages: [&[u8]; 10] = [
        b"",
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"{}\0",
        b"{\"method\":7}\0",
        b"{\"method\":\"io.netd.Control.Attach\"}\0",
        b"{\"method\":\"io.netd.Control.Attach\",\"parameters\":{\"request\":{\"container\":\"../x\",\"zone\":\"web\",\"pid\":1}}}\0",
        b"{\"method\":\"io.netd.Control.ZoneCreate\",\"parameters\":{\"name\":\"a/b\",\"settings\":{}}}\0",
        &noise,
        deep.as_bytes(),
    ];
    for message in messages {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let _ = stream.write_all(message);
        let _ = stream.read(&mut [0; 4096]);
        // Others are served meanwhile, and half a message holds nobody up.
        world.netd("list").ok();
    }
    // A message without end is cut off before it fills the memory.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let accepted = (0..256)
        .take_while(|_| stream.write_all(&chunk).is_ok())
        .count();
    assert!(
        accepted < 256,
        "the daemon swallowed 256 MiB of one message"
    );
    drop(stream);
    let zones = world.netd("zone list --json").json();
    assert_eq!(zones.as_array().map(Vec::len), Some(1), "{zones}");
    assert_eq!(one.status()["state"], "attached");
    world.verdicts(&[(Allow, "one", "world", "tcp/80")]);
}

pub fn garbage_in_dhcp() {
    let world = World::new("garbage-dhcp");
    world.zone("web").default("allow").create();
    let one = world.container("one").in_zone("web").start();
    let noise: Vec<u8> = (0..1400u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let mut honest = vec![0u8; 240];
    honest[..3].copy_from_slice(&[1, 1, 6]);
    honest[28..34].copy_from_slice(&one.mac());
    honest[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    let with = |options: &[u8]| [&honest[..], options].concat();
    let messages = [
        noise.clone(),
        [&honest[..34], &noise[..200]].concat(),
        honest.clone(),
        with(&[53]),
        with(&[53, 200, 1]),
        with(&[53, 1, 99, 255]),
        with(&[53, 0, 255]),
        with(&[61, 255].repeat(20)),
        with(&[53, 1, 3, 50, 4, 255, 255, 255, 255, 255]),
        with(&[53, 1, 4, 50, 4, 10, 89, 0, 1, 255]),
        with(&[52, 1, 3, 53, 1, 1, 255]),
        with(&[0; 1000]),
    ];
    let socket = one
        .netns
        .enter(|| std::net::UdpSocket::bind("0.0.0.0:68"))
        .unwrap();
    for message in &messages {
        socket.send_to(message, (one.gateway4(), 67)).unwrap();
    }
    drop(socket);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(one.status()["addresses"], one.attached["addresses"]);
    // The server lives, and serves who asks rightly.
    let told = one.sh("udhcpc -i host0 -f -n -q -t 5 -T 1 -s /bin/true 2>&1");
    assert!(told.contains(&one.v4().to_string()), "{told}");
}

pub fn a_full_disk() {
    let world = World::without_daemon("full");
    let state = world.folder("state");
    mount::mount("state", &state, "tmpfs", MountFlags::empty(), c"size=8m").unwrap();
    world.start_netd();
    world.zone("web").create();
    let one = world.container("one").in_zone("web").start();
    let filler = state.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);

    // The store may have room of its own left; whatever is refused must be refused wholly.
    let mut refused = 0;
    let mut started = Vec::new();
    for number in 0..40 {
        let name = format!("more{number}");
        let links = world.own_links().len();
        match world.container(&name).in_zone("web").bare().try_start() {
            Ok(container) => started.push(container),
            Err(ran) => {
                refused += 1;
                let said = ran.fails(1);
                assert!(
                    said.to_lowercase().contains("space"),
                    "it does not say that the disk is full: {said}"
                );
                assert_eq!(world.own_links().len(), links, "half of {name} is left");
                assert!(!world.netd("list --json").ok().contains(&name));
            }
        }
    }
    eprintln!(
        "measured: on a full disk {} attaches were served, {refused} refused",
        started.len()
    );
    world.verdicts(&[(Allow, "one", "world", "tcp/80")]);

    fs::remove_file(&filler).unwrap();
    let after = world.container("after").in_zone("web").start();
    world.verdicts(&[(Allow, "after", "world", "tcp/80")]);
    // What was told while the disk was full still holds after a restart.
    let told: Vec<_> = started
        .iter()
        .map(|container| container.attached["addresses"].clone())
        .collect();
    world.restart_netd();
    for (container, told) in started.iter().zip(told) {
        assert_eq!(container.status()["addresses"], told);
    }
    assert_eq!(after.status()["addresses"], after.attached["addresses"]);
    assert_eq!(one.status()["addresses"], one.attached["addresses"]);
    world.stop_netd();
    mount::unmount(&state, UnmountFlags::DETACH).unwrap();
}

pub fn a_truncated_store() {
    let world = World::new("truncated");
    world.zone("web").default("deny").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    let store = world.folder("state").join("netd.redb");
    let whole = fs::read(&store).unwrap();
    let other = |address: &std::net::Ipv4Addr| *address != one.v4() && *address != two.v4();
    for length in [whole.len() / 2, 4096, 100, 0] {
        world.stop_netd();
        fs::write(&store, &whole[..length]).unwrap();
        match world.try_start_netd() {
            // Refused: the message names the file, and the network stays as it was.
            Err(ran) => {
                assert!(ran.stderr.contains("netd.redb"), "{length} bytes: {ran}");
                assert!(
                    !one.tcp(two.v4(), 80).passed(),
                    "{length} bytes: closed doors opened"
                );
                fs::write(&store, &whole).unwrap();
                world.start_netd();
            }
            // Mended: it says so, and what is attached keeps what it has.
            Ok(()) => {
                let status = world.netd("status --json").json();
                let said =
                    status["problems"].to_string() + &fs::read_to_string(world.log_path()).unwrap();
                assert!(
                    said.contains("netd.redb") || length == 0,
                    "{length} bytes: nobody was told: {status}"
                );
            }
        }
        assert_eq!(
            one.status()["addresses"],
            one.attached["addresses"],
            "{length} bytes"
        );
        let third = world.container("third").in_zone("web").start();
        assert!(
            other(&third.v4()),
            "{length} bytes: an address was given twice"
        );
        third.stop();
    }
}
