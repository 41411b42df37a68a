//! A question on its way upstream, and who waits for its answer.

use std::net::{IpAddr, SocketAddr};

use crate::cache::Key;
use crate::directory::Container;
use crate::query::{Asked, Edns};
use crate::reply::Stored;
use crate::wire::Rcode;
use crate::{Millis, Transport, answer};

/// One try of a question at one server. Names the socket that the caller opens for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The question; its tries end together.
    pub flight: u64,
    /// Which try.
    pub number: u8,
}

/// A message to send upstream: from a socket of its own, whose port nobody can guess, connected to the server, so that
/// nobody else's answers arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamQuery {
    /// What to give back with whatever arrives on the socket.
    pub attempt: Attempt,
    /// The server.
    pub server: SocketAddr,
    /// How; TCP messages are without their length.
    pub over: Transport,
    /// The message.
    pub bytes: Vec<u8>,
}

/// What an answer for somebody who waits repeats of the query.
#[derive(Debug, Clone)]
pub(crate) struct Waiter<T> {
    pub(crate) back: T,
    pub(crate) over: Transport,
    pub(crate) container: String,
    /// It is that container as long as it is here.
    zone: String,
    addresses: Vec<IpAddr>,
    id: u16,
    flags: u16,
    question: Box<[u8]>,
    edns: Option<Edns>,
}

impl<T> Waiter<T> {
    pub(crate) fn new(back: T, over: Transport, container: &Container, asked: &Asked<'_>) -> Self {
        Self {
            back,
            over,
            container: container.name.clone(),
            zone: container.zone.clone(),
            addresses: container.addresses.clone(),
            id: asked.id,
            flags: asked.flags,
            question: asked.question.into(),
            edns: asked.edns,
        }
    }

    /// Whether this container is the one that asked.
    pub(crate) fn is_of(&self, container: &Container) -> bool {
        self.zone == container.zone && self.addresses == container.addresses
    }

    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            id: self.id,
            flags: self.flags,
            question: &self.question,
            edns: self.edns,
        }
    }
}

/// How a try was sent.
#[derive(Debug)]
pub(crate) struct Try {
    pub(crate) server: SocketAddr,
    pub(crate) over: Transport,
    pub(crate) edns: bool,
    id: u16,
    question: Vec<u8>,
    /// It may still be answered.
    open: bool,
}

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Flight<T> {
    pub(crate) key: Key,
    pub(crate) waiters: Vec<Waiter<T>>,
    servers: Vec<SocketAddr>,
    /// Servers that will not answer any more, with why.
    given_up: Vec<SocketAddr>,
    next: usize,
    tries: Vec<Try>,
    /// When to do something about it next.
    pub(crate) wake: Millis,
    /// When it fails.
    pub(crate) until: Millis,
    /// What the last server said that would not answer.
    pub(crate) refusal: Option<Rcode>,
}

impl<T> Flight<T> {
    pub(crate) fn new(
        key: Key,
        waiter: Waiter<T>,
        servers: Vec<SocketAddr>,
        until: Millis,
    ) -> Self {
        Self {
            key,
            waiters: vec![waiter],
            servers,
            given_up: Vec::new(),
            next: 0,
            tries: Vec::new(),
            wake: until,
            until,
            refusal: None,
        }
    }

    pub(crate) fn attempt(&self, number: u8) -> Option<&Try> {
        self.tries.get(usize::from(number))
    }

    /// Whether no later try was made and this one is not over.
    pub(crate) fn is_latest(&self, number: u8) -> bool {
        usize::from(number) + 1 == self.tries.len() && self.attempt(number).is_some_and(|t| t.open)
    }

    /// Whether some try may still be answered.
    pub(crate) fn is_open(&self) -> bool {
        self.tries.iter().any(|tried| tried.open)
    }

    /// The server that was asked last.
    pub(crate) fn latest_server(&self) -> Option<SocketAddr> {
        self.tries.last().map(|tried| tried.server)
    }

    /// Bytes of the question.
    pub(crate) fn question_length(&self) -> usize {
        self.key.name().bytes().len() + 4
    }

    /// Nothing more comes of this try.
    pub(crate) fn close(&mut self, number: u8) {
        if let Some(attempt) = self.tries.get_mut(usize::from(number)) {
            attempt.open = false;
        }
    }

    /// Nothing more is asked of this server.
    pub(crate) fn give_up(&mut self, server: SocketAddr) {
        if !self.given_up.contains(&server) {
            self.given_up.push(server);
        }
    }

    /// The next server in turn that may still answer.
    pub(crate) fn next_server(&mut self) -> Option<SocketAddr> {
        for _ in 0..self.servers.len() {
            let server = self.servers[self.next % self.servers.len()];
            self.next += 1;
            if !self.given_up.contains(&server) {
                return Some(server);
            }
        }
        None
    }

    /// Makes a try. None after very many: a server that keeps asking for another way gets no further.
    pub(crate) fn ask(
        &mut self,
        flight: u64,
        server: SocketAddr,
        over: Transport,
        edns: bool,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<UpstreamQuery> {
        const MOST: u8 = 32;
        let number = u8::try_from(self.tries.len()).ok().filter(|n| *n < MOST)?;
        let mut question = self.key.name().bytes().to_vec();
        if over == Transport::Udp {
            mix_case(&mut question, random);
        }
        question.extend(self.key.kind.to_be_bytes());
        question.extend(crate::wire::number::IN.to_be_bytes());
        let id = random() as u16; // any bits will do
        let options = edns.then_some(self.key.dnssec);
        let bytes = answer::upstream(id, &question, options, self.key.checking_disabled);
        self.tries.push(Try {
            server,
            over,
            edns,
            id,
            question,
            open: true,
        });
        Some(UpstreamQuery {
            attempt: Attempt { flight, number },
            server,
            over,
            bytes,
        })
    }

    /// Reads what came back for a try.
    pub(crate) fn read(
        &self,
        now: Millis,
        number: u8,
        message: &[u8],
    ) -> Result<Stored, crate::reply::Wrong> {
        let attempt = self.attempt(number).filter(|attempt| attempt.open);
        let attempt = attempt.ok_or(crate::reply::Wrong::NotOurs)?;
        Stored::read(now, attempt.id, &attempt.question, self.key.dnssec, message)
    }
}

/// Changes the case of letters at random: who answers blindly must guess them too (draft-vixie-dnsext-dns0x20).
fn mix_case(name: &mut [u8], random: &mut dyn FnMut() -> u64) {
    for chunk in name.chunks_mut(64) {
        let mut bits = random();
        for byte in chunk.iter_mut().filter(|byte| byte.is_ascii_lowercase()) {
            if bits & 1 == 1 {
                byte.make_ascii_uppercase();
            }
            bits >>= 1;
        }
    }
}
