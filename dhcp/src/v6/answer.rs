//! RFC 8415 §18.3: what each message is answered with.
//!
//! An **attached** machine has its one address by the hardware address that its frames come from,
//! whichever DUID and IAID it gives, and may have a few delegated prefixes. A **guest** is served from the
//! pool and known by hardware address (its own, or its relay agent's), DUID and IAID together.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::lease::Lease;
use super::reply;
use super::request::{Query, Request};
use super::responder::{Binding, Responder};
use super::silence::Silence;
use super::wire::{Ia, IaKind, Writer, kind, option, status};
use crate::lease::{Mac, State};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    /// A machine that was attached.
    Attached(Mac, Binding),
    /// One that was not.
    Guest(Mac),
    /// One behind the relay agent with this hardware address.
    Relayed(Mac),
}

impl Who {
    fn mac(&self) -> Mac {
        match self {
            Who::Attached(mac, _) | Who::Guest(mac) | Who::Relayed(mac) => *mac,
        }
    }
}

/// An answer and the leases that must be durable before it leaves.
type Answer = Result<(Writer, Vec<Lease>), Silence>;

impl Responder {
    pub(super) fn answer(&mut self, now: u64, query: &Query<'_>, who: &Who) -> Answer {
        match query.request {
            Request::Solicit { rapid } => {
                let rapid = rapid && self.config.rapid_commit;
                self.solicit(now, query, who, rapid)
            }
            Request::Request | Request::Renew | Request::Rebind => self.grant(now, query, who),
            Request::Confirm => self.confirm(query),
            Request::Release | Request::Decline => self.give_back(now, query, who),
            Request::Inform => Ok((self.told(query), Vec::new())),
        }
    }

    fn told(&self, query: &Query<'_>) -> Writer {
        reply::inform(query, &self.config, &self.asked)
    }

    /// §18.3.1. What is advertised is not reserved: a guest that waits long may be granted another.
    fn solicit(&mut self, now: u64, query: &Query<'_>, who: &Who, rapid: bool) -> Answer {
        let kind = if rapid { kind::REPLY } else { kind::ADVERTISE };
        let mut w = reply::begin(kind, query, &self.config);
        // the only server here: no need to wait for others (§18.2.1)
        w.option(option::PREFERENCE, &[255]);
        if rapid {
            w.option(option::RAPID_COMMIT, &[]);
        }
        let mut granted = Vec::new();
        for ia in &query.ias {
            match self.choose(query, who, ia, &granted) {
                Some(net) => {
                    let lease = self.lease_for(now, query, who, ia, net);
                    self.write_ia(&mut w, ia, Some(&lease), &[]);
                    granted.push(lease);
                }
                None => refuse_ia(&mut w, ia, none_left(ia.kind)),
            }
        }
        self.asked.write(&mut w, query);
        if !rapid {
            return Ok((w, Vec::new()));
        }
        Ok((w, self.commit(granted)))
    }

    /// §18.3.2, §18.3.4, §18.3.5.
    fn grant(&mut self, now: u64, query: &Query<'_>, who: &Who) -> Answer {
        let mut w = reply::begin(kind::REPLY, query, &self.config);
        let mut granted: Vec<Lease> = Vec::new();
        for ia in &query.ias {
            let foreign = ia.nets.iter().any(|net| !self.is_on_link(ia.kind, *net));
            if query.request == Request::Request && foreign {
                // §18.3.2: "the server MUST return the IA to the client with a Status Code … NotOnLink"
                refuse_ia(&mut w, ia, (status::NOT_ON_LINK, "not of this link"));
                continue;
            }
            let known = matches!(who, Who::Attached(..)) || self.held(query, who, ia).is_some();
            if !known && query.request == Request::Renew {
                refuse_ia(&mut w, ia, (status::NO_BINDING, "nothing is known of it"));
                continue;
            }
            if !known && query.request == Request::Rebind && !foreign {
                // it may be another server's, whatever we know (§18.3.5)
                return Err(Silence::NoRecord);
            }
            let chosen = match query.request {
                // all of it is of another link: say so, by lifetimes of zero, and grant nothing
                Request::Rebind if !known => None,
                _ => self.choose(query, who, ia, &granted),
            };
            match chosen {
                Some(net) => {
                    let lease = self.lease_for(now, query, who, ia, net);
                    let others = ia.nets.iter().filter(|n| **n != net && is_named(**n));
                    let others: Vec<Ipv6Net> = match query.request {
                        // what a client only wished for needs no withdrawal
                        Request::Request => Vec::new(),
                        _ => others.copied().collect(),
                    };
                    self.write_ia(&mut w, ia, Some(&lease), &others);
                    granted.push(lease);
                }
                None if ia.nets.is_empty() || query.request == Request::Request => {
                    refuse_ia(&mut w, ia, none_left(ia.kind));
                }
                None => self.write_ia(&mut w, ia, None, &ia.nets),
            }
        }
        self.asked.write(&mut w, query);
        Ok((w, self.commit(granted)))
    }

    /// §18.3.3: only whether the addresses fit the link.
    fn confirm(&self, query: &Query<'_>) -> Answer {
        let named = || {
            let ias = query.ias.iter().filter(|ia| ia.kind != IaKind::Prefixes);
            ias.flat_map(|ia| ia.nets.iter())
        };
        if named().next().is_none() {
            return Err(Silence::Nothing);
        }
        let mut w = reply::begin(kind::REPLY, query, &self.config);
        if named().all(|net| self.config.subnet.contains(net)) {
            w.status(status::SUCCESS, "all addresses are of this link");
        } else {
            w.status(status::NOT_ON_LINK, "not all addresses are of this link");
        }
        Ok((w, Vec::new()))
    }

    /// §18.3.7, §18.3.8.
    fn give_back(&mut self, now: u64, query: &Query<'_>, who: &Who) -> Answer {
        let mut w = reply::begin(kind::REPLY, query, &self.config);
        w.status(status::SUCCESS, "");
        let mut given = Vec::new();
        for ia in &query.ias {
            let mut known = false;
            for net in &ia.nets {
                let theirs = |lease: &&Lease| {
                    let same = (&*lease.duid, lease.iaid) == (query.client, ia.iaid);
                    lease.mac == who.mac() && same && lease.state == State::Bound
                };
                let Some(mut lease) = self.table.get(*net).filter(theirs).cloned() else {
                    continue;
                };
                known = true;
                (lease.state, lease.expires) = match query.request {
                    Request::Decline => (State::Declined, now + self.config.decline_hold.as_secs()),
                    _ => (State::Released, now),
                };
                given.push(lease);
            }
            if !known {
                refuse_ia(&mut w, ia, (status::NO_BINDING, "nothing is known of it"));
            }
        }
        Ok((w, self.commit(given)))
    }

    /// Puts leases in force; those that are over are forgotten here.
    fn commit(&mut self, leases: Vec<Lease>) -> Vec<Lease> {
        for lease in &leases {
            match lease.is_over() {
                true => drop(self.table.remove(lease.net)),
                false => self.table.put(lease.clone()),
            }
        }
        leases
    }

    /// Whether a network can be of this link, or delegated from here.
    fn is_on_link(&self, kind: IaKind, net: Ipv6Net) -> bool {
        if !is_named(net) {
            return true; // a wish for any
        }
        match kind {
            IaKind::Addresses | IaKind::Temporary => self.config.subnet.contains(&net),
            // a prefix is no address of the link; what is not ours is a hint that is not taken
            IaKind::Prefixes => true,
        }
    }

    /// What an identity association holds now.
    fn held(&self, query: &Query<'_>, who: &Who, ia: &Ia) -> Option<Ipv6Net> {
        let client = (who.mac(), Box::from(query.client), ia.iaid);
        let mut leases = self.table.of_client(&client);
        leases
            .find(|l| l.state == State::Bound && l.is_prefix() == (ia.kind == IaKind::Prefixes))
            .map(|lease| lease.net)
    }

    /// What an identity association gets; none where there is nothing to give.
    fn choose(&self, query: &Query<'_>, who: &Who, ia: &Ia, granted: &[Lease]) -> Option<Ipv6Net> {
        let free_here = |net: &Ipv6Net| granted.iter().all(|lease| lease.net != *net);
        let chosen = match (ia.kind, who) {
            (IaKind::Temporary, _) => None,
            (IaKind::Addresses, Who::Attached(_, binding)) => Some(binding.address.into()),
            (IaKind::Prefixes, Who::Attached(mac, _)) => {
                let held = self.held(query, who, ia);
                held.or_else(|| self.prefix_for(*mac, granted))
            }
            (IaKind::Prefixes, _) => None,
            (IaKind::Addresses, _) => {
                let held = self.held(query, who, ia);
                held.or_else(|| self.free_address(who, ia, granted))
            }
        };
        chosen.filter(free_here)
    }

    /// The first prefix that nobody has; where the machine has as many as it may, one of them, whatever it called itself
    /// and its associations when it got that.
    fn prefix_for(&self, mac: Mac, granted: &[Lease]) -> Option<Ipv6Net> {
        let delegation = self.config.delegation?;
        let is_new = |net: &Ipv6Net| granted.iter().all(|lease| lease.net != *net);
        let own = self.table.of_mac(mac).filter(|lease| lease.is_prefix());
        let own: Vec<&Lease> = own.filter(|lease| is_new(&lease.net)).collect();
        let now = granted.iter().filter(|lease| lease.is_prefix()).count();
        if own.len() + now >= self.config.prefixes_per_machine {
            let mut bound = own.iter().filter(|lease| lease.state == State::Bound);
            return bound.next().map(|lease| lease.net);
        }
        // never more than there are leases
        (0..delegation.count())
            .filter_map(|n| delegation.nth(n))
            .find(|net| self.table.get(*net).is_none() && is_new(net))
    }

    /// An address of the pool that nobody has: the one wished for, else the first.
    fn free_address(&self, who: &Who, ia: &Ia, granted: &[Lease]) -> Option<Ipv6Net> {
        let (first, last) = self.config.pool?;
        if let Who::Guest(mac) = who {
            let has = self.table.of_mac(*mac).count() + granted.len();
            if has >= self.config.leases_per_machine {
                return None;
            }
        }
        let is_free = |address: &Ipv6Addr| {
            let net = Ipv6Net::from(*address);
            let taken = granted.iter().any(|lease| lease.net == net);
            self.table.get(net).is_none() && !self.owners.contains_key(address) && !taken
        };
        let wished = ia.nets.iter().map(|net| net.addr());
        let mut wished = wished.filter(|address| self.config.in_pool(*address));
        wished
            .find(is_free)
            .or_else(|| {
                let mut all = (u128::from(first)..=u128::from(last)).map(Ipv6Addr::from);
                all.find(is_free)
            })
            .map(Ipv6Net::from)
    }

    fn lease_for(&self, now: u64, query: &Query<'_>, who: &Who, ia: &Ia, net: Ipv6Net) -> Lease {
        let (valid, _) = self.config.lifetimes();
        Lease {
            mac: who.mac(),
            duid: query.client.into(),
            iaid: ia.iaid,
            net,
            state: State::Bound,
            expires: now + u64::from(valid),
        }
    }

    /// An identity association with what it gets, and what it no longer has (lifetimes of zero).
    fn write_ia(&self, w: &mut Writer, ia: &Ia, lease: Option<&Lease>, over: &[Ipv6Net]) {
        let (valid, preferred) = self.config.lifetimes();
        w.nest(code(ia.kind), |w| {
            w.0.extend_from_slice(&ia.iaid.to_be_bytes());
            if ia.kind != IaKind::Temporary {
                // zero where nothing is granted: the client's choice (§21.4)
                let preferred = lease.map_or(0, |_| preferred);
                w.0.extend_from_slice(&(preferred / 2).to_be_bytes());
                w.0.extend_from_slice(&(preferred / 5 * 4).to_be_bytes());
            }
            if let Some(lease) = lease {
                w.net(lease.net, preferred, valid);
            }
            for net in over.iter().filter(|net| is_named(**net)) {
                w.net(*net, 0, 0);
            }
        });
    }
}

/// Whether it is more than "any, of this length".
fn is_named(net: Ipv6Net) -> bool {
    !net.addr().is_unspecified()
}

fn code(kind: IaKind) -> u16 {
    match kind {
        IaKind::Addresses => option::IA_NA,
        IaKind::Temporary => option::IA_TA,
        IaKind::Prefixes => option::IA_PD,
    }
}

fn none_left(kind: IaKind) -> (u16, &'static str) {
    match kind {
        IaKind::Addresses => (status::NO_ADDRS_AVAIL, "no address for it"),
        IaKind::Temporary => (status::NO_ADDRS_AVAIL, "no temporary addresses here"),
        IaKind::Prefixes => (status::NO_PREFIX_AVAIL, "no prefix for it"),
    }
}

/// An identity association that gets a status and nothing else.
fn refuse_ia(w: &mut Writer, ia: &Ia, (status, message): (u16, &str)) {
    w.nest(code(ia.kind), |w| {
        w.0.extend_from_slice(&ia.iaid.to_be_bytes());
        if ia.kind != IaKind::Temporary {
            w.0.extend_from_slice(&[0; 8]);
        }
        w.status(status, message);
    });
}
