//! Forwarding, where zones need it and nowhere else, and the way back.
//!
//! What is to be changed is found out first ([`Links::plan_forwarding`]) and is data, so that the
//! caller can store it before anything changes and undo it after a crash.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::error::LinkError;
use super::links::Links;
use super::sysctl;
use crate::name::IfName;

const ALL4: &str = "ipv4/conf/all/forwarding";
const ALL6: &str = "ipv6/conf/all/forwarding";

/// One sysctl that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlChange {
    /// Below `/proc/sys/net/`.
    pub path: String,
    /// What it was.
    pub before: String,
    /// What it became.
    pub after: String,
    /// A sysctl that, once it is no longer what it was when this was planned, keeps this one from
    /// being set back: somebody has switched forwarding on for all, and meant it.
    pub unless: Option<(String, String)>,
}

/// What was changed for forwarding, and which interfaces were opened by that.
///
/// An opened interface forwards now and did not before. Whatever it would forward beyond the zones'
/// traffic has to be dropped, in that family, by the firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// In the order they are made.
    pub changes: Vec<SysctlChange>,
    /// Interfaces (no bridges of zones) that forward IPv4 because of us.
    pub opened4: BTreeSet<IfName>,
    /// Interfaces (no bridges of zones) that forward IPv6 because of us.
    pub opened6: BTreeSet<IfName>,
}

impl Forwarding {
    /// Whether there is nothing to do, and nothing to undo.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds a later record to this one. Of a sysctl that is in both, the older value is kept: that is
    /// the one to come back to.
    pub fn merge(&mut self, later: Forwarding) {
        for change in later.changes {
            match self.changes.iter_mut().find(|c| c.path == change.path) {
                Some(known) => known.after = change.after,
                None => self.changes.push(change),
            }
        }
        self.opened4.extend(later.opened4);
        self.opened6.extend(later.opened6);
    }

    /// Makes the changes. Interfaces that have gone since are skipped.
    ///
    /// # Errors
    /// A sysctl cannot be written. Those before it are.
    pub fn apply(&self) -> Result<(), LinkError> {
        for change in &self.changes {
            sysctl::write(&change.path, &change.after)?;
        }
        Ok(())
    }

    /// Sets back what still is as [`Forwarding::apply`] left it, newest first. What somebody else has changed since
    /// is theirs. Goes on past errors; returns them.
    pub fn undo(&self) -> Vec<LinkError> {
        let mut errors = Vec::new();
        for change in self.changes.iter().rev() {
            if let Err(error) = change.undo() {
                errors.push(error);
            }
        }
        errors
    }

    /// Plans one change that does not depend on another, unless the sysctl is absent or is so already.
    pub(super) fn want_alone(&mut self, path: String, after: &str) -> Result<(), LinkError> {
        self.want(path, after, None).map(drop)
    }

    /// Plans one change, unless the sysctl is absent or is so already.
    fn want(
        &mut self,
        path: String,
        after: &str,
        unless: Option<&(String, String)>,
    ) -> Result<bool, LinkError> {
        match sysctl::read(&path)? {
            Some(before) if before != after => {
                self.changes.push(SysctlChange {
                    path,
                    before,
                    after: after.to_owned(),
                    unless: unless.cloned(),
                });
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl SysctlChange {
    fn undo(&self) -> Result<(), LinkError> {
        if let Some((path, then)) = &self.unless
            && sysctl::read(path)?.is_some_and(|now| now != *then)
        {
            return Ok(());
        }
        if sysctl::read(&self.path)?.is_some_and(|now| now == self.after) {
            sysctl::write(&self.path, &self.before)?;
        }
        Ok(())
    }
}

/// An interface of the host that zones may forward to and from.
struct Uplink {
    name: IfName,
    four: bool,
    six: bool,
}

impl Links {
    /// Switches forwarding on for the zones' bridges and for the host's interfaces that have addresses,
    /// and off the redirects that the host would send because of it. What was on already is not touched.
    /// Returns what was changed by this call alone: [`Forwarding::merge`] it into what is on record.
    ///
    /// # Errors
    /// A list cannot be had, or a sysctl not be read or written.
    pub fn forwarding(&mut self, bridges: &[IfName]) -> Result<Forwarding, LinkError> {
        let plan = self.plan_forwarding(bridges)?;
        plan.apply()?;
        Ok(plan)
    }

    /// What [`Links::forwarding`] would change now.
    ///
    /// # Errors
    /// A list cannot be had, or a sysctl not be read.
    pub fn plan_forwarding(&mut self, bridges: &[IfName]) -> Result<Forwarding, LinkError> {
        let uplinks = self.uplinks(bridges)?;
        let mut plan = Forwarding::default();
        // Redirects are sent when `all` or the interface says so. With them containers of one zone
        // would find one another on-link, where no port answers.
        plan.want("ipv4/conf/all/send_redirects".to_owned(), "0", None)?;
        plan_four(&mut plan, bridges, &uplinks)?;
        plan_six(&mut plan, bridges, &uplinks)?;
        self.plan_bridged(&mut plan, bridges)?;
        Ok(plan)
    }

    /// With `bridge-nf-call-iptables` (the kernel's default where br_netfilter is built in) frames see
    /// the IP hooks on the bridge already, and what is translated to another container of the zone is
    /// bridged to its port, where isolation stops it. Nobody needs that while all bridges are zones';
    /// who brings another one and needs it (Docker, Kubernetes) switches it on again.
    fn plan_bridged(&mut self, plan: &mut Forwarding, bridges: &[IfName]) -> Result<(), LinkError> {
        if self.other_bridges(bridges)? {
            return Ok(());
        }
        for family in ["iptables", "ip6tables"] {
            plan.want(format!("bridge/bridge-nf-call-{family}"), "0", None)?;
        }
        Ok(())
    }

    /// Interfaces with addresses that others can reach: not `lo`, no zone's bridge.
    fn uplinks(&mut self, bridges: &[IfName]) -> Result<Vec<Uplink>, LinkError> {
        let mut uplinks: Vec<Uplink> = Vec::new();
        for (index, net) in self.addressed()? {
            let Some(name) = self.host.name_of(index).and_then(|n| n.parse().ok()) else {
                continue;
            };
            if useless(net) || bridges.contains(&name) {
                continue;
            }
            let four = matches!(net, IpNet::V4(_));
            match uplinks.iter_mut().find(|uplink| uplink.name == name) {
                Some(known) if four => known.four = true,
                Some(known) => known.six = true,
                None => uplinks.push(Uplink {
                    name,
                    four,
                    six: !four,
                }),
            }
        }
        Ok(uplinks)
    }
}

/// Loopback and link-local addresses, which nothing is forwarded by. (IPv4 link-local is: some uplinks of
/// virtual machines have nothing else.)
fn useless(net: IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback() || address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// IPv4 looks at the interface a packet came in by.
fn plan_four(
    plan: &mut Forwarding,
    bridges: &[IfName],
    uplinks: &[Uplink],
) -> Result<(), LinkError> {
    let all = sysctl::read(ALL4)?.map(|value| (ALL4.to_owned(), value));
    for bridge in bridges {
        plan.want(format!("ipv4/conf/{bridge}/forwarding"), "1", all.as_ref())?;
    }
    for Uplink { name, .. } in uplinks.iter().filter(|uplink| uplink.four) {
        if plan.want(format!("ipv4/conf/{name}/forwarding"), "1", all.as_ref())? {
            plan.opened4.insert(name.clone());
        }
    }
    Ok(())
}

/// IPv6 looks at `all`, and since Linux 6.17 also at `force_forwarding` of the interface a packet came in by.
/// `forwarding` of an interface makes it a router's, which zone bridges are (the `R` of neighbour
/// advertisements), and which uplinks must not become: they would no longer accept router
/// advertisements.
fn plan_six(
    plan: &mut Forwarding,
    bridges: &[IfName],
    uplinks: &[Uplink],
) -> Result<(), LinkError> {
    let Some(all) = sysctl::read(ALL6)? else {
        return Ok(()); // a kernel without IPv6
    };
    let forced = sysctl::read("ipv6/conf/all/force_forwarding")?.is_some();
    if all == "0" && !forced {
        return plan_six_for_all(plan);
    }
    let unless = Some((ALL6.to_owned(), all.clone()));
    for bridge in bridges {
        plan.want(
            format!("ipv6/conf/{bridge}/forwarding"),
            "1",
            unless.as_ref(),
        )?;
        if all == "0" {
            plan.want(format!("ipv6/conf/{bridge}/force_forwarding"), "1", None)?;
        }
    }
    for Uplink { name, .. } in uplinks.iter().filter(|uplink| uplink.six && all == "0") {
        if plan.want(format!("ipv6/conf/{name}/force_forwarding"), "1", None)? {
            plan.opened6.insert(name.clone());
        }
    }
    Ok(())
}

/// Before Linux 6.17: one switch for all interfaces, which also makes each of them a router's.
/// Interfaces that accept router advertisements are first told to go on doing so.
fn plan_six_for_all(plan: &mut Forwarding) -> Result<(), LinkError> {
    let directory = sysctl::file("ipv6/conf");
    let listed = std::fs::read_dir(&directory).map_err(|error| LinkError::Sysctl {
        verb: "list".to_owned(),
        path: directory,
        source: error.into(),
    })?;
    let mut names: Vec<String> = listed
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    for name in names {
        let Ok(ifname) = name.parse::<IfName>() else {
            continue;
        };
        let accepts = sysctl::read(&format!("ipv6/conf/{name}/accept_ra"))?;
        // `default` too: interfaces that come later get theirs from it
        if accepts.as_deref() == Some("1") && name != "all" && name != "lo" {
            plan.want(format!("ipv6/conf/{name}/accept_ra"), "2", None)?;
        }
        let ours = name.starts_with("vz-") || name.starts_with("vb-");
        let real = !matches!(name.as_str(), "all" | "default" | "lo") && !ours;
        let before = sysctl::read(&format!("ipv6/conf/{name}/forwarding"))?;
        if real && before.as_deref() == Some("0") {
            plan.opened6.insert(ifname);
        }
        if !ours && name != "all" && before.as_deref() == Some("1") {
            // To set `all` back clears it here too. Cleared beforehand, it is set again by the undoing.
            plan.want(format!("ipv6/conf/{name}/forwarding"), "0", None)?;
        }
    }
    plan.want(ALL6.to_owned(), "1", None)?;
    Ok(())
}
