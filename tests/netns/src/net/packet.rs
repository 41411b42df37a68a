//! What probes say, and how their packets are known again.

use std::net::IpAddr;

/// A line of a probe or its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Who is there? Of the probe with this key.
    Probe {
        /// Its key.
        key: u16,
    },
    /// A living flow's client says a number.
    Beat {
        /// The flow's key.
        key: u16,
        /// The number.
        number: u32,
    },
    /// The server heard the number.
    Echo(u32),
    /// The server says a number without being asked.
    Push(u32),
    /// Who answers, and whom it sees.
    Banner {
        /// The server's name.
        who: String,
        /// The client's address as the server sees it.
        seen: IpAddr,
    },
}

/// The payload of a probe.
pub fn probe(key: u16) -> Vec<u8> {
    format!("proof {key}\n").into_bytes()
}

/// A number, said by the client of a living flow.
pub fn beat(key: u16, number: u32) -> Vec<u8> {
    format!("beat {key} {number}\n").into_bytes()
}

/// A number said again.
pub fn echo(number: u32) -> Vec<u8> {
    format!("echo {number}\n").into_bytes()
}

/// A number, said by the server of a living flow.
pub fn push(number: u32) -> Vec<u8> {
    format!("push {number}\n").into_bytes()
}

/// What a server answers first.
pub fn banner(name: &str, peer: IpAddr) -> Vec<u8> {
    format!("here {name} {}\n", peer.to_canonical()).into_bytes()
}

/// The lines in some bytes.
pub fn said(bytes: &[u8]) -> Vec<Heard> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Heard> {
    let mut words = text.split(' ');
    let heard = match words.next()? {
        "proof" => Heard::Probe {
            key: words.next()?.parse().ok()?,
        },
        "beat" => Heard::Beat {
            key: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
        },
        "echo" => Heard::Echo(words.next()?.parse().ok()?),
        "push" => Heard::Push(words.next()?.parse().ok()?),
        "here" => Heard::Banner {
            who: words.next()?.to_owned(),
            seen: words.next()?.parse().ok()?,
        },
        _ => return None,
    };
    Some(heard)
}

/// The key of a packet that opens a connection, as a raw socket reads it: IPv4 with its header, IPv6 without.
pub fn opens(packet: &[u8], proto: u8, v6: bool) -> Option<u16> {
    let body = if v6 { packet } else { behind_header(packet)? };
    match proto {
        // SYN without ACK (RFC 9293, 3.1)
        6 => (body.get(13)? & 0x12 == 0x02).then(|| number(body, 0))?,
        17 => key_in(body.get(8..)?),
        1 => matches!(body.first()?, 8 | 13).then(|| number(body, 4))?,
        58 => (*body.first()? == 128).then(|| number(body, 4))?,
        _ => key_in(body),
    }
}

/// The key that an answer to a ping is about, and whether it is one: an ICMP error carries the beginning of
/// the packet that it is about (RFC 792, RFC 4443).
pub fn pong(packet: &[u8], v6: bool) -> Option<(u16, bool)> {
    let body = if v6 { packet } else { behind_header(packet)? };
    match (v6, body.first()?) {
        (false, 0 | 14) | (true, 129) => Some((number(body, 4)?, true)),
        (false, 3) => {
            let about = body.get(8..)?;
            let key = number(behind_header(about)?, 4)?;
            (*about.get(9)? == 1).then_some((key, false))
        }
        // IPv6 without extension headers: 40 bytes.
        (true, 1) => {
            let about = body.get(8..)?;
            let key = number(about.get(40..)?, 4)?;
            (*about.get(6)? == 58).then_some((key, false))
        }
        _ => None,
    }
}

/// A ping; the kernel fills in the checksum of ICMPv6 only.
pub fn ping(kind: u8, v6: bool, key: u16) -> Vec<u8> {
    let mut packet = vec![if v6 { 128 } else { kind }, 0, 0, 0];
    packet.extend(key.to_be_bytes());
    packet.extend([0, 1]);
    // A timestamp request has room for three times (RFC 792); an echo request takes anything.
    packet.extend([0; 12]);
    if !v6 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn behind_header(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first()? & 0x0f;
    packet.get(usize::from(words) * 4..)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn key_in(payload: &[u8]) -> Option<u16> {
    match said(payload).first()? {
        Heard::Probe { key } => Some(*key),
        _ => None,
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
