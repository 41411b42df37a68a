//! What the resolver is told, and what it tells to do.

use std::net::IpAddr;

use crate::Transport;
use crate::flight::UpstreamQuery;
use crate::silence::Silence;

/// Who asks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// The zone on whose bridge the query arrived.
    pub zone: &'a str,
    /// Where it came from. That this is true is the guard's business: it lets no port send from another's address.
    pub address: IpAddr,
    /// How it came.
    pub over: Transport,
}

/// Addresses that a container may reach from now on, because a name that its `dns:` rules are about resolves to them; or
/// would, were they in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opens {
    /// The container.
    pub container: String,
    /// The name, as it was asked, in lower case and without a dot at its end.
    pub name: String,
    /// Addresses of the world, with the seconds that their records hold.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// A message for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The bytes; TCP's without their length.
    pub bytes: Vec<u8>,
    /// What must be in force before they leave.
    pub opens: Option<Opens>,
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, opens: None }
    }
}

/// A message for somebody who waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<T> {
    /// Where to, as the caller said when it handed over the query.
    pub to: T,
    /// What.
    pub message: Message,
}

/// What is to be done about a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send this to who asked.
    Answer(Message),
    /// Send this upstream; the answer follows.
    Ask(UpstreamQuery),
    /// Nothing now: the same question is on its way already.
    Wait,
    /// Nothing at all.
    Ignore(Silence),
}

/// What is to be done about something that came from upstream, or that did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// Nothing; whatever else arrives on its sockets is still of interest.
    Listen,
    /// Send this as well.
    Ask(UpstreamQuery),
    /// The question is answered: its sockets can be closed.
    Done {
        /// The question.
        flight: u64,
        /// What to send.
        replies: Vec<Reply<T>>,
    },
}
