//! Random worlds on paper, from a seed: zones, containers, files, publishing; and the questions to ask of them.
//!
//! ```text
//! seed ─► Dice ─► Plan ─► (stage makes it for real) ─► what the daemon tells ─► Scene ─► Questions
//!                   └────► model::World, without a kernel ──────────────────────┘
//! ```
//! Nothing here needs a kernel: the firewall's own tests draw the same worlds.

mod dice;
mod file;
pub mod paper;
pub mod places;
pub mod plan;
pub mod question;
pub mod scene;

pub use dice::Dice;
pub use file::{file, group, labels};
pub use plan::Plan;
pub use question::{Kind, Question};
pub use scene::Scene;

use plan::{Container, Publish, V6, Zone};

/// Container ports of TCP that are published, and how many after the first: both ends are ports that answer.
const TCP: [(u16, u16); 5] = [(80, 0), (80, 2), (443, 1), (8000, 3), (53, 0)];
/// The same of UDP.
const UDP: [(u16, u16); 4] = [(53, 0), (53, 1), (1000, 1), (5353, 2)];

/// The world of a seed, made on a day of the week (from Monday).
pub fn plan(seed: u64, today: usize) -> Plan {
    let mut dice = Dice::new(seed);
    let mut plan = Plan {
        today,
        ..Plan::default()
    };
    for index in 0..dice.between(2, 3) {
        plan.zones.push(zone(&mut dice, index));
    }
    for index in 0..dice.between(4, 7) {
        let zone = dice.below(plan.zones.len());
        let published = !plan.zones[zone].internal;
        plan.containers
            .push(container(&mut dice, index, zone, published));
    }
    for _ in 0..dice.between(0, 3) {
        let group = file::group(&mut dice, &plan);
        plan.groups.push(group);
    }
    for number in 0..dice.between(2, 6) {
        let file = file(&mut dice, &plan, number);
        // Two may be named after one container: the later one is what an editor would leave.
        plan.files.retain(|other| other.name != file.name);
        plan.files.push(file);
    }
    for number in 0..dice.between(0, 2) {
        plan.files.extend(file::meeting(&mut dice, &plan, number));
    }
    plan
}

fn zone(dice: &mut Dice, index: usize) -> Zone {
    let default = (*dice.pick(&["egress", "deny", "allow", "allow"])).to_owned();
    let internal = dice.chance(15);
    let v6 = *dice.pick(&[
        V6::Private,
        V6::Private,
        V6::Private,
        V6::Global,
        V6::Global,
        V6::None,
    ]);
    Zone {
        index,
        default,
        internal,
        v6,
        wide: dice.chance(45),
    }
}

fn container(dice: &mut Dice, index: usize, zone: usize, published: bool) -> Container {
    let publish = if published && dice.chance(60) {
        (0..dice.between(1, 3))
            .map(|number| publish(dice, index, number))
            .collect()
    } else {
        Vec::new()
    };
    Container {
        index,
        zone,
        labels: labels(dice),
        publish,
    }
}

/// Host ports that nobody else has, with room between them: one port or a few that become others, a range that
/// stays as it is, or one so long that it is not written out.
pub fn publish(dice: &mut Dice, container: usize, number: usize) -> Publish {
    let addresses = [
        None,
        None,
        None,
        Some(places::HOST[0]),
        Some(places::HOST[1]),
        Some("127.0.0.1"),
        Some("::1"),
    ];
    let udp = dice.chance(35);
    let start = places::DOORS.start;
    let mut first = start + (container * 100 + number * 10 + 5) as u16;
    let (port, more) = match dice.below(8) {
        0 | 1 => (first, dice.below(4) as u16),
        2 if number == 0 => {
            first = start + 1000 + (container * 280 + 5) as u16;
            (6000, 270)
        }
        _ if udp => *dice.pick(&UDP),
        _ => *dice.pick(&TCP),
    };
    Publish {
        address: dice.pick(&addresses).map(str::to_owned),
        udp,
        first,
        last: first + more,
        port,
    }
}
