//! DNS: a client that tells all of an answer, and a server of the world. Messages are written and read by hickory-proto,
//! which netd does not use.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::netns::Netns;

/// Longer than any resolver makes anybody wait.
const LONG: Duration = Duration::from_secs(20);
/// For what must not come.
const SHORT: Duration = Duration::from_secs(1);

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Alone.
    Udp,
    /// In a connection.
    Tcp,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `No Error`, `Non-Existent Domain`, `Query Refused`, …
    pub code: ResponseCode,
    /// `10.89.0.2`, `db.dmz.internal.`, sorted.
    pub answers: Vec<String>,
    /// Cut off.
    pub truncated: bool,
}

fn question(name: &str, kind: &str) -> Message {
    let mut message = Message::new(0x2a2a, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, RecordType::from_str(kind).unwrap()));
    message
}

fn told(bytes: &[u8]) -> Told {
    let message = Message::from_vec(bytes).unwrap();
    assert_eq!(message.metadata.id, 0x2a2a, "an answer to somebody else");
    let mut answers: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
    answers.sort();
    Told {
        code: message.metadata.response_code,
        answers,
        truncated: message.metadata.truncation,
    }
}

/// Asks the resolver at an address; it must answer.
#[track_caller]
pub fn ask(from: &Netns, at: impl Into<IpAddr>, over: Over, name: &str, kind: &str) -> Told {
    let at = SocketAddr::new(at.into(), 53);
    let asked = question(name, kind).to_vec().unwrap();
    let answer = match over {
        Over::Udp => datagram(from, at, &asked, LONG),
        Over::Tcp => conversation(from, at, &[asked]).map(|mut answers| answers.remove(0)),
    };
    match answer {
        Ok(bytes) => told(&bytes),
        Err(error) => panic!("{name} {kind} at {at} over {over:?}: {error}"),
    }
}

/// Whether the resolver at an address says anything at all.
pub fn is_deaf(from: &Netns, at: impl Into<IpAddr>, name: &str) -> bool {
    let at = SocketAddr::new(at.into(), 53);
    let asked = question(name, "A").to_vec().unwrap();
    let connected = from.enter(|| TcpStream::connect_timeout(&at, SHORT).is_ok());
    !connected && datagram(from, at, &asked, SHORT).is_err()
}

fn datagram(
    from: &Netns,
    at: SocketAddr,
    asked: &[u8],
    wait: Duration,
) -> std::io::Result<Vec<u8>> {
    from.enter(|| {
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(wait))?;
        // Connected, so that an answer from another address is none.
        socket.connect(at)?;
        socket.send(asked)?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer)?;
        Ok(buffer[..length].to_vec())
    })
}

/// Asks several questions in one connection, all before the first answer is read.
pub fn ask_together(from: &Netns, at: impl Into<IpAddr>, names: &[&str]) -> Vec<Told> {
    let at = SocketAddr::new(at.into(), 53);
    let asked: Vec<_> = names
        .iter()
        .map(|n| question(n, "A").to_vec().unwrap())
        .collect();
    let answers = conversation(from, at, &asked).unwrap();
    answers.iter().map(|bytes| told(bytes)).collect()
}

fn conversation(from: &Netns, at: SocketAddr, asked: &[Vec<u8>]) -> std::io::Result<Vec<Vec<u8>>> {
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&at, LONG)?;
        stream.set_read_timeout(Some(LONG))?;
        let frames: Vec<u8> = asked.iter().flat_map(|message| frame(message)).collect();
        stream.write_all(&frames)?;
        asked.iter().map(|_| read_frame(&mut stream)).collect()
    })
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes(), message].concat()
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A DNS server somewhere in the world. It knows some names; those that begin with `big` are cut off in datagrams.
pub struct Server {
    seen: Arc<Mutex<Vec<String>>>,
    mute: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    ttl: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

/// `www.example.org A 198.51.100.7`
type Records = Arc<Vec<(Name, RecordType, RData)>>;

impl Server {
    /// Starts one; returns once its sockets are open.
    pub fn start(netns: &Netns, at: &str, records: &[&str]) -> Self {
        let at: SocketAddr = at.parse().unwrap();
        let records: Records = Arc::new(records.iter().map(|text| parse(text)).collect());
        let server = Self {
            seen: Arc::default(),
            mute: Arc::default(),
            stop: Arc::default(),
            ttl: Arc::new(AtomicU32::new(300)),
            threads: Vec::new(),
        };
        let (udp, tcp) =
            netns.enter(|| (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap()));
        udp.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        tcp.set_nonblocking(true).unwrap();
        let answer = {
            let (seen, mute) = (server.seen.clone(), server.mute.clone());
            let ttl = server.ttl.clone();
            move |over, message: &[u8]| {
                let ttl = ttl.load(Ordering::Relaxed);
                let answer = answer(&records, ttl, over, message, &seen);
                answer.filter(|_| !mute.load(Ordering::Relaxed))
            }
        };
        let (stop, own) = (server.stop.clone(), answer.clone());
        let datagrams = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, peer)) = udp.recv_from(&mut buffer) else {
                    continue;
                };
                if let Some(bytes) = own(Over::Udp, &buffer[..length]) {
                    udp.send_to(&bytes, peer).unwrap();
                }
            }
        });
        let stop = server.stop.clone();
        let connections = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                while let Ok(message) = read_frame(&mut stream) {
                    let Some(bytes) = answer(Over::Tcp, &message) else {
                        break;
                    };
                    stream.write_all(&frame(&bytes)).unwrap();
                }
            }
        });
        Self {
            threads: vec![datagrams, connections],
            ..server
        }
    }

    /// What it was asked so far: `udp www.example.org. A`, in lower case.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// From now on it hears, and says nothing; or speaks again.
    pub fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    /// For how many seconds its answers hold from now on.
    pub fn ttl(&self, seconds: u32) {
        self.ttl.store(seconds, Ordering::Relaxed);
    }

    /// Ends it: nobody listens any more.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn parse(text: &str) -> (Name, RecordType, RData) {
    let [name, kind, data] = text.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    let kind = RecordType::from_str(kind).unwrap();
    (name, kind, RData::try_from_str(kind, data).unwrap())
}

fn answer(
    records: &Records,
    ttl: u32,
    over: Over,
    message: &[u8],
    seen: &Mutex<Vec<String>>,
) -> Option<Vec<u8>> {
    let asked = Message::from_vec(message).ok()?;
    let query = asked.queries.first()?.clone();
    let word = match over {
        Over::Udp => "udp",
        Over::Tcp => "tcp",
    };
    let lower = query.name().to_lowercase();
    let line = format!("{word} {lower} {}", query.query_type());
    seen.lock().unwrap().push(line);
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let known: Vec<_> = records.iter().filter(|(name, ..)| *name == lower).collect();
    if known.is_empty() {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    if lower.to_string().starts_with("big") && over == Over::Udp {
        answer.metadata.truncation = true;
    } else {
        let mut name = query.name().clone();
        // The whole chain of aliases, as a resolver tells it.
        for _ in 0..=records.len() {
            let lower = name.to_lowercase();
            let own = records.iter().filter(|(owner, ..)| *owner == lower);
            let mut next = None;
            for (_, kind, data) in own {
                if *kind == query.query_type() || *kind == RecordType::CNAME {
                    answer.add_answer(Record::from_rdata(name.clone(), ttl, data.clone()));
                }
                if let RData::CNAME(target) = data {
                    next = Some(target.0.clone());
                }
            }
            let Some(target) = next else { break };
            name = target;
            name.set_fqdn(true);
        }
    }
    answer.to_vec().ok()
}
