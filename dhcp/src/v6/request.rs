//! What a client wants, once RFC 8415 §16 is satisfied: no illegal combination can be written.

use super::silence::Silence;
use super::wire::{Ia, Message, kind, option};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Looking for servers (§18.3.1).
    Solicit {
        /// Takes a grant at once.
        rapid: bool,
    },
    /// Chose this server (§18.3.2).
    Request,
    /// Is this still my link? (§18.3.3)
    Confirm,
    /// Longer, from the server that granted it (§18.3.4).
    Renew,
    /// Longer, from any server (§18.3.5).
    Rebind,
    /// Only other configuration (§18.3.6).
    Inform,
    /// Gives back (§18.3.7).
    Release,
    /// Somebody else uses it (§18.3.8).
    Decline,
}

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'a> {
    /// What is asked.
    pub request: Request,
    /// Transaction id.
    pub xid: [u8; 3],
    /// The client's DUID; only [`Request::Inform`] may have none, and then it is empty.
    pub client: &'a [u8],
    /// Of what.
    pub ias: Vec<Ia>,
    /// Codes of the options it asks for.
    pub asked: Vec<u16>,
}

/// Whether an option is there.
enum Wants {
    Must,
    May,
    MustNot,
}

fn check(wants: Wants, there: bool, option: u16) -> Result<(), Silence> {
    match (wants, there) {
        (Wants::Must, false) => Err(Silence::Missing { option }),
        (Wants::MustNot, true) => Err(Silence::Forbidden { option }),
        _ => Ok(()),
    }
}

impl<'a> Query<'a> {
    /// Holds a message to RFC 8415 §16. `duid` is the server's.
    ///
    /// # Errors
    /// What is wrong with it: it must be discarded.
    pub fn new(message: Message<'a>, duid: &[u8]) -> Result<Self, Silence> {
        use Wants::{May, Must, MustNot};
        let rapid = message.rapid;
        let (request, client, server) = match message.kind {
            kind::SOLICIT => (Request::Solicit { rapid }, Must, MustNot), // §16.2
            kind::REQUEST => (Request::Request, Must, Must),              // §16.4
            kind::CONFIRM => (Request::Confirm, Must, MustNot),           // §16.5
            kind::RENEW => (Request::Renew, Must, Must),                  // §16.6
            kind::REBIND => (Request::Rebind, Must, MustNot),             // §16.7
            kind::DECLINE => (Request::Decline, Must, Must),              // §16.8
            kind::RELEASE => (Request::Release, Must, Must),              // §16.9
            kind::INFORMATION_REQUEST => (Request::Inform, May, May),     // §16.12
            message_type => return Err(Silence::NotForServers { message_type }),
        };
        check(client, message.client.is_some(), option::CLIENT_ID)?;
        check(server, message.server.is_some(), option::SERVER_ID)?;
        if message.server.is_some_and(|server| server != duid) {
            return Err(Silence::OtherServer);
        }
        if request == Request::Inform && !message.ias.is_empty() {
            let option = option::IA_NA;
            return Err(Silence::Forbidden { option });
        }
        Ok(Self {
            request,
            xid: message.xid,
            client: message.client.unwrap_or_default(),
            ias: message.ias,
            asked: message.asked,
        })
    }

    /// Whether it must have been sent to a group (§16.2, §16.5, §16.7, §16.12): then one to the server's
    /// own address is discarded. For the others the answer is to use the group (§18.4).
    pub fn only_to_group(&self) -> bool {
        matches!(
            self.request,
            Request::Solicit { .. } | Request::Confirm | Request::Rebind | Request::Inform
        )
    }
}
