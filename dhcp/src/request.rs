//! The second decoding: a checked message → one of the things a client can want.
//!
//! RFC 2131 distinguishes them by which fields are filled (table 4 for the four kinds of
//! DHCPREQUEST, table 5 for the rest). What those tables do not allow has no [`Request`].

use std::net::Ipv4Addr;

use crate::silence::Silence;
use crate::wire::{Header, Options, code};

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// It looks for a server.
    Discover {
        /// The address it would like.
        wanted: Option<Ipv4Addr>,
        /// It takes an acknowledgement at once (RFC 4039).
        rapid: bool,
    },
    /// It wants an address confirmed.
    Request(Claim),
    /// It found its address in use by something else.
    Decline {
        /// The server it got it from.
        server: Ipv4Addr,
        /// The address.
        address: Ipv4Addr,
    },
    /// It no longer needs its address.
    Release {
        /// The server it got it from.
        server: Ipv4Addr,
        /// The address.
        address: Ipv4Addr,
    },
    /// It has an address by other means and wants the other parameters.
    Inform {
        /// The address it has.
        address: Ipv4Addr,
    },
}

/// The four kinds of DHCPREQUEST (RFC 2131 §4.3.2, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It chose among offers.
    Selecting {
        /// The server it chose.
        server: Ipv4Addr,
        /// The address that server offered.
        address: Ipv4Addr,
    },
    /// It starts again and remembers an address.
    InitReboot {
        /// The address it remembers.
        address: Ipv4Addr,
    },
    /// Past T1 it asks its server (by unicast) for more time.
    Renewing {
        /// The address it uses.
        address: Ipv4Addr,
    },
    /// Past T2 it asks any server (by broadcast).
    Rebinding {
        /// The address it uses.
        address: Ipv4Addr,
    },
}

impl Claim {
    /// The address claimed.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Selecting { address, .. }
            | Self::InitReboot { address }
            | Self::Renewing { address }
            | Self::Rebinding { address } => address,
        }
    }
}

/// A request with who asks and how to answer.
#[derive(Debug, Clone)]
pub struct Query {
    /// The fixed part of the message.
    pub header: Header,
    /// Its options.
    pub options: Options,
    /// What it asks for.
    pub request: Request,
}

impl Query {
    /// Makes sense of a message. `unicast`: whether it was sent to the server alone and not
    /// broadcast, which is all that tells RENEWING from REBINDING.
    ///
    /// # Errors
    /// The reason to ignore the message.
    pub fn new(header: Header, options: Options, unicast: bool) -> Result<Self, Silence> {
        let request = Request::of(&header, &options, unicast)?;
        Ok(Self {
            header,
            options,
            request,
        })
    }

    /// The client identifier, unless it merely repeats the hardware address (RFC 2132 §9.14:
    /// hardware type 1, then the address), which is the same as giving none.
    pub fn client_id(&self) -> Option<&[u8]> {
        let id = self.options.client_id.as_ref()?.as_slice()?;
        match id {
            [1, mac @ ..] if mac == self.header.chaddr => None,
            _ => Some(id),
        }
    }
}

impl Request {
    fn of(header: &Header, options: &Options, unicast: bool) -> Result<Self, Silence> {
        let ciaddr = Some(header.ciaddr).filter(|address| !address.is_unspecified());
        let missing = |option| Silence::Missing { option };
        let server = || options.server.ok_or(missing(code::SERVER_ID));
        match options.message_type {
            Some(1) if ciaddr.is_some() => {
                Err(Silence::Contradiction("a DISCOVER whose ciaddr is set"))
            }
            Some(1) => Ok(Self::Discover {
                wanted: options.requested,
                rapid: options.rapid_commit,
            }),
            Some(3) => {
                Claim::of(ciaddr, options, unicast && !header.is_relayed()).map(Self::Request)
            }
            Some(4) => {
                let server = server()?;
                let address = options.requested.ok_or(missing(code::REQUESTED_ADDRESS))?;
                match ciaddr {
                    Some(other) if other != address => {
                        Err(Silence::Contradiction("a DECLINE of two addresses"))
                    }
                    _ => Ok(Self::Decline { server, address }),
                }
            }
            Some(7) => {
                let server = server()?;
                let address =
                    ciaddr.ok_or(Silence::Contradiction("a RELEASE whose ciaddr is not set"))?;
                match options.requested {
                    Some(other) if other != address => {
                        Err(Silence::Contradiction("a RELEASE of two addresses"))
                    }
                    _ => Ok(Self::Release { server, address }),
                }
            }
            Some(8) => ciaddr
                .map(|address| Self::Inform { address })
                .ok_or(Silence::Contradiction("an INFORM whose ciaddr is not set")),
            message_type => Err(Silence::NotForServers { message_type }),
        }
    }
}

impl Claim {
    /// RFC 2131 table 4:
    ///
    /// | | INIT-REBOOT | SELECTING | RENEWING | REBINDING |
    /// |---|---|---|---|---|
    /// | broad/unicast | broadcast | broadcast | unicast | broadcast |
    /// | server-ip | MUST NOT | MUST | MUST NOT | MUST NOT |
    /// | requested-ip | MUST | MUST | MUST NOT | MUST NOT |
    /// | ciaddr | zero | zero | IP address | IP address |
    ///
    /// One kindness: a requested address that only repeats `ciaddr` does no harm.
    fn of(ciaddr: Option<Ipv4Addr>, options: &Options, unicast: bool) -> Result<Self, Silence> {
        match (options.server, options.requested, ciaddr) {
            (Some(server), Some(address), None) => Ok(Self::Selecting { server, address }),
            (Some(_), None, None) | (None, None, None) => Err(Silence::Missing {
                option: code::REQUESTED_ADDRESS,
            }),
            (Some(_), _, Some(_)) => Err(Silence::Contradiction(
                "a REQUEST with both a server identifier and ciaddr",
            )),
            (None, Some(address), None) => Ok(Self::InitReboot { address }),
            (None, Some(requested), Some(ciaddr)) if requested != ciaddr => {
                Err(Silence::Contradiction("a REQUEST for two addresses"))
            }
            (None, _, Some(address)) if unicast => Ok(Self::Renewing { address }),
            (None, _, Some(address)) => Ok(Self::Rebinding { address }),
        }
    }
}
