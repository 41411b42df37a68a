//! Policy files as a whole: limits, names, positions, hostile input.

#![allow(clippy::unwrap_used, missing_docs)]

use firewall::diagnostics::Severity;
use firewall::policy::{AppliesTo, MAX_BYTES, Peer, PolicyFile};
use firewall::sets::Action;
use proptest::prelude::*;

#[test]
fn the_file_of_the_design_is_read_but_for_what_is_not_enforced_yet() {
    let text = r#"
applies-to = { labels = { tier = "front" } }
mode = "enforce"

[[ingress]]
from   = ["container:proxy", "label:tier=edge", "zone:dmz", "192.0.2.0/24", "2001:db8::/32", "world", "host"]
ports  = ["tcp/80", "tcp/8000-8099", "udp/53", "icmp/echo-request"]

[[egress]]
to     = ["container:db"]
ports  = ["tcp/5432"]

[[egress]]
action = "deny"
to     = ["198.51.100.7"]
"#;
    let file = PolicyFile::parse("policies/web.toml", text).unwrap();
    assert_eq!(file.name, "web");
    assert!(file.warnings.is_empty(), "{}", file.warnings);
    let egress = file.egress.unwrap().rules;
    assert_eq!((egress[0].action, egress[0].at.line), (Action::Allow, 9));
    assert_eq!((egress[1].action, egress[1].at.line), (Action::Deny, 13));
    let ingress = file.ingress.unwrap();
    assert_eq!((ingress.at.line, ingress.at.column), (5, 1));
    assert_eq!(ingress.rules[0].peers.len(), 7);
}

#[test]
fn names_are_refused_where_they_open_nothing() {
    let good = "[[egress]]\nto = [\"host\", \"dns:example.org\"]";
    assert!(PolicyFile::parse("web.toml", good).is_ok());
    for text in [
        "[[ingress]]\nfrom=[\"host\", \"dns:example.org\"]",
        "[[egress]]\nto = [\"host\", \"dns:example.org\"]\naction = \"deny\"",
    ] {
        let wrong = PolicyFile::parse("web.toml", text).unwrap_err();
        let one = wrong
            .iter()
            .find(|d| d.severity == Severity::Error)
            .unwrap();
        assert!(one.message.starts_with("`dns:` opens"), "{one}");
        assert_eq!(one.line, 2, "{one}");
    }
}

#[test]
fn a_file_applies_to_the_container_it_is_named_like() {
    let target = |file: &str, text: &str| PolicyFile::parse(file, text).map(|f| f.applies_to);
    let web = AppliesTo {
        container: Some("web".parse().unwrap()),
        ..AppliesTo::default()
    };
    assert_eq!(target("/etc/netd/policies/web.toml", ""), Ok(web.clone()));
    assert_eq!(target("web.toml", "ingress = []"), Ok(web));
    assert!(target("_base.toml", "").is_err());
    assert!(target("_base.toml", "applies-to = { zone = \"dmz\" }").is_ok());
}

#[test]
fn whom_a_broken_file_was_meant_for_can_often_be_told() {
    let meant = |text: &str| PolicyFile::salvage_applies_to("web.toml", text);
    let web = meant("[[ingress]]\nfrom = [\"nobody at all\"]").unwrap();
    assert_eq!(web.container.unwrap().as_str(), "web");
    let dmz = meant("applies-to = { zone = \"dmz\" }\n[[ingress]\nfrom = 7").unwrap();
    assert_eq!(dmz.zone.unwrap().as_str(), "dmz");
    // the key may have been lost with what cannot be read
    assert_eq!(meant("applies-to = { zone = \"dmz\n[[ingress]]"), None);
    assert_eq!(meant("apllies-to = { zone = \n"), None);
    assert_eq!(meant("applies-to = 7"), None);
    assert_eq!(meant("applies-to = { zon = \"dmz\" }"), None);
}

#[test]
fn a_mistyped_applies_to_is_nobodys() {
    assert_eq!(
        PolicyFile::salvage_applies_to("web.toml", "aplies-to = { zone = \"dmz\" }"),
        None
    );
}

#[test]
fn empty_lists_close_and_absent_ones_do_not() {
    let file = PolicyFile::parse("web.toml", "ingress = []").unwrap();
    assert!(file.ingress.unwrap().rules.is_empty());
    assert!(file.egress.is_none());
    let file = PolicyFile::parse("web.toml", "[[ingress]]").unwrap();
    assert_eq!(file.ingress.unwrap().rules[0].peers, [Peer::Any]);
}

#[test]
fn the_limit_is_one_mebibyte() {
    let comment = |length: usize| format!("#{}", "x".repeat(length - 1));
    assert!(PolicyFile::parse("web.toml", &comment(MAX_BYTES)).is_ok());
    let wrong = PolicyFile::parse("web.toml", &comment(MAX_BYTES + 1)).unwrap_err();
    assert!(wrong.to_string().contains("at most 1 MiB"), "{wrong}");
}

#[test]
fn bytes_that_are_no_text_are_shown_where_they_are() {
    let none = firewall::policy::Groups::default();
    let wrong = PolicyFile::parse_bytes("web.toml", b"mode = 1\n  \xff\xfe", &none).unwrap_err();
    assert!(
        wrong.to_string().starts_with("web.toml:2:3: error: "),
        "{wrong}"
    );
    assert!(PolicyFile::parse_bytes("web.toml", b"ingress = []", &none).is_ok());
}

#[test]
fn a_file_of_many_rules_is_read_in_reasonable_time() {
    let mut text = String::new();
    for n in 0..10_000u32 {
        let [_, _, c, d] = n.to_be_bytes();
        text += &format!(
            "[[egress]]\nto = [\"10.0.{c}.{d}\"]\nports = [\"tcp/{}\"]\n",
            n + 1
        );
    }
    assert!(text.len() < MAX_BYTES);
    let file = PolicyFile::parse("web.toml", &text).unwrap();
    assert_eq!(file.egress.unwrap().rules.len(), 10_000);
}

#[test]
fn nesting_does_not_exhaust_the_stack() {
    let text = format!("ingress = {}", "[".repeat(100_000));
    assert!(PolicyFile::parse("web.toml", &text).is_err());
    let text = format!("applies-to = {}", "{a=".repeat(100_000));
    assert!(PolicyFile::parse("web.toml", &text).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_with_places_in_it(text in "[\\PC\n]{0,80}") {
        if let Err(wrong) = PolicyFile::parse("web.toml", &text) {
            prop_assert!(!wrong.is_empty());
            for one in wrong.iter() {
                prop_assert!(one.line as usize <= text.split('\n').count(), "{}", one);
                prop_assert!(one.to_string().starts_with("web.toml:"), "{}", one);
            }
        }
    }

    #[test]
    fn nearly_good_files_too(
        key in "(ingress|egress|mode|applies-to|from)",
        value in "(\\[\\]|7|\"[a-z:/0-9.=*-]{0,12}\"|\\[\"[a-z:/0-9.=*-]{0,12}\"\\]|\\{ zone = \"[a-z]\" \\})",
        peer in "[a-z:/0-9.=*-]{0,16}",
        ports in "[a-z:/0-9.=*-]{0,12}",
    ) {
        let text = format!("{key} = {value}\n[[egress]]\nto = [\"{peer}\"]\nports = [\"{ports}\"]\n");
        let read = PolicyFile::parse("web.toml", &text);
        let rendered = match &read {
            Ok(file) => file.warnings.to_string(),
            Err(wrong) => wrong.to_string(),
        };
        prop_assert!(read.is_ok() || rendered.contains("error: "));
    }
}
