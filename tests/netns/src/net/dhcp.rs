//! A DHCP client by hand: many clients behind a relay agent, asking as fast as they are answered.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::frame::Mac;
use super::netns::Netns;

/// A relay agent inside a container.
pub struct Agent {
    socket: UdpSocket,
    agent: Ipv4Addr,
    server: Ipv4Addr,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 2 offer, 5 acknowledgement, 6 refusal.
    pub kind: u8,
    /// For whom.
    pub mac: Mac,
    /// `yiaddr`.
    pub address: Ipv4Addr,
}

impl Agent {
    /// In a container with this address, towards this server.
    pub fn new(inside: &Netns, agent: Ipv4Addr, server: Ipv4Addr) -> Self {
        let socket = inside.enter(|| UdpSocket::bind((agent, 67))).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Self {
            socket,
            agent,
            server,
        }
    }

    /// Says something in the name of a machine: message type and further options, raw.
    pub fn say(&self, mac: Mac, kind: u8, options: &[u8]) {
        let mut message = vec![0u8; 240];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(&mac[2..]);
        message[24..28].copy_from_slice(&self.agent.octets());
        message[28..34].copy_from_slice(&mac);
        message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        message.extend([53, 1, kind]);
        message.extend_from_slice(options);
        message.push(255);
        // A server that is away makes the kernel complain about the message before.
        let _ = self.socket.send_to(&message, (self.server, 67));
    }

    /// Looks for a server.
    pub fn discover(&self, mac: Mac) {
        self.say(mac, 1, &[]);
    }

    /// Chooses an offer.
    pub fn request(&self, mac: Mac, address: Ipv4Addr) {
        let mut options = vec![50, 4];
        options.extend(address.octets());
        options.extend([54, 4]);
        options.extend(self.server.octets());
        self.say(mac, 3, &options);
    }

    /// The next answer; none within 20 ms.
    pub fn hear(&self) -> Option<Answer> {
        let mut bytes = [0; 1500];
        let length = self.socket.recv(&mut bytes).ok()?;
        let bytes = &bytes[..length];
        let mac = bytes.get(28..34)?.try_into().ok()?;
        let address: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
        let mut rest = bytes.get(240..)?;
        while let [code, length, tail @ ..] = rest {
            if *code == 53 {
                let kind = *tail.first()?;
                return Some(Answer {
                    kind,
                    mac,
                    address: address.into(),
                });
            }
            rest = tail.get(usize::from(*length)..)?;
        }
        None
    }

    /// One exchange, asked again for `patience`.
    pub fn lease(&self, mac: Mac, patience: Duration) -> Option<Ipv4Addr> {
        let started = Instant::now();
        while started.elapsed() < patience {
            self.discover(mac);
            let Some(offer) = self.hear_for(mac, 2) else {
                continue;
            };
            self.request(mac, offer);
            if let Some(address) = self.hear_for(mac, 5) {
                return Some(address);
            }
        }
        None
    }

    fn hear_for(&self, mac: Mac, kind: u8) -> Option<Ipv4Addr> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(500) {
            match self.hear() {
                Some(answer) if answer.mac == mac && answer.kind == kind => {
                    return Some(answer.address);
                }
                _ => {}
            }
        }
        None
    }

    /// A crowd asks until `enough` says so; returns who was acknowledged which address, each acknowledgement in its order.
    pub fn crowd(&self, first: u32, mut enough: impl FnMut(usize) -> bool) -> Vec<(Mac, Ipv4Addr)> {
        const AT_ONCE: usize = 64;
        let mut acknowledged = Vec::new();
        let mut next = first;
        // Machines that ask, and when they last said something.
        let mut asking: BTreeMap<Mac, Instant> = BTreeMap::new();
        while !enough(acknowledged.len()) {
            while asking.len() < AT_ONCE {
                let mac = machine(next);
                next += 1;
                self.discover(mac);
                asking.insert(mac, Instant::now());
            }
            match self.hear() {
                Some(answer) if answer.kind == 2 && asking.contains_key(&answer.mac) => {
                    self.request(answer.mac, answer.address);
                    asking.insert(answer.mac, Instant::now());
                }
                Some(answer) if answer.kind == 5 => {
                    asking.remove(&answer.mac);
                    acknowledged.push((answer.mac, answer.address));
                }
                Some(_) => {}
                None => {
                    for (mac, said) in &mut asking {
                        if said.elapsed() > Duration::from_millis(300) {
                            self.discover(*mac);
                            *said = Instant::now();
                        }
                    }
                }
            }
        }
        acknowledged
    }
}

/// Machine number `n`.
pub fn machine(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    [0x02, 0x77, a, b, c, d]
}

/// As people write it.
pub fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
