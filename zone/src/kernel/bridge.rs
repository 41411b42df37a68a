//! The bridge of a zone.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use super::encode;
use super::error::LinkError;
use super::links::Links;
use super::socket::Refused;
use super::sysctl;
use super::wire::Link;
use crate::alloc::Zone;
use crate::name::IfName;
use crate::plan;

impl Links {
    /// Makes the zone's bridge what the zone says, and creates it if it is missing: settings, sysctls,
    /// addresses, up. Addresses that the zone does not have (its subnet was changed) are taken off.
    /// Doing it again changes nothing. Returns its index.
    ///
    /// # Errors
    /// A link of its name is no bridge, or the kernel refuses. A bridge made by this call is gone
    /// again then.
    pub fn ensure_bridge(&mut self, zone: &Zone) -> Result<u32, LinkError> {
        let name = &zone.bridge;
        let found = self.bridge(name)?;
        let created = found.is_none();
        let index = match found {
            Some(index) => index,
            None => {
                let action = format!("add bridge {name}");
                self.all(&action, vec![encode::add_bridge(zone)])?;
                let index = self.host.index_of(name.as_str());
                index.map_err(|source| LinkError::kernel(action, source))?
            }
        };
        let settled = self.settle(zone, index, created);
        if let Err(error) = settled {
            if created {
                // it holds no port yet; what cannot be deleted is found by the next call
                let _ = self.host.batch(vec![encode::delete(name)]);
            }
            return Err(error);
        }
        Ok(index)
    }

    /// Settings of the zone's bridge that are not what [`Links::ensure_bridge`] made them: nobody tells when a sysctl is
    /// written. Each as `net.….KEY is VALUE`.
    ///
    /// # Errors
    /// A sysctl cannot be read.
    pub fn strayed_settings(&self, zone: &Zone) -> Result<Vec<String>, LinkError> {
        let mut strayed = Vec::new();
        let four = FOUR.iter().filter(|_| zone.subnet4.is_some());
        let four = four.map(|(key, value)| ("ipv4/conf", *key, *value));
        let six = six_sysctls(zone).map(|(key, value)| ("ipv6/conf", key, value));
        let delay = std::iter::once(("ipv4/neigh", PROXY_DELAY, "0"));
        for (of, key, wanted) in four.chain(six).chain(delay) {
            let path = format!("{of}/{}/{key}", zone.bridge);
            if let Some(now) = sysctl::read(&path)?
                && now != wanted
            {
                strayed.push(format!("net.{} is {now}", path.replace('/', ".")));
            }
        }
        Ok(strayed)
    }

    fn settle(&mut self, zone: &Zone, index: u32, created: bool) -> Result<(), LinkError> {
        let name = &zone.bridge;
        let action = format!("set up bridge {name}");
        let mut requests = Vec::new();
        if !created {
            requests.extend(encode::set_bridge(index, zone));
        }
        requests.push(encode::bridge_protocols(index));
        self.all(&action, requests)?;
        self.altname(zone, index)?;
        bridge_sysctls(zone)?;
        let wanted = addresses(zone);
        let stale = self.addresses_of(index)?;
        let stale = stale.into_iter().filter(|net| !wanted.contains(net));
        let mut requests: Vec<_> = stale
            .map(|net| encode::delete_address(index, net))
            .collect();
        requests.extend(wanted.iter().map(|net| encode::put_address(index, *net)));
        requests.push(encode::up(index));
        self.all(&action, requests)?;
        self.localnet6(zone, index)
    }

    /// Lets ports published on `::1` reach the zone. The route goes with the bridge, and when it goes down.
    fn localnet6(&mut self, zone: &Zone, index: u32) -> Result<(), LinkError> {
        if zone.subnet6.is_none() {
            return Ok(());
        }
        match self.host.batch(vec![encode::localnet6(index)]) {
            Err(Refused(errors)) if !errors[0].1.is(Errno::EXIST) => {
                let action = format!("add the route to ::1 on {}", zone.bridge);
                Err(LinkError::kernel(action, errors[0].1.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The full name, where the bridge's is shortened. It may be there already.
    fn altname(&mut self, zone: &Zone, index: u32) -> Result<(), LinkError> {
        let Some(altname) = plan::altname(&zone.bridge, format!("vz-{}", zone.name)) else {
            return Ok(());
        };
        let action = format!("name {} also {altname}", zone.bridge);
        let called = self.host.link(encode::get_link_called(&altname));
        let called = called.map_err(|source| LinkError::kernel(&action, source))?;
        if called.is_some_and(|link| link.index == index) {
            return Ok(());
        }
        self.all(&action, vec![encode::altname_of(index, &altname)])
    }

    /// Deletes a zone's bridge, ports or not. One that is gone is deleted. Blocks some 35 ms.
    ///
    /// # Errors
    /// A link of its name is no bridge, or the kernel refuses.
    pub fn delete_bridge(&mut self, bridge: &IfName) -> Result<(), LinkError> {
        if self.bridge(bridge)?.is_none() {
            return Ok(());
        }
        match self.host.batch(vec![encode::delete(bridge)]) {
            Err(Refused(errors)) if !errors[0].1.is(Errno::NODEV) => {
                let action = format!("delete bridge {bridge}");
                Err(LinkError::kernel(action, errors[0].1.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The index of a bridge; none when no link has the name.
    pub(super) fn bridge(&mut self, name: &IfName) -> Result<Option<u32>, LinkError> {
        let link = self.host.link(encode::get_link(name));
        let link = link.map_err(|e| LinkError::kernel(format!("look for bridge {name}"), e))?;
        match link {
            None => Ok(None),
            Some(Link { kind, index, .. }) if kind == "bridge" => Ok(Some(index)),
            Some(Link { kind, .. }) => Err(LinkError::NotABridge {
                name: name.clone(),
                kind,
            }),
        }
    }
}

/// What the bridge has: the gateway of each family, and the link-local next hop of IPv6.
fn addresses(zone: &Zone) -> Vec<IpNet> {
    let mut nets = Vec::with_capacity(3);
    if let (Some(gateway), Some(subnet)) = (zone.gateway4, zone.subnet4) {
        nets.extend(Ipv4Net::new(gateway, subnet.prefix_len()).map(IpNet::V4));
    }
    if let (Some(gateway), Some(subnet)) = (zone.gateway6, zone.subnet6) {
        nets.extend(Ipv6Net::new(gateway, subnet.prefix_len()).map(IpNet::V6));
        nets.extend(Ipv6Net::new(zone.mac.link_local(), 64).map(IpNet::V6));
    }
    nets
}

/// The IPv4 settings that go by netlink, by the names that they have as sysctls.
const FOUR: [(&str, &str); 4] = [
    ("proxy_arp_pvlan", "1"),
    ("send_redirects", "0"),
    ("accept_redirects", "0"),
    ("route_localnet", "1"),
];

/// The default adds up to a second to first packets.
const PROXY_DELAY: &str = "proxy_delay";

fn six_sysctls(zone: &Zone) -> impl Iterator<Item = (&'static str, &'static str)> {
    let disabled = match zone.subnet6 {
        Some(_) => "0",
        None => "1",
    };
    let each = [
        ("disable_ipv6", disabled),
        ("accept_ra", "0"),
        ("accept_dad", "0"),
        ("accept_redirects", "0"),
    ];
    each.into_iter()
}

/// What netlink cannot set. See design §3, "Links".
fn bridge_sysctls(zone: &Zone) -> Result<(), LinkError> {
    let name = &zone.bridge;
    sysctl::ensure(&format!("ipv4/neigh/{name}/{PROXY_DELAY}"), "0")?;
    for (key, value) in six_sysctls(zone) {
        sysctl::ensure(&format!("ipv6/conf/{name}/{key}"), value)?;
    }
    Ok(())
}
