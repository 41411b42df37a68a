//! netavark calls netd as a driver of networks: the plugin API, by the real program where a network is set up.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::net::netns::{Netns, Ran};
use crate::net::probe::probe;
use crate::world::World;

/// Runs a program with a document on its standard input.
fn with_input(world: &World, command: &mut Command, input: &Value) -> Ran {
    let path = world.dir.join("input.json");
    fs::write(&path, input.to_string()).unwrap();
    let what = format!("{command:?} <{input}");
    let netd = world.command();
    command.envs(
        netd.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = world.netns.enter(|| {
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        // One that ends without reading has said why.
        let _ = child
            .stdin
            .take()
            .unwrap()
            .write_all(input.to_string().as_bytes());
        child.wait_with_output().unwrap()
    });
    Ran {
        what,
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The folder of plugins, as `make install` makes it.
fn plugins(world: &World) -> PathBuf {
    let folder = world.dir.join("netavark");
    let link = folder.join("netd");
    if !link.exists() {
        fs::create_dir_all(&folder).unwrap();
        symlink(crate::world::netd_binary(), link).unwrap();
    }
    folder
}

/// Calls the plugin as netavark does, by its path.
fn plugin(world: &World, words: &[&str], input: &Value) -> Ran {
    let mut command = Command::new(plugins(world).join("netd"));
    with_input(world, command.args(words), input)
}

/// netavark of today: `NETD_NETAVARK`, or what `tests/bench/setup` built. Debian's knows no plugins.
pub fn netavark() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NETD_NETAVARK") {
        return Some(path.into());
    }
    let program = std::env::current_exe().ok()?;
    let built = program
        .ancestors()
        .map(|folder| folder.join("peers/bin/netavark"));
    let cargo =
        std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin/netavark"));
    built.chain(cargo).find(|path| path.is_file())
}

fn network(options: Value) -> Value {
    json!({
        "name": "lab", "id": format!("{:0>64}", "1ab"), "driver": "netd", "network_interface": "",
        "ipv6_enabled": false, "internal": false, "dns_enabled": true,
        "ipam_options": { "driver": "host-local" }, "options": options,
    })
}

pub fn a_network_is_a_zone() {
    let world = World::new("netavark-create");
    let info = plugin(&world, &["info"], &json!({})).json();
    assert_eq!(info["api_version"], "1.0.0");
    // One of the network's name is made, and fits a second time.
    let mut wanted = network(json!({}));
    wanted["subnets"] = json!([{ "subnet": "10.77.0.0/24", "gateway": "10.77.0.1" }]);
    wanted["labels"] = json!({ "kept": "as it is" });
    for _ in 0..2 {
        let made = plugin(&world, &["create"], &wanted).json();
        assert_eq!(made["network_interface"], "vz-lab", "{made}");
        assert_eq!(
            made["subnets"][0],
            json!({ "subnet": "10.77.0.0/24", "gateway": "10.77.0.1" })
        );
        assert_eq!(made["ipv6_enabled"], false, "{made}");
        assert_eq!(made["options"]["zone"], "lab", "{made}");
        for same in ["name", "id", "driver", "labels", "dns_enabled"] {
            assert_eq!(made[same], wanted[same], "{same}: {made}");
        }
    }
    assert_eq!(
        world.netd("zone show lab --json").json()["subnet4"],
        "10.77.0.0/24"
    );
    // One that is there stays as it is, and what it is not is refused with words.
    world.netd("zone create web --internal").ok();
    let made = plugin(&world, &["create"], &network(json!({ "zone": "web" }))).json();
    assert_eq!(
        (&made["network_interface"], &made["internal"]),
        (&json!("vz-web"), &json!(true))
    );
    let mut other = wanted.clone();
    other["subnets"][0] = json!({ "subnet": "10.78.0.0/24" });
    for (refused, words) in [
        (&other, "10.77.0.0/24"),
        (&network(json!({ "vlan": "3" })), "option vlan"),
        (&network(json!({ "zone": "No Zone" })), "No Zone"),
    ] {
        let ran = plugin(&world, &["create"], refused);
        assert_ne!(ran.code, 0, "{ran}");
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(said["error"].as_str().unwrap().contains(words), "{ran}");
    }
}

/// Calls the real netavark.
fn call(world: &World, inside: &Netns, verb: &str, input: &Value) -> Ran {
    let mut command = Command::new(netavark().expect("the runner asks for it first"));
    command
        .arg("--config")
        .arg(world.dir.join("netavark-config"));
    command
        .arg("--plugin-directory")
        .arg(plugins(world))
        .arg(verb)
        .arg(inside.path());
    with_input(world, &mut command, input)
}

/// What podman hands to netavark for one container in one network.
fn options(network: &Value, ports: Value) -> Value {
    json!({
        "container_id": format!("{:0>64}", "c1"), "container_name": "shop", "port_mappings": ports,
        "networks": { "lab": { "interface_name": "eth0", "aliases": ["c1"], "static_ips": ["10.77.0.50"] } },
        "network_info": { "lab": network },
    })
}

pub fn netavark_sets_a_container_up() {
    let world = World::new("netavark");
    world
        .zone("lab")
        .option("--subnet4", "10.77.0.0/24")
        .create();
    world.policy(
        "shop",
        "[[egress]]\nto = [\"192.0.2.2\"]\nports = [\"tcp/80\"]\n",
    );
    let made = plugin(
        &world,
        &["create"],
        &network(json!({ "labels": "tier=front" })),
    )
    .json();
    let inside = Netns::create("shop");
    let mappings = json!([{ "container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1 }]);
    let call = |verb: &str, input: &Value| call(&world, &inside, verb, input);
    let told = options(&made, mappings);
    let status = call("setup", &told).json();
    let interface = &status["lab"]["interfaces"]["eth0"];
    assert_eq!(
        interface["subnets"][0],
        json!({ "ipnet": "10.77.0.50/24", "gateway": "10.77.0.1" }),
        "{status}"
    );
    assert_eq!(status["lab"]["dns_server_ips"][0], "10.77.0.1", "{status}");
    let shown = world.netd("status shop --json").json();
    assert_eq!(shown["mac"], interface["mac_address"]);
    assert_eq!(shown["labels"], json!({ "tier": "front" }));
    assert_eq!(shown["published"], json!(["8080:80"]));
    let ask = inside
        .run("busybox nc -w5 192.0.2.2 80 </dev/null; busybox nc -w5 192.0.2.2 22 </dev/null");
    assert_eq!(ask.stdout.matches("world 192.0.2.1").count(), 1, "{ask}");
    // The same again is a success; the same name in another namespace is not, and says so.
    assert_eq!(call("setup", &told).json(), status);
    call("teardown", &told).ok();
    assert_eq!(world.netd("list --json").json(), json!([]));
    call("teardown", &told).ok();
    // A teardown whose namespace is gone already still detaches.
    call("setup", &told).ok();
    let mut late = Command::new(netavark().expect("the runner asks for it first"));
    late.arg("--config").arg(world.dir.join("netavark-config"));
    late.arg("--plugin-directory").arg(plugins(&world));
    late.args(["teardown", "/proc/does-not-exist/ns/net"]);
    with_input(&world, &mut late, &told).ok();
    assert_eq!(world.netd("list --json").json(), json!([]));
    // What the zone refuses, netavark is told, and nothing is left.
    let mut wrong = told.clone();
    wrong["networks"]["lab"]["static_ips"] = json!(["192.0.2.77"]);
    let ran = call("setup", &wrong);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(
        ran.stdout.contains("192.0.2.77") || ran.stderr.contains("192.0.2.77"),
        "{ran}"
    );
    assert_eq!(world.own_links(), ["vz-lab"]);
    inside.remove();
}

pub fn a_container_is_in_two_networks() {
    let world = World::new("netavark-two");
    world
        .zone("lab")
        .option("--subnet4", "10.77.0.0/24")
        .default("allow")
        .create();
    world
        .zone("back")
        .option("--subnet4", "10.78.0.0/24")
        .default("allow")
        .create();
    let peers = ["lab", "back"].map(|zone| {
        let name = format!("peer-{zone}");
        world.container(&name).in_zone(zone).start()
    });
    let made = |name: &str| {
        let mut wanted = network(json!({ "bandwidth": "egress=20mbit" }));
        wanted["name"] = json!(name);
        wanted["id"] = json!(format!("{name:0>64}").replace(|c: char| !c.is_ascii_hexdigit(), "e"));
        plugin(&world, &["create"], &wanted).json()
    };
    let ports = json!([{ "container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1 }]);
    let mut told = options(&made("lab"), ports);
    told["networks"]["back"] =
        json!({ "interface_name": "eth1", "aliases": [], "static_ips": ["10.78.0.50"] });
    told["network_info"]["back"] = made("back");
    let inside = Netns::create("shop");
    let status = call(&world, &inside, "setup", &told).json();
    let shown = world.netd("status shop --json").json();
    let networks = shown["networks"].as_array().unwrap().clone();
    assert_eq!(networks.len(), 2, "{shown}");
    let of = |key: &str| -> Vec<Value> { networks.iter().map(|n| n[key].clone()).collect() };
    let published: Vec<Value> = of("published");
    assert_eq!(
        published
            .iter()
            .filter(|p| **p == json!(["8080:80"]))
            .count(),
        1,
        "a port of the host leads to one of them: {shown}"
    );
    for limits in of("bandwidth") {
        assert_eq!(limits[0]["rate"], 20_000_000, "{shown}");
    }
    for (peer, (name, interface, own)) in peers.iter().zip([
        ("lab", "eth0", "10.77.0.50"),
        ("back", "eth1", "10.78.0.50"),
    ]) {
        assert!(
            status[name]["interfaces"][interface].is_object(),
            "{status}"
        );
        let reach = probe(&inside, peer.addresses()[0], "tcp/80");
        assert_eq!(reach.who(), peer.name);
        assert_eq!(reach.source().unwrap().to_string(), own);
    }
    call(&world, &inside, "teardown", &told).ok();
    let left = world.netd("list --json").json();
    assert_eq!(left.as_array().unwrap().len(), 2, "the peers: {left}");
    inside.remove();
}
