//! The floor alone: its steps, how it grows with the ports of the bridge, and what deleting costs.

use crate::container::Container;
use crate::error::Result;
use crate::floor::Floor;
use crate::stats::{Comparison, Samples, Unit, timed};

/// Ports on the bridge at which attaches are measured.
const AT: [u32; 4] = [1, 100, 500, 900];
/// Links deleted at once by their group.
const GROUP: usize = 32;

/// Measures `rounds` attaches at each number of ports.
pub(crate) fn run(rounds: u32) -> Result<()> {
    let mut floor = Floor::create("host-floor", false)?;
    floor.host().enter()?;
    let mut present: Vec<Container> = Vec::new();
    let mut growth = Comparison::new(
        "The floor: one attach, by ports on the bridge",
        Unit::Micros,
    );
    let mut deletes = Comparison::new("The floor: detaching", Unit::Micros);
    for ports in AT {
        while present.len() < ports as usize {
            let container = Container::create("n", 10_000 + present.len() as u32)?;
            floor.attach_quietly(&container)?;
            present.push(container);
        }
        let containers = Container::several(&format!("x{ports}-"), 0, rounds)?;
        let mut all = Samples::default();
        let mut samples: [Samples; 4] = Default::default();
        let [link, inside, element, alone] = &mut samples;
        for container in &containers {
            let took = floor.attach(container)?;
            all.push(took.total());
            link.push(took.link);
            inside.push(took.inside);
            element.push(took.element);
            let (result, time) = timed(|| floor.detach(container));
            result?;
            alone.push(time);
        }
        if ports == AT[0] {
            growth.against(all.median());
            deletes.against(alone.median());
            deletes.samples("one RTM_DELLINK", alone, "");
            deletes.samples(
                &format!("{GROUP} by one group, each"),
                &grouped(&mut floor)?,
                "",
            );
        }
        growth.samples(&format!("{ports} ports"), &all, "");
        growth.samples("- veth: RTM_NEWLINK", link, "");
        growth.samples("- inside: lo, link, address, route", inside, "");
        growth.samples("- nft element", element, "");
    }
    growth.print();
    deletes.print();
    Ok(())
}

/// Three groups of links deleted at once; the time of each link in them.
fn grouped(floor: &mut Floor) -> Result<Samples> {
    let mut samples = Samples::default();
    for round in 0..3 {
        let containers = Container::several(&format!("y{round}-"), 0, GROUP as u32)?;
        for container in &containers {
            floor.attach(container)?;
        }
        let (result, time) = timed(|| floor.detach_group(&containers));
        result?;
        samples.push(time / GROUP as u32);
    }
    Ok(samples)
}
