//! Attaching and detaching one container: netd, the floor, and what people use today, in turns.

use crate::Options;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::sides::Side;
use crate::sides::cni::Cni;
use crate::sides::floor::FloorSide;
use crate::sides::netavark::Netavark;
use crate::sides::netd::{Door, Netd};
use crate::sides::shell::Shell;
use crate::stats::{Comparison, Samples, Unit, conclude, timed};

/// A side and what was measured of it.
pub(crate) struct Contestant {
    side: Result<Box<dyn Side>, String>,
    label: String,
    containers: Vec<Container>,
    /// Attaches.
    pub(crate) attach: Samples,
    /// Detaches, as the caller sees them.
    pub(crate) detach: Samples,
}

impl Contestant {
    /// A side, or why there is none: which is printed in its place.
    pub(crate) fn new<S: Side + 'static>(label: &str, side: Result<S>) -> Self {
        let (label, side) = match side {
            Ok(side) => (side.name(), Ok(Box::new(side) as Box<dyn Side>)),
            Err(error) => (label.to_owned(), Err(error.chain())),
        };
        Self {
            side,
            label,
            containers: Vec::new(),
            attach: Samples::default(),
            detach: Samples::default(),
        }
    }

    /// Makes all namespaces beforehand, and attaches the first one to stay: tools make their bridges then.
    fn prepare(&mut self, rounds: u32) -> Result<()> {
        let Ok(side) = &mut self.side else {
            return Ok(());
        };
        self.containers = Container::several(side.prefix(), 0, rounds + 1)?;
        side.host().enter()?;
        side.attach(&self.containers[0])
    }

    fn round(&mut self, round: usize) -> Result<()> {
        let Ok(side) = &mut self.side else {
            return Ok(());
        };
        let container = &self.containers[round];
        side.host().enter()?;
        let (result, attach) = timed(|| side.attach(container));
        result?;
        let (result, detach) = timed(|| side.detach(container));
        result?;
        side.settle(container)?;
        self.attach.push(attach);
        self.detach.push(detach);
        Ok(())
    }

    fn give_up(&mut self, error: &Error) {
        self.side = Err(error.chain());
    }
}

/// Lets all contestants take turns, A B C A B C …; one that fails is out, and its line says why.
pub(crate) fn take_turns(contestants: &mut [Contestant], rounds: u32) {
    for contestant in contestants.iter_mut() {
        if let Err(error) = contestant.prepare(rounds) {
            contestant.give_up(&error);
        }
    }
    for round in 1..=rounds as usize {
        for contestant in contestants.iter_mut() {
            if let Err(error) = contestant.round(round) {
                contestant.give_up(&error);
            }
        }
    }
}

/// Prints one table, with ratios against the contestant at `reference`.
pub(crate) fn print(
    title: &str,
    contestants: &[Contestant],
    reference: usize,
    what: impl Fn(&Contestant) -> &Samples,
    held: &[&str],
) {
    let mut table = Comparison::new(title, Unit::Micros);
    table.against(what(&contestants[reference]).median());
    for (contestant, held) in contestants.iter().zip(held) {
        match &contestant.side {
            Ok(_) => table.samples(&contestant.label, what(contestant), held),
            Err(why) => table.missing(&contestant.label, why),
        }
    }
    table.print();
}

/// `bench attach`: everybody, with one other container attached.
pub(crate) fn run(options: &Options, rounds: u32) -> Result<()> {
    let netd = &options.netd;
    let mut all = [
        Contestant::new("floor", FloorSide::v4("f")),
        Contestant::new(
            "netd, control socket",
            Netd::start(netd, "k", Door::Socket, false),
        ),
        Contestant::new(
            "netd, a process each",
            Netd::start(netd, "p", Door::Process, false),
        ),
        Contestant::new("floor, v4 and v6", FloorSide::dual_stack("g")),
        Contestant::new(
            "netd, v4 and v6",
            Netd::start(netd, "l", Door::Socket, true),
        ),
        Contestant::new("shell script", Shell::create()),
        Contestant::new(
            "netavark, no firewall",
            Netavark::create(&options.peers, "none"),
        ),
        Contestant::new(
            "netavark, nftables",
            Netavark::create(&options.peers, "nftables"),
        ),
        Contestant::new("CNI bridge + host-local", Cni::create(false)),
        Contestant::new("CNI chain", Cni::create(true)),
        Contestant::new("netd, CNI plugin", Netd::start(netd, "q", Door::Cni, false)),
    ];
    take_turns(&mut all, rounds);
    let asked = [
        "",
        "≤ 1.25× the floor",
        "",
        "",
        "≤ 1.25× its floor (the line above)",
        "netd 15× faster",
        "netd 6× faster",
        "netd 40× faster",
        "",
        "netd 75× faster",
        "",
    ];
    print(
        "Attach one container; netd with ten rules in force; ratio to the floor",
        &all,
        0,
        |c| &c.attach,
        &asked,
    );
    print("The same, ratio to netd", &all, 1, |c| &c.attach, &asked);
    print(
        "Detach, as the caller sees it; ratio to netd",
        &all,
        1,
        |c| &c.detach,
        &["netd 20× faster", "", "", "", "", "", "", "", "", "", ""],
    );
    Ok(())
}

/// `bench attach --at N,…`: netd's growth with N containers of `rules` rules each present, and the floor's.
pub(crate) fn run_at(options: &Options, rounds: u32, at: &[u32], rules: u32) -> Result<()> {
    let present = || std::iter::once(1).chain(at.iter().copied());
    let floors = present().enumerate().map(|(place, count)| {
        let side = FloorSide::crowded(&format!("f{place}-"), count);
        Contestant::new(&format!("floor, {count} present"), side)
    });
    let netds = present().enumerate().map(|(place, count)| {
        let side = Netd::crowded(&options.netd, &format!("k{place}-"), count, rules);
        Contestant::new(&format!("netd, {count} present"), side)
    });
    let mut all: Vec<Contestant> = floors.chain(netds).collect();
    take_turns(&mut all, rounds);
    let held = vec![""; all.len()];
    let title = format!("Attach one container beside others of {rules} rules each");
    print(&title, &all, 0, |c| &c.attach, &held);
    let (floors, netds) = all.split_at(at.len() + 1);
    for (place, count) in at.iter().enumerate() {
        let growth =
            |side: &[Contestant]| side[place + 1].attach.median() / side[0].attach.median();
        let (floor, netd) = (growth(floors), growth(netds));
        conclude(
            &format!("{count} present: the floor's growth {{}}"),
            floor,
            1.0,
        );
        conclude(&format!("{count} present: netd's growth {{}}"), netd, 1.0);
        conclude(
            &format!("{count} present: netd's against the floor's {{}} (held to ≤ 1.2×)"),
            netd,
            floor,
        );
    }
    let first = floors.len();
    print("Detach in the same run", &all, first, |c| &c.detach, &held);
    Ok(())
}
