//! Two groups of containers by labels, each member of which lets the other group in: members + members elements, and
//! what one more of each costs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Options;
use crate::container::Container;
use crate::crowd;
use crate::daemon::{Daemon, ZONE};
use crate::error::{Error, Result};
use crate::measures::memory::pss;
use crate::ns::Netns;
use crate::policy::PORT;
use crate::sides::run as run_command;
use crate::stats::{Comparison, Samples, Unit, conclude, number, timed};
use crate::traffic::{passes, serve};

/// Attaches of each group that count, at the beginning and at the end.
const SAMPLES: usize = 40;
/// Edits of the shared file, each way.
const EDITS: u32 = 10;
/// Ports in the file that tells what an element costs the kernel.
const MANY_PORTS: u16 = 100;

/// The groups by their labels.
const GROUPS: [(&str, &str); 2] = [("a", "x"), ("b", "y")];

/// What the kernel holds of netd's tables.
struct Counted {
    chains: usize,
    rules: usize,
    elements: usize,
    /// Those of sets of rules: what policies became.
    of_rules: usize,
}

/// `bench labels`: `members` of each group; with `own`, each has a label of its own besides.
pub(crate) fn run(options: &Options, members: u32, own: bool) -> Result<()> {
    let mut daemon = Daemon::start(&options.netd, "labels", false)?;
    for bridge in 1..=crowd::bridge_of(2 * members - 1) {
        daemon.make_zone(&format!("crowd{bridge}"), &crowd::subnet(bridge))?;
    }
    write(&daemon, &[PORT])?;
    daemon.reload()?;
    let idle = pss(daemon.pid())?;
    let mut present: Vec<Container> = Vec::new();
    let mut attaches = [Samples::default(), Samples::default()];
    let mut few = None;
    let mut server = None;
    for member in 0..members {
        for (place, group) in GROUPS.iter().enumerate() {
            let container = Container::create(group.0, member)?;
            let labels = match own {
                true => json!({ group.0: group.1, "name": container.name }),
                false => json!({ group.0: group.1 }),
            };
            let zone = match crowd::bridge_of(2 * member + place as u32) {
                0 => ZONE.to_owned(),
                bridge => format!("crowd{bridge}"),
            };
            let (address, time) = timed(|| daemon.attach_to(&zone, &container, labels));
            attaches[place].push(time);
            let address = address?;
            server = server.or(Some(address));
            present.push(container);
        }
        if member == 0 {
            let address = server.clone().unwrap_or_default();
            serve(&present[0].netns)?;
            few = Some((
                edits(&mut daemon, &present[1].netns, &address)?,
                count(daemon.host())?,
            ));
        }
    }
    let (few_edits, few_count) = few.ok_or_else(|| Error::void("nobody was attached"))?;
    let busy = pss(daemon.pid())?;
    let address = server.unwrap_or_default();
    let many_edits = edits(&mut daemon, &present[1].netns, &address)?;
    let many_count = count(daemon.host())?;
    let element = bytes_of_an_element(&mut daemon, &many_count)?;
    let more = match own {
        true => "; each has one more label of its own",
        false => "",
    };
    let title = format!("Two groups of {members} by labels, each open to the other{more}");
    tell_attaches(&title, &attaches);
    tell_edits(&few_edits, &many_edits, members);
    let square = u64::from(members) * u64::from(members);
    println!("\n### What the kernel holds: 1 and 1, {members} and {members}\n");
    println!("chains: {}, {}", few_count.chains, many_count.chains);
    println!("rules: {}, {}", few_count.rules, many_count.rules);
    println!(
        "elements of policies: {}, {} (members × members would be {square} for each direction)",
        few_count.of_rules, many_count.of_rules
    );
    println!(
        "elements, all: {}, {}",
        few_count.elements, many_count.elements
    );
    println!(
        "kernel memory: about {} bytes an element, so {} KiB (from what {MANY_PORTS} ports for each member added to \
         unreclaimable slab and vmalloc of the whole machine: a busy one falsifies it)",
        number(element),
        number(element * many_count.elements as f64 / 1024.0),
    );
    println!("memory of the daemon (PSS): {idle} KiB with nobody, {busy} KiB with all");
    Ok(())
}

/// The two files, with these ports.
fn write(daemon: &Daemon, ports: &[u16]) -> Result<()> {
    let ports: Vec<String> = ports.iter().map(|port| format!("\"tcp/{port}\"")).collect();
    let ports = ports.join(", ");
    let [(a, x), (b, y)] = GROUPS;
    let text = |own: (&str, &str), table: &str, way: &str, other: (&str, &str)| {
        format!(
            "applies-to = {{ labels = {{ {} = \"{}\" }} }}\n\n[[{table}]]\n{way} = [\"label:{}={}\"]\nports = [{ports}]\n",
            own.0, own.1, other.0, other.1
        )
    };
    daemon.write_policy(a, &text((a, x), "ingress", "from", (b, y)))?;
    // All of them, so that the other file alone says what passes.
    let other = format!(
        "applies-to = {{ labels = {{ {b} = \"{y}\" }} }}\n\n[[egress]]\nto = [\"label:{a}={x}\"]\nports = [\"tcp/*\"]\n"
    );
    daemon.write_policy(b, &other)
}

/// Until a reload is answered, and until a connection meets the new verdict.
struct Edits {
    answered: Samples,
    opened: Samples,
}

/// Edits of the file that all of one group share.
fn edits(daemon: &mut Daemon, client: &Netns, server: &str) -> Result<Edits> {
    let address = server.parse().map_err(|_| Error::Garbled {
        who: "netd",
        answer: server.to_owned(),
    })?;
    let mut edits = Edits {
        answered: Samples::default(),
        opened: Samples::default(),
    };
    for _ in 0..EDITS {
        for (port, pass) in [(PORT + 1, false), (PORT, true)] {
            std::thread::sleep(Duration::from_millis(30));
            let start = Instant::now();
            write(daemon, &[port])?;
            daemon.reload()?;
            let answered = start.elapsed();
            if client.on(|| passes(address))? != pass {
                return Err(Error::void(
                    "a connection met another verdict than the file's",
                ));
            }
            edits.answered.push(answered);
            if pass {
                edits.opened.push(start.elapsed());
            }
        }
    }
    Ok(edits)
}

/// Counts what `nft` lists.
fn count(host: &Netns) -> Result<Counted> {
    let said = host.on(|| {
        let mut nft = std::process::Command::new("nft");
        run_command(nft.args(["-j", "list", "ruleset"]), b"")
    })?;
    let garbled = || Error::Garbled {
        who: "nft",
        answer: String::from_utf8_lossy(&said[..said.len().min(200)]).into_owned(),
    };
    let listed: Value = serde_json::from_slice(&said).map_err(|_| garbled())?;
    let mut counted = Counted {
        chains: 0,
        rules: 0,
        elements: 0,
        of_rules: 0,
    };
    for object in listed["nftables"].as_array().ok_or_else(garbled)? {
        counted.chains += usize::from(object.get("chain").is_some());
        counted.rules += usize::from(object.get("rule").is_some());
        let Some(set) = object.get("set").or_else(|| object.get("map")) else {
            continue;
        };
        let elements = set["elem"].as_array().map_or(0, Vec::len);
        let name = set["name"].as_str().unwrap_or("");
        counted.elements += elements;
        if name.contains("_allow") || name.contains("_deny") {
            counted.of_rules += elements;
        }
    }
    Ok(counted)
}

/// What an element of the policy sets costs the kernel, from many more of them.
fn bytes_of_an_element(daemon: &mut Daemon, before: &Counted) -> Result<f64> {
    let ports: Vec<u16> = (PORT..PORT + MANY_PORTS).collect();
    let empty = kernel_memory()?;
    write(daemon, &ports)?;
    daemon.reload()?;
    let full = kernel_memory()?;
    let after = count(daemon.host())?;
    let added = after.of_rules.saturating_sub(before.of_rules);
    Ok((full - empty) * 1024.0 / added as f64)
}

/// Slab that cannot be reclaimed and vmalloc (where large tables are), in KiB, of the whole machine: proc_meminfo(5).
fn kernel_memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")
        .map_err(|source| Error::os("read /proc/meminfo", source))?;
    let of = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Ok(of("SUnreclaim:") + of("VmallocUsed:"))
}

fn tell_attaches(title: &str, attaches: &[Samples]) {
    let mut table = Comparison::new(format!("{title}: attaching one more"), Unit::Micros);
    // The very first one of each group is the first of its labels as well.
    let first = |samples: &Samples| samples.part(1..SAMPLES + 1);
    let last =
        |samples: &Samples| samples.part(samples.len().saturating_sub(SAMPLES)..samples.len());
    table.against(first(&attaches[0]).median());
    for (samples, (label, value)) in attaches.iter().zip(GROUPS) {
        table.samples(
            &format!("{label}={value}, the first {SAMPLES}"),
            &first(samples),
            "",
        );
        table.samples(
            &format!("{label}={value}, the last {SAMPLES}"),
            &last(samples),
            "flat: ≤ 1.2×",
        );
    }
    table.print();
    for (samples, (label, value)) in attaches.iter().zip(GROUPS) {
        conclude(
            &format!("{label}={value}, last against first: {{}}"),
            last(samples).median(),
            first(samples).median(),
        );
    }
}

fn tell_edits(few: &Edits, many: &Edits, members: u32) {
    let title = "An edit of the file that a whole group shares";
    let mut table = Comparison::new(title, Unit::Micros);
    table.against(few.answered.median());
    for (edits, who) in [
        (few, "1 member".to_owned()),
        (many, format!("{members} members")),
    ] {
        table.samples(&format!("{who}: reload is answered"), &edits.answered, "");
        table.samples(
            &format!("{who}: until a connection passes"),
            &edits.opened,
            "",
        );
    }
    table.print();
}
