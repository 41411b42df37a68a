//! What attaching costs in the kernel: `cargo run --release --example attach_bench [COUNT]`, as root.
//!
//! Works in a network namespace of its own. Prints medians: creating and opening a port as netd does,
//! and closing it. Containers' namespaces are made outside the measured time.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use zone::{Configure, Links, Netns, PortSpec, Taken, ZoneFile, reap, resolve};

/// Link group of closed ports.
const REAPED: u32 = 0x6e65_7464;

#[allow(unsafe_code)]
fn fresh_netns() -> rustix::io::Result<()> {
    // SAFETY: CLONE_NEWNET changes nothing but the calling thread's network namespace.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
}

/// A network namespace that nobody is in.
fn container() -> Result<Netns, Box<dyn Error>> {
    let made = std::thread::spawn(|| {
        fresh_netns()?;
        std::fs::File::open("/proc/thread-self/ns/net")
    });
    let file = made.join().map_err(|_| "the thread failed")??;
    Ok(Netns::from_fd(OwnedFd::from(file))?)
}

fn median(times: &mut [Duration]) -> u128 {
    times.sort();
    times[times.len() / 2].as_micros()
}

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = match std::env::args().nth(1) {
        Some(word) => word.parse()?,
        None => 200,
    };
    fresh_netns()?;
    let file = ZoneFile::parse("bench.toml", "subnet4 = \"10.77.0.0/16\"")?;
    let zone = resolve(&"bench".parse()?, &file, &Taken::default(), b"bench")?;
    let mut links = Links::open()?;
    links.ensure_bridge(&zone)?;
    let (mut created, mut opened, mut closed) = (Vec::new(), Vec::new(), Vec::new());
    for number in 2..count as u32 + 2 {
        let container: zone::ContainerName = format!("c{number}").parse()?;
        let spec = PortSpec {
            mac: container.mac(),
            container,
            zone: zone.name.clone(),
            bridge: zone.bridge.clone(),
            ifname: "host0".parse()?,
            addresses: vec![
                format!("10.77.{}.{}/16", number / 256, number % 256).parse()?,
                format!("fd77::{number:x}/128").parse()?,
            ],
            prefixes: Vec::new(),
            gateway4: zone.gateway4,
            gateway6_ll: zone.gateway6_ll(),
            mtu: zone.mtu,
            configure: Configure::Static,
            place: 0,
            several: false,
            subnet6: None,
        };
        let ifindex = attach(&mut created, &mut opened, &mut links, &spec)?;
        let start = Instant::now();
        links.close_port(ifindex, REAPED)?;
        closed.push(start.elapsed());
        if number % 64 == 0 {
            reap(REAPED)?;
        }
    }
    reap(REAPED)?;
    println!("{count} ports, median µs");
    println!("create_port {:>6}", median(&mut created));
    println!("open_port   {:>6}", median(&mut opened));
    println!("close_port  {:>6}", median(&mut closed));
    Ok(())
}

/// Attaches one container; returns the index of its port.
fn attach(
    created: &mut Vec<Duration>,
    opened: &mut Vec<Duration>,
    links: &mut Links,
    spec: &PortSpec,
) -> Result<u32, Box<dyn Error>> {
    let netns = container()?;
    let start = Instant::now();
    let port = links.create_port(spec, &netns)?;
    created.push(start.elapsed());
    let start = Instant::now();
    links.open_port(&port, spec, &netns)?;
    links.notice_carrier(port.ifindex)?;
    opened.push(start.elapsed());
    Ok(port.ifindex)
}
