//! `bridge`: a zone on a bridge of somebody else's.

use super::{Wrong, wrong};
use crate::file::dhcp::Dhcp;
use crate::file::{Subnet6, ZoneFile};
use crate::name::{IfName, NameError};

/// The name of a bridge that is not netd's.
pub(super) fn name(text: &str) -> Result<IfName, Wrong> {
    let own = ["vz-", "vb-", "vi-"]
        .iter()
        .any(|own| text.starts_with(own));
    match text.parse() {
        Ok(_) if own => wrong(
            format!("bridge {text:?} has a name of netd's own interfaces"),
            "name somebody else's bridge, or leave the key out for one of netd's own",
        ),
        Ok(name) => Ok(name),
        Err(error) => {
            let error: NameError = error;
            wrong(error.to_string(), "name a bridge of the host")
        }
    }
}

/// What cannot be said of a zone whose addresses somebody else gives.
pub(super) fn check(zone: &ZoneFile) -> Result<(), Wrong> {
    let Some(bridge) = &zone.bridge else {
        return Ok(());
    };
    if zone.subnet4.is_none() {
        return wrong(
            format!("the subnet on bridge {bridge} is not known"),
            "write subnet4 as whoever gives addresses there has it",
        );
    }
    if matches!(zone.subnet6, Subnet6::Net(net) if crate::prefix::is_wide(net)) {
        return wrong(
            format!("containers on bridge {bridge} have no prefixes of their own"),
            "write subnet6 as whoever gives addresses there has it: a /64 mostly; or leave it out",
        );
    }
    if zone.pool.is_some() || zone.dhcp != Dhcp::default() {
        return wrong(
            format!("addresses on bridge {bridge} are given by somebody else"),
            "leave pool and [dhcp] out",
        );
    }
    Ok(())
}
