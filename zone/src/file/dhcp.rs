//! The `[dhcp]` part of a zone file: what its DHCPv4 server hands out beyond the zone's own keys.
//!
//! ```toml
//! [dhcp]
//! lease        = "1h"                          # 10s to 365d
//! pool         = "10.89.3.200-10.89.3.250"     # for machines nobody attached
//! relays       = ["10.89.3.2"]                 # containers that are believed about clients behind them
//! ntp          = ["192.0.2.123"]
//! search       = ["dmz.internal", "example.org"]
//! routes       = [{ to = "192.168.7.0/24", via = "10.89.3.9" }]
//! rapid-commit = true
//! ipv6-only    = "30m"
//!
//! [dhcp.options]
//! tftp-server-name = "boot.example.org"        # by name, or by number
//! 224 = { u16 = 7 }
//!
//! [[dhcp.reservation]]
//! mac     = "02:00:00:00:00:07"                # or client-id, or container
//! address = "10.89.3.50"
//! ```

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::name::{ContainerName, MacAddr};

/// What a zone file says of DHCPv4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dhcp {
    /// Lease time in seconds, 10 to 31,536,000; an hour when absent.
    pub lease: Option<u32>,
    /// First and last address for machines nobody attached; without it they get no answer.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Relay agents that are heard; none when empty.
    pub relays: Vec<Ipv4Addr>,
    /// Time servers, best first.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain search list.
    pub search: Vec<String>,
    /// Routes besides the default one: destination and router.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Acknowledge a DISCOVER at once where the client takes that (RFC 4039).
    pub rapid_commit: bool,
    /// How many seconds a client that can do without IPv4 is to keep it off (RFC 8925).
    pub ipv6_only: Option<u32>,
    /// More options, or other values for those above.
    pub options: Vec<DhcpOption>,
    /// Addresses kept for certain machines.
    pub reservations: Vec<Reservation>,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            lease: None,
            pool: None,
            relays: Vec::new(),
            ntp: Vec::new(),
            search: Vec::new(),
            routes: Vec::new(),
            rapid_commit: true,
            ipv6_only: None,
            options: Vec::new(),
            reservations: Vec::new(),
        }
    }
}

/// An option of `[dhcp.options]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOption {
    /// Its key as written: a name or a number.
    pub key: String,
    /// Its value as written, in TOML.
    pub text: String,
    /// Its code.
    pub code: u8,
    /// Its value as it goes over the wire.
    pub value: Vec<u8>,
    /// Sent to everybody, asked for or not.
    pub always: bool,
}

/// An address that is kept for one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// For whom.
    pub who: Who,
    /// The address.
    pub address: Ipv4Addr,
    /// The host name it is told.
    pub hostname: Option<String>,
}

/// How the machine of a reservation is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The container that is attached under this name.
    Container(ContainerName),
    /// The machine with this hardware address.
    Mac(MacAddr),
    /// The machine that gives this client identifier, and that nobody attached.
    ClientId(Vec<u8>),
}

/// Why an address cannot be what the `[dhcp]` part wants it to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {address} is {problem} of {net}; choose another address of {net}")]
pub struct Misplaced {
    /// What the address is for.
    pub what: &'static str,
    /// The address.
    pub address: Ipv4Addr,
    /// What is in the way, to be followed by "of" and the subnet.
    pub problem: &'static str,
    /// The zone's subnet.
    pub net: Ipv4Net,
}

/// Whether a machine of the subnet `net`, of which the gateway is the first address, can have `address`.
pub(super) fn host(what: &'static str, address: Ipv4Addr, net: Ipv4Net) -> Result<(), Misplaced> {
    let first = Ipv4Addr::from(u32::from(net.network()).saturating_add(1));
    let problem = if !net.contains(&address) {
        "outside"
    } else if address == net.network() {
        "the network address"
    } else if address == net.broadcast() {
        "the broadcast address"
    } else if address == first {
        "the gateway"
    } else {
        return Ok(());
    };
    Err(Misplaced {
        what,
        address,
        problem,
        net,
    })
}

impl Dhcp {
    /// Checks its addresses against the zone's subnet.
    ///
    /// # Errors
    /// The first one that no machine of the subnet can have.
    pub fn check(&self, net: Ipv4Net) -> Result<(), Misplaced> {
        if let Some((first, last)) = self.pool {
            host("pool address", first, net)?;
            host("pool address", last, net)?;
        }
        for relay in &self.relays {
            host("relay", *relay, net)?;
        }
        for (_, via) in &self.routes {
            // the gateway is a router, if no other is
            if *via != Ipv4Addr::from(u32::from(net.network()).saturating_add(1)) {
                host("router", *via, net)?;
            }
        }
        for reservation in &self.reservations {
            host("reserved address", reservation.address, net)?;
        }
        Ok(())
    }

    /// The table that says this, or none where there is nothing to say.
    pub(super) fn to_toml(&self) -> Option<toml_edit::Table> {
        if *self == Self::default() {
            return None;
        }
        let mut table = toml_edit::Table::new();
        let mut set = |key: &str, value: toml_edit::Value| {
            table.insert(key, toml_edit::Item::Value(value));
        };
        let texts = |list: &[Ipv4Addr]| -> toml_edit::Array {
            list.iter().map(Ipv4Addr::to_string).collect()
        };
        if let Some(seconds) = self.lease {
            set("lease", format!("{seconds}s").into());
        }
        if let Some((first, last)) = self.pool {
            set("pool", format!("{first}-{last}").into());
        }
        if !self.relays.is_empty() {
            set("relays", texts(&self.relays).into());
        }
        if !self.ntp.is_empty() {
            set("ntp", texts(&self.ntp).into());
        }
        if !self.search.is_empty() {
            let list: toml_edit::Array = self.search.iter().map(String::as_str).collect();
            set("search", list.into());
        }
        if !self.routes.is_empty() {
            let route = |(to, via): &(Ipv4Net, Ipv4Addr)| {
                let mut route = toml_edit::InlineTable::new();
                route.insert("to", to.to_string().into());
                route.insert("via", via.to_string().into());
                toml_edit::Value::from(route)
            };
            let list: toml_edit::Array = self.routes.iter().map(route).collect();
            set("routes", list.into());
        }
        if !self.rapid_commit {
            set("rapid-commit", false.into());
        }
        if let Some(seconds) = self.ipv6_only {
            set("ipv6-only", format!("{seconds}s").into());
        }
        if !self.options.is_empty() {
            let mut options = toml_edit::Table::new();
            for option in &self.options {
                // It was a value when it was read.
                if let Ok(value) = option.text.parse::<toml_edit::Value>() {
                    options.insert(&option.key, toml_edit::Item::Value(value));
                }
            }
            table.insert("options", toml_edit::Item::Table(options));
        }
        if !self.reservations.is_empty() {
            let list: toml_edit::ArrayOfTables =
                self.reservations.iter().map(Reservation::to_toml).collect();
            table.insert("reservation", toml_edit::Item::ArrayOfTables(list));
        }
        Some(table)
    }
}

impl Reservation {
    fn to_toml(&self) -> toml_edit::Table {
        let mut table = toml_edit::Table::new();
        let (key, text) = match &self.who {
            Who::Container(name) => ("container", name.to_string()),
            Who::Mac(mac) => ("mac", mac.to_string()),
            Who::ClientId(id) => {
                let hex: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
                ("client-id", format!("hex:{}", hex.join(":")))
            }
        };
        table.insert(key, toml_edit::value(text));
        table.insert("address", toml_edit::value(self.address.to_string()));
        if let Some(hostname) = &self.hostname {
            table.insert("hostname", toml_edit::value(hostname));
        }
        table
    }
}
