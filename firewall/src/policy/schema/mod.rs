//! Holds docs/schema/policy.toml.json and groups.toml.json to the parser: the same keys, words and
//! ceilings, and the same judgement of a table of snippets.

#![allow(clippy::unwrap_used)]

mod validate;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::limits::{MAX_GROUPS, MAX_PEERS, MAX_PORTS, MAX_RULES};
use super::{Groups, PolicyFile, bandwidth, icmp, peer, ports, rate, read, rule};
use validate::Schema;

fn schema(name: &str) -> Schema {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    let text = std::fs::read_to_string(path.join(name)).unwrap();
    Schema(serde_json::from_str(&text).unwrap())
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn words(value: &Value) -> BTreeSet<&str> {
    let all = value.as_array().unwrap().iter();
    all.map(|word| word.as_str().unwrap()).collect()
}

/// The alternatives of the first group of a pattern.
fn alternatives(pattern: &Value) -> BTreeSet<&str> {
    let pattern = pattern.as_str().unwrap();
    let (_, rest) = pattern.split_once('(').unwrap();
    rest.split_once(')').unwrap().0.split('|').collect()
}

#[test]
fn keys_are_those_of_the_parser() {
    let Schema(policy) = schema("policy.toml.json");
    let file = &policy["properties"];
    assert_eq!(keys(file), read::FILE_KEYS.into());
    let table = &file["bandwidth"]["anyOf"][1]["properties"];
    assert_eq!(keys(table), bandwidth::KEYS.into());
    let target = &file["applies-to"]["properties"];
    assert_eq!(keys(target), read::TARGET_KEYS.into());
    for (direction, who) in [("ingress", "from"), ("egress", "to")] {
        let known: BTreeSet<&str> = rule::KEYS.into_iter().chain([who]).collect();
        assert_eq!(keys(&policy["$defs"][direction]["properties"]), known);
    }
}

#[test]
fn words_and_ceilings_are_those_of_the_parser() {
    let Schema(policy) = schema("policy.toml.json");
    let Schema(groups) = schema("groups.toml.json");
    let defs = &policy["$defs"];
    assert_eq!(words(&defs["word"]["enum"]), peer::WORDS.into());
    for name in [
        "peer",
        "word",
        "container",
        "zone",
        "label",
        "dns",
        "address",
        "group",
    ] {
        assert_eq!(defs[name], groups["$defs"][name], "{name} of both files");
    }
    for kind in peer::KINDS {
        let pattern = defs[kind]["pattern"].as_str().unwrap();
        assert!(pattern.starts_with(&format!("^{kind}:")));
    }
    let kinds = defs["ports"]["anyOf"].as_array().unwrap();
    let with_ports = ports::WITH_PORTS.iter().map(|p| p.0).collect();
    assert_eq!(alternatives(&kinds[0]["pattern"]), with_ports);
    let mut types = alternatives(&kinds[1]["pattern"]);
    // what stands for all of them, what begins the numbers, and the short forms
    types.retain(|name| icmp::by_name(name).is_some());
    assert!(types.is_superset(&icmp::names().collect()));
    let others = ports::OTHERS.iter().map(|p| p.0).collect();
    assert_eq!(words(&kinds[2]["enum"]), others);
    let rule = &defs["ingress"]["properties"];
    assert_eq!(words(&rule["action"]["enum"]), ["allow", "deny"].into());
    assert_eq!(
        words(&policy["properties"]["mode"]["enum"]),
        ["audit", "enforce"].into()
    );
    let rates = alternatives(&rule["rate"]["pattern"]);
    assert_eq!(rates, rate::UNITS.iter().map(|unit| unit.0).collect());
    let most = |value: &Value, number: usize| assert_eq!(value.as_u64().unwrap(), number as u64);
    most(&policy["properties"]["ingress"]["maxItems"], MAX_RULES);
    most(&policy["properties"]["egress"]["maxItems"], MAX_RULES);
    most(&defs["peers"]["maxItems"], MAX_PEERS);
    most(&rule["ports"]["maxItems"], MAX_PORTS);
    most(&groups["maxProperties"], MAX_GROUPS);
    most(&groups["additionalProperties"]["maxItems"], MAX_PEERS);
}

/// Snippets of policy files that both take, and that both refuse.
const FILES: &[(bool, &str)] = &[
    (true, ""),
    (true, "mode = 'enforce'\ningress = []\negress = []"),
    (true, "mode = 'audit'"),
    (false, "mode = 'enforced'"),
    (false, "mode = true"),
    (false, "rules = 7"),
    (false, "ingress = 'none'"),
    (false, "[ingress]\nfrom = ['any']"),
    (false, "ingress = ['any']"),
    (true, "applies-to = { container = 'Web.1_a' }"),
    (
        true,
        "applies-to = { zone = 'dmz', labels = { tier = 'front', 'a.b/c' = '' } }",
    ),
    (false, "applies-to = {}"),
    (false, "applies-to = 'web'"),
    (false, "applies-to = { zone = 'DMZ' }"),
    (false, "applies-to = { zone = 'dmz', lables = {} }"),
    (false, "applies-to = { labels = {} }"),
    (false, "applies-to = { labels = { tier = 7 } }"),
    (false, "applies-to = { container = '_web' }"),
    (true, "bandwidth = '100mbit'"),
    (true, "bandwidth = '8Kibit'"),
    (
        true,
        "bandwidth = { ingress = '1gbit', egress = '20mbit', burst = '256kb' }",
    ),
    (true, "bandwidth = { egress = '20mbit' }"),
    (false, "bandwidth = 100"),
    (false, "bandwidth = '100'"),
    (false, "bandwidth = '100mbps'"),
    (false, "bandwidth = '1.5mbit'"),
    (false, "bandwidth = '0mbit'"),
    (false, "bandwidth = '020mbit'"),
    (false, "bandwidth = {}"),
    (false, "bandwidth = { burst = '4kb' }"),
    (false, "bandwidth = { egress = '20mbit', rate = '1mbit' }"),
    (false, "bandwidth = { egress = '20mbit', burst = '4kbit' }"),
    (false, "bandwidth = { egress = '20mbit', burst = 4096 }"),
];

/// The same, of the inside of an `[[egress]]`.
const RULES: &[(bool, &str)] = &[
    (true, ""),
    (true, "action = 'deny'\nports = ['tcp/80']"),
    (false, "action = 'drop'"),
    (false, "from = ['any']"),
    (false, "to = []"),
    (false, "to = 'any'"),
    (false, "to = [7]"),
    (false, "ports = []"),
    (false, "ports = 'tcp/80'"),
    (false, "port = ['tcp/80']"),
    (true, "log = true"),
    (false, "log = 'yes'"),
    (true, "max-connections = 1"),
    (true, "max-connections = 4294967295"),
    (false, "max-connections = 0"),
    (false, "max-connections = 4294967296"),
    (false, "max-connections = -1"),
    (false, "max-connections = '5'"),
    (true, "rate = '50/second burst 100'"),
    (true, "rate = '5/minute'"),
    (false, "rate = '5'"),
    (false, "rate = '0/second'"),
    (false, "rate = '5/fortnight'"),
    (false, "rate = '5/second burst'"),
    (false, "rate = '5/second burst 0'"),
    (false, "rate = '+5/second'"),
    (false, "rate = 5"),
    (false, "action = 'deny'\nrate = '5/second'"),
    (false, "action = 'deny'\nmax-connections = 5"),
    (true, "action = 'allow'\nmax-connections = 5"),
    (true, "time = 'Mon-Fri 08:00-18:00'"),
    (true, "time = 'Sat,Sun'"),
    (true, "time = '22:00-06:00'"),
    (true, "time = 'monday, Wed 10:00-12:00, SAT 00:00-24:00'"),
    (true, "action = 'deny'\ntime = 'Fri-Mon'"),
    (false, "time = ''"),
    (false, "time = 'Mo'"),
    (false, "time = 'Mon 8:00-18:00'"),
    (false, "time = 'Mon 25:00-26:00'"),
    (false, "time = 'Mon 10:00-12:00 Tue'"),
    (false, "time = 'Mon 24:00-08:00'"),
    (false, "time = 'Mon,,Tue'"),
];

/// Peers.
const PEERS: &[(bool, &str)] = &[
    (true, "world"),
    (true, "host"),
    (true, "any"),
    (false, "wrold"),
    (false, "World"),
    (true, "container:Web.1_a"),
    (false, "container:"),
    (false, "container:_x"),
    (false, "cotainer:web"),
    (true, "zone:dmz-2"),
    (false, "zone:DMZ"),
    (true, "label:tier=front"),
    (true, "label:a="),
    (true, "label:a=b=c"),
    (false, "label:a"),
    (false, "label:=b"),
    (true, "192.0.2.0/24"),
    (true, "192.0.2.7"),
    (true, "0.0.0.0/0"),
    (true, "255.255.255.255/32"),
    (false, "192.0.2.0/33"),
    (false, "192.0.2.0/024"),
    (false, "192.0.2.256"),
    (false, "192.0.2/24"),
    (false, "192.0.2.0/"),
    (true, "2001:db8::/32"),
    (true, "::1"),
    (true, "::/0"),
    (true, "2001:DB8::7"),
    (true, "::ffff:192.0.2.7"),
    (false, "2001:db8::/129"),
    (false, "2001:db8::g"),
    (true, "@office"),
    (true, "@o-2"),
    (false, "@"),
    (false, "@Office"),
    (false, "@-x"),
    (false, ""),
    (false, "web"),
    (false, "tier=front"),
];

/// Names, which only what is allowed in `to` may have.
const NAMES: &[(bool, &str)] = &[
    (true, "dns:example.org"),
    (true, "dns:*.Example.org."),
    (true, "dns:a-1.x"),
    (false, "dns:"),
    (false, "dns:*"),
    (false, "dns:*."),
    (false, "dns:a.*.org"),
    (false, "dns:-a.org"),
    (false, "dns:a-.org"),
    (false, "dns:a..org"),
    (false, "dns:a_b.org"),
];

/// Ports.
const PORTS: &[(bool, &str)] = &[
    (true, "tcp/80"),
    (true, "udp/65535"),
    (true, "sctp/1-65535"),
    (true, "dccp/*"),
    (true, "udplite/9"),
    (false, "tcp/0"),
    (false, "tcp/65536"),
    (false, "tcp/080"),
    (false, "tcp/"),
    (false, "tcp"),
    (false, "80"),
    (false, "tpc/80"),
    (false, "tcp/http"),
    (true, "icmp/echo-request"),
    (true, "icmp/ping"),
    (true, "icmp/8"),
    (true, "icmp/*"),
    (false, "icmp/256"),
    (true, "icmp/unreachable"),
    (false, "icmp/pong"),
    (false, "icmp"),
    (false, "icmpv6/8"),
    (true, "gre"),
    (false, "gre/5"),
    (true, "proto/253"),
    (false, "proto/58"),
    (false, "proto/1"),
    (false, "proto/256"),
    (false, ""),
];

/// What the parser refuses and a schema has no words for: whoever wants to know asks `policy check`.
const PARSER_ALONE: [&str; 6] = [
    "to = ['192.0.2.7/24']",
    "to = ['2001:db8:::1']",
    "ports = ['tcp/90-80']",
    "ports = ['icmp/128']",
    "time = '10:00-10:00'",
    "rate = '1/day burst 400'",
];

fn groups() -> Groups {
    Groups::parse("groups.toml", "office = ['host']\no-2 = []\n").unwrap()
}

/// What schema and parser say of a file.
fn judged(schema: &Schema, text: &str) -> (Result<(), String>, bool) {
    let value: Value = toml::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let parsed = PolicyFile::parse_with("web.toml", text, &groups());
    (schema.judge(&value), parsed.is_ok())
}

#[test]
fn both_judge_alike() {
    let schema = schema("policy.toml.json");
    let files = FILES.iter().map(|(good, text)| (*good, (*text).to_owned()));
    let rules = RULES
        .iter()
        .map(|(good, text)| (*good, format!("[[egress]]\n{text}\n")));
    let peers = PEERS.iter().flat_map(|(good, peer)| {
        let sides = [("ingress", "from"), ("egress", "to")];
        sides.map(|(direction, who)| (*good, format!("[[{direction}]]\n{who} = [{peer:?}]\n")))
    });
    let names = NAMES.iter().flat_map(|(good, name)| {
        [
            (*good, format!("[[egress]]\nto = [{name:?}]\n")),
            (false, format!("[[ingress]]\nfrom = [{name:?}]\n")),
            (
                false,
                format!("[[egress]]\naction = 'deny'\nto = [{name:?}]\n"),
            ),
        ]
    });
    let ports = PORTS
        .iter()
        .map(|(good, ports)| (*good, format!("[[ingress]]\nports = [{ports:?}]\n")));
    let mut wrong = Vec::new();
    for (good, text) in files.chain(rules).chain(peers).chain(names).chain(ports) {
        let (by_schema, by_parser) = judged(&schema, &text);
        if (by_schema.is_ok(), by_parser) != (good, good) {
            wrong.push(format!(
                "{text}  schema {by_schema:?}, parser {by_parser}, wanted {good}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for text in ["bandwidth = '999bit'", "bandwidth = '2000gbit'"] {
        let (by_schema, by_parser) = judged(&schema, text);
        assert_eq!((by_schema, by_parser), (Ok(()), false), "{text}");
    }
    for text in PARSER_ALONE {
        let (by_schema, by_parser) = judged(&schema, &format!("[[egress]]\n{text}\n"));
        assert_eq!((by_schema, by_parser), (Ok(()), false), "{text}");
    }
}

#[test]
fn both_judge_groups_alike() {
    let schema = schema("groups.toml.json");
    let table = [
        (true, ""),
        (
            true,
            "office = ['192.0.2.0/24', 'container:vpn', '@a']\na = []",
        ),
        (false, "Office = []"),
        (false, "-x = []"),
        (false, "office = 'host'"),
        (false, "office = [7]"),
        (false, "[office]\na = ['host']"),
        (false, "office = ['planet:earth']"),
        (false, "office = ['@Office']"),
    ];
    for (good, text) in table {
        let value: Value = toml::from_str(text).unwrap();
        let by_parser = Groups::parse("groups.toml", text).is_ok();
        assert_eq!(schema.judge(&value).is_ok(), good, "schema: {text}");
        assert_eq!(by_parser, good, "parser: {text}");
    }
}

#[test]
fn examples_of_the_schemas_are_good() {
    let policy = schema("policy.toml.json");
    let groups = schema("groups.toml.json");
    for schema in [&policy, &groups] {
        let mut examples = 0;
        schema.each_part(&mut |part| {
            for example in part["examples"].as_array().into_iter().flatten() {
                examples += 1;
                schema
                    .judge_by(part, example)
                    .unwrap_or_else(|e| panic!("{example}: {e}"));
            }
        });
        assert!(examples > 0);
    }
}
