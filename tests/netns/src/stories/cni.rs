//! netd as a CNI plugin, called as libcni calls plugins: by the file that the type names, without arguments, with
//! variables and the configuration on standard input.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::net::netns::{Netns, Ran};
use crate::net::probe::probe;
use crate::net::server::Server;
use crate::world::{HOST, World};

/// A network of one plugin, and its folder of plugins.
pub struct Network<'a> {
    world: &'a World,
    pub(super) folder: PathBuf,
    pub(super) config: Value,
    /// CNI_IFNAME
    pub(super) ifname: &'static str,
}

/// A container as runtimes make them: an id, and a namespace that they made.
pub struct Pod {
    pub(super) id: &'static str,
    pub(super) netns: Netns,
    /// CNI_ARGS.
    args: String,
}

impl Pod {
    pub(super) fn new(id: &'static str, name: &str) -> Self {
        let args = match name {
            "" => String::new(),
            name => format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}"),
        };
        let netns = Netns::create(id);
        Self { id, netns, args }
    }
}

impl<'a> Network<'a> {
    pub(super) fn new(world: &'a World, version: &str, name: &str) -> Self {
        let folder = world.dir.join("cni-bin");
        std::fs::create_dir_all(&folder).unwrap();
        let _ = symlink(crate::world::netd_binary(), folder.join("netd"));
        let config = json!({ "cniVersion": version, "name": name, "type": "netd", "zone": "web" });
        Self {
            world,
            folder,
            config,
            ifname: "eth0",
        }
    }

    pub(super) fn with(&self, more: &Value) -> Value {
        let mut config = self.config.clone();
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    pub(super) fn spawn(&self, verb: &str, config: &Value, pod: Option<&Pod>) -> Child {
        let mut command = Command::new(self.folder.join("netd"));
        for (key, value) in self.world.command().get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", &self.folder);
        if let Some(pod) = pod {
            command
                .env("CNI_CONTAINERID", pod.id)
                .env("CNI_IFNAME", self.ifname)
                .env("CNI_ARGS", &pod.args);
            if verb != "DEL" {
                command.env("CNI_NETNS", pod.netns.path());
            }
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.world.netns.enter(|| command.spawn()).unwrap();
        // One that fails at once may not have read everything.
        let _ = child
            .stdin
            .take()
            .unwrap()
            .write_all(config.to_string().as_bytes());
        child
    }

    pub(super) fn call(&self, verb: &str, config: &Value, pod: Option<&Pod>) -> Ran {
        let output = self.spawn(verb, config, pod).wait_with_output().unwrap();
        Ran {
            what: format!("{verb} {config}"),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(super) fn add(&self, pod: &Pod) -> Value {
        self.call("ADD", &self.config, Some(pod)).json()
    }

    /// DEL as the specification demands: no namespace, and success whatever is there.
    #[track_caller]
    pub(super) fn del(&self, pod: &Pod) {
        let said = self.call("DEL", &self.config, Some(pod)).ok();
        assert_eq!(said, "", "DEL prints nothing");
    }

    pub(super) fn check(&self, pod: &Pod, previous: &Value) -> Ran {
        let config = self.with(&json!({ "prevResult": previous }));
        self.call("CHECK", &config, Some(pod))
    }
}

/// The error that a plugin printed: its code, and everything it says.
#[track_caller]
pub(super) fn error(ran: &Ran) -> (u64, String) {
    assert_eq!(ran.code, 1, "{ran}");
    let document: Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran}"));
    assert!(document["cniVersion"].is_string(), "{ran}");
    (document["code"].as_u64().unwrap(), document.to_string())
}

pub(super) fn names(world: &World) -> Vec<String> {
    let list = world.netd("list --json").json();
    let names = list.as_array().unwrap().iter();
    names
        .map(|c| c["container"].as_str().unwrap().to_owned())
        .collect()
}

pub fn a_whole_life_in_every_version() {
    let world = World::new("cni");
    world.zone("web").create();
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut net = Network::new(&world, version, "net");
        net.config["runtimeConfig"] = json!({
            "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
            "aliases": ["front"],
        });
        let pod = Pod::new("id-1", "web");
        let result = net.add(&pod);
        assert_eq!(result["cniVersion"], version, "{result}");
        assert_eq!(names(&world), ["web"], "named by its pod");
        let address = result["ips"][0]["address"].as_str().unwrap();
        let inside = pod.netns.sh("ip -o addr show eth0; ip route");
        assert!(inside.contains(address), "{address}: {inside}");
        let (gateway, domain) = (&result["ips"][0]["gateway"], &result["dns"]["domain"]);
        let (gateway, domain) = (gateway.as_str().unwrap(), domain.as_str().unwrap());
        let found = pod
            .netns
            .sh(&format!("dig +short front.{domain} @{gateway}"));
        assert_eq!(
            found.trim(),
            address.split('/').next().unwrap(),
            "its alias"
        );
        let _server = Server::start(&pod.netns, "web", &["tcp/80".to_owned()]);
        let came = probe(&world.outside, HOST[0].parse().unwrap(), "tcp/8080");
        assert_eq!(came.who(), "web", "its port is published");
        // Called twice, and by somebody else under its name: refused, and nothing happens to it.
        let twice = net.call("ADD", &net.config, Some(&pod));
        assert!(error(&twice).1.contains("twice"), "{twice}");
        let imposter = Pod {
            args: pod.args.replace("default", "other"),
            ..Pod::new("id-2", "web")
        };
        let taken = net.call("ADD", &net.config, Some(&imposter));
        assert!(error(&taken).1.contains("attached already"), "{taken}");
        net.del(&imposter);
        assert_eq!(
            probe(&world.outside, HOST[0].parse().unwrap(), "tcp/8080").who(),
            "web"
        );
        let checked = net.check(&pod, &result);
        match version {
            "0.3.1" => assert_eq!(error(&checked).0, 1, "{checked}"),
            _ => assert_eq!(checked.ok(), "", "{version}"),
        }
        net.del(&pod);
        net.del(&pod);
        assert_eq!(names(&world), [] as [&str; 0]);
        assert_eq!(world.own_links(), ["vz-web"]);
        if version != "0.3.1" {
            let checked = net.check(&pod, &result);
            assert_eq!(error(&checked).0, 3, "it is not attached: {checked}");
        }
        pod.netns.remove();
        imposter.netns.remove();
    }
}

pub fn what_is_asked_for_is_given_or_refused() {
    let world = World::new("cni-wishes");
    world
        .zone("web")
        .option("--subnet4", "10.77.0.0/24")
        .create();
    let net = Network::new(&world, "1.0.0", "net");
    let ask = |runtime: Value| net.with(&json!({ "runtimeConfig": runtime }));
    let pod = Pod::new("id-1", "");
    let config = ask(json!({ "ips": ["10.77.0.99/24"], "mac": "02:00:00:00:00:63" }));
    let result = net.call("ADD", &config, Some(&pod)).json();
    assert_eq!(result["ips"][0]["address"], "10.77.0.99/24");
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:63");
    assert_eq!(
        names(&world),
        ["id-1"],
        "without a pod it is named by its id"
    );
    net.del(&pod);
    let range = json!([[{ "subnet": "10.77.0.0/24", "rangeStart": "10.77.0.200", "rangeEnd": "10.77.0.201" }]]);
    let config = ask(json!({ "ipRanges": range }));
    let pods = ["id-2", "id-3", "id-4"].map(|id| Pod::new(id, ""));
    let mut given: Vec<_> = pods[..2]
        .iter()
        .map(|pod| net.call("ADD", &config, Some(pod)).json()["ips"][0]["address"].clone())
        .collect();
    given.sort_by_key(Value::to_string);
    assert_eq!(given, ["10.77.0.200/24", "10.77.0.201/24"]);
    let full = net.call("ADD", &config, Some(&pods[2]));
    assert!(error(&full).1.contains("10.77.0.200-10.77.0.201"), "{full}");
    for (what, more, code) in [
        (
            "a limit",
            json!({ "runtimeConfig": { "bandwidth": { "ingressRate": 999 } } }),
            7,
        ),
        ("a key", json!({ "isGateway": true }), 2),
        ("a zone", json!({ "zone": "none" }), 7),
        (
            "an address",
            json!({ "runtimeConfig": { "ips": ["192.0.2.77"] } }),
            100,
        ),
        (
            "an alias",
            json!({ "runtimeConfig": { "aliases": ["not a name"] } }),
            7,
        ),
    ] {
        let refused = net.call("ADD", &net.with(&more), Some(&pods[2]));
        assert_eq!(error(&refused).0, code, "{what}: {refused}");
    }
    // An interface that is there already is not touched.
    let link = "ip -o link show eth0";
    pods[2]
        .netns
        .sh("ip link add eth0 type veth peer name other");
    let before = pods[2].netns.sh(link);
    error(&net.call("ADD", &net.config, Some(&pods[2])));
    assert_eq!(pods[2].netns.sh(link), before);
    assert_eq!(
        names(&world),
        ["id-2", "id-3"],
        "what was refused left nothing"
    );
}

pub fn check_sees_what_is_missing() {
    let world = World::new("cni-check");
    world.zone("web").create();
    let net = Network::new(&world, "1.1.0", "net");
    let pod = Pod::new("id-1", "web");
    let result = net.add(&pod);
    let address = result["ips"][0]["address"].as_str().unwrap();
    let gateway = result["ips"][0]["gateway"].as_str().unwrap();
    for (spoil, mend, words) in [
        (
            "ip route del default".to_owned(),
            format!("ip route add default via {gateway}"),
            "route 0.0.0.0/0",
        ),
        (
            format!("ip addr del {address} dev eth0"),
            format!("ip addr add {address} dev eth0; ip route add default via {gateway}"),
            address,
        ),
        (
            "ip link set eth0 address 02:00:00:00:00:01".to_owned(),
            format!(
                "ip link set eth0 address {}",
                result["interfaces"][2]["mac"].as_str().unwrap()
            ),
            "hardware address",
        ),
        (
            "ip link set eth0 name eth9".to_owned(),
            String::new(),
            "interface eth0 is missing",
        ),
    ] {
        net.check(&pod, &result).ok();
        pod.netns.sh(&spoil);
        let checked = net.check(&pod, &result);
        let (code, said) = error(&checked);
        assert!(code >= 100 && said.contains(words), "{spoil}: {checked}");
        pod.netns.sh(&mend);
    }
    let limits = json!({ "egressRate": 20_000_000, "egressBurst": 800_000 });
    let runtime = json!({ "runtimeConfig": { "bandwidth": limits } });
    let limited = Pod::new("id-3", "limited");
    let previous = net.call("ADD", &net.with(&runtime), Some(&limited)).json();
    let status = world.netd("status limited --json").json();
    let limit = json!([{ "direction": "egress", "rate": 20_000_000, "burst": 100_000 }]);
    assert_eq!(status["bandwidth"], limit);
    net.check(&limited, &previous).ok();
    world.sh("tc filter del dev vb-limited ingress");
    let (_, said) = error(&net.check(&limited, &previous));
    assert!(said.contains("not limited"), "{said}");
    net.del(&limited);
    // The result of another container, and one that says more than there is.
    let other = Pod::new("id-2", "other");
    let others = net.add(&other);
    let mut wrong = others.clone();
    wrong["ips"][0]["address"] = json!("10.1.2.3/24");
    let (_, said) = error(&net.check(&other, &wrong));
    assert!(said.contains("10.1.2.3"), "{said}");
    net.check(&other, &others).ok();
    // A daemon that comes back knows it still; its host end gone means the container is.
    world.kill_netd();
    assert_eq!(error(&net.check(&other, &others)).0, 11);
    world.start_netd();
    net.check(&other, &others).ok();
    world.sh("ip link del vb-other");
    error(&net.check(&other, &others));
}

pub fn gc_reclaims_what_is_of_the_network_and_not_valid() {
    let world = World::new("cni-gc");
    world.zone("web").create();
    let (net, second) = (
        Network::new(&world, "1.1.0", "net"),
        Network::new(&world, "1.1.0", "net-2"),
    );
    let pods = ["id-1", "id-2", "id-3"].map(|id| Pod::new(id, ""));
    let foreign = Pod::new("id-4", "");
    for pod in &pods {
        net.add(pod);
    }
    second.add(&foreign);
    let _own = world.container("own").in_zone("web").start();
    world.restart_netd();
    // Two have gone without a DEL; one of them took its namespace along.
    pods[1].netns.remove();
    let collect = |valid: Value| {
        let config = net.with(&json!({ "cni.dev/valid-attachments": valid }));
        net.call("GC", &config, None)
    };
    error(&net.call("GC", &net.config, None));
    assert!(
        names(&world).contains(&"id-3".to_owned()),
        "no list is not an empty one"
    );
    let valid = json!([{ "containerID": "id-1", "ifname": "eth0" }, { "containerID": "id-3", "ifname": "eth1" }]);
    assert_eq!(collect(valid).ok(), "");
    assert_eq!(names(&world), ["id-1", "id-4", "own"]);
    assert_eq!(collect(json!([])).ok(), "");
    assert_eq!(names(&world), ["id-4", "own"]);
    second.del(&foreign);
    assert_eq!(names(&world), ["own"]);
}

pub fn status_tells_of_daemon_zone_and_addresses() {
    let world = World::new("cni-status");
    world
        .zone("web")
        .option("--subnet4", "10.77.0.0/24")
        .option("--pool", "10.77.0.10-10.77.0.10")
        .create();
    let net = Network::new(&world, "1.1.0", "net");
    assert_eq!(net.call("STATUS", &net.config, None).ok(), "");
    let none = net.call("STATUS", &net.with(&json!({ "zone": "none" })), None);
    assert_eq!(error(&none).0, 50, "{none}");
    world.kill_netd();
    assert_eq!(error(&net.call("STATUS", &net.config, None)).0, 50);
    world.start_netd();
    let pod = Pod::new("id-1", "");
    net.add(&pod);
    let full = net.call("STATUS", &net.config, None);
    assert!(
        error(&full).0 == 50 && error(&full).1.contains("address"),
        "{full}"
    );
    world.kill_netd();
    assert_eq!(error(&net.call("STATUS", &net.config, None)).0, 51);
    world.start_netd();
    net.del(&pod);
    // The address is kept for the name as long as nobody needs it more, and free when the link is deleted.
    let started = Instant::now();
    while net.call("STATUS", &net.config, None).code != 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "still full");
        std::thread::sleep(Duration::from_millis(20));
    }
    let next = Pod::new("id-2", "");
    assert_eq!(net.add(&next)["ips"][0]["address"], "10.77.0.10/24");
    net.del(&next);
    world.restart_netd();
    net.add(&pod);
    error(&net.call("ADD", &net.config, Some(&next)));
}

pub fn killed_at_any_moment_a_del_leaves_nothing() {
    let world = World::new("cni-killed");
    world.zone("web").create();
    let net = Network::new(&world, "1.0.0", "net");
    for round in 0..24 {
        let pod = Pod::new("id-1", "web");
        let mut add = net.spawn("ADD", &net.config, Some(&pod));
        std::thread::sleep(Duration::from_micros(round * 700));
        let _ = add.kill();
        let _ = add.wait();
        if round % 8 == 7 {
            // The daemon too, in the middle or after it: DEL may be tried again, and works then.
            world.kill_netd();
            let failed = net.call("DEL", &net.config, Some(&pod));
            assert_eq!(error(&failed).0, 11, "{failed}");
            world.start_netd();
        }
        // An ADD of which only the daemon knows, or will know in a moment.
        net.del(&pod);
        pod.netns.remove();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !names(&world).is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", names(&world));
            net.del(&pod);
        }
    }
    assert_eq!(world.own_links(), ["vz-web"]);
    let pod = Pod::new("id-1", "web");
    net.add(&pod);
    net.del(&pod);
}
