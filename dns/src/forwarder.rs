//! Questions on their way upstream: which server is asked when, and what becomes of its answer.
//!
//! A question is asked of one server at a time; after each `spacing` the next one in turn is asked as well, and any of them
//! may still answer. After `patience` it has failed. A server that refuses, or cannot be reached, makes place for the next
//! at once.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::cache::{Cache, Key};
use crate::config::Config;
use crate::flight::{Attempt, Flight, UpstreamQuery, Waiter};
use crate::reply::{Stored, Wrong};
use crate::servers::Health;
use crate::wire::Rcode;
use crate::{Millis, Transport};

pub(crate) type FlightId = u64;

/// What became of a query that is to be forwarded.
pub(crate) enum Joined {
    Asks(UpstreamQuery),
    Waits,
    /// Too many are on their way.
    Full,
}

/// What became of a question.
pub(crate) enum Step<T> {
    Listen,
    Ask(UpstreamQuery),
    Done(FlightId, Flight<T>, Rc<Stored>),
}

/// Cache, servers, and what is on its way.
pub(crate) struct Forwarder<T> {
    pub(crate) cache: Cache,
    health: Health,
    flights: HashMap<FlightId, Flight<T>>,
    by_key: HashMap<Key, FlightId>,
    wakes: BTreeSet<(Millis, FlightId)>,
    last: FlightId,
    config: Config,
    random: Box<dyn FnMut() -> u64>,
}

impl<T> Forwarder<T> {
    pub(crate) fn new(config: Config, random: Box<dyn FnMut() -> u64>) -> Self {
        Self {
            cache: Cache::new(config.cache),
            health: Health::default(),
            flights: HashMap::new(),
            by_key: HashMap::new(),
            wakes: BTreeSet::new(),
            last: 0,
            config,
            random,
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Somebody wants an answer that is not cached.
    pub(crate) fn join(
        &mut self,
        now: Millis,
        key: Key,
        waiter: Waiter<T>,
        servers: &[SocketAddr],
    ) -> Joined {
        if let Some(flight) = self
            .by_key
            .get(&key)
            .and_then(|id| self.flights.get_mut(id))
        {
            flight.waiters.push(waiter);
            return Joined::Waits;
        }
        if self.flights.len() >= self.config.flights {
            return Joined::Full;
        }
        self.last += 1;
        let id = self.last;
        let order = self.health.order(now, servers);
        let until = now + self.config.patience;
        let flight = Flight::new(key.clone(), waiter, order, until);
        self.flights.insert(id, flight);
        self.wakes.insert((until, id));
        let Some(query) = self.ask_next(now, id) else {
            self.remove(id);
            return Joined::Full;
        };
        self.by_key.insert(key, id);
        Joined::Asks(query)
    }

    /// Something arrived on the socket of a try.
    pub(crate) fn received(&mut self, now: Millis, attempt: Attempt, message: &[u8]) -> Step<T> {
        let Attempt { flight: id, number } = attempt;
        let Some(flight) = self.flights.get_mut(&id) else {
            return Step::Listen;
        };
        let read = flight.read(now, number, message);
        let Some(tried) = flight.attempt(number) else {
            return Step::Listen;
        };
        let (server, over, edns) = (tried.server, tried.over, tried.edns);
        let again = match read {
            Ok(stored) => {
                self.health.answered(server);
                let stored = Rc::new(stored);
                return match self.remove(id) {
                    Some(flight) => {
                        self.cache.put(now, flight.key.clone(), stored.clone());
                        Step::Done(id, flight, stored)
                    }
                    None => Step::Listen,
                };
            }
            // the right answer may still come
            Err(Wrong::NotOurs) => return Step::Listen,
            // who answers TCP had to see our packets
            Err(Wrong::OtherCase | Wrong::Truncated) if over == Transport::Udp => {
                Some((Transport::Tcp, edns))
            }
            // a server of before EDNS (RFC 6891 §7)
            Err(Wrong::Refused(Rcode::FORMERR | Rcode::NOTIMP)) if edns => Some((over, false)),
            Err(Wrong::Refused(rcode)) => {
                flight.refusal = Some(rcode);
                None
            }
            Err(Wrong::Malformed | Wrong::OtherCase | Wrong::Truncated) => None,
        };
        flight.close(number);
        if let Some((over, edns)) = again {
            let query = flight.ask(id, server, over, edns, &mut self.random);
            if let Some(query) = query {
                self.wake_at(id, now + self.config.spacing);
                return Step::Ask(query);
            }
        }
        self.give_up(now, id, server)
    }

    /// A try cannot be made, or its socket told of an error.
    pub(crate) fn failed(&mut self, now: Millis, attempt: Attempt) -> Step<T> {
        let Attempt { flight: id, number } = attempt;
        let Some(flight) = self.flights.get_mut(&id) else {
            return Step::Listen;
        };
        let latest = flight.is_latest(number);
        flight.close(number);
        let Some(server) = flight.attempt(number).map(|tried| tried.server) else {
            return Step::Listen;
        };
        if latest {
            return self.give_up(now, id, server);
        }
        flight.give_up(server);
        self.health.failed(now, server);
        Step::Listen
    }

    /// What is due.
    pub(crate) fn due(&mut self, now: Millis) -> Vec<Step<T>> {
        let mut steps = Vec::new();
        while let Some(&(at, id)) = self.wakes.first() {
            if at > now {
                break;
            }
            let Some(flight) = self.flights.get(&id) else {
                self.wakes.remove(&(at, id));
                continue;
            };
            if flight.until <= now {
                if let Some(server) = flight.latest_server() {
                    self.health.failed(now, server);
                }
                steps.extend(self.fail(now, id));
                continue;
            }
            if let Some(server) = flight.latest_server() {
                self.health.failed(now, server);
            }
            match self.ask_next(now, id) {
                Some(query) => steps.push(Step::Ask(query)),
                None => self.wake_at(id, Millis::MAX), // what was asked may still be answered
            }
        }
        steps
    }

    /// A server will not answer: the next one, or the end.
    fn give_up(&mut self, now: Millis, id: FlightId, server: SocketAddr) -> Step<T> {
        self.health.failed(now, server);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.give_up(server);
        }
        if let Some(query) = self.ask_next(now, id) {
            return Step::Ask(query);
        }
        let waits = self.flights.get(&id).is_some_and(Flight::is_open);
        if waits {
            return Step::Listen;
        }
        self.fail(now, id).unwrap_or(Step::Listen)
    }

    fn fail(&mut self, now: Millis, id: FlightId) -> Option<Step<T>> {
        let flight = self.remove(id)?;
        let rcode = flight.refusal.unwrap_or(Rcode::SERVFAIL);
        let stored = Rc::new(Stored::failure(now, rcode, flight.question_length()));
        self.cache.put(now, flight.key.clone(), stored.clone());
        Some(Step::Done(id, flight, stored))
    }

    fn ask_next(&mut self, now: Millis, id: FlightId) -> Option<UpstreamQuery> {
        let flight = self.flights.get_mut(&id)?;
        let server = flight.next_server()?;
        let query = flight.ask(id, server, Transport::Udp, true, &mut self.random)?;
        self.wake_at(id, now + self.config.spacing);
        Some(query)
    }

    /// When to look at a question again, but for its end.
    fn wake_at(&mut self, id: FlightId, at: Millis) {
        if let Some(flight) = self.flights.get_mut(&id) {
            self.wakes.remove(&(flight.wake, id));
            flight.wake = at.min(flight.until);
            self.wakes.insert((flight.wake, id));
        }
    }

    fn remove(&mut self, id: FlightId) -> Option<Flight<T>> {
        let flight = self.flights.remove(&id)?;
        self.wakes.remove(&(flight.wake, id));
        self.by_key.remove(&flight.key);
        Some(flight)
    }
}
