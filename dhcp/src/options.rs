//! Which options a reply carries, as data: a table made once from the configuration, each value
//! encoded once, and a walk through it in the order the client asked for.

use dhcproto::v4::{DhcpOption, OptionCode, UnknownOption};
use dhcproto::{Encodable, Name};

use crate::config::{Extra, ServerConfig, When};
use crate::error::Error;
use crate::wire::code;

/// An option as configured.
#[derive(Debug, Clone)]
struct Entry {
    code: u8,
    when: When,
    /// Code, length and value, in parts where it is long.
    encoded: Box<[u8]>,
}

/// The options of a configuration, sorted by code.
#[derive(Debug, Clone, Default)]
pub(crate) struct OptionTable(Vec<Entry>);

/// What must be said in certain messages and in no others; RFC 2131 table 3 leaves no choice.
const PROTOCOL: [u8; 15] = [
    0,
    code::REQUESTED_ADDRESS,
    code::LEASE_TIME,
    code::OVERLOAD,
    code::MESSAGE_TYPE,
    code::SERVER_ID,
    code::PARAMETERS,
    code::MESSAGE,
    code::MAX_SIZE,
    code::T1,
    code::T2,
    code::CLIENT_ID,
    code::RAPID_COMMIT,
    code::FQDN,
    code::RELAY_INFO,
];

/// Room for one option: what a 1500-byte datagram leaves (IP, UDP, the fixed part), roughly.
const LONGEST: usize = 1200;

impl OptionTable {
    /// The table of a configuration that was checked.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, Error> {
        let mut table = Self::default();
        use DhcpOption as O;
        use When::{Always, Default, Requested};
        if let Some(wait) = config.ipv6_only {
            // RFC 8925 §3.4: MIN_V6ONLY_WAIT is 300 s
            let wait = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(300);
            table.set_raw(Requested, code::IPV6_ONLY, wait.to_be_bytes().to_vec())?;
        }
        if config.no_ipv4 {
            return Ok(table);
        }
        // without the mask a client would fall back on address classes
        table.set(Always, &O::SubnetMask(config.subnet.netmask()))?;
        table.set(Default, &O::BroadcastAddr(config.subnet.broadcast()))?;
        table.set(Default, &O::InterfaceMtu(config.mtu))?;
        if let Some(router) = config.router {
            table.set(Default, &O::Router(vec![router]))?;
        }
        if !config.dns.is_empty() {
            table.set(Default, &O::DomainNameServer(config.dns.clone()))?;
        }
        if !config.ntp.is_empty() {
            table.set(Requested, &O::NtpServers(config.ntp.clone()))?;
        }
        if let Some(domain) = &config.domain {
            name(domain)?;
            table.set(Default, &O::DomainName(domain.clone()))?;
        }
        if !config.search.is_empty() {
            let names: Result<Vec<_>, _> = config.search.iter().map(|text| name(text)).collect();
            table.set(Requested, &O::DomainSearch(names?))?;
        }
        if !config.routes.is_empty() {
            let mut routes = config.routes.clone();
            if let Some(router) = config.router
                && routes.iter().all(|(to, _)| to.prefix_len() > 0)
            {
                routes.push((ipnet::Ipv4Net::default(), router));
            }
            table.set(Requested, &O::ClasslessStaticRoute(routes))?;
        }
        for Extra { code, value, when } in &config.extra {
            if PROTOCOL.contains(code) || *code == code::END {
                return Err(Error::ReservedOption(*code));
            }
            table.set_raw(*when, *code, value.clone())?;
        }
        Ok(table)
    }

    fn set_raw(&mut self, when: When, code: u8, value: Vec<u8>) -> Result<(), Error> {
        // straight to the number: dhcproto's own type for 106 is what RFC 8925 calls 108
        let option = UnknownOption::new(OptionCode::Unknown(code), value);
        self.set(when, &DhcpOption::Unknown(option))
    }

    fn set(&mut self, when: When, option: &DhcpOption) -> Result<(), Error> {
        let code = OptionCode::from(option).into();
        let encoded = option.to_vec().map_err(|_| Error::LongOption {
            code,
            len: usize::MAX,
        })?;
        if encoded.len() > LONGEST {
            return Err(Error::LongOption {
                code,
                len: encoded.len(),
            });
        }
        let entry = Entry {
            code,
            when,
            encoded: encoded.into(),
        };
        match self.0.binary_search_by_key(&code, |entry| entry.code) {
            Ok(at) => self.0[at] = entry,
            Err(at) => self.0.insert(at, entry),
        }
        Ok(())
    }

    fn get(&self, code: u8) -> Option<&Entry> {
        let at = self
            .0
            .binary_search_by_key(&code, |entry| entry.code)
            .ok()?;
        self.0.get(at)
    }

    /// Calls `emit` with each encoded option for a client, in the order it is to be sent:
    /// the subnet mask first (RFC 2132 §3.3: before the router), what the client asked for in its
    /// own order (RFC 2132 §9.8), then what everybody gets. `own` is an option of this client alone.
    pub(crate) fn walk(
        &self,
        wanted: Option<&[u8]>,
        own: Option<(u8, &[u8])>,
        mut emit: impl FnMut(&[u8]),
    ) {
        let mut done = Codes::default();
        let asked = |code| wanted.is_some_and(|list| list.contains(&code));
        if asked(code::CLASSLESS_ROUTES) && self.get(code::CLASSLESS_ROUTES).is_some() {
            // RFC 3442: then the others SHOULD NOT be sent
            done.insert(code::ROUTER);
            done.insert(code::STATIC_ROUTES);
        }
        let defaults = self
            .0
            .iter()
            .filter(|entry| match entry.when {
                When::Always => true,
                When::Default => wanted.is_none(),
                When::Requested => false,
            })
            .map(|entry| entry.code);
        let own_unasked = own.map(|(code, _)| code).filter(|_| wanted.is_none());
        let order = std::iter::once(code::SUBNET_MASK)
            .chain(wanted.unwrap_or_default().iter().copied())
            .chain(own_unasked)
            .chain(defaults);
        for code in order {
            if !done.insert(code) {
                continue;
            }
            match own {
                Some((own, encoded)) if own == code => emit(encoded),
                _ => {
                    if let Some(entry) = self.get(code) {
                        emit(&entry.encoded);
                    }
                }
            }
        }
    }
}

/// A set of option codes.
#[derive(Default)]
struct Codes([u64; 4]);

impl Codes {
    /// Adds a code; false if it was there.
    fn insert(&mut self, code: u8) -> bool {
        let word = &mut self.0[usize::from(code >> 6)];
        let bit = 1 << (code & 63);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// A domain name as people write it, in ASCII.
fn name(text: &str) -> Result<Name, Error> {
    let wrong = || Error::Domain(text.to_owned());
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        return Err(wrong());
    }
    let mut name = Name::from_ascii(text).map_err(|_| wrong())?;
    if name.num_labels() == 0 {
        return Err(wrong());
    }
    name.set_fqdn(true);
    Ok(name)
}
