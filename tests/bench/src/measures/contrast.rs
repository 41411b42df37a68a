//! The same pair of containers judged by netd, by linear rules and by a chain for each container: how each grows with
//! the containers there are.

use std::time::{Duration, Instant};

use crate::Options;
use crate::error::{Error, Result};
use crate::paths::Path;
use crate::policy;
use crate::rulesets::{self, Style};
use crate::sides::run as run_command;
use crate::stats::{Comparison, Samples, Unit, timed};
use crate::traffic::{Line, connections, pin};

/// How long a turn of round trips or of connections takes at most, about.
const TURN: Duration = Duration::from_millis(300);
/// Round trips of one turn, and connections, where they are fast.
const ROUND_TRIPS: usize = 2_000;
const CONNECTIONS: usize = 200;

/// One way to judge, and what was measured of it.
struct Judge {
    label: String,
    path: Path,
    style: Option<Style>,
    containers: u32,
    /// How long it took to write all rules at once; netd: nothing to compare.
    filled: Option<Duration>,
    round_trips: Samples,
    judged: Samples,
    connects: Samples,
    adds: Samples,
}

/// `bench contrast`: at each number of containers, with `rules` rules each.
pub(crate) fn run(options: &Options, rounds: u32, crowds: &[u32], rules: u32) -> Result<()> {
    let mut judges = Vec::new();
    for (place, &containers) in crowds.iter().enumerate() {
        judges.push(netd(options, place, containers, rules)?);
        for style in [Style::Chains, Style::Linear] {
            judges.push(other(place, style, containers, rules)?);
        }
    }
    for round in 0..rounds {
        for judge in &mut judges {
            judge.add_one(round, rules)?;
        }
    }
    pin()?;
    for _ in 0..rounds {
        for judge in &mut judges {
            judge.traffic()?;
        }
    }
    tell(&judges, rules);
    Ok(())
}

fn netd(options: &Options, place: usize, containers: u32, rules: u32) -> Result<Judge> {
    let path = Path::netd(&options.netd, &format!("m{place}-"), containers, rules)?;
    Ok(Judge::new("netd".to_owned(), path, None, containers))
}

fn other(place: usize, style: Style, containers: u32, rules: u32) -> Result<Judge> {
    let (label, name) = match style {
        Style::Linear => ("linear rules", format!("lin{place}-")),
        Style::Chains => ("a chain each", format!("chn{place}-")),
    };
    let path = Path::routed(&name, label)?;
    let (client, server) = (path.client_address(), path.address.to_string());
    let text = rulesets::whole(style, containers, rules, &client, &server);
    let (result, filled) = timed(|| nft(&path, &text));
    result?;
    let mut judge = Judge::new(label.to_owned(), path, Some(style), containers);
    judge.filled = Some(filled);
    Ok(judge)
}

fn nft(path: &Path, text: &str) -> Result<()> {
    path.host().on(|| {
        let mut nft = std::process::Command::new("nft");
        run_command(nft.args(["-f", "-"]), text.as_bytes()).map(|_| ())
    })
}

impl Judge {
    fn new(label: String, path: Path, style: Option<Style>, containers: u32) -> Self {
        Self {
            label,
            path,
            style,
            containers,
            filled: None,
            round_trips: Samples::default(),
            judged: Samples::default(),
            connects: Samples::default(),
            adds: Samples::default(),
        }
    }

    /// One container's rules more, by the way that each has for it: a file for netd, `nft -f` for the others.
    fn add_one(&mut self, round: u32, rules: u32) -> Result<()> {
        let number = self.containers + round;
        let Some(style) = self.style else {
            let name = self.path.client().name().to_owned();
            let text = policy::many(&name, number, self.containers, rules);
            let Some(netd) = self.path.netd_mut() else {
                return Err(Error::void("netd's side has no netd"));
            };
            let start = Instant::now();
            netd.daemon().write_policy("more", &text)?;
            netd.daemon().reload()?;
            self.adds.push(start.elapsed());
            netd.daemon().remove_policy("more")?;
            return netd.daemon().reload();
        };
        let text = rulesets::one_more(style, number, self.containers, rules);
        let (result, time) = timed(|| nft(&self.path, &text));
        result?;
        self.adds.push(time);
        Ok(())
    }

    /// Round trips with the shortcut and without, and new connections.
    fn traffic(&mut self) -> Result<()> {
        let mut line = Line::open(self.path.client(), self.path.address)?;
        self.round_trips.push(turn(&mut line)?);
        if self.style.is_some() {
            nft(&self.path, &rulesets::shortcut(false))?;
            self.judged.push(turn(&mut line)?);
            nft(&self.path, &rulesets::shortcut(true))?;
        }
        // the other end serves one connection at a time
        drop(line);
        let (client, address) = (self.path.client(), self.path.address);
        let probe = connections(client, address, 5)?;
        let count = fitting(probe.median(), CONNECTIONS);
        let turn = connections(client, address, count)?;
        self.connects.push(micros(turn.median()));
        Ok(())
    }
}

/// The median of as many round trips as fit into a turn.
fn turn(line: &mut Line) -> Result<Duration> {
    let probe = line.round_trips(10)?;
    let count = fitting(probe.median(), ROUND_TRIPS);
    Ok(micros(line.round_trips(count)?.median()))
}

fn fitting(each: f64, most: usize) -> usize {
    ((TURN.as_secs_f64() * 1e6 / each) as usize).clamp(10, most)
}

fn micros(value: f64) -> Duration {
    Duration::from_secs_f64(value / 1e6)
}

fn tell(judges: &[Judge], rules: u32) {
    let title = |what: &str| format!("{what}, among containers of {rules} rules each");
    let label = |judge: &Judge| format!("{}, {} containers", judge.label, judge.containers);
    let mut trips = Comparison::new(title("A round trip"), Unit::Micros);
    let mut connects = Comparison::new(title("A new connection"), Unit::Micros);
    let mut adds = Comparison::new(title("One container's rules more"), Unit::Micros);
    trips.against(judges[0].round_trips.median());
    connects.against(judges[0].connects.median());
    adds.against(judges[0].adds.median());
    for judge in judges {
        let label = label(judge);
        match judge.style {
            None => trips.samples(
                &format!("{label}, tightening cuts"),
                &judge.round_trips,
                "≤ 1.02×",
            ),
            Some(_) => {
                let short = format!("{label}, established passes");
                trips.samples(&short, &judge.round_trips, "");
                let every = format!("{label}, every packet judged");
                trips.samples(&every, &judge.judged, "");
            }
        }
        connects.samples(&label, &judge.connects, "");
        adds.samples(&label, &judge.adds, "");
    }
    for table in [trips, connects, adds] {
        table.print();
    }
    for judge in judges {
        if let Some(filled) = judge.filled {
            println!(
                "\n{}: nft needed {:.1} s to load them all",
                label(judge),
                filled.as_secs_f64()
            );
        }
    }
}
