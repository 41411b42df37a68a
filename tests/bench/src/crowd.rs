//! Crowds: how thousands of containers are spread over bridges, each of which takes 1,023 ports (`BR_MAX_PORTS` of
//! `net/bridge/br_private.h`).
//!
//! The first bridge is the one on which something is measured. It is as full beside 5,000 as beside 1,000, so that what
//! differs is the crowd and not the bridge.

use crate::error::{During, Result};

/// Containers of a crowd on one bridge. The rest is room for those that are measured.
pub(crate) const ON_A_BRIDGE: u32 = 1_000;
/// The largest crowd: as many bridges as [`subnet`] has subnets for.
pub(crate) const MOST: i64 = 20_000;

/// Which bridge the `number`th of a crowd is on; 0 is the one of those that are measured.
pub(crate) fn bridge_of(number: u32) -> u32 {
    number / ON_A_BRIDGE
}

/// The subnet of a bridge other than 0: none that a policy of the bench names.
pub(crate) fn subnet(bridge: u32) -> String {
    format!("10.{}.0.0/16", 229 + bridge)
}

/// Lets this process, and what it starts, hold the namespaces of crowds: a descriptor each.
pub(crate) fn room_for_namespaces() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).during(|| "raise the limit of open files".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_crowd_has_subnets() {
        let last = bridge_of(MOST as u32 - 1);
        assert_eq!(subnet(1), "10.230.0.0/16");
        assert_eq!(subnet(last), "10.248.0.0/16");
    }
}
