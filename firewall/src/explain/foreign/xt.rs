//! Modules of iptables that iptables-nft leaves as they are: the few that stand in everybody's rules. The
//! structures are those of `linux/netfilter/xt_*.h` and `linux/netfilter_ipv4/ipt_*.h`.

use super::expression::Verdict;
use super::load::{EPHEMERAL, View};
use super::value::Truth;

/// Whether a packet matches a module, as far as that is known.
pub(super) fn matches(view: &View<'_>, name: &str, revision: u32, info: &[u8]) -> Truth {
    let truth = match name {
        "comment" => Some(Truth::Yes),
        // "ordinarily": as nft's own `limit`
        "limit" | "hashlimit" => Some(Truth::Yes),
        "conntrack" if revision >= 2 => state(view, info),
        "state" => info
            .first_chunk()
            .map(|mask| Truth::of(u32::from_ne_bytes(*mask) & u32::from(view.xt_state()) != 0)),
        "addrtype" if revision == 1 => address_type(view, info),
        "tcp" if view.journey.packet.proto != 6 => Some(Truth::No),
        "udp" if view.journey.packet.proto != 17 => Some(Truth::No),
        "tcp" => tcp(view, info),
        "udp" => ports(view, info, info.get(8).copied()),
        "multiport" => multiport(view, info),
        _ => None,
    };
    truth.unwrap_or(Truth::Unknown)
}

/// What a target does.
pub(super) fn target(name: &str, info: &[u8]) -> Verdict {
    match name {
        "REJECT" => Verdict::Drop,
        "MASQUERADE" | "SNAT" | "DNAT" | "REDIRECT" | "NETMAP" => Verdict::Accept,
        "LOG" | "NFLOG" | "TCPMSS" | "CHECKSUM" | "CT" | "CONNMARK" | "MARK" | "SET" | "TRACE"
        | "CLASSIFY" | "DSCP" | "ULOG" | "AUDIT" | "NOTRACK" => Verdict::Continue,
        // the verdict, negative and less one (`struct xt_standard_target`)
        "" | "standard" => match info.first_chunk().map(|v| i32::from_ne_bytes(*v)) {
            Some(-1) => Verdict::Drop,
            Some(-2) => Verdict::Accept,
            Some(-5) => Verdict::Return,
            _ => Verdict::Module("standard".into()),
        },
        other => Verdict::Module(other.to_owned()),
    }
}

fn u16_at(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?))
}

/// `-m conntrack --ctstate …` (`struct xt_conntrack_mtinfo2` and 3), and nothing else it can ask.
fn state(view: &View<'_>, info: &[u8]) -> Option<Truth> {
    const STATE: u16 = 1;
    const DNAT: u16 = 1 << 7;
    const SNAT: u16 = 1 << 6;
    let (asked, inverted) = (u16_at(info, 146)?, u16_at(info, 148)?);
    let mask = u16_at(info, 150)?;
    if asked != STATE || mask & (DNAT | SNAT) != 0 {
        return None;
    }
    let is = Truth::of(mask & view.xt_state() != 0);
    Some(if inverted & STATE != 0 { is.not() } else { is })
}

/// `-m addrtype` (`struct xt_addrtype_info_v1`): bits are `1 << RTN_*`.
fn address_type(view: &View<'_>, info: &[u8]) -> Option<Truth> {
    let flags = u32::from_ne_bytes(info.get(4..8)?.try_into().ok()?);
    let mut truth = Truth::Yes;
    for (n, kind) in view.address_types().into_iter().enumerate() {
        let mask = u16_at(info, 2 * n)?;
        if mask == 0 {
            continue;
        }
        // limits to an interface are flags 4 and 8
        if flags & !3 != 0 {
            return None;
        }
        let is = Truth::of(mask & (1 << kind?) != 0);
        truth = truth.and(if flags & (1 << n) != 0 { is.not() } else { is });
    }
    Some(truth)
}

/// Two ranges of ports, sources and destinations; bits 1 and 2 of `inverted` turn them.
fn ports(view: &View<'_>, info: &[u8], inverted: Option<u8>) -> Option<Truth> {
    let mut truth = Truth::Yes;
    for (n, port) in view.ports().into_iter().enumerate() {
        let (first, last) = (u16_at(info, 4 * n)?, u16_at(info, 4 * n + 2)?);
        let within = match port {
            _ if (first, last) == (0, u16::MAX) => Truth::Yes,
            Some(port) => Truth::of((first..=last).contains(&port)),
            None => Truth::of_all(EPHEMERAL.map(|port| Truth::of((first..=last).contains(&port)))),
        };
        let turned = inverted? & (1 << n) != 0;
        truth = truth.and(if turned { within.not() } else { within });
    }
    Some(truth)
}

/// `struct xt_tcp`: ports, option, flags.
fn tcp(view: &View<'_>, info: &[u8]) -> Option<Truth> {
    let (option, mask, wanted) = (*info.get(8)?, *info.get(9)?, *info.get(10)?);
    let inverted = *info.get(11)?;
    let ports = ports(view, info, Some(inverted))?;
    if option != 0 {
        return Some(ports.and(Truth::Unknown));
    }
    if mask == 0 {
        return Some(ports);
    }
    let flags = view.payload(super::PayloadBase::Transport, 13, 1)?;
    let set = flags.masked(&[mask], &[0]).is(&[wanted]);
    let set = if inverted & 4 != 0 { set.not() } else { set };
    Some(ports.and(set))
}

/// `struct xt_multiport_v1`
fn multiport(view: &View<'_>, info: &[u8]) -> Option<Truth> {
    let (flags, count) = (*info.first()?, usize::from(*info.get(1)?));
    let inverted = *info.get(2 + 30 + 15)? != 0;
    let [source, destination] = view.ports();
    let of = |port: u16| -> Option<Truth> {
        let mut n = 0;
        while n < count {
            let first = u16_at(info, 2 + 2 * n)?;
            let ranged = *info.get(32 + n)? != 0;
            let last = if ranged {
                n += 1;
                u16_at(info, 2 + 2 * n)?
            } else {
                first
            };
            if (first..=last).contains(&port) {
                return Some(Truth::Yes);
            }
            n += 1;
        }
        Some(Truth::No)
    };
    let of = |port: Option<u16>| -> Option<Truth> {
        match port {
            Some(port) => of(port),
            None => {
                let each: Option<Vec<Truth>> = EPHEMERAL.into_iter().map(of).collect();
                Some(Truth::of_all(each?))
            }
        }
    };
    let found = match flags {
        0 => of(source)?,
        1 => of(destination)?,
        _ => match (of(source)?, of(destination)?) {
            (Truth::Yes, _) | (_, Truth::Yes) => Truth::Yes,
            (Truth::No, Truth::No) => Truth::No,
            _ => Truth::Unknown,
        },
    };
    Some(if inverted { found.not() } else { found })
}
