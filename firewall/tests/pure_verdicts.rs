//! Verdict tables: the sentences of the design (§2, "A policy"), each above its rows.
//!
//! Each row is asked of the oracle, of the explanation and of the compiled elements, in both families.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use firewall::model::DefaultPolicy;
use firewall::sets::Action::{Allow, Deny};
use pure::story::{Story, ask, icmp, tcp, udp};

/// Two containers of one zone, one of another; nothing is said by files.
fn two_zones(default: DefaultPolicy) -> Story {
    Story::new()
        .zone("dmz", default)
        .zone("lan", default)
        .container("web", "dmz", "tier=front", "")
        .container("shop", "dmz", "tier=edge team=a", "")
        .container("db", "lan", "tier=back", "")
}

#[test]
fn a_packet_passes_if_some_rule_allows_it_and_no_rule_denies_it() {
    two_zones(DefaultPolicy::Allow)
        .file(
            "web.toml",
            r#"
            [[ingress]]
            action = "deny"
            from = ["container:shop"]
            ports = ["tcp/443"]
            [[ingress]]
            from = ["zone:dmz", "zone:lan"]
            ports = ["tcp/80", "tcp/440-450"]
            "#,
        )
        .file("db.toml", "[[egress]]\nto = [\"any\"]")
        .tell(&[
            (Allow, tcp("shop", "web", 80)),
            (Allow, tcp("shop", "web", 442)),
            (Deny, tcp("shop", "web", 443)), // a deny always wins, wherever it stands
            (Allow, tcp("db", "web", 443)),
            (Deny, tcp("shop", "web", 81)),
            (Deny, udp("shop", "web", 80)),
        ]);
}

#[test]
fn several_files_add_up() {
    two_zones(DefaultPolicy::Allow)
        .file(
            "web.toml",
            "[[ingress]]\nfrom = [\"any\"]\nports = [\"tcp/80\"]",
        )
        .file(
            "front.toml",
            "applies-to = { labels = { tier = \"front\" } }\n[[ingress]]\nports = [\"tcp/443\"]",
        )
        .file(
            "base.toml",
            "applies-to = { zone = \"dmz\" }\n[[ingress]]\naction = \"deny\"\nfrom = [\"host\"]",
        )
        .tell(&[
            (Allow, tcp("shop", "web", 80)),
            (Allow, tcp("shop", "web", 443)),
            (Deny, tcp("shop", "web", 22)),
            (Deny, tcp("host", "web", 80)),
            // the deny alone closes shop, to which base.toml applies too
            (Deny, tcp("web", "shop", 80)),
        ]);
}

#[test]
fn all_given_keys_of_applies_to_must_match() {
    two_zones(DefaultPolicy::Allow)
        .file(
            "a.toml",
            "applies-to = { zone = \"dmz\", labels = { tier = \"edge\" } }\ningress = []",
        )
        .file(
            "b.toml",
            "applies-to = { container = \"web\", zone = \"lan\" }\ningress = []",
        )
        .file(
            "c.toml",
            "applies-to = { labels = { tier = \"edge\", team = \"b\" } }\negress = []",
        )
        .tell(&[
            (Deny, tcp("web", "shop", 80)),
            (Allow, tcp("shop", "web", 80)),
        ]);
}

#[test]
fn a_direction_that_a_file_mentions_is_closed_but_for_what_is_allowed() {
    two_zones(DefaultPolicy::Allow)
        .file("web.toml", "egress = []")
        .file(
            "shop.toml",
            "[[egress]]\naction = \"deny\"\nto = [\"192.0.2.99\"]",
        )
        .tell(&[
            (Deny, tcp("web", "shop", 80)),
            (Deny, tcp("web", "world", 80)),
            (Deny, tcp("web", "host", 80)),
            // a file of denies alone closes it too
            (Deny, tcp("shop", "world", 80)),
            // the other direction follows the default
            (Allow, tcp("world", "web", 80)),
            (Allow, tcp("host", "shop", 80)),
        ]);
}

#[test]
fn a_direction_that_none_mentions_follows_the_zones_default() {
    // egress: out to world, nothing else, nothing in
    two_zones(DefaultPolicy::Egress).tell(&[
        (Allow, tcp("web", "world", 443)),
        (
            Allow,
            ask("web", "world", firewall::model::Traffic::Proto(47)),
        ),
        (Deny, tcp("web", "shop", 80)),
        (Deny, tcp("web", "db", 80)),
        (Deny, tcp("web", "host", 80)),
        (Deny, tcp("world", "web", 80)),
        (Deny, tcp("host", "web", 80)),
    ]);
    // deny: nothing
    two_zones(DefaultPolicy::Deny).tell(&[
        (Deny, tcp("web", "world", 443)),
        (Deny, tcp("web", "shop", 80)),
        (Deny, tcp("host", "web", 80)),
    ]);
    // allow: everything but other zones
    two_zones(DefaultPolicy::Allow).tell(&[
        (Allow, tcp("web", "world", 443)),
        (Allow, tcp("world", "web", 443)),
        (Allow, tcp("web", "shop", 80)),
        (Allow, tcp("web", "host", 80)),
        (Allow, tcp("host", "web", 80)),
        (Deny, tcp("web", "db", 80)),
        (Deny, tcp("db", "web", 80)),
        (Deny, tcp("web", "169.254.169.254", 80)),
    ]);
}

#[test]
fn zones_reach_one_another_only_by_rules_on_both_sides() {
    let story = || two_zones(DefaultPolicy::Allow);
    let out = "[[egress]]\nto = [\"container:db\"]\nports = [\"tcp/5432\"]";
    let into = "[[ingress]]\nfrom = [\"zone:dmz\"]\nports = [\"tcp/5432\"]";
    story()
        .file("web.toml", out)
        .tell(&[(Deny, tcp("web", "db", 5432))]);
    story()
        .file("db.toml", into)
        .tell(&[(Deny, tcp("web", "db", 5432))]);
    story().file("web.toml", out).file("db.toml", into).tell(&[
        (Allow, tcp("web", "db", 5432)),
        (Deny, tcp("web", "db", 5433)),
        (Deny, tcp("db", "web", 5432)),
        (Deny, tcp("shop", "db", 5432)), // its egress is still the default's
    ]);
}

#[test]
fn ports() {
    use firewall::model::Traffic::Proto;
    // absent: every protocol and port; without `from`: anybody
    two_zones(DefaultPolicy::Allow)
        .file("web.toml", "[[ingress]]")
        .tell(&[
            (Allow, tcp("shop", "web", 1)),
            (Allow, tcp("host", "web", 65535)),
            (Allow, udp("world", "web", 53)),
            (Allow, ask("world", "web", Proto(47))),
            (Allow, icmp("world", "web", 8)),
            (Deny, tcp("169.254.1.1", "web", 80)), // not anybody
        ]);
    // `tcp/*` is every port of tcp; icmp/… is ICMP in v4 and its counterpart in v6
    two_zones(DefaultPolicy::Allow)
        .file(
            "web.toml",
            "[[ingress]]\nports = [\"tcp/*\", \"icmp/echo-request\", \"esp\"]",
        )
        .file(
            "shop.toml",
            "[[ingress]]\nports = [\"udp/100-200\", \"icmp/*\"]",
        )
        .tell(&[
            (Allow, tcp("shop", "web", 1)),
            (Allow, tcp("shop", "web", 65535)),
            (Deny, udp("shop", "web", 1)),
            (Allow, icmp("shop", "web", 8)),
            (Deny, icmp("shop", "web", 0)),
            (Allow, ask("shop", "web", Proto(50))),
            (Deny, ask("shop", "web", Proto(51))),
            (Deny, udp("web", "shop", 99)),
            (Allow, udp("web", "shop", 100)),
            (Allow, udp("web", "shop", 200)),
            (Deny, udp("web", "shop", 201)),
            (Allow, icmp("web", "shop", 8)),
            (Allow, icmp("web", "shop", 0)),
            (Allow, icmp("web", "shop", 13).v4()),
        ]);
}

#[test]
fn peers_stand_for_whom_they_name() {
    let open = |from: &str| {
        two_zones(DefaultPolicy::Allow)
            .file("web.toml", &format!("[[ingress]]\nfrom = [\"{from}\"]"))
            .file("db.toml", "[[egress]]")
    };
    open("container:shop").tell(&[
        (Allow, tcp("shop", "web", 80)),
        (Deny, tcp("db", "web", 80)),
        (Deny, tcp("host", "web", 80)),
        (Deny, tcp("world", "web", 80)),
    ]);
    // a gateway is not a container
    open("zone:dmz").tell(&[
        (Allow, tcp("shop", "web", 80)),
        (Deny, tcp("db", "web", 80)),
        (Deny, tcp("10.89.0.1", "web", 80)),
        (Deny, tcp("fd00::1", "web", 80)),
    ]);
    open("label:tier=edge").tell(&[
        (Allow, tcp("shop", "web", 80)), // it has more labels than this one
        (Deny, tcp("db", "web", 80)),
        (Deny, tcp("world", "web", 80)),
    ]);
    // any address of the host itself, gateways included
    open("host").tell(&[
        (Allow, tcp("host", "web", 80)),
        (Allow, tcp("10.89.0.1", "web", 80)),
        (Allow, tcp("10.89.1.1", "web", 80)),
        (Allow, tcp("fd00::1", "web", 80)),
        (Allow, tcp("192.0.2.1", "web", 80)),
        (Deny, tcp("shop", "web", 80)),
        (Deny, tcp("world", "web", 80)),
    ]);
    open("world").tell(&[
        (Allow, tcp("world", "web", 80)),
        (Allow, tcp("198.51.100.7", "web", 80)),
        (Allow, tcp("2001:db8::7", "web", 80)),
        (Deny, tcp("host", "web", 80)),
        (Deny, tcp("192.0.2.1", "web", 80)),
        (Deny, tcp("shop", "web", 80)),
        (Deny, tcp("10.89.0.200", "web", 80)), // an address of a zone that nobody has
        (Deny, tcp("169.254.169.254", "web", 80)),
        (Deny, tcp("224.0.0.251", "web", 80)),
        (Deny, tcp("fe80::1", "web", 80)),
    ]);
    open("any").tell(&[
        (Allow, tcp("shop", "web", 80)),
        (Allow, tcp("db", "web", 80)),
        (Allow, tcp("host", "web", 80)),
        (Allow, tcp("world", "web", 80)),
        (Deny, tcp("169.254.169.254", "web", 80)),
    ]);
}

#[test]
fn a_cidr_matches_by_address_whatever_stands_behind_it() {
    two_zones(DefaultPolicy::Deny)
        .file(
            "web.toml",
            r#"
            [[egress]]
            to = ["10.89.0.3", "fd00::3", "10.89.1.0/24", "169.254.169.254", "198.51.100.0/24"]
            ports = ["tcp/80"]
            [[egress]]
            action = "deny"
            to = ["198.51.100.7"]
            "#,
        )
        .file("shop.toml", "[[ingress]]")
        .tell(&[
            (Allow, tcp("web", "shop", 80)), // shop is 10.89.0.3 and fd00::3
            (Deny, tcp("web", "shop", 81)),
            (Allow, tcp("web", "10.89.1.1", 80)), // a gateway, which is the host
            (Deny, tcp("web", "10.89.0.1", 80)),
            (Allow, tcp("web", "169.254.169.254", 80)), // only where a CIDR names it
            (Allow, tcp("web", "198.51.100.6", 80)),
            (Deny, tcp("web", "198.51.100.7", 80)),
            (Deny, tcp("web", "198.51.101.6", 80)),
            (Deny, tcp("web", "world", 80)),
        ]);
    two_zones(DefaultPolicy::Deny)
        .file("web.toml", "[[egress]]\nto = [\"0.0.0.0/0\", \"::/0\"]")
        .tell(&[
            (Allow, tcp("web", "world", 80)),
            (Allow, tcp("web", "host", 80)),
        ]);
}

#[test]
fn names_are_bound_to_containers_and_match_when_they_attach() {
    let story = two_zones(DefaultPolicy::Allow).file(
        "web.toml",
        "[[ingress]]\nfrom = [\"container:late\", \"label:tier=late\"]",
    );
    story.tell(&[
        (Deny, tcp("late", "web", 80)),
        (Deny, tcp("shop", "web", 80)),
    ]);
    let story =
        story
            .container("late", "dmz", "", "")
            .container("other", "dmz", "tier=late team=b", "");
    story.tell(&[
        (Allow, tcp("late", "web", 80)),
        (Allow, tcp("other", "web", 80)),
        (Deny, tcp("shop", "web", 80)),
    ]);
}

#[test]
fn an_internal_zone_has_no_path_to_or_from_world() {
    let open = "[[ingress]]\n[[egress]]\nto = [\"any\", \"198.51.100.7\"]";
    Story::new()
        .internal_zone("vault", DefaultPolicy::Allow)
        .zone("dmz", DefaultPolicy::Allow)
        .container("safe", "vault", "", "8080:80")
        .container("web", "dmz", "", "")
        .container("quiet", "vault", "", "8081:80")
        .file("safe.toml", open)
        .file("web.toml", open)
        .tell(&[
            (Deny, tcp("safe", "world", 80)),
            (Deny, tcp("safe", "198.51.100.7", 80)),
            (Deny, tcp("world", "safe", 80)),
            (Deny, tcp("world", "safe", 80).published()),
            (Deny, tcp("world", "quiet", 80).published()), // nothing is published
            (Allow, tcp("safe", "web", 80)),               // other zones as policy says
            (Allow, tcp("web", "safe", 80)),
            (Allow, tcp("host", "safe", 80)), // and the host
            (Allow, tcp("safe", "host", 80)),
        ]);
}

#[test]
fn the_gateways_services_are_always_reached() {
    two_zones(DefaultPolicy::Deny)
        .file("web.toml", "[[egress]]\naction = \"deny\"")
        .tell(&[
            (Allow, udp("web", "host", 53)),
            (Allow, tcp("web", "10.89.0.1", 53)),
            (Allow, icmp("web", "host", 8)),
            (Allow, udp("web", "10.89.0.1", 67)),
            (Deny, tcp("web", "10.89.0.1", 67)),
            (Deny, udp("web", "fd00::1", 67)), // DHCPv4's port
            (Deny, udp("web", "host", 54)),
            (Deny, icmp("web", "host", 13).v4()),
            (Deny, udp("web", "10.89.1.1", 53)), // another zone's gateway
            (Deny, udp("web", "192.0.2.1", 53)),
            (Deny, udp("host", "web", 53)),
            (Allow, udp("web", "255.255.255.255", 67)),
            (Deny, udp("web", "255.255.255.255", 68)),
            // a gateway serves its zone, not the outside
            (Deny, udp("world", "10.89.0.1", 53)),
        ]);
}

#[test]
fn publishing_opens_to_world_and_host_where_no_file_mentions_ingress() {
    let story = || {
        Story::new()
            .zone("dmz", DefaultPolicy::Deny)
            .container("web", "dmz", "", "8080:80")
            .container("shop", "dmz", "", "")
            .file("shop.toml", "[[egress]]")
    };
    story().tell(&[
        (Allow, tcp("world", "web", 80).published()),
        (Allow, tcp("host", "web", 80).published()),
        (Deny, tcp("world", "web", 80)), // directly to its address
        (Deny, tcp("host", "web", 80)),
        (Deny, tcp("shop", "web", 80).published()), // other containers
        (Deny, tcp("world", "web", 81).published()),
        (Deny, udp("world", "web", 80).published()),
    ]);
    // policy decides, where it says something
    story()
        .file("web.toml", "[[ingress]]\nfrom = [\"container:shop\"]")
        .tell(&[
            (Deny, tcp("world", "web", 80).published()),
            (Deny, tcp("host", "web", 80).published()),
            (Allow, tcp("shop", "web", 80).published()),
        ]);
    story()
        .file(
            "web.toml",
            "[[ingress]]\nfrom = [\"198.51.100.0/24\", \"2001:db8::/32\"]\nports = [\"tcp/80\"]",
        )
        .tell(&[
            (Allow, tcp("198.51.100.7", "web", 80).published()),
            (Deny, tcp("203.0.113.7", "web", 80).published()),
        ]);
}

#[test]
fn an_address_of_a_zone_that_nobody_has_sends_and_answers_nothing() {
    two_zones(DefaultPolicy::Allow)
        .file(
            "web.toml",
            "[[ingress]]\nfrom = [\"10.89.0.0/24\"]\n[[egress]]\nto = [\"any\"]",
        )
        .tell(&[
            (Deny, tcp("10.89.0.77", "web", 80)),
            (Deny, tcp("10.89.1.77", "web", 80)),
            (Deny, tcp("web", "10.89.0.77", 80)),
            (Deny, tcp("world", "10.89.0.77", 80)),
            (Deny, tcp("host", "10.89.0.77", 80)),
        ]);
}

#[test]
fn a_container_reaches_itself_by_its_own_egress_and_ingress_only() {
    two_zones(DefaultPolicy::Egress)
        .file(
            "web.toml",
            "[[ingress]]\nfrom = [\"container:web\"]\n[[egress]]\nto = [\"zone:dmz\"]",
        )
        .file("shop.toml", "[[ingress]]")
        .tell(&[
            (Allow, tcp("web", "web", 80)),
            (Deny, tcp("shop", "shop", 80)),
        ]);
}
