//! Many attaches one after the other, and many detaches: how many a second.

use std::time::{Duration, Instant};

use crate::Options;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::floor::Floor;
use crate::sides::Side;
use crate::sides::netd::{Door, Netd, inside};
use crate::stats::{Comparison, Unit, number, timed};

/// One round of one side.
struct Round {
    /// Kept until the end: the death of hundreds of namespaces must not be on the next side's bill.
    _containers: Vec<Container>,
    attaches: Duration,
    /// Until the last caller was answered.
    answered: Duration,
    /// Until the last link was gone.
    gone: Duration,
}

/// `bench sustained`: `count` attaches and detaches, `rounds` times on each side, in turns.
pub(crate) fn run(options: &Options, count: u32, rounds: u32) -> Result<()> {
    let mut floor = Floor::create("host-floor", false)?;
    let mut alone = Vec::new();
    let mut group = Vec::new();
    let mut netd = Netd::start(&options.netd, "k", Door::Socket, false);
    let mut ours = Vec::new();
    for round in 0..rounds {
        alone.push(floor_round(
            &mut floor,
            &format!("f{round}-"),
            count,
            false,
        )?);
        group.push(floor_round(&mut floor, &format!("g{round}-"), count, true)?);
        if let Ok(netd) = &mut netd {
            ours.push(netd_round(netd, &format!("k{round}-"), count)?);
        }
    }
    let rate = |rounds: &[Round], what: fn(&Round) -> Duration| {
        let total: f64 = rounds.iter().map(|r| what(r).as_secs_f64()).sum();
        f64::from(count) * rounds.len() as f64 / total
    };
    let n = (count * rounds) as usize;
    let mut attaches = Comparison::new(
        format!("Attaches a second, {count} in a row"),
        Unit::PerSecond,
    );
    let floors: Vec<Round> = alone.into_iter().chain(group).collect();
    attaches.against(rate(&floors, |r| r.attaches));
    attaches.figure(
        "floor, one thread",
        n * 2,
        rate(&floors, |r| r.attaches),
        "",
    );
    let (alone, group) = floors.split_at(rounds as usize);
    let mut detaches = Comparison::new(
        format!("Detaches a second, {count} in a row"),
        Unit::PerSecond,
    );
    detaches.against(rate(alone, |r| r.gone));
    detaches.figure("floor: one by one", n, rate(alone, |r| r.gone), "");
    detaches.figure("floor: one group", n, rate(group, |r| r.gone), "");
    match netd {
        Ok(_) => {
            attaches.figure(
                "netd, one connection",
                n,
                rate(&ours, |r| r.attaches),
                "≥ 0.85×",
            );
            detaches.figure(
                "netd, until all are answered",
                n,
                rate(&ours, |r| r.answered),
                "",
            );
            detaches.figure(
                "netd, until all links are gone",
                n,
                rate(&ours, |r| r.gone),
                "≥ 20×",
            );
        }
        Err(error) => {
            attaches.missing("netd", &error.chain());
            detaches.missing("netd", &error.chain());
        }
    }
    attaches.print();
    detaches.print();
    let one_by_one = rate(alone, |r| r.gone);
    println!(
        "\none by one, a detach takes {} ms",
        number(1000.0 / one_by_one)
    );
    Ok(())
}

fn floor_round(floor: &mut Floor, prefix: &str, count: u32, group: bool) -> Result<Round> {
    let containers = Container::several(prefix, 0, count)?;
    floor.host().enter()?;
    let (result, attaches) = timed(|| {
        containers
            .iter()
            .try_for_each(|c| floor.attach(c).map(|_| ()))
    });
    result?;
    let (result, gone) = timed(|| match group {
        true => floor.detach_group(&containers),
        false => containers.iter().try_for_each(|c| floor.detach(c)),
    });
    result?;
    Ok(Round {
        _containers: containers,
        attaches,
        answered: gone,
        gone,
    })
}

fn netd_round(netd: &mut Netd, prefix: &str, count: u32) -> Result<Round> {
    let containers = Container::several(prefix, 0, count)?;
    let (result, attaches) = timed(|| containers.iter().try_for_each(|c| netd.attach(c)));
    result?;
    let start = Instant::now();
    for container in &containers {
        netd.detach(container)?;
    }
    let answered = start.elapsed();
    for container in &containers {
        while inside(&container.netns)? > 1 {
            if start.elapsed() > Duration::from_secs(60) {
                return Err(Error::void("links are still there after 60 s"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(Round {
        _containers: containers,
        attaches,
        answered,
        gone: start.elapsed(),
    })
}
