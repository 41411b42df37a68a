//! Events one by one: whom they concern, what they change, and when verdicts must be forgotten.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use std::sync::Arc;

use firewall::compile::Firewall;
use firewall::model::{Container, DefaultPolicy, Publish, Zone};
use firewall::policy::PolicyFile;
use firewall::sets::Changes;
use pure::kernel::Kernel;
use pure::print;
use pure::story::Story;

/// A firewall and a kernel that follows it change by change, and must always have all its elements.
struct Live {
    firewall: Firewall,
    kernel: Kernel,
}

impl Live {
    fn new(story: Story) -> Self {
        let firewall = story.firewall;
        let kernel = Kernel::new(&firewall.elements());
        Self { firewall, kernel }
    }

    /// Lets something happen. The lines of what it removed (`-`) and added (`+`), and whether verdicts
    /// are forgotten.
    fn after(&mut self, event: impl FnOnce(&mut Firewall) -> Changes) -> (Vec<String>, bool) {
        let before = self.firewall.clone();
        let changes = event(&mut self.firewall);
        self.kernel.apply(&changes);
        let now = print::elements(&self.firewall, &self.kernel.dump());
        assert_eq!(
            now,
            print::elements(&self.firewall, &self.firewall.elements())
        );
        let squeeze = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let removed = print::elements(&before, &changes.remove).into_iter();
        let added = print::elements(&self.firewall, &changes.add).into_iter();
        let removed = removed.map(|line| squeeze(format!("- {line}")));
        let lines = removed
            .chain(added.map(|line| squeeze(format!("+ {line}"))))
            .collect();
        (lines, changes.forget)
    }

    fn container(&self, name: &str) -> Container {
        self.firewall.world().containers[name].clone()
    }

    fn zone(&self, name: &str) -> Zone {
        self.firewall.world().zones[name].clone()
    }

    fn edit(&mut self, file: &str, text: &str) -> (Vec<String>, bool) {
        let read = PolicyFile::parse(file, text).unwrap_or_else(|wrong| panic!("{wrong}"));
        self.after(|firewall| firewall.edit_policies([(file.to_owned(), Some(Arc::new(read)))]))
    }

    fn remove_file(&mut self, file: &str) -> (Vec<String>, bool) {
        self.after(|firewall| firewall.edit_policies([(file.to_owned(), None)]))
    }
}

fn start() -> Story {
    Story::new()
        .zone("dmz", DefaultPolicy::Egress)
        .zone("lan", DefaultPolicy::Egress)
        .container("web", "dmz", "tier=front", "")
        .container("db", "lan", "tier=back", "")
}

fn named(lines: &[String], address: &str) -> Vec<String> {
    let about = lines
        .iter()
        .filter(|line| line.split(' ').any(|word| word == address));
    about.cloned().collect()
}

#[test]
fn the_same_twice_changes_nothing() {
    let mut live = Live::new(start().file("web.toml", "ingress = []"));
    let (web, dmz) = (live.container("web"), live.zone("dmz"));
    let policies = live.firewall.policies().clone();
    assert_eq!(live.after(|f| f.attach(web)), (vec![], false));
    assert_eq!(live.after(|f| f.set_zone(dmz)), (vec![], false));
    assert_eq!(live.after(|f| f.set_policies(policies)), (vec![], false));
    assert_eq!(
        live.edit("web.toml", "\n# a comment\ningress = []"),
        (vec![], false)
    );
    assert_eq!(
        live.after(|f| f.detach(&"nobody".parse().unwrap())),
        (vec![], false)
    );
    assert_eq!(
        live.after(|f| f.remove_zone(&"nowhere".parse().unwrap())),
        (vec![], false)
    );
}

#[test]
fn a_fresh_attach_and_a_detach_forget_nothing_and_an_address_given_again_does() {
    let mut live = Live::new(start());
    let web = live.container("web");
    let (removed, forget) = live.after(|f| f.detach(&web.name));
    assert!(!forget && removed.iter().all(|line| line.starts_with('-')));
    // another one gets its address: connections may remember verdicts about web
    let other = Container {
        name: "other".parse().unwrap(),
        ..web.clone()
    };
    let (added, forget) = live.after(|f| f.attach(other));
    assert!(forget && added.iter().all(|line| line.starts_with('+')));
    // and now they do not any more
    let fresh = Container {
        name: "fresh".parse().unwrap(),
        ifindex: 900,
        addresses: vec!["10.89.0.99".parse().unwrap()],
        ..web
    };
    assert!(!live.after(|f| f.attach(fresh)).1);
}

#[test]
fn also_the_same_container_when_it_comes_back() {
    // its policy may have changed while it was away, and with it no element
    let mut live = Live::new(start().file("web.toml", "[[ingress]]"));
    let web = live.container("web");
    live.after(|f| f.detach(&web.name));
    assert_eq!(live.edit("web.toml", "ingress = []"), (vec![], false));
    assert!(live.after(|f| f.attach(web)).1);
}

#[test]
fn an_address_that_a_network_of_somebody_covers_is_not_fresh() {
    // web may have sent to 10.89.1.9 while nobody was there: nobody's ingress was asked
    let net = "[[egress]]\nto = [\"10.89.1.0/24\"]";
    let mut live = Live::new(start().file("web.toml", net));
    let late = |live: &Live| Container {
        name: "late".parse().unwrap(),
        ifindex: 900,
        addresses: vec!["10.89.1.9".parse().unwrap()],
        ..live.container("db")
    };
    let late = late(&live);
    assert!(live.after(|f| f.attach(late)).1);
    let mut live = Live::new(start().file("web.toml", net));
    live.remove_file("web.toml");
    let late = Container {
        name: "late".parse().unwrap(),
        ifindex: 900,
        addresses: vec!["10.89.1.9".parse().unwrap()],
        ..live.container("db")
    };
    assert!(!live.after(|f| f.attach(late)).1);
}

#[test]
fn edits_forget_when_they_may_tighten() {
    let mut live = Live::new(start());
    // the default is replaced
    let one = "[[egress]]\nto = [\"container:db\"]\nports = [\"tcp/80\"]\n";
    assert!(live.edit("web.toml", one).1);
    let more = format!("{one}[[egress]]\nto = [\"host\"]\nports = [\"tcp/22\"]\n");
    let (lines, forget) = live.edit("web.toml", &more);
    assert_eq!(
        lines,
        [
            "+ eg4_allow_group_port 10.89.0.2 . host . tcp . 22",
            "+ eg6_allow_group_port fd00::2 . host . tcp . 22"
        ]
    );
    assert!(!forget, "a rule that allows more");
    let denied = format!("{more}[[egress]]\naction = \"deny\"\nto = [\"198.51.100.7\"]\n");
    let (lines, forget) = live.edit("web.toml", &denied);
    assert_eq!(
        lines,
        [
            "- eg4_nodeny 10.89.0.2",
            "+ eg4_deny_peer 10.89.0.2 . 198.51.100.7"
        ]
    );
    assert!(forget, "a deny more");
    assert!(!live.edit("web.toml", &more).1, "a deny less");
    assert!(live.edit("web.toml", one).1, "an allow less");
    assert!(live.remove_file("web.toml").1, "back to the default");
}

#[test]
fn names_in_rules_come_and_go_with_their_containers() {
    let rules = r#"
        [[egress]]
        to = ["container:late", "198.51.100.0/24"]
        ports = ["tcp/80", "tcp/8000-8099"]
        [[egress]]
        to = ["10.89.1.9"]
        ports = ["tcp/80", "tcp/8050-8200"]
    "#;
    let mut live = Live::new(start().file("web.toml", rules));
    let late = Container {
        name: "late".parse().unwrap(),
        ifindex: 900,
        addresses: vec![
            "10.89.1.9".parse().unwrap(),
            "fd00:0:0:1::9".parse().unwrap(),
        ],
        ..live.container("db")
    };
    let (lines, _) = live.after(|f| f.attach(late.clone()));
    let of_web = |lines: &[String]| {
        let mut all = named(lines, "10.89.0.2");
        all.extend(named(lines, "fd00::2"));
        all
    };
    // tcp/80 to its address was there already; the ranges become one
    assert_eq!(
        of_web(&lines),
        [
            "- eg4_allow_peer_list 10.89.0.2 . 10.89.1.9 : 6/8050-8200 of web.toml",
            "+ eg4_allow_peer_list 10.89.0.2 . 10.89.1.9 : 6/8000-8200 of web.toml",
            "+ eg6_allow_peer_list fd00::2 . fd00:0:0:1::9 : 6/8000-8099 of web.toml",
            "+ eg6_allow_peer_port fd00::2 . fd00:0:0:1::9 . tcp . 80",
        ]
    );
    let (lines, _) = live.after(|f| f.detach(&late.name));
    assert_eq!(
        of_web(&lines),
        [
            "- eg4_allow_peer_list 10.89.0.2 . 10.89.1.9 : 6/8000-8200 of web.toml",
            "+ eg4_allow_peer_list 10.89.0.2 . 10.89.1.9 : 6/8050-8200 of web.toml",
            "- eg6_allow_peer_list fd00::2 . fd00:0:0:1::9 : 6/8000-8099 of web.toml",
            "- eg6_allow_peer_port fd00::2 . fd00:0:0:1::9 . tcp . 80",
        ]
    );
}

#[test]
fn ranges_of_ports_of_neighbours_come_and_go_alone() {
    let rules = "[[egress]]\nto = [\"container:web\", \"container:late\"]\nports = [\"tcp/1-79\"]";
    let mut live = Live::new(start().file("db.toml", rules));
    let late = Container {
        name: "late".parse().unwrap(),
        ifindex: 900,
        addresses: vec!["10.89.0.3".parse().unwrap()],
        ..live.container("web")
    };
    let own = "eg4_allow_peer_list 10.89.1.3 . 10.89.0.3 : 6/1-79 of db.toml";
    let (lines, _) = live.after(|f| f.attach(late.clone()));
    assert_eq!(named(&lines, "10.89.1.3"), [format!("+ {own}")]);
    let (lines, _) = live.after(|f| f.detach(&late.name));
    assert_eq!(named(&lines, "10.89.1.3"), [format!("- {own}")]);
}

#[test]
fn who_comes_again_or_like_another_brings_no_ranges() {
    let rules = r#"
        applies-to = { zone = "dmz" }
        [[egress]]
        to = ["198.51.100.0/24"]
        ports = ["tcp/443", "tcp/8000-8099"]
        [[ingress]]
        from = ["zone:lan"]
        ports = ["tcp/1-79"]
    "#;
    let mut live = Live::new(start().file("all.toml", rules));
    let web = live.container("web");
    let ranges = |lines: &[String]| {
        let ranges = lines
            .iter()
            .filter(|line| line.contains("_ports ") || line.contains("_net_"));
        ranges.count()
    };
    let (went, _) = live.after(|f| f.detach(&web.name));
    assert_eq!(ranges(&went), 0, "{went:?}");
    let other = Container {
        name: "other".parse().unwrap(),
        ifindex: 900,
        addresses: vec!["10.89.0.77".parse().unwrap()],
        ..web.clone()
    };
    for container in [other, web] {
        let (came, _) = live.after(|f| f.attach(container));
        assert_eq!(ranges(&came), 0, "{came:?}");
        assert!(came.iter().any(|line| line.contains("_nets ")), "{came:?}");
    }
    // what stands under a number is replaced, not changed
    let wider = rules.replace("198.51.100.0/24", "198.51.0.0/16");
    let (lines, forget) = live.edit("all.toml", &wider);
    let count = |sign, what: &str| {
        let lines = lines
            .iter()
            .filter(|line| line.starts_with(sign) && line.contains(what));
        lines.count()
    };
    assert!(forget);
    assert_eq!(
        (count("-", "_nets "), count("+", "_nets ")),
        (2, 2),
        "{lines:?}"
    );
    assert_eq!(
        (count("-", "_net_port "), count("+", "_net_port ")),
        (1, 1),
        "{lines:?}"
    );
    // the edited rule's list of ports takes another number; that of the other rule stays
    assert_eq!(
        (count("-", "_ports "), count("+", "_ports ")),
        (1, 1),
        "{lines:?}"
    );
    let (lines, _) = live.remove_file("all.toml");
    assert!(
        !print::elements(&live.firewall, &live.firewall.elements())
            .iter()
            .any(|line| line.contains("of all.toml")),
        "{lines:?}"
    );
}

#[test]
fn boxes_of_conditional_rules_about_neighbours_are_one_and_part_again() {
    let rules = "[[egress]]\nto = [\"container:web\", \"container:late\"]\nports = [\"tcp/1-79\"]\nrate = \"9/second\"";
    let mut live = Live::new(start().file("db.toml", rules));
    let late = Container {
        name: "late".parse().unwrap(),
        ifindex: 900,
        addresses: vec!["10.89.0.3".parse().unwrap()],
        ..live.container("web")
    };
    // the part is the same, and so what stands there
    let alone = "eg4_if_allow_net_part 10.89.1.3 . rule 0 . 10.89.0.2 : 0xaf811adc";
    let both = "eg4_if_allow_net_part 10.89.1.3 . rule 0 . 10.89.0.2-10.89.0.3 : 0xaf811adc";
    let (lines, _) = live.after(|f| f.attach(late.clone()));
    assert_eq!(
        named(&lines, "10.89.1.3"),
        [format!("- {alone}"), format!("+ {both}")]
    );
    let (lines, _) = live.after(|f| f.detach(&late.name));
    assert_eq!(
        named(&lines, "10.89.1.3"),
        [format!("- {both}"), format!("+ {alone}")]
    );
}

#[test]
fn a_deny_of_somebody_who_comes_later() {
    let rules = "[[ingress]]\n[[ingress]]\naction = \"deny\"\nfrom = [\"label:tier=late\"]";
    let mut live = Live::new(start().file("web.toml", rules));
    let mut late = Container {
        name: "late".parse().unwrap(),
        ifindex: 900,
        addresses: vec!["10.89.1.9".parse().unwrap()],
        ..live.container("db")
    };
    late.labels = [("tier".to_owned(), "late".to_owned())].into();
    let (lines, _) = live.after(|f| f.attach(late.clone()));
    assert_eq!(
        named(&lines, "10.89.0.2"),
        [
            "- in4_nodeny 10.89.0.2",
            "+ in4_deny_group 10.89.0.2 . labels:tier=late"
        ]
    );
    // a second one with the same labels concerns nobody but itself
    let second = Container {
        name: "second".parse().unwrap(),
        ifindex: 901,
        addresses: vec!["10.89.1.10".parse().unwrap()],
        ..late.clone()
    };
    let (lines, _) = live.after(|f| f.attach(second.clone()));
    assert_eq!(named(&lines, "10.89.0.2"), [""; 0]);
    assert_eq!(
        named(&live.after(|f| f.detach(&late.name)).0, "10.89.0.2"),
        [""; 0]
    );
    let (lines, _) = live.after(|f| f.detach(&second.name));
    assert_eq!(
        named(&lines, "10.89.0.2"),
        [
            "- in4_deny_group 10.89.0.2 . labels:tier=late",
            "+ in4_nodeny 10.89.0.2"
        ]
    );
}

#[test]
fn rules_about_a_zone_come_and_go_with_it() {
    let rules = "[[ingress]]\nfrom = [\"zone:new\", \"container:db\"]";
    let mut live = Live::new(start().file("web.toml", rules));
    let new = Zone {
        name: "new".parse().unwrap(),
        bridge: "vz-new".parse().unwrap(),
        subnet4: Some("10.89.7.0/24".parse().unwrap()),
        subnet6: None,
        gateway4: Some("10.89.7.1".parse().unwrap()),
        gateway6: None,
        ..live.zone("dmz")
    };
    let (lines, forget) = live.after(|f| f.set_zone(new.clone()));
    assert_eq!(
        named(&lines, "10.89.0.2"),
        ["+ in4_allow_group 10.89.0.2 . zone:new"]
    );
    assert!(forget, "addresses that were the world's are not any more");
    let (lines, _) = live.after(|f| f.remove_zone(&new.name));
    assert_eq!(
        named(&lines, "10.89.0.2"),
        ["- in4_allow_group 10.89.0.2 . zone:new"]
    );
    // a zone that loses its subnet takes its containers' addresses away, also from others' rules
    let lan = Zone {
        subnet6: None,
        gateway6: None,
        ..live.zone("lan")
    };
    let (lines, _) = live.after(|f| f.set_zone(lan));
    assert_eq!(
        named(&lines, "fd00::2"),
        ["- in6_allow_peer fd00::2 . fd00:0:0:1::3"]
    );
    let (lines, _) = live.after(|f| f.remove_zone(&"lan".parse().unwrap()));
    assert_eq!(
        named(&lines, "10.89.0.2"),
        ["- in4_allow_peer 10.89.0.2 . 10.89.1.3"]
    );
    // db has nothing left, not even its place at the bridge
    let left = print::elements(&live.firewall, &live.firewall.elements());
    assert_eq!(
        left.iter().filter(|line| line.contains("#103")).count(),
        0,
        "{left:#?}"
    );
}

#[test]
fn a_container_that_is_not_what_it_was() {
    let rules = "[[ingress]]\nfrom = [\"container:db\", \"label:tier=back\"]";
    let mut live = Live::new(start().file("web.toml", rules));
    let mut db = live.container("db");
    db.labels = [("tier".to_owned(), "other".to_owned())].into();
    let (lines, forget) = live.after(|f| f.attach(db));
    assert!(forget);
    // its new label is named by no rule
    assert_eq!(
        lines,
        [
            "- in4_allow_group 10.89.0.2 . labels:tier=back",
            "- in6_allow_group fd00::2 . labels:tier=back",
            "- labels_of4 10.89.1.3 : labels:tier=back",
            "- labels_of6 fd00:0:0:1::3 : labels:tier=back",
            "+ labels_of4 10.89.1.3 : labels:",
            "+ labels_of6 fd00:0:0:1::3 : labels:",
        ]
    );
}

#[test]
fn a_label_that_is_named_first_gets_its_rules_before_anybody_has_its_number() {
    let back = "[[ingress]]\nfrom = [\"label:tier=back\"]";
    let mut live = Live::new(start().file("web.toml", back));
    let mut db = live.container("db");
    db.labels.insert("name".to_owned(), "db".to_owned());
    live.after(|f| f.attach(db));
    // nobody names it: no identity of its own
    let elements = print::elements(&live.firewall, &live.firewall.elements());
    assert!(!elements.iter().any(|line| line.contains("name=db")));
    let file = "[[ingress]]\nfrom = [\"label:name=db\"]\nports = [\"tcp/80\"]";
    let file = Arc::new(PolicyFile::parse("web.toml", file).unwrap());
    let both = "applies-to = { container = \"web\" }\n[[ingress]]\nfrom = [\"label:tier=back\"]";
    let both = Arc::new(PolicyFile::parse("both.toml", both).unwrap());
    live.after(|f| f.edit_policies([("both.toml".to_owned(), Some(both))]));
    let (lines, forget) = live.after(|f| f.announce([&file]));
    assert!(!forget);
    assert_eq!(
        lines,
        [
            "+ in4_allow_group 10.89.0.2 . labels:name=db,tier=back",
            "+ in6_allow_group fd00::2 . labels:name=db,tier=back",
        ]
    );
    let (lines, _) = live.after(|f| f.edit_policies([("web.toml".to_owned(), Some(file))]));
    assert_eq!(
        lines,
        [
            "- labels_of4 10.89.1.3 : labels:tier=back",
            "- labels_of6 fd00:0:0:1::3 : labels:tier=back",
            "+ in4_allow_group_port 10.89.0.2 . labels:name=db,tier=back . tcp . 80",
            "+ in6_allow_group_port fd00::2 . labels:name=db,tier=back . tcp . 80",
            "+ labels_of4 10.89.1.3 : labels:name=db,tier=back",
            "+ labels_of6 fd00:0:0:1::3 : labels:name=db,tier=back",
        ]
    );
    let (lines, forget) = live.after(|f| f.tidy().unwrap());
    assert!(!forget);
    assert_eq!(
        lines,
        [
            "- in4_allow_group 10.89.0.2 . labels:tier=back",
            "- in6_allow_group fd00::2 . labels:tier=back",
        ]
    );
    assert!(live.firewall.tidy().is_none());
}

#[test]
fn publishing() {
    let mut live = Live::new(start());
    let publish = |address: Option<&str>, first, last, port| Publish {
        address: address.map(|a| a.parse().unwrap()),
        proto: 6,
        first,
        last,
        port,
    };
    let mut web = live.container("web");
    web.publish = vec![
        publish(None, 8080, 8081, 80),
        publish(Some("127.0.0.1"), 9090, 9090, 81),
        publish(Some("::1"), 9091, 9091, 82),
        publish(Some("0.0.0.0"), 9092, 9092, 83),
        publish(None, 10_000, 19_999, 10_000),
        publish(Some("192.0.2.1"), 20_000, 29_999, 10_000),
        publish(Some("2001:db8:1::1"), 1_000, 1_999, 3_000),
    ];
    let (lines, _) = live.after(|f| f.attach(web));
    assert_eq!(
        lines,
        [
            "+ publish4 tcp . 8080 : 10.89.0.2 . 80",
            "+ publish4 tcp . 8081 : 10.89.0.2 . 81",
            "+ publish4 tcp . 9092 : 10.89.0.2 . 83",
            "+ publish6 tcp . 8080 : fd00::2 . 80",
            "+ publish6 tcp . 8081 : fd00::2 . 81",
            "+ publish_at4 127.0.0.1 . tcp . 9090 : 10.89.0.2 . 81",
            "+ publish_at6 ::1 . tcp . 9091 : fd00::2 . 82",
            // a range is one element, however long
            "+ publish_range4 0.0.0.0-255.255.255.255 . tcp . 10000-19999 : 10.89.0.2",
            "+ publish_range6 ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff . tcp . 10000-19999 : fd00::2",
            "+ publish_shift4 192.0.2.1 . tcp . 20000-29999 : 10.89.0.2 . 5000 . 19999",
            "+ publish_shift6 2001:db8:1::1 . tcp . 1000-1999 : fd00::2 . 2000 . 3999",
            "+ published_open4 10.89.0.2 . tcp . 81",
            "+ published_open4 10.89.0.2 . tcp . 83",
            "+ published_open6 fd00::2 . tcp . 82",
            "+ published_range4 10.89.0.2 . tcp . 10000-19999",
            "+ published_range4 10.89.0.2 . tcp . 80-81",
            "+ published_range6 fd00::2 . tcp . 10000-19999",
            "+ published_range6 fd00::2 . tcp . 3000-3999",
            "+ published_range6 fd00::2 . tcp . 80-81",
        ]
    );
    let conflict = |first, last, address| {
        let wanted = publish(address, first, last, 1);
        live.firewall
            .publish_conflict(&wanted)
            .map(|(name, _)| name.to_string())
    };
    let web = Some("web".to_owned());
    assert_eq!(conflict(8000, 8080, None), web);
    assert_eq!(conflict(8081, 9000, Some("192.0.2.1")), web);
    assert_eq!(conflict(9090, 9090, Some("127.0.0.1")), web);
    assert_eq!(conflict(9090, 9090, Some("192.0.2.1")), None);
    assert_eq!(conflict(9090, 9090, Some("0.0.0.0")), web);
    assert_eq!(conflict(9092, 9092, Some("::")), None);
    assert_eq!(conflict(8082, 9089, None), None);
    assert_eq!(conflict(12_345, 12_345, Some("::1")), web);
    assert_eq!(conflict(30_000, 40_000, None), None);
    // a file that mentions ingress decides alone
    let (lines, forget) = live.edit("web.toml", "ingress = []");
    assert!(forget);
    assert_eq!(lines.len(), 8, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.starts_with("- published_")),
        "{lines:#?}"
    );
}
