//! What a responder did, counted: so that silence can be seen, and why.

use std::collections::BTreeMap;

use crate::reply::Kind;
use crate::responder::Outcome;
use crate::silence::Silence;

/// Counts since the responder was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that came.
    pub received: u64,
    /// DHCPOFFERs made.
    pub offers: u64,
    /// DHCPACKs made.
    pub acks: u64,
    /// DHCPNAKs made.
    pub naks: u64,
    /// Messages that have no answer and were heeded: DHCPRELEASE, DHCPDECLINE.
    pub heeded: u64,
    /// What was not answered, by [`Silence::reason`].
    pub silent: BTreeMap<&'static str, Silent>,
}

/// Messages that were not answered for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// How many.
    pub count: u64,
    /// When the last one came, in seconds since the epoch.
    pub at: u64,
    /// The last one's reason with all it says.
    pub last: Silence,
}

impl Tally {
    /// Counts what came of a message that arrived at `now`.
    pub(crate) fn count(&mut self, now: u64, outcome: &Outcome) {
        self.received += 1;
        match outcome {
            Outcome::Send(reply) | Outcome::Commit { then: reply, .. } => match reply.kind {
                Kind::Offer => self.offers += 1,
                Kind::Ack => self.acks += 1,
                Kind::Nak => self.naks += 1,
            },
            Outcome::Record(_) => self.heeded += 1,
            Outcome::Ignore(silence) => {
                let reason = silence.reason();
                let last = silence.clone();
                let first = || Silent {
                    count: 0,
                    at: now,
                    last: last.clone(),
                };
                let silent = self.silent.entry(reason).or_insert_with(first);
                *silent = Silent {
                    count: silent.count + 1,
                    at: now,
                    last,
                };
            }
        }
    }
}
