//! netd-policy behind other CNI plugins, which make bridge, port and addresses: Debian's own `bridge`, `host-local` and
//! `portmap`, called one after the other as libcni calls a list of plugins.

mod dual;

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::net::netns::{Netns, Ran};
use crate::net::probe::{Reach, probe};
use crate::net::server::Server;
use crate::world::{HOST, OUTSIDE, World};

pub use dual::both_families_of_a_foreign_bridge_are_under_policy;

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";
const GATEWAY: &str = "10.22.0.1";

/// A network of several plugins.
struct Chain<'a> {
    world: &'a World,
    folder: PathBuf,
    plugins: Vec<Value>,
}

/// A container as runtimes make them, and a server in it.
struct Pod {
    id: String,
    netns: Netns,
    _server: Server,
    /// The result of the chain.
    result: Value,
}

impl Pod {
    fn new(id: &str) -> Self {
        let netns = Netns::create(id);
        netns.sh("ip link set lo up");
        let server = Server::start(&netns, id, &["tcp/80".to_owned(), "tcp/81".to_owned()]);
        Self {
            id: id.to_owned(),
            netns,
            _server: server,
            result: Value::Null,
        }
    }

    fn address(&self) -> IpAddr {
        let address = self.result["ips"][0]["address"].as_str().unwrap();
        address.split('/').next().unwrap().parse().unwrap()
    }

    /// Its address of IPv6.
    fn six(&self) -> IpAddr {
        let address = self.result["ips"][1]["address"].as_str().unwrap();
        address.split('/').next().unwrap().parse().unwrap()
    }

    /// The end of its pair that is on the bridge.
    fn port(&self) -> &str {
        let interfaces = self.result["interfaces"].as_array().unwrap();
        let port = interfaces
            .iter()
            .find(|i| i["name"].as_str().unwrap().starts_with("veth"));
        port.unwrap()["name"].as_str().unwrap()
    }

    fn reaches(&self, to: &Pod, traffic: &str) -> Reach {
        probe(&self.netns, to.address(), traffic)
    }
}

impl<'a> Chain<'a> {
    fn new(world: &'a World) -> Self {
        let folder = world.dir.join("cni-bin");
        std::fs::create_dir_all(&folder).unwrap();
        let _ = symlink(crate::world::netd_binary(), folder.join("netd-policy"));
        let bridge = json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local", "dataDir": world.dir.join("leases"),
                "ranges": [[{ "subnet": "10.22.0.0/24" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        let policy = json!({ "type": "netd-policy", "zone": "pods", "labels": { "net": "chain" } });
        Self {
            world,
            folder,
            plugins: vec![bridge, portmap, policy],
        }
    }

    /// The same with addresses of both families.
    fn dual(world: &'a World) -> Self {
        let mut chain = Self::new(world);
        let ipam = &mut chain.plugins[0]["ipam"];
        ipam["ranges"] = json!([[{ "subnet": "10.22.0.0/24" }], [{ "subnet": "fd00:22::/64" }]]);
        ipam["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
        chain
    }

    /// The same without netd.
    fn bare(world: &'a World) -> Self {
        let mut chain = Self::new(world);
        chain.plugins.truncate(2);
        chain
    }

    /// One plugin of the list, with what libcni adds to its configuration.
    fn call(&self, verb: &str, plugin: &Value, pod: Option<&Pod>, more: &Value) -> Ran {
        let mut config = plugin.clone();
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("chain");
        let capabilities = config["capabilities"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        for (key, value) in more.as_object().unwrap() {
            match key.as_str() {
                "prevResult" if value.is_null() => {}
                "runtimeConfig" => {
                    let wanted = value.as_object().unwrap().iter();
                    let wanted = wanted.filter(|(key, _)| capabilities.contains_key(*key));
                    config["runtimeConfig"] = wanted.map(|(k, v)| (k.clone(), v.clone())).collect();
                }
                _ => config[key] = value.clone(),
            }
        }
        let kind = plugin["type"].as_str().unwrap();
        let own = self.folder.join(kind);
        let program = match own.exists() {
            true => own,
            false => PathBuf::from(PLUGINS).join(kind),
        };
        let mut command = Command::new(&program);
        for (key, value) in self.world.command().get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", format!("{}:{PLUGINS}", self.folder.display()));
        if let Some(pod) = pod {
            command
                .env("CNI_CONTAINERID", &pod.id)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_NETNS", pod.netns.path());
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.world.netns.enter(|| command.spawn()).unwrap();
        let _ = child
            .stdin
            .take()
            .unwrap()
            .write_all(config.to_string().as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            what: format!("{kind} {verb} {config}"),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// ADD of one plugin after the other; what the one that failed said, where one did.
    fn try_add(&self, pod: &mut Pod, runtime: &Value) -> Result<(), Ran> {
        let mut previous = Value::Null;
        for plugin in &self.plugins {
            let more = json!({ "prevResult": previous, "runtimeConfig": runtime });
            let ran = self.call("ADD", plugin, Some(pod), &more);
            if ran.code != 0 {
                return Err(ran);
            }
            let result: Value = serde_json::from_str(&ran.stdout).unwrap();
            if plugin["type"] == "netd-policy" {
                assert_eq!(result, previous, "the result goes on as it came");
            }
            previous = result;
        }
        pod.result = previous;
        Ok(())
    }

    #[track_caller]
    fn add(&self, id: &str, runtime: &Value) -> Pod {
        let mut pod = Pod::new(id);
        let added = self.try_add(&mut pod, runtime);
        added.unwrap_or_else(|ran| panic!("{ran}"));
        pod
    }

    /// DEL in the other order; each plugin has to succeed.
    #[track_caller]
    fn del(&self, pod: &Pod) {
        for plugin in self.plugins.iter().rev() {
            let more = json!({ "prevResult": pod.result, "runtimeConfig": { "portMappings": [] } });
            self.call("DEL", plugin, Some(pod), &more).ok();
        }
    }

    fn check(&self, pod: &Pod) -> Ran {
        let policy = self.plugins.last().unwrap();
        self.call(
            "CHECK",
            policy,
            Some(pod),
            &json!({ "prevResult": pod.result }),
        )
    }
}

fn names(world: &World) -> Vec<String> {
    let list = world.netd("list --json").json();
    let names = list.as_array().unwrap().iter();
    names
        .map(|c| c["container"].as_str().unwrap().to_owned())
        .collect()
}

fn pings(pod: &Pod, to: &str) -> bool {
    pod.netns.run(&format!("ping -nqc 1 -W 1 {to}")).code == 0
}

/// A zone on a bridge that is not there yet, and a policy for two containers of it.
fn world(title: &str) -> World {
    let world = World::new(title);
    world
        .netd("zone create pods --bridge cni0 --subnet4 10.22.0.0/24 --default deny")
        .ok();
    world.policy(
        "web",
        "[[ingress]]\nfrom = [\"container:shop\", \"world\"]\nports = [\"tcp/80\"]\n",
    );
    world.policy("shop", "[[egress]]\nto = [\"label:net=chain\"]\n");
    world
}

pub fn containers_of_a_foreign_bridge_are_under_policy() {
    let world = world("chain");
    assert!(
        !world.links().iter().any(|name| name == "cni0"),
        "netd does not make it"
    );
    let chain = Chain::new(&world);
    let mapping = json!({ "portMappings": [
        { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
        { "hostPort": 8081, "containerPort": 81, "protocol": "tcp" },
    ] });
    let web = chain.add("web", &mapping);
    let shop = chain.add("shop", &json!({}));
    let other = chain.add("other", &json!({}));
    let all = [&web, &shop, &other];
    assert_eq!(names(&world), ["other", "shop", "web"]);
    let judged = || {
        let web_80 = [&shop, &other].map(|from| from.reaches(&web, "tcp/80").passed());
        assert_eq!(web_80, [true, false]);
        for (from, to, traffic) in [
            (&shop, &web, "tcp/81"),
            (&shop, &other, "tcp/80"),
            (&web, &shop, "tcp/80"),
        ] {
            assert!(
                !from.reaches(to, traffic).passed(),
                "{} {} {traffic}",
                from.id,
                to.id
            );
        }
        // A published port leads to it, and policy judges by its own port and who really asks.
        let host: IpAddr = HOST[0].parse().unwrap();
        assert_eq!(probe(&world.outside, host, "tcp/8080").who(), "web");
        assert!(!probe(&world.outside, host, "tcp/8081").passed());
    };
    judged();
    let explained = world.netd("explain shop web tcp/80").ok();
    assert!(explained.contains("allow"), "{explained}");
    for pod in all {
        assert!(pings(pod, GATEWAY), "{}: its gateway answers echo", pod.id);
        chain.check(pod).ok();
    }
    // Nobody is somebody else: addresses, and hardware.
    let address = shop.address();
    other
        .netns
        .sh(&format!("ip addr add {address}/32 dev eth0"));
    let lie = format!("ping -nqc 1 -W 1 -I {address} {GATEWAY}");
    assert_ne!(other.netns.run(&lie).code, 0, "an address of another");
    other
        .netns
        .sh(&format!("ip addr del {address}/32 dev eth0"));
    let mac = other.netns.sh("cat /sys/class/net/eth0/address 2>/dev/null || ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'");
    other.netns.sh("ip link set eth0 address 02:00:00:00:00:99");
    assert!(!pings(&other, GATEWAY), "hardware that nobody was given");
    assert_ne!(chain.check(&other).code, 0, "CHECK sees other hardware");
    let mac = mac.lines().last().unwrap().trim();
    other.netns.sh(&format!(
        "ip link set eth0 address {mac}; ip route replace default via {GATEWAY}"
    ));
    // Nor by IPv6, which such a zone has not.
    let local = "ip -6 -o addr show dev eth0 scope link | sed 's/.*inet6 //; s/[/].*//'";
    for pod in [&shop, &other] {
        pod.netns.sh("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0 net.ipv6.conf.eth0.accept_dad=0; ip link set eth0 up");
    }
    let six = shop.netns.sh(local);
    assert!(six.starts_with("fe80:"), "{six:?}");
    let across = format!("ping -6 -nqc 1 -W 1 {}%eth0", six.trim());
    assert_ne!(other.netns.run(&across).code, 0, "IPv6 between containers");
    // The port is on its bridge, apart from the others, whatever somebody makes of it.
    let port = web.port();
    world.sh(&format!("bridge link set dev {port} isolated off"));
    judged();
    // A new daemon takes them over; the gate is looked at by CHECK.
    world.restart_netd();
    assert_eq!(names(&world), ["other", "shop", "web"]);
    judged();
    world.sh("tc filter del dev cni0 ingress");
    let checked = chain.check(&web);
    assert!(
        checked.code == 1 && checked.stdout.contains("gate"),
        "{checked}"
    );
    world.restart_netd();
    chain.check(&web).ok();
    // ADD again is an error and harms nothing; GC takes who is not valid any more.
    let policy = chain.plugins.last().unwrap();
    let twice = chain.call(
        "ADD",
        policy,
        Some(&web),
        &json!({ "prevResult": web.result }),
    );
    assert!(twice.code == 1 && twice.stdout.contains("twice"), "{twice}");
    judged();
    let valid = json!([{ "containerID": "web", "ifname": "eth0" }, { "containerID": "shop", "ifname": "eth0" }]);
    let mut newer = policy.clone();
    newer["cni.dev/valid-attachments"] = valid;
    // GC is of 1.1.0
    let collected = chain.call("GC", &newer, None, &json!({ "cniVersion": "1.1.0" }));
    collected.ok();
    assert_eq!(names(&world), ["shop", "web"]);
    assert!(
        !pings(&other, GATEWAY),
        "closed, until its plugins delete it"
    );
    judged_without_other(&world, &shop, &web);
    for pod in all {
        chain.del(pod);
        chain.del(pod);
    }
    assert_eq!(names(&world), [] as [&str; 0]);
    let bridge = world.sh("bridge link show; ip -o link show type veth");
    assert!(!bridge.contains("cni0"), "{bridge}");
    // The bridge goes on without netd, as it was.
    let before = "cat /proc/sys/net/ipv4/conf/cni0/proxy_arp_pvlan";
    assert_eq!(world.sh(before).trim(), "1");
    let unclaimed = Chain::bare(&world).add("plain", &json!({}));
    assert!(
        !pings(&unclaimed, GATEWAY),
        "its network has no netd-policy"
    );
    let said = world.netd("status").ok();
    assert!(
        said.contains(unclaimed.port()) && said.contains("netd-policy"),
        "{said}"
    );
    world.netd("zone delete pods").ok();
    assert_eq!(world.sh(before).trim(), "0");
    assert_eq!(
        world.sh("tc filter show dev cni0 ingress; tc filter show dev cni0 egress"),
        ""
    );
    assert!(pings(&unclaimed, GATEWAY), "nobody's business any more");
}

fn judged_without_other(_world: &World, shop: &Pod, web: &Pod) {
    assert!(shop.reaches(web, "tcp/80").passed());
    assert!(!shop.reaches(web, "tcp/81").passed());
}

pub fn nothing_passes_before_netd_policy_whoever_is_dead() {
    let world = world("chain-crash");
    let chain = Chain::new(&world);
    // The bridge comes while no daemon runs: without a gate, and with the rules that name it.
    world.kill_netd();
    let bare = Chain::bare(&world);
    let mut early = bare.add("shop", &json!({}));
    let web = bare.add("web", &json!({}));
    let no_way_out = |pods: [&Pod; 2]| {
        for pod in pods {
            assert!(!pings(pod, HOST[0]), "{}", pod.id);
            let world = probe(&pod.netns, OUTSIDE[0].parse().unwrap(), "tcp/80");
            assert!(!world.passed(), "{}", pod.id);
        }
    };
    let closed = |pods: [&Pod; 2]| {
        for (from, to) in [(pods[0], pods[1]), (pods[1], pods[0])] {
            assert!(
                !from.reaches(to, "tcp/80").passed(),
                "{} to {}",
                from.id,
                to.id
            );
            assert!(!pings(from, &to.address().to_string()));
            assert!(!pings(from, GATEWAY), "{}", from.id);
        }
        no_way_out(pods);
    };
    // The keeper holds what is plugged in, though no process runs in there before its chain is through.
    let apart = || {
        let loose = "bridge -d link show | grep -A9 'master cni0' | grep 'isolated off'";
        while world.netns.run(loose).code == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    apart();
    closed([&early, &web]);
    // The plugin of a chain that finds no daemon fails, and what its runtime deletes then is gone.
    let policy = chain.plugins.last().unwrap();
    let previous = |pod: &Pod| json!({ "prevResult": pod.result });
    let refused = chain.call("ADD", policy, Some(&early), &previous(&early));
    assert!(
        refused.code == 1 && refused.stdout.contains("\"code\":11"),
        "{refused}"
    );
    bare.del(&early);
    bare.try_add(&mut early, &json!({})).unwrap();
    no_way_out([&early, &web]);
    // The interface of the refused one is down.
    let lone = bare.add("lone", &json!({}));
    apart();
    assert!(!pings(&lone, &web.address().to_string()));
    let refused = chain.call("ADD", policy, Some(&lone), &previous(&lone));
    assert_eq!(refused.code, 1, "{refused}");
    let link = lone.netns.sh("ip -o link show eth0");
    assert!(!link.contains(",UP"), "{link}");
    bare.del(&lone);
    world.start_netd();
    closed([&early, &web]);
    assert_eq!(names(&world), [] as [&str; 0]);
    // Both come under policy when their chain comes to it.
    for pod in [&early, &web] {
        chain.call("ADD", policy, Some(pod), &previous(pod)).ok();
    }
    assert!(early.reaches(&web, "tcp/80").passed());
    assert!(!web.reaches(&early, "tcp/80").passed());
    // What cannot be: no prevResult, another address, a zone that is no bridge of others.
    let none = chain.call("ADD", policy, Some(&early), &json!({}));
    assert!(none.stdout.contains("prevResult"), "{none}");
    let third = bare.add("third", &json!({}));
    let mut lie = third.result.clone();
    lie["ips"][0]["address"] = json!(format!("{}/24", web.address()));
    let lied = chain.call("ADD", policy, Some(&third), &json!({ "prevResult": lie }));
    assert!(
        lied.code == 1 && lied.stdout.contains("belongs to container web"),
        "{lied}"
    );
    assert!(!pings(&third, GATEWAY));
    world.zone("own").create();
    let mut wrong = policy.clone();
    wrong["zone"] = json!("own");
    let refused = chain.call("ADD", &wrong, Some(&third), &previous(&third));
    assert!(
        refused.code == 1 && refused.stdout.contains("--bridge"),
        "{refused}"
    );
    let refused = world.netd("attach nobody --zone pods --netns /run/netns/third");
    assert!(
        refused.code == 1 && refused.stderr.contains("netd-policy"),
        "{refused}"
    );
    // A bad policy refuses the container, as with every door.
    world.write_policy("third", "[[ingress]]\nform = []\n");
    world.netd("reload");
    let refused = chain.call("ADD", policy, Some(&third), &previous(&third));
    assert!(refused.stdout.contains("third.toml:2:1"), "{refused}");
    assert!(!pings(&third, GATEWAY));
    // The address of one that is gone is the next one's, who is somebody else.
    chain.del(&early);
    world.no_policy("third");
    let address = early.address().to_string();
    let mut again = Pod::new("heir");
    let mut asking = Chain::new(&world);
    asking.plugins[0]["ipam"]["ranges"] = json!([[
        { "subnet": "10.22.0.0/24", "rangeStart": address, "rangeEnd": address }
    ]]);
    asking.try_add(&mut again, &json!({})).unwrap();
    assert_eq!(again.address().to_string(), address);
    assert!(!again.reaches(&web, "tcp/80").passed(), "it is not shop");
    early.result = Value::Null;
    // The bridge goes with all that is on it; so do its containers, and the zone waits for the next.
    world.sh("ip link del cni0");
    let gone = || names(&world).is_empty();
    let started = std::time::Instant::now();
    while !gone() {
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let late = chain.add("late", &json!({}));
    assert!(pings(&late, GATEWAY));
    chain.check(&late).ok();
}
