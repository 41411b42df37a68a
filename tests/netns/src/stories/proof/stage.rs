//! A plan made real: a host, a world outside, a daemon, and every container attached by `netd attach`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use super::ask::Lie;
use super::draw::places::{self, address};
use super::draw::plan::{self, Container, File, Plan};
use super::draw::{Scene, paper};
use super::told;
use crate::net::ears::{self, Ears, Place};
use crate::net::netns::Netns;
use crate::net::volley::{self, Carried, Shot};
use crate::world::World;

/// A running world. [`Stage::end`] takes it away.
pub struct Stage {
    /// The host and its daemon.
    pub world: World,
    /// What there should be.
    pub plan: Plan,
    /// What there is, as the daemon tells it.
    pub scene: Scene,
    /// What is heard everywhere.
    pub ears: Ears,
    /// Ports of the host that somebody else holds.
    pub taken: Vec<String>,
    /// What the oracle overlooks.
    pub lie: Option<Lie>,
    netns: BTreeMap<String, Netns>,
    next_key: u16,
}

/// Answers may come as fast as they are asked for, and nobody asks from the ports that probes come from.
const TUNED: &str = "cd /proc/sys/net/ipv4; echo 0 >icmp_ratelimit; echo 0 >../ipv6/icmp/ratelimit; \
    for f in icmp_msgs_per_sec icmp_msgs_burst; do echo 1000000 >$f || :; done 2>/dev/null; \
    echo 9000 9999 >ip_local_port_range";

impl Stage {
    /// Makes everything that a plan says.
    pub fn set(plan: &Plan, title: &str) -> Self {
        let world = World::quiet_beside(title);
        world.netns.sh(TUNED);
        world.outside.sh(TUNED);
        let more: Vec<IpAddr> = places::WORLD
            .into_iter()
            .chain([places::METADATA])
            .map(address)
            .collect();
        let lines = more
            .iter()
            .map(|more| format!("addr replace {more} dev lo nodad\n"));
        let own = ["192.0.2.2", "2001:db8:1::2"];
        let lines: String = lines
            .filter(|line| !own.iter().any(|own| line.contains(&format!(" {own} "))))
            .collect();
        world.outside.sh(&format!("ip -b - <<'X'\n{}X", lines));
        let mut stage = Self {
            world,
            plan: Plan::default(),
            scene: Scene::default(),
            ears: Ears::open(),
            taken: Vec::new(),
            lie: None,
            netns: BTreeMap::new(),
            next_key: places::FIRST_KEY,
        };
        let world = stage.world.outside.clone();
        stage.listen("world", world, more);
        if !plan.groups.is_empty() {
            let path = stage.world.folder("config").join("groups.toml");
            fs::write(path, plan.groups_text()).unwrap();
        }
        for file in &plan.files {
            stage.world.write_policy(&file.name, &file.text());
        }
        stage.world.start_netd();
        for zone in &plan.zones {
            stage.world.netd(&zone.command()).ok();
        }
        stage.plan.zones.clone_from(&plan.zones);
        stage.plan.files.clone_from(&plan.files);
        stage.plan.groups.clone_from(&plan.groups);
        stage.plan.today = plan.today;
        let gateways = plan.zones.iter().flat_map(|zone| zone.gateways());
        let host = places::HOST.iter().map(|text| (*text).to_owned());
        let host = gateways.chain(host).map(|text| address(&text)).collect();
        let netns = stage.world.netns.clone();
        stage.taken = stage.listen("host", netns, host);
        for container in &plan.containers {
            stage.attach(container);
        }
        stage.look();
        stage.greet();
        stage
    }

    /// Lets neighbours find each other: until they have, the kernel keeps few packets for each.
    fn greet(&mut self) {
        let mut greetings = Vec::new();
        for (name, netns) in self.netns.clone() {
            let to: Vec<IpAddr> = match self.plan.container(&name) {
                Some(container) => {
                    let zone = self.plan.zone(container.zone);
                    let gateways = zone.map(plan::Zone::gateways).unwrap_or_default();
                    gateways.iter().map(|text| address(text)).collect()
                }
                None if name == "world" => places::HOST.map(address).to_vec(),
                None => ["192.0.2.2", "2001:db8:1::2"].map(address).to_vec(),
            };
            let shots: Vec<Shot> = to
                .into_iter()
                .map(|to| Shot {
                    key: self.key(),
                    source: None,
                    to,
                    carried: Carried::Icmp(8),
                    keep: false,
                })
                .collect();
            greetings.push((netns, shots));
        }
        std::thread::scope(|scope| {
            for (netns, shots) in greetings {
                scope.spawn(move || volley::fire(&netns, &shots, Duration::from_secs(2)));
            }
        });
    }

    /// Opens the ports of a container to which its doors lead, as far as they are not among those of everybody.
    fn listen_behind_doors(&mut self, container: &Container) {
        let name = container.name();
        let mut place = Place {
            netns: self.netns[&name].clone(),
            tcp: Vec::new(),
            udp: Vec::new(),
            addresses: Vec::new(),
            name,
        };
        for publish in &container.publish {
            let (ports, known) = if publish.udp {
                (&mut place.udp, &places::UDP[..])
            } else {
                (&mut place.tcp, &places::TCP[..])
            };
            let last = publish.port + (publish.last - publish.first);
            for port in [publish.port, last] {
                if !known.contains(&port) && !ports.contains(&port) {
                    ports.push(port);
                }
            }
        }
        // Those of an earlier time are open already.
        self.ears.add_servers(&place);
    }

    fn listen(&mut self, name: &str, netns: Netns, addresses: Vec<IpAddr>) -> Vec<String> {
        let place = Place {
            name: name.to_owned(),
            netns: netns.clone(),
            tcp: places::TCP.to_vec(),
            udp: places::UDP.to_vec(),
            addresses,
        };
        self.netns.insert(name.to_owned(), netns);
        self.ears.add(&place)
    }

    /// Attaches a container; its namespace is made when it comes for the first time.
    pub fn attach(&mut self, container: &Container) {
        let Some(zone) = self.plan.zone(container.zone) else {
            return;
        };
        let zone = zone.clone();
        let name = container.name();
        if !self.netns.contains_key(&name) {
            let netns = Netns::create(&name);
            netns.sh("ip link set lo up");
            self.listen(&name, netns, Vec::new());
        }
        self.listen_behind_doors(container);
        let path = self.netns[&name].path();
        let line = container.command(&zone, &path.display().to_string());
        self.world.netd(&line).ok();
        let addresses = container.addresses(&zone);
        let own = addresses.iter().filter_map(|own| own.parse().ok());
        for another in own.filter_map(places::another).filter(|_| zone.wide) {
            // never chosen where nobody asks for it
            self.netns[&name].sh(&format!(
                "ip addr replace {another}/128 dev host0 nodad preferred_lft 0"
            ));
        }
        self.plan
            .containers
            .retain(|one| one.index != container.index);
        self.plan.containers.push(container.clone());
    }

    /// Detaches a container.
    pub fn detach(&mut self, name: &str) {
        self.world.netd(&format!("detach {name}")).ok();
        self.plan.containers.retain(|one| one.name() != name);
    }

    /// Writes a file, or takes it away, and waits until that is in force.
    pub fn edit(&mut self, name: &str, file: Option<&File>) {
        self.plan.files.retain(|file| file.name != name);
        match file {
            Some(file) => {
                self.world.policy(name, &file.text());
                self.plan.files.push(file.clone());
            }
            None => self.world.no_policy(name),
        }
    }

    /// Writes groups.toml anew and waits until that is in force.
    pub fn regroup(&mut self, groups: &[Vec<String>]) {
        self.plan.groups = groups.to_vec();
        let path = self.world.folder("config").join("groups.toml");
        fs::write(path, self.plan.groups_text()).unwrap();
        self.world.netd("reload").ok();
    }

    /// Asks the daemon what there is, and holds it to what there should be.
    pub fn look(&mut self) {
        let zones = self.world.netd("zone list --json").json();
        let containers = self.world.netd("list --json").json();
        let mut wanted = paper::scene(&self.plan);
        let mut world = told::world(&zones, &containers);
        // The daemon tells no time; that it keeps the right one is said elsewhere.
        world.clock = wanted.world.clock;
        for zone in wanted.world.zones.values_mut() {
            zone.masquerade6 = false;
        }
        for container in wanted.world.containers.values_mut() {
            container.ifindex = 0;
            container.publish.sort();
        }
        let mut sorted = world.clone();
        for container in sorted.containers.values_mut() {
            container.addresses.sort();
            container.publish.sort();
        }
        assert_eq!(
            sorted, wanted.world,
            "the daemon tells of another world than was asked for"
        );
        self.scene = Scene {
            world,
            policies: wanted.policies,
        };
    }

    /// A namespace by name.
    pub fn netns(&self, name: &str) -> Option<&Netns> {
        self.netns.get(name)
    }

    /// A number that no probe of this world has had.
    pub fn key(&mut self) -> u16 {
        let key = self.next_key;
        // The last port of all is one on which everybody answers.
        assert!(
            key < u16::MAX,
            "more probes in one world than there are ports"
        );
        self.next_key += 1;
        key
    }

    /// How many keys are left.
    pub fn keys_left(&self) -> usize {
        usize::from(u16::MAX - self.next_key)
    }

    /// Packets that no ear had room for.
    pub fn lost(&self) -> u64 {
        self.netns.values().map(ears::lost).sum()
    }

    /// Takes it all away; what comes next begins anew.
    pub fn end(self) {
        self.world.kill_netd();
        self.world.kill_keepers();
        drop(self.ears);
        for netns in self.netns.values() {
            netns.remove();
        }
    }
}
