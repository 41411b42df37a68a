//! What names open, event by event: elements that come and go are those that a fresh start would give, and the oracle
//! says the same.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use firewall::compile::Firewall;
use firewall::model::{Container, DefaultPolicy, Endpoint, Flow, Traffic, Zone};
use firewall::oracle;
use firewall::policy::PolicyFile;
use firewall::sets::{Changes, Element, Family, Life, SetId};

/// A firewall, and the elements that its changes have made of nothing.
struct Story {
    firewall: Firewall,
    there: BTreeSet<Element>,
}

impl Story {
    fn new() -> Self {
        let mut story = Self {
            firewall: Firewall::new(),
            there: BTreeSet::new(),
        };
        story.zone("dmz", 0);
        for (n, name) in ["web", "db"].into_iter().enumerate() {
            story.attach(name, n as u8 + 2);
        }
        story
    }

    fn zone(&mut self, name: &str, third: u8) {
        let changes = self.firewall.set_zone(Zone {
            name: name.parse().unwrap(),
            bridge: format!("vz-{name}").parse().unwrap(),
            subnet4: format!("10.89.{third}.0/24").parse().ok(),
            subnet6: None,
            gateway4: format!("10.89.{third}.1").parse().ok(),
            gateway6: None,
            internal: false,
            default: DefaultPolicy::Deny,
            masquerade6: false,
            uplink: None,
            relays: Vec::new(),
        });
        self.apply(&changes);
    }

    fn attach(&mut self, name: &str, last: u8) {
        let changes = self.firewall.attach(Container {
            name: name.parse().unwrap(),
            zone: "dmz".parse().unwrap(),
            ifindex: last.into(),
            mac: zone::MacAddr([2, 0, 0, 0, 0, last]),
            addresses: vec![format!("10.89.0.{last}").parse().unwrap()],
            labels: Default::default(),
            publish: Vec::new(),
        });
        self.apply(&changes);
    }

    fn policy(&mut self, name: &str, text: &str) {
        let file = Arc::new(PolicyFile::parse(&format!("{name}.toml"), text).unwrap());
        let changes = self.firewall.edit_policies([(name.to_owned(), Some(file))]);
        self.apply(&changes);
    }

    fn open(&mut self, container: &str, name: &str, addresses: &[(&str, u64)]) -> Changes {
        let addresses: Vec<(IpAddr, u64)> = addresses
            .iter()
            .map(|(address, until)| (address.parse().unwrap(), *until))
            .collect();
        let changes = self
            .firewall
            .open(&container.parse().unwrap(), name, &addresses);
        self.apply(&changes);
        changes
    }

    fn lapse(&mut self, now: u64) -> Changes {
        let changes = self.firewall.lapse(now);
        self.apply(&changes);
        changes
    }

    fn apply(&mut self, changes: &Changes) {
        for element in &changes.remove {
            assert!(self.there.remove(element), "{element:?} is not there");
        }
        for element in &changes.add {
            assert!(self.there.insert(element.clone()), "{element:?} is there");
        }
        let fresh: BTreeSet<Element> = self.firewall.elements().into_iter().collect();
        assert_eq!(self.there, fresh, "a fresh start");
    }

    fn allows(&self, from: &str, to: &str, port: u16) -> bool {
        let flow = Flow {
            from: Endpoint::Container(from.parse().unwrap()),
            to: Endpoint::Address(to.parse().unwrap()),
            traffic: Traffic::Port(6, port),
            family: Family::V4,
            published: false,
        };
        oracle::allows(self.firewall.world(), self.firewall.policies(), &flow)
    }

    fn resolved(&self) -> usize {
        let all = self.there.iter();
        all.filter(|e| matches!(e.set, SetId::Resolved(_))).count()
    }
}

const WEB: &str = "[[egress]]\nto = [\"dns:*.example.org\"]\nports = [\"tcp/80\"]\n\
                   [[egress]]\nto = [\"dns:www.example.org\"]\nports = [\"tcp/1000-2000\"]\n\
                   [[egress]]\nto = [\"dns:slow.example.net\"]\nrate = \"1/minute\"\n";

#[test]
fn what_is_resolved_is_open_to_one_container_in_time() {
    let mut story = Story::new();
    story.policy("web", WEB);
    story.policy("db", WEB);
    assert!(!story.allows("web", "198.51.100.7", 80));
    story.open(
        "web",
        "a.example.org",
        &[("198.51.100.7", 100), ("198.51.100.8", 100)],
    );
    assert!(story.allows("web", "198.51.100.7", 80) && story.allows("web", "198.51.100.8", 80));
    assert!(
        !story.allows("web", "198.51.100.7", 1000),
        "a rule about another name"
    );
    assert!(
        !story.allows("db", "198.51.100.7", 80),
        "nothing to anybody else"
    );
    let first = story.open("web", "a.example.org", &[("198.51.100.9", 100)]);
    assert_eq!(
        (first.add.len(), first.remove.len()),
        (1, 0),
        "one element an address"
    );
    assert!(!first.forget);
    // what is open for longer stays so, and what is told again lasts longer
    assert!(
        story
            .open("web", "a.example.org", &[("198.51.100.9", 90)])
            .is_empty()
    );
    let longer = story.open("web", "a.example.org", &[("198.51.100.9", 300)]);
    let life = longer.add[0].timeout;
    assert!(
        matches!(life, Some(Life::Until(until)) if until >= 300),
        "{life:?}"
    );
    // another name of the same address, for a while
    story.open("web", "www.example.org", &[("198.51.100.9", 200)]);
    assert!(story.allows("web", "198.51.100.9", 80) && story.allows("web", "198.51.100.9", 1500));
    story.open("web", "slow.example.net", &[("203.0.113.1", 400)]);
    assert!(story.allows("web", "203.0.113.1", 22));
    assert_eq!(story.firewall.lapse_due(), Some(100));
    assert!(story.lapse(99).is_empty());
    story.lapse(100);
    assert!(!story.allows("web", "198.51.100.7", 80));
    story.lapse(250);
    assert!(story.allows("web", "198.51.100.9", 80) && !story.allows("web", "198.51.100.9", 1500));
    assert!(!story.lapse(1000).forget, "who runs goes on");
    assert_eq!((story.resolved(), story.firewall.lapse_due()), (0, None));
    assert!(story.firewall.world().resolved.is_empty());
}

#[test]
fn edits_and_containers_that_come_and_go_take_it_along() {
    let mut story = Story::new();
    story.policy("web", WEB);
    story.open("web", "www.example.org", &[("198.51.100.7", 100)]);
    story.open("nobody", "www.example.org", &[("198.51.100.7", 100)]);
    // a name that no rule is about opens nothing
    story.open("web", "elsewhere.org", &[("198.51.100.8", 100)]);
    assert!(!story.allows("web", "198.51.100.8", 80));
    story.policy(
        "web",
        "[[egress]]\nto = [\"dns:www.example.org\"]\nports = [\"tcp/22\"]\n",
    );
    assert!(story.allows("web", "198.51.100.7", 22) && !story.allows("web", "198.51.100.7", 80));
    story.policy("web", "egress = []");
    assert!(!story.allows("web", "198.51.100.7", 22));
    assert_eq!(story.resolved(), 0);
    story.policy("web", WEB);
    assert!(story.allows("web", "198.51.100.7", 80), "it holds still");
    story.policy("more", "applies-to = { zone = \"dmz\" }\n[[egress]]\naction = \"deny\"\nto = [\"198.51.100.0/24\"]\n");
    assert!(!story.allows("web", "198.51.100.7", 80), "a deny wins");
    story.policy("more", "applies-to = { zone = \"dmz\" }\negress = []");
    story.attach("web", 9);
    assert!(
        story.allows("web", "198.51.100.7", 80),
        "with another address"
    );
    let changes = story.firewall.detach(&"web".parse().unwrap());
    story.apply(&changes);
    assert_eq!((story.resolved(), story.firewall.lapse_due()), (0, None));
    story.attach("web", 9);
    assert!(!story.allows("web", "198.51.100.7", 80));
}

#[test]
fn nothing_but_the_world_is_open_by_name() {
    let mut story = Story::new();
    story.policy("web", "[[egress]]\nto = [\"dns:*.example.org\"]\n");
    story.policy("db", "[[ingress]]\nfrom = [\"any\"]\n");
    let own = [
        "10.89.0.1",
        "10.89.0.3",
        "10.89.0.77",
        "127.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
    ];
    for address in own {
        story.open("web", "a.example.org", &[(address, 100)]);
        assert!(!story.allows("web", address, 80), "{address}");
    }
    story.open("web", "a.example.org", &[("10.89.7.7", 100)]);
    assert!(story.allows("web", "10.89.7.7", 80));
    story.zone("late", 7);
    assert!(!story.allows("web", "10.89.7.7", 80), "a zone's now");
}

#[test]
fn what_one_container_has_open_is_bounded() {
    let mut story = Story::new();
    story.policy("web", "[[egress]]\nto = [\"dns:*.example.org\"]\n");
    for n in 0..1200_u64 {
        let address = format!("198.51.{}.{}", n / 200, n % 200 + 1);
        let changes = story.firewall.open(
            &"web".parse().unwrap(),
            "a.example.org",
            &[(address.parse().unwrap(), 1000 + n)],
        );
        assert!(changes.add.len() <= 3);
    }
    let world = story.firewall.world();
    let resolved = &world.resolved["web"];
    assert_eq!(resolved.len(), 1024);
    assert!(
        !resolved.contains_key(&"198.51.0.1".parse().unwrap()),
        "the first to end gave way"
    );
    for n in 0..100_u64 {
        let name = format!("n{n}.example.org");
        let at = "198.51.5.200".parse().unwrap();
        story
            .firewall
            .open(&"web".parse().unwrap(), &name, &[(at, 5000 + n)]);
    }
    let names = &story.firewall.world().resolved["web"];
    assert_eq!(names[&"198.51.5.200".parse().unwrap()].len(), 16);
}

#[test]
fn what_is_only_noted_opens_nothing_and_takes_no_room() {
    let mut story = Story::new();
    let rule = "[[egress]]\nto = [\"dns:*.example.org\"]\n";
    let trial = "mode = \"audit\"\napplies-to = { container = \"web\" }\n[[egress]]\nto = [\"dns:*.example.net\"]\n";
    story.policy("trial", trial);
    let noted = story.open("web", "a.example.net", &[("203.0.113.7", 900)]);
    assert!(noted.is_empty() && story.resolved() == 0);
    assert!(!story.allows("web", "203.0.113.7", 80));
    assert!(story.firewall.world().resolved["web"].contains_key(&"203.0.113.7".parse().unwrap()));
    // An address of both kinds of names lives as long as the one in force says.
    story.policy("web", rule);
    story.open("web", "a.example.org", &[("203.0.113.8", 500)]);
    let beside = story.open("web", "b.example.net", &[("203.0.113.8", 100)]);
    assert!(beside.is_empty(), "{beside:?}");
    story.lapse(200);
    assert!(story.allows("web", "203.0.113.8", 80));
    // Much that is noted ends nothing that is open, in addresses and in names.
    let web = "web".parse().unwrap();
    for n in 0..1500_u32 {
        let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let changes = story
            .firewall
            .open(&web, "c.example.net", &[(address, 2000)]);
        assert!(changes.is_empty());
    }
    for n in 0..40 {
        story.open(
            "web",
            &format!("n{n}.example.net"),
            &[("203.0.113.8", 2000)],
        );
    }
    assert!(story.allows("web", "203.0.113.8", 80));
    assert_eq!(story.firewall.world().resolved["web"].len(), 1024);
    // What is opened makes room among what is noted, and only there when there is nothing else.
    for n in 0..1200_u32 {
        let address = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
        story
            .firewall
            .open(&web, "d.example.org", &[(address, 3000 + u64::from(n))]);
    }
    let changes = story
        .firewall
        .open(&web, "c.example.net", &[([12, 0, 0, 1].into(), 9000)]);
    assert!(changes.is_empty());
    let resolved = &story.firewall.world().resolved["web"];
    let open =
        |names: &std::collections::BTreeMap<Box<str>, u64>| names.contains_key("d.example.org");
    assert_eq!(resolved.values().filter(|names| open(names)).count(), 1024);
    // In force, it is open for as long as it holds.
    story.firewall.close(&web);
    story = Story::new();
    story.policy("trial", trial);
    story.open("web", "a.example.net", &[("203.0.113.7", 900)]);
    story.policy("trial", &trial.replace("audit", "enforce"));
    assert!(story.allows("web", "203.0.113.7", 80));
}
