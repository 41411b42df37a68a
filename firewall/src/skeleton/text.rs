//! The skeleton as text, nearly as `nft list ruleset` would write it.

use std::fmt::Write;

use super::ir::*;
use super::tables;
use crate::sets::{Family, Field, SetId, SetSpec, Table};

/// The whole skeleton as text, without elements.
pub fn render() -> String {
    let mut out = String::new();
    for spec in tables() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "table {} {} {{", family_of(spec.table), super::TABLE);
        for set in SetId::all() {
            let set = set.spec();
            if set.table == spec.table {
                set_text(&mut out, &set);
            }
        }
        for meter in &spec.meters {
            let _ = writeln!(
                out,
                "\tset {} {{ type {}; size {METER_SIZE}; flags {}; }}",
                meter.name,
                types(&meter.key),
                if meter.connections {
                    "dynamic"
                } else {
                    "dynamic,timeout"
                }
            );
        }
        for chain in &spec.chains {
            chain_text(&mut out, chain);
        }
        out.push_str("}\n");
    }
    out
}

/// `inet` or `bridge`.
pub(crate) fn family_of(table: Table) -> &'static str {
    match table {
        Table::Inet => "inet",
        Table::Bridge => "bridge",
    }
}

/// The name nft has for a field's type.
pub(crate) fn type_name(field: Field) -> &'static str {
    match field {
        Field::Ip4 => "ipv4_addr",
        Field::Ip6 => "ipv6_addr",
        Field::Mac => "ether_addr",
        Field::Proto => "inet_proto",
        Field::Port => "inet_service",
        Field::Mark => "mark",
        Field::IfIndex => "iface_index",
        Field::IfName => "ifname",
        Field::NfProto => "nf_proto",
    }
}

fn types(fields: &[Field]) -> String {
    let names: Vec<_> = fields.iter().map(|f| type_name(*f)).collect();
    names.join(" . ")
}

fn set_text(out: &mut String, set: &SetSpec) {
    let kind = if set.data.is_empty() { "set" } else { "map" };
    let _ = write!(out, "\t{kind} {} {{ type {}", set.name, types(&set.key));
    if !set.data.is_empty() {
        let _ = write!(out, " : {}", types(&set.data));
    }
    out.push(';');
    if set.interval {
        out.push_str(" flags interval;");
    }
    if set.timed {
        out.push_str(" flags timeout;");
    }
    if set.counted {
        out.push_str(" counter;");
    }
    out.push_str(" }\n");
}

fn chain_text(out: &mut String, chain: &Chain) {
    let _ = writeln!(out, "\tchain {} {{", chain.name);
    if let Some(hook) = chain.hook {
        let _ = writeln!(
            out,
            "\t\ttype {} hook {} priority {}; policy accept;",
            if hook.nat { "nat" } else { "filter" },
            point(hook.point),
            hook.priority
        );
    }
    for rule in &chain.rules {
        let steps: Vec<_> = rule.steps.iter().map(step).collect();
        let _ = write!(out, "\t\t{}", steps.join(" "));
        if let Some(comment) = rule.comment {
            let _ = write!(out, " comment \"{comment}\"");
        }
        out.push('\n');
    }
    out.push_str("\t}\n");
}

/// The name of a hook.
pub(crate) fn point(point: Point) -> &'static str {
    match point {
        Point::Prerouting => "prerouting",
        Point::Input => "input",
        Point::Forward => "forward",
        Point::Output => "output",
        Point::Postrouting => "postrouting",
    }
}

/// The name of a meta key.
pub(crate) fn meta(key: Meta) -> &'static str {
    match key {
        Meta::Mark => "meta mark",
        Meta::Priority => "meta priority",
        Meta::Iif => "iif",
        Meta::Oif => "oif",
        Meta::Iifname => "iifname",
        Meta::Oifname => "oifname",
        Meta::Ibrname => "meta ibrname",
        Meta::Nfproto => "meta nfproto",
        Meta::L4proto => "meta l4proto",
    }
}

fn load(load: Load) -> String {
    let ip = |f| match f {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    match load {
        Load::Meta(key) => meta(key).to_owned(),
        Load::Ct(Ct::State) => "ct state".into(),
        Load::Ct(Ct::Status) => "ct status".into(),
        Load::Ct(Ct::Direction) => "ct direction".into(),
        Load::Ct(Ct::Mark) => "ct mark".into(),
        Load::Ct(Ct::Protocol) => "ct protocol".into(),
        Load::Ct(Ct::Client(f)) => format!("ct original {} saddr", ip(f)),
        Load::Ct(Ct::Server(f)) => format!("ct reply {} saddr", ip(f)),
        Load::Ct(Ct::ServerPort) => "ct reply proto-src".into(),
        Load::Ct(Ct::IcmpType) => "ct original proto-dst & 0xff00".into(),
        Load::Payload { name, .. } => name.to_owned(),
        Load::FibType(FibOf::Daddr) => "fib daddr type".into(),
        Load::FibType(FibOf::DaddrOnIif) => "fib daddr . iif type".into(),
        Load::FibType(FibOf::SaddrOnOif) => "fib saddr . oif type".into(),
        Load::Prefix(half) => format!("{} & ffff:ffff:ffff:ffff::", self::load(half.whole())),
    }
}

fn key(loads: &[Load]) -> String {
    let loads: Vec<_> = loads.iter().map(|l| load(*l)).collect();
    loads.join(" . ")
}

fn step(step: &Step) -> String {
    let set = |id: &SetId| id.spec().name;
    match step {
        Step::Is(l, value) => format!("{} {}", load(*l), quoted(value)),
        Step::IsNot(l, value) => format!("{} != {}", load(*l), quoted(value)),
        Step::Any(l, bits) => format!("{} {}", load(*l), bits.text),
        Step::Masked(l, mask, value) => format!("{} & {} == {}", load(*l), hex(*mask), hex(*value)),
        Step::InNet(l, net) => format!("{} {net}", load(*l)),
        Step::In(k, id) => format!("{} @{}", key(k), set(id)),
        Step::NotIn(k, id) => format!("{} != @{}", key(k), set(id)),
        Step::Set(k, value) => format!("{} set {}", meta(*k), hex(*value)),
        Step::SetFrom(k, l, id) => format!("{} set {} map @{}", meta(*k), key(l), set(id)),
        Step::CtMarkFromPriority => "ct mark set meta priority".into(),
        Step::Meter {
            name,
            key: k,
            bucket,
        } => format!(
            "update @{name} {{ {} timeout {}s limit rate {}/{} burst {} packets }}",
            key(k),
            bucket.keep(),
            bucket.count,
            unit(bucket.seconds),
            bucket.burst
        ),
        Step::Connections { name, key: k, most } => {
            format!("add @{name} {{ {} ct count {most} }}", key(k))
        }
        Step::Log { prefix } => format!(
            "log prefix \"{prefix}\" group {} snaplen {}",
            super::LOG_GROUP,
            super::LOG_BYTES
        ),
        Step::Count => "counter".into(),
        Step::Reject(Refusal::TcpReset) => "reject with tcp reset".into(),
        Step::Reject(Refusal::AdminProhibited) => "reject with icmpx admin-prohibited".into(),
        Step::Masquerade => "masquerade".into(),
        Step::Dnat(f, k, id) => {
            let ip = if *f == Family::V4 { "ip" } else { "ip6" };
            format!("dnat {ip} to {} map @{}", key(k), set(id))
        }
        Step::Accept => "accept".into(),
        Step::Drop => "drop".into(),
        Step::Return => "return".into(),
        Step::Jump(to) => format!("jump {to}"),
        Step::Goto(to) => format!("goto {to}"),
    }
}

/// nft's word for a time of so many seconds.
pub(crate) fn unit(seconds: u32) -> &'static str {
    match seconds {
        60 => "minute",
        3_600 => "hour",
        86_400 => "day",
        _ => "second",
    }
}

fn quoted(value: &Value) -> String {
    if value.text.contains('*') || value.text == "lo" {
        format!("\"{}\"", value.text)
    } else {
        value.text.clone()
    }
}
