//! Elements as people read them: `in4_allow_group_port  10.89.0.2 . world . tcp . 80`.

use std::net::{Ipv4Addr, Ipv6Addr};

use firewall::compile::Firewall;
use firewall::sets::{Element, Field, Key, SetId, Shape, group, limit};

/// The names of the groups of a firewall.
fn group_name(firewall: &Firewall, mark: u32) -> String {
    match mark {
        group::HOST => return "host".into(),
        group::WORLD => return "world".into(),
        group::ANY => return "any".into(),
        _ => {}
    }
    if let Some(shared) = firewall.shared(mark) {
        return shared;
    }
    if mark >= 0x8000_0000 {
        return format!("{mark:#x}");
    }
    let world = firewall.world();
    for name in world.zones.keys() {
        if firewall.zone_group(name) == Some(mark) {
            return format!("zone:{name}");
        }
    }
    if let Some(identity) = firewall.identity(mark) {
        let pairs: Vec<_> = identity.iter().map(|(k, v)| format!("{k}={v}")).collect();
        return format!("labels:{}", pairs.join(","));
    }
    panic!("group {mark:#x} stands for nobody");
}

fn values(firewall: &Firewall, fields: &[Field], key: &Key) -> Vec<String> {
    let mut rest = key.0.as_slice();
    let mut shown = Vec::new();
    let mut proto = 0;
    for field in fields {
        let (this, next) = rest.split_at(field.padded());
        rest = next;
        let this = &this[..field.len()];
        shown.push(match field {
            Field::Ip4 => Ipv4Addr::from(<[u8; 4]>::try_from(this).unwrap()).to_string(),
            Field::Ip6 => Ipv6Addr::from(<[u8; 16]>::try_from(this).unwrap()).to_string(),
            Field::Mac => {
                let pairs: Vec<_> = this.iter().map(|b| format!("{b:02x}")).collect();
                pairs.join(":")
            }
            Field::Proto => {
                proto = this[0];
                match proto {
                    1 => "icmp".into(),
                    6 => "tcp".into(),
                    17 => "udp".into(),
                    58 => "icmpv6".into(),
                    132 => "sctp".into(),
                    other => other.to_string(),
                }
            }
            Field::Port if matches!(proto, 1 | 58) && this[1] == 0 => format!("type {}", this[0]),
            Field::Port => u16::from_be_bytes(this.try_into().unwrap()).to_string(),
            Field::Mark => group_name(firewall, u32::from_ne_bytes(this.try_into().unwrap())),
            Field::IfIndex => format!("#{}", u32::from_ne_bytes(this.try_into().unwrap())),
            Field::IfName => {
                let name = this.split(|b| *b == 0).next().unwrap_or_default();
                String::from_utf8_lossy(name).into_owned()
            }
            Field::NfProto => this[0].to_string(),
        });
    }
    shown
}

/// Numbers of limits depend on the order of events; what they stand for does not.
fn limit_name(firewall: &Firewall, data: &Key) -> String {
    let number = u32::from_ne_bytes(data.0[..4].try_into().unwrap());
    if number == limit::NONE {
        return "no limit".into();
    }
    let limits = firewall.limits();
    let found = limits.iter().find(|(n, _)| *n == number);
    let (_, limit) = found.unwrap_or_else(|| panic!("limit {number} stands for nothing"));
    format!("{limit:?}")
}

pub fn element(firewall: &Firewall, element: &Element) -> String {
    let spec = element.set.spec();
    let first = match element.set {
        // the first mark is a number, not a group
        SetId::If(..) | SetId::Condition(..) => {
            let (own, number) = spec.key.split_at(1);
            let (address, rest) = element.key.0.split_at(own[0].padded());
            let (index, rest) = rest.split_at(4);
            let index = u32::from_ne_bytes(index.try_into().unwrap());
            let mut all = values(firewall, own, &Key(address.to_vec()));
            all.push(format!("rule {index}"));
            all.extend(values(firewall, &number[1..], &Key(rest.to_vec())));
            all
        }
        _ => values(firewall, &spec.key, &element.key),
    };
    let key: Vec<String> = match &element.last {
        None => first,
        Some(last) => {
            let last = match element.set {
                SetId::If(..) => {
                    let skip = spec.key[0].padded() + 4;
                    let rest = Key(last.0[skip..].to_vec());
                    let rest = values(firewall, &spec.key[2..], &rest);
                    first[..2].iter().cloned().chain(rest).collect()
                }
                _ => values(firewall, &spec.key, last),
            };
            let ends = first.into_iter().zip(last);
            ends.map(|(a, b)| if a == b { a } else { format!("{a}-{b}") })
                .collect()
        }
    };
    let data = match &element.data {
        None => String::new(),
        Some(data) if element.set == SetId::Limit => format!(" : {}", limit_name(firewall, data)),
        Some(data) => format!(" : {}", values(firewall, &spec.data, data).join(" . ")),
    };
    format!("{:<24} {}{data}", spec.name, key.join(" . "))
}

/// All of them, sorted.
pub fn elements(firewall: &Firewall, elements: &[Element]) -> Vec<String> {
    let mut lines: Vec<String> = elements.iter().map(|e| element(firewall, e)).collect();
    lines.sort();
    lines
}

/// Those that a packet may meet: ranges to which nothing leads stay for a while.
pub fn in_use(elements: &[Element]) -> Vec<Element> {
    use std::collections::BTreeSet;
    let data = |e: &Element| Some(e.data.as_ref()?.0.clone());
    let number = |e: &Element| e.key.0[..4].to_vec();
    let is_net = |e: &Element| match e.set {
        SetId::Rule(.., shape) => e.set.is_numbered() && shape != Shape::Ports,
        _ => false,
    };
    let is_list = |e: &Element| matches!(e.set, SetId::Rule(.., Shape::Ports));
    let leads = elements.iter().filter(|e| matches!(e.set, SetId::Nets(..)));
    let nets: BTreeSet<_> = leads.filter_map(data).collect();
    let mut used = elements.to_vec();
    used.retain(|e| !is_net(e) || nets.contains(&number(e)));
    let leads = used.iter().filter(|e| matches!(e.set, SetId::Rule(..)));
    let lists: BTreeSet<_> = leads.filter_map(data).collect();
    used.retain(|e| !is_list(e) || lists.contains(&number(e)));
    used
}
