//! The rules that netd does not write, for contrast: one rule for each permitted pair and port, and a chain for each
//! container. As text for nft(8), which is what programs that work like this send.
//!
//! Both let the measured pair through by a rule that stands last, and both begin with a jump to `shortcut`, which
//! accepts what is established. Empty it, and every packet from the client is judged.

use std::fmt::Write as _;

use crate::policy::PORT;

/// The table they are in.
const TABLE: &str = "inet contrast";

/// How rules are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// All in one chain.
    Linear,
    /// Two chains for each container, for what it opens and what is opened to it, found by a map of verdicts.
    Chains,
}

/// A permitted connection of the `number`th container: source, destination, port.
fn pair(number: u32, rule: u32, containers: u32) -> (String, String, u32) {
    let address = |n: u32| format!("10.99.{}.{}", n / 250, n % 250 + 1);
    let port = 1024 + (number * 7 + rule * 13) % 60_000;
    let (own, other) = (
        address(number),
        address((number + rule + 1) % containers.max(2)),
    );
    match rule % 2 {
        0 => (own, other, port),
        _ => (other, own, port),
    }
}

/// The whole ruleset of `containers` with `rules` rules each.
pub(crate) fn whole(
    style: Style,
    containers: u32,
    rules: u32,
    client: &str,
    server: &str,
) -> String {
    let mut text = format!("add table {TABLE}\n");
    let add = |text: &mut String, line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "add {line}");
    };
    add(&mut text, format!("chain {TABLE} shortcut"));
    add(&mut text, format!("rule {TABLE} shortcut accept"));
    let hook = "{ type filter hook forward priority 0; policy drop; }";
    add(&mut text, format!("chain {TABLE} forward {hook}"));
    let forward = |rule: &str| format!("rule {TABLE} forward {rule}");
    add(
        &mut text,
        forward("ct state established,related jump shortcut"),
    );
    add(
        &mut text,
        forward("ct state established ct direction reply accept"),
    );
    if style == Style::Chains {
        for map in ["opens", "opened"] {
            let kind = "{ type ipv4_addr : verdict; }";
            add(&mut text, format!("map {TABLE} {map} {kind}"));
        }
        add(&mut text, format!("chain {TABLE} to"));
        add(&mut text, format!("rule {TABLE} to ip daddr vmap @opened"));
        add(&mut text, forward("ip saddr vmap @opens"));
    }
    for number in 0..containers {
        text += &one_more(style, number, containers, rules);
    }
    let last = format!("tcp dport {PORT}");
    match style {
        Style::Linear => add(&mut text, forward(&format!("{last} accept"))),
        Style::Chains => {
            for (map, address, verdict) in
                [("opens", client, "goto to"), ("opened", server, "accept")]
            {
                let chain = format!("{map}-pair");
                add(&mut text, format!("chain {TABLE} {chain}"));
                for rule in 0..rules / 2 {
                    let (from, to, port) = pair(0, 2 * rule, containers);
                    let line = format!("ip saddr {from} ip daddr {to} tcp dport {port} drop");
                    add(&mut text, format!("rule {TABLE} {chain} {line}"));
                }
                add(&mut text, format!("rule {TABLE} {chain} {last} {verdict}"));
                add(
                    &mut text,
                    format!("element {TABLE} {map} {{ {address} : goto {chain} }}"),
                );
            }
        }
    }
    text
}

/// What has to be added for one more container, the `number`th.
pub(crate) fn one_more(style: Style, number: u32, containers: u32, rules: u32) -> String {
    let mut text = String::new();
    if style == Style::Chains {
        for map in ["opens", "opened"] {
            let _ = writeln!(text, "add chain {TABLE} {map}-{number}");
        }
    }
    for rule in 0..rules {
        let (from, to, port) = pair(number, rule, containers);
        let _ = match (style, rule % 2) {
            (Style::Linear, _) => writeln!(
                text,
                "add rule {TABLE} forward ip saddr {from} ip daddr {to} tcp dport {port} accept"
            ),
            (Style::Chains, 0) => writeln!(
                text,
                "add rule {TABLE} opens-{number} ip daddr {to} tcp dport {port} goto to"
            ),
            (Style::Chains, _) => writeln!(
                text,
                "add rule {TABLE} opened-{number} ip saddr {from} tcp dport {port} accept"
            ),
        };
    }
    if style == Style::Chains {
        let (own, _, _) = pair(number, 0, containers);
        for map in ["opens", "opened"] {
            let _ = writeln!(
                text,
                "add element {TABLE} {map} {{ {own} : goto {map}-{number} }}"
            );
        }
    }
    text
}

/// Lets established connections pass without being judged, or not.
pub(crate) fn shortcut(open: bool) -> String {
    match open {
        true => format!("add rule {TABLE} shortcut accept\n"),
        false => format!("flush chain {TABLE} shortcut\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_have_as_many_rules_as_they_say() {
        for style in [Style::Linear, Style::Chains] {
            let rules = one_more(style, 7, 100, 50).matches("add rule").count();
            assert_eq!(rules, 50, "{style:?}");
        }
        let linear = whole(Style::Linear, 10, 50, "10.88.0.10", "10.88.0.11");
        // shortcut, two of state, the pair's own
        assert_eq!(linear.matches("add rule").count(), 500 + 4);
        assert!(linear.trim_end().ends_with("tcp dport 5201 accept"));
    }

    #[test]
    fn every_container_has_an_address_of_its_own() {
        let own: std::collections::BTreeSet<String> = (0..20_000)
            .map(|number| pair(number, 0, 20_000).0)
            .collect();
        assert_eq!(own.len(), 20_000);
    }
}
