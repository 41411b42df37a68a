//! What the daemon costs in memory: proportional set size, of the daemon and of its keeper.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::Options;
use crate::container::Container;
use crate::error::{During, Error, Result};
use crate::sides::Side;
use crate::sides::netd::{Door, Netd};
use crate::stats::{Comparison, Unit};

/// `bench memory`: with no container and with `count`, each with a policy of ten rules.
pub(crate) fn run(options: &Options, count: u32) -> Result<()> {
    let mut netd = Netd::start(&options.netd, "k", Door::Socket, true)?;
    let idle = measure(&mut netd)?;
    let containers = Container::several("k", 0, count)?;
    netd.host().enter()?;
    for container in &containers {
        netd.attach(container)?;
    }
    let busy = measure(&mut netd)?;
    let mut table = Comparison::new("Memory of the daemon (PSS)", Unit::Kib);
    for (who, measured, held) in [
        ("0 containers".to_owned(), idle, "< 6,144 (idle)"),
        (
            format!("{count} containers"),
            busy,
            "< 16,384 (100 containers)",
        ),
    ] {
        table.figure(
            &format!("netd daemon, {who}"),
            1,
            measured.daemon as f64,
            held,
        );
        table.figure(
            &format!("its other processes (keeper), {who}"),
            measured.others,
            measured.other as f64,
            "",
        );
    }
    table.print();
    Ok(())
}

struct Measured {
    daemon: u64,
    other: u64,
    others: usize,
}

fn measure(netd: &mut Netd) -> Result<Measured> {
    // At rest: what was needed for start or attaches is given back within two looks of five seconds.
    std::thread::sleep(std::time::Duration::from_secs(12));
    let daemon = netd.daemon().pid();
    let home = network_of(daemon)?;
    let program =
        fs::metadata(format!("/proc/{daemon}/exe")).during(|| "find the daemon".into())?;
    let mut measured = Measured {
        daemon: pss(daemon)?,
        other: 0,
        others: 0,
    };
    // The keeper outlives the daemon, so it need not be its child: it is the same program on the same host.
    for entry in fs::read_dir("/proc")
        .during(|| "list processes".into())?
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(exe) = fs::metadata(format!("/proc/{pid}/exe")) else {
            continue;
        };
        let same = (exe.dev(), exe.ino()) == (program.dev(), program.ino());
        if same && pid != daemon && network_of(pid).is_ok_and(|network| network == home) {
            measured.other += pss(pid)?;
            measured.others += 1;
        }
    }
    Ok(measured)
}

fn network_of(pid: u32) -> Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net"))
        .map(|m| m.ino())
        .during(|| format!("find the network of process {pid}"))
}

/// Proportional set size in KiB, from proc_pid_smaps(5).
pub(crate) fn pss(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).during(|| format!("read {file}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or(Error::Garbled {
            who: "the kernel",
            answer: text,
        })
}
