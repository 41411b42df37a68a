//! The resolver: how a query finds its answer.
//!
//! ```text
//! handle: who asks? → limit → query → ours? ──────────────────────────────▶ Answer
//!                                      └▶ may it leave? → cached? ────────▶ Answer
//!                                                          └▶ under way? ─▶ Wait
//!                                                               └─────────▶ Ask ─▶ upstream … ─▶ Done
//! ```

use std::net::{IpAddr, SocketAddr};

use crate::answer::{Answer, Reason, bare};
use crate::cache::Key;
use crate::config::{Config, Counters};
use crate::directory::{Container, Directory, Member, MemberId, Zone};
use crate::egress::{Egress, Policy};
use crate::error::Error;
use crate::flight::{Attempt, Flight, Waiter};
use crate::forwarder::{Forwarder, Joined, Step};
use crate::local::Asker;
use crate::opens;
use crate::outcome::{Client, Message, Opens, Outcome, Progress, Reply};
use crate::query::{Asked, Fault, Query};
use crate::reply::Stored;
use crate::silence::Silence;
use crate::wire::{Rcode, number};
use crate::{Millis, Transport};

/// For how long somebody who asked counts as somebody who may ask again soon.
const ALONE: Millis = 1000;

/// The resolver of all zones. `T` is the way back to a client, of which this crate knows nothing.
pub struct Resolver<T> {
    pub(crate) directory: Directory,
    pub(crate) forwarder: Forwarder<T>,
    pub(crate) config: Config,
    /// The host's resolvers.
    upstream: Vec<SocketAddr>,
    /// The host's own addresses.
    host: Vec<IpAddr>,
    /// The last two who asked, and when.
    recent: [(MemberId, Millis); 2],
}

impl<T: Clone> Resolver<T> {
    /// A resolver that knows nobody. `random` is asked for numbers that nobody can guess.
    pub fn new(config: Config, random: Box<dyn FnMut() -> u64>) -> Self {
        Self {
            directory: Directory::default(),
            forwarder: Forwarder::new(config, random),
            config,
            upstream: Vec::new(),
            host: Vec::new(),
            recent: [(MemberId::MAX, 0); 2],
        }
    }

    /// Takes a zone, or another version of it. Its containers stay.
    pub fn set_zone(&mut self, zone: Zone) {
        self.directory.set_zone(zone);
    }

    /// Forgets a zone and whoever is in it.
    pub fn remove_zone(&mut self, zone: &str) {
        self.directory.remove_zone(zone);
    }

    /// Takes a container, or another version of it: from now on it has these names, and asks as it may now.
    ///
    /// # Errors
    /// Its zone is not known.
    pub fn attach(&mut self, now: Millis, container: Container) -> Result<(), Error> {
        let limits = [self.config.asked, self.config.forwarded];
        self.directory.attach(now, container, limits)
    }

    /// These prefixes, each a /64, are a container's own, and no others: whoever asks from an address in one is it.
    /// To be told again when they change, and with none when it goes.
    pub fn set_prefixes(&mut self, container: &str, prefixes: &[ipnet::Ipv6Net]) {
        self.directory.set_prefixes(container, prefixes);
    }

    /// Forgets a container. False if there was none. What it waits for is not answered any more.
    pub fn detach(&mut self, container: &str) -> bool {
        self.directory.detach(container)
    }

    /// The host's resolvers, in order of preference. What older ones said is forgotten; what is on its way to them may
    /// still arrive.
    pub fn set_upstream(&mut self, servers: Vec<SocketAddr>) {
        if servers != self.upstream {
            self.upstream = servers;
            self.flush();
        }
    }

    /// The host's resolvers.
    pub fn upstream_servers(&self) -> &[SocketAddr] {
        &self.upstream
    }

    /// The host's own addresses: they are never opened.
    pub fn set_host(&mut self, addresses: Vec<IpAddr>) {
        self.host = addresses;
    }

    /// Forgets what upstream said.
    pub fn flush(&mut self) {
        self.directory.new_generation();
        self.forwarder.cache.clear();
    }

    /// What was done for a zone.
    pub fn counters(&self, zone: &str) -> Option<Counters> {
        self.directory.zone(zone).map(|state| state.counters)
    }

    /// Answers in the cache, and the bytes it takes.
    pub fn cached(&self) -> (usize, usize) {
        (self.forwarder.cache.len(), self.forwarder.cache.bytes())
    }

    /// Questions on their way upstream.
    pub fn under_way(&self) -> usize {
        self.forwarder.under_way()
    }

    /// Which container of a zone asks from an address. `None`: nobody who is answered.
    pub fn asker(&self, zone: &str, address: IpAddr) -> Option<&str> {
        let id = self.directory.asker(zone, address)?;
        let member = self.directory.member(id)?;
        Some(member.container.name.as_str())
    }

    /// Answers a query that came at `now`, milliseconds by any clock that does not go back.
    ///
    /// `back` is copied where the answer has to wait.
    pub fn handle(
        &mut self,
        now: Millis,
        from: Client<'_>,
        back: &T,
        message: &[u8],
        policy: &mut dyn Policy,
    ) -> Outcome {
        let Some(state) = self.directory.zone_mut(from.zone) else {
            return Outcome::Ignore(Silence::NoZone);
        };
        state.counters.queries += 1;
        let (outcome, count) = self.receive(now, from, back, message, policy);
        if let Some(state) = self.directory.zone_mut(from.zone) {
            *count(&mut state.counters) += 1;
        }
        outcome
    }

    fn receive(
        &mut self,
        now: Millis,
        from: Client<'_>,
        back: &T,
        message: &[u8],
        policy: &mut dyn Policy,
    ) -> (Outcome, Count) {
        let Some(id) = self.directory.asker(from.zone, from.address) else {
            return (Outcome::Ignore(Silence::Stranger), |c| &mut c.wrong);
        };
        if !self.may_ask(now, id) {
            return (Outcome::Ignore(Silence::RateLimited), |c| &mut c.limited);
        }
        let answer = |bytes: Vec<u8>| Outcome::Answer(bytes.into());
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Fault::Silent(silence)) => {
                return (Outcome::Ignore(silence), |c| &mut c.wrong);
            }
            Err(Fault::Answer(asked, rcode)) => {
                return (answer(bare(&asked, from.over, rcode, None)), |c| {
                    &mut c.wrong
                });
            }
        };
        let say = |rcode, reason| answer(bare(&query.asked, from.over, rcode, reason));
        if query.class != number::IN || is_meta(query.kind) {
            let reason = Some(Reason::NOT_SERVED);
            return (say(Rcode::REFUSED, reason), |c| &mut c.wrong);
        }
        let (Some(state), Some(member)) =
            (self.directory.zone(from.zone), self.directory.member(id))
        else {
            return (Outcome::Ignore(Silence::Stranger), |c| &mut c.wrong);
        };
        let asker = Asker {
            directory: &self.directory,
            state,
            member,
        };
        if let Some(bytes) = asker.answer(&query, from.over, policy) {
            return (answer(bytes), |c| &mut c.local);
        }
        let name = query.name.view();
        let egress = policy.egress(&member.container.name);
        // who does not ask us to look further is told nothing of what others looked up
        if !egress.may_ask(name) || !query.asked.recursion_desired() {
            let reason = Some(Reason::POLICY);
            return (say(Rcode::REFUSED, reason), |c| &mut c.refused);
        }
        let route = asker.route(name);
        let servers = route.unwrap_or(match state.zone.upstream.as_slice() {
            [] => &self.upstream,
            own => own,
        });
        if servers.is_empty() {
            let reason = Some(Reason::NO_UPSTREAM);
            return (say(Rcode::SERVFAIL, reason), |c| &mut c.failed);
        }
        let key = Key {
            generation: state.generation,
            name: name.to_name(),
            kind: query.kind,
            dnssec: query.asked.dnssec(),
            checking_disabled: query.asked.checking_disabled(),
        };
        if let Some(stored) = self.forwarder.cache.get(now, &key) {
            let relay = Relay {
                now,
                directory: &self.directory,
                host: &self.host,
                stored: &stored,
                key: &key,
            };
            let message = relay.message(&query.asked, from.over, &member.container, &egress);
            return (Outcome::Answer(message), |c| &mut c.cached);
        }
        let servers = servers.to_vec();
        let waiter = Waiter::new(back.clone(), from.over, &member.container, &query.asked);
        let limit = self.config.forwarded;
        let most = self.config.waiting;
        let mut member = self.directory.member_mut(id);
        let bounded = |m: &mut &mut Member| m.waiting < most && m.forwarded.take(now, limit);
        if !member.as_mut().is_some_and(bounded) {
            let reason = Some(Reason::TOO_MANY);
            return (say(Rcode::REFUSED, reason), |c| &mut c.limited);
        }
        let joined = self.forwarder.join(now, key, waiter, &servers);
        if let (Some(member), Joined::Asks(_) | Joined::Waits) = (member, &joined) {
            member.waiting += 1;
        }
        match joined {
            Joined::Asks(query) => (Outcome::Ask(query), |c| &mut c.forwarded),
            Joined::Waits => (Outcome::Wait, |c| &mut c.joined),
            Joined::Full => {
                let reason = Some(Reason::TOO_MANY);
                (say(Rcode::SERVFAIL, reason), |c| &mut c.limited)
            }
        }
    }

    /// Something arrived on the socket of a try. What is no answer to it changes nothing.
    pub fn upstream(
        &mut self,
        now: Millis,
        attempt: Attempt,
        message: &[u8],
        policy: &mut dyn Policy,
    ) -> Progress<T> {
        let step = self.forwarder.received(now, attempt, message);
        self.progress(now, step, policy)
    }

    /// A try cannot be made, or its socket told of an error: another server is asked at once, if there is one.
    pub fn upstream_failed(
        &mut self,
        now: Millis,
        attempt: Attempt,
        policy: &mut dyn Policy,
    ) -> Progress<T> {
        let step = self.forwarder.failed(now, attempt);
        self.progress(now, step, policy)
    }

    /// When to call [`Resolver::expire`] next. `None`: not before something else was called.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.forwarder.next_deadline()
    }

    /// Asks further servers, and answers those who waited in vain. A call that comes early does nothing.
    pub fn expire(&mut self, now: Millis, policy: &mut dyn Policy) -> Vec<Progress<T>> {
        let steps = self.forwarder.due(now);
        steps
            .into_iter()
            .map(|step| self.progress(now, step, policy))
            .collect()
    }

    fn progress(&mut self, now: Millis, step: Step<T>, policy: &mut dyn Policy) -> Progress<T> {
        match step {
            Step::Listen => Progress::Listen,
            Step::Ask(query) => Progress::Ask(query),
            Step::Done(id, flight, stored) => Progress::Done {
                flight: id,
                replies: self.replies(now, flight, &stored, policy),
            },
        }
    }

    /// What those get who waited, as their policies are now.
    fn replies(
        &mut self,
        now: Millis,
        flight: Flight<T>,
        stored: &Stored,
        policy: &mut dyn Policy,
    ) -> Vec<Reply<T>> {
        let mut replies = Vec::with_capacity(flight.waiters.len());
        for waiter in flight.waiters {
            let Some(id) = self.directory.find(&waiter.container) else {
                continue;
            };
            if let Some(member) = self.directory.member_mut(id) {
                member.waiting = member.waiting.saturating_sub(1);
            }
            // another container may have come by this name, in another zone or with another address
            let member = self.directory.member(id);
            let Some(member) = member.filter(|m| waiter.is_of(&m.container)) else {
                continue;
            };
            let asked = waiter.asked();
            let container = &member.container;
            let egress = policy.egress(&container.name);
            let (message, failed) = if egress.may_ask(flight.key.name()) {
                let relay = Relay {
                    now,
                    directory: &self.directory,
                    host: &self.host,
                    stored,
                    key: &flight.key,
                };
                let failed = !stored.is_answer();
                (
                    relay.message(&asked, waiter.over, container, &egress),
                    failed,
                )
            } else {
                let reason = Some(Reason::POLICY);
                let bytes = bare(&asked, waiter.over, Rcode::REFUSED, reason);
                (bytes.into(), false)
            };
            let zone = container.zone.clone();
            if let Some(state) = self.directory.zone_mut(&zone).filter(|_| failed) {
                state.counters.failed += 1;
            }
            let to = waiter.back;
            replies.push(Reply { to, message });
        }
        replies
    }

    /// Whether a container is heard. One that nobody else waits behind is.
    fn may_ask(&mut self, now: Millis, id: MemberId) -> bool {
        let [last, before] = &mut self.recent;
        if last.0 != id {
            *before = *last;
        }
        *last = (id, now);
        let alone = before.0 == id || now.saturating_sub(before.1) > ALONE;
        let limit = self.config.asked;
        let member = self.directory.member_mut(id);
        member.is_some_and(|member| member.asked.take(now, limit)) || alone
    }
}

/// What one zone's counter to count with.
type Count = fn(&mut Counters) -> &mut u64;

/// Zone transfers and what is no type of a record (RFC 6895 §3.1), but for "any".
fn is_meta(kind: u16) -> bool {
    matches!(kind, 0 | number::OPT | 128..=number::AXFR | 253 | 254)
}

/// Somebody else's answer, for those who asked.
struct Relay<'a> {
    now: Millis,
    directory: &'a Directory,
    host: &'a [IpAddr],
    stored: &'a Stored,
    key: &'a Key,
}

impl Relay<'_> {
    fn message(
        &self,
        asked: &Asked<'_>,
        over: Transport,
        container: &Container,
        egress: &Egress,
    ) -> Message {
        let rcode = self.stored.rcode;
        let reason = (!self.stored.is_answer()).then_some(Reason::UPSTREAM);
        let mut answer = Answer::new(asked, rcode);
        // who is told that an answer holds for longer would knock at an address that is closed again
        let most = match egress.tells(self.key.name()) {
            true => crate::LONGEST_OPEN,
            false => u32::MAX,
        };
        let (records, counts) = self.stored.records(self.now, most);
        answer.relay(&records, counts);
        let bytes = answer.finish(asked, over, rcode, reason);
        let opens = self.opens(container, egress);
        Message { bytes, opens }
    }

    fn opens(&self, container: &Container, egress: &Egress) -> Option<Opens> {
        let name = self.key.name();
        if !egress.tells(name) {
            return None;
        }
        let mut addresses = self.stored.addresses(self.now, name);
        addresses.retain(|(address, _)| opens::may_open(self.directory, self.host, *address));
        (!addresses.is_empty()).then(|| Opens {
            container: container.name.clone(),
            name: name.to_string(),
            addresses,
        })
    }
}
