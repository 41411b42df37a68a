//! DHCP: complete exchanges a second through a relay agent, by perfdhcp, against the servers people use.
//!
//! Each step begins with a new server, an empty pool of 65,000 addresses and a rate; it is clean when every exchange
//! was completed and the rate was held. Leases are stored where the machine's disk is, not in memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Options;
use crate::error::{During, Result};
use crate::sides::dhcp::{Server, perf};
use crate::sides::{empty_folder, need};
use crate::stats::{Comparison, Unit, number};

/// Exchanges a second that are tried, in this order.
const RATES: [u32; 18] = [
    50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 10_000, 12_000, 14_000,
    16_000, 20_000,
];

/// What a step came to.
#[derive(Debug, Clone, Copy)]
struct Step {
    rate: u32,
    /// Exchanges completed a second.
    done: f64,
    clean: bool,
    /// The server's processor time for one exchange, in µs.
    cpu: f64,
    /// Resident memory of the server at its highest while it is asked, in KiB.
    memory: u64,
    /// Mean time until the offer and until the acknowledgement, in µs.
    offer: f64,
    ack: f64,
}

/// `bench dhcp`: `seconds` for each step.
pub(crate) fn run(options: &Options, seconds: u32, only: &[String]) -> Result<()> {
    need("perfdhcp")?;
    let folder = PathBuf::from(format!("/var/tmp/bench-dhcp-{}", std::process::id()));
    let outcome = compare(options, seconds, only, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn compare(options: &Options, seconds: u32, only: &[String], folder: &Path) -> Result<()> {
    let title = format!("DHCP exchanges a second, pool of 65,000, {seconds} s a step");
    let mut rates = Comparison::new(format!("{title}: highest clean rate"), Unit::PerSecond);
    let mut cpu = Comparison::new(
        "Processor time of the server for one exchange, at that rate",
        Unit::Micros,
    );
    let mut memory = Comparison::new("Resident memory of the server at that rate", Unit::Kib);
    let mut reference = None;
    for server in Server::ALL {
        if !only.is_empty()
            && !only
                .iter()
                .any(|word| server.name().contains(word.as_str()))
        {
            continue;
        }
        if let Err(error) = server.available(options) {
            rates.missing(server.name(), &error.chain());
            continue;
        }
        let steps = match climb(options, server, seconds, folder) {
            Ok(steps) => steps,
            Err(error) => {
                rates.missing(server.name(), &error.chain());
                continue;
            }
        };
        for step in &steps {
            eprintln!(
                "bench: {}: {} a second asked, {} done{}, {} µs CPU each, {} KiB, offer {} ms, ack {} ms",
                server.name(),
                step.rate,
                number(step.done),
                if step.clean { "" } else { ", not clean" },
                number(step.cpu),
                step.memory,
                number(step.offer / 1e3),
                number(step.ack / 1e3)
            );
        }
        let Some(best) = steps
            .iter()
            .filter(|step| step.clean)
            .max_by_key(|step| step.rate)
        else {
            rates.missing(server.name(), "no rate was clean");
            continue;
        };
        let held = |text: &'static str| if server == Server::Netd { text } else { "" };
        rates.figure(
            server.name(),
            steps.len(),
            f64::from(best.rate),
            held("ahead of each"),
        );
        cpu.figure(server.name(), 1, best.cpu, held("no more than the best"));
        memory.figure(server.name(), 1, best.memory as f64, held("< 16,384"));
        if reference.is_none() {
            reference = Some(server);
            rates.against(f64::from(best.rate));
            cpu.against(best.cpu);
            memory.against(best.memory as f64);
        }
    }
    rates.print();
    cpu.print();
    memory.print();
    Ok(())
}

/// Faster and faster, until two steps in a row are not clean.
fn climb(options: &Options, server: Server, seconds: u32, folder: &Path) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut failed = 0;
    for rate in RATES.into_iter().filter(|rate| *rate >= server.begin()) {
        let step = step(options, server, rate, seconds, folder)?;
        failed = if step.clean { 0 } else { failed + 1 };
        steps.push(step);
        if failed == 2 {
            break;
        }
    }
    Ok(steps)
}

fn step(options: &Options, server: Server, rate: u32, seconds: u32, folder: &Path) -> Result<Step> {
    empty_folder(folder)?;
    let running = server.start(options, folder)?;
    running.forget_peak()?;
    let before = running.processor_time()?;
    let told = perf(running.client(), rate, seconds)?;
    // What is under way is done, and on this bill.
    std::thread::sleep(Duration::from_millis(200));
    let spent = running.processor_time()?.saturating_sub(before);
    let memory = running.memory()?;
    let exchanges = told.completed.max(1) as f64;
    // perfdhcp's own rate counts the time that it waits for the last ones.
    let done = told.completed as f64 / f64::from(seconds);
    Ok(Step {
        rate,
        done,
        clean: told.dropped == 0 && done >= 0.97 * f64::from(rate),
        cpu: spent.as_secs_f64() * 1e6 / exchanges,
        memory,
        offer: told.offer,
        ack: told.ack,
    })
}

/// Reads a file of /proc.
pub(crate) fn proc_file(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    std::fs::read_to_string(&path).during(|| format!("read {path}"))
}
