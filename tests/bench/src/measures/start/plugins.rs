//! The doors that are called with a namespace and start nothing: CNI, netavark, `netd attach --netns`. Each beside what is
//! called in its place.

use crate::Options;
use crate::measures::attach::{Contestant, print, take_turns};
use crate::sides::cni::Cni;
use crate::sides::netavark::{ByNetd, Netavark};
use crate::sides::netd::{Door, Netd};

/// Sets networks up and takes them down, `rounds` times each, in turns.
pub(super) fn run(options: &Options, rounds: u32) {
    let netd = &options.netd;
    let mut all = [
        Contestant::new(
            "netd, CNI plugin",
            Netd::start(netd, "dq", Door::Cni, false),
        ),
        Contestant::new("CNI chain", Cni::create(true)),
        Contestant::new(
            "netavark, driver netd",
            ByNetd::create(netd, &options.peers, "dv"),
        ),
        Contestant::new(
            "netavark, nftables",
            Netavark::create(&options.peers, "nftables"),
        ),
        Contestant::new(
            "netd attach, netd detach",
            Netd::start(netd, "dp", Door::Process, false),
        ),
    ];
    take_turns(&mut all, rounds);
    let held = ["", "", "", "", ""];
    let title = "Network of an empty namespace, set up; ratio to netd's CNI plugin";
    print(title, &all, 0, |c| &c.attach, &held);
    print("The same, taken down", &all, 0, |c| &c.detach, &held);
}
