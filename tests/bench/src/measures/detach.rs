//! Detach as its caller sees it, against one RTM_DELLINK.

use crate::Options;
use crate::error::Result;
use crate::measures::attach::{Contestant, print, take_turns};
use crate::sides::floor::FloorSide;
use crate::sides::netd::{Door, Netd};

/// `bench detach`.
pub(crate) fn run(options: &Options, rounds: u32) -> Result<()> {
    let mut all = [
        Contestant::new(
            "netd, control socket",
            Netd::start(&options.netd, "k", Door::Socket, false),
        ),
        Contestant::new(
            "netd, a process each",
            Netd::start(&options.netd, "p", Door::Process, false),
        ),
        Contestant::new("floor: element and RTM_DELLINK", FloorSide::v4("f")),
    ];
    take_turns(&mut all, rounds);
    let asked = ["", "", "netd 20× faster"];
    print(
        "Detach, as the caller sees it; ratio to netd",
        &all,
        0,
        |c| &c.detach,
        &asked,
    );
    Ok(())
}
