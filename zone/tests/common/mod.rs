//! A host of its own for each test: a thread in a fresh network namespace. The rest of the process, and the
//! machine, never see what happens there.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use zone::{Configure, Netns, PortSpec, Taken, Zone, ZoneFile, resolve};

/// Enters a fresh network namespace; the thread must end with it.
#[allow(unsafe_code)]
pub(crate) fn fresh_netns() {
    // SAFETY: CLONE_NEWNET changes nothing but the calling thread's network namespace; no memory or
    // descriptor is affected, and this thread opens its sockets afterwards.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
}

/// Runs a test on a host of its own, or says that it is skipped.
pub(crate) fn on_a_host(name: &str, test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "{name}: needs root");
        println!("SKIPPED {name}: needs root");
        return;
    }
    let host = thread::spawn(move || {
        fresh_netns();
        test();
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A container: a thread in a network namespace of its own, which lives while this does.
pub(crate) struct Container {
    pub(crate) netns: Netns,
    pub(crate) tid: i32,
    _end: Sender<()>,
}

pub(crate) fn container() -> Container {
    let (end, wait) = channel::<()>();
    let (tell, told) = channel();
    thread::spawn(move || {
        fresh_netns();
        let fd: OwnedFd = std::fs::File::open("/proc/thread-self/ns/net")
            .unwrap()
            .into();
        tell.send((fd, rustix::thread::gettid().as_raw_nonzero().get()))
            .unwrap();
        let _ = wait.recv();
    });
    let (fd, tid) = told.recv().unwrap();
    Container {
        netns: Netns::from_fd(fd).unwrap(),
        tid,
        _end: end,
    }
}

impl Container {
    /// Runs a program in the container.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let netns = std::fs::File::open(format!("/proc/{}/ns/net", self.tid)).unwrap();
        let (program, arguments) = (program.to_owned(), owned(arguments));
        thread::spawn(move || {
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&netns),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .unwrap();
            output(&program, &arguments)
        })
        .join()
        .unwrap()
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&word| word.to_owned()).collect()
}

fn output(program: &str, arguments: &[String]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs a program on the test's host.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    output(program, &owned(arguments))
}

/// `ip …` on the test's host, with the words in one string.
pub(crate) fn ip(words: &str) -> String {
    run("ip", &words.split_whitespace().collect::<Vec<_>>())
}

/// A sysctl of the test's host.
pub(crate) fn sysctl(path: &str) -> String {
    let path = Path::new("/proc/sys/net").join(path);
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

pub(crate) fn set_sysctl(path: &str, value: &str) {
    std::fs::write(Path::new("/proc/sys/net").join(path), value).unwrap();
}

pub(crate) fn zone(name: &str, text: &str) -> Zone {
    let file = ZoneFile::parse("zone.toml", text).unwrap();
    resolve(&name.parse().unwrap(), &file, &Taken::default(), b"machine").unwrap()
}

pub(crate) fn spec(container: &str, zone: &Zone, number: u8) -> PortSpec {
    let container: zone::ContainerName = container.parse().unwrap();
    let mut addresses = Vec::new();
    if let Some(net) = zone.subnet4 {
        let address = u32::from(net.network()) + u32::from(number);
        addresses.push(
            ipnet::Ipv4Net::new(address.into(), net.prefix_len())
                .unwrap()
                .into(),
        );
    }
    if let Some(net) = zone.subnet6 {
        let address = match zone::prefix::is_wide(net) {
            true => u128::from(net.network()) + (u128::from(number) << 64) + 1,
            false => u128::from(net.network()) + u128::from(number),
        };
        addresses.push(ipnet::Ipv6Net::new(address.into(), 128).unwrap().into());
    }
    let address = addresses.iter().find_map(|net| match net {
        ipnet::IpNet::V6(net) => Some(net.addr()),
        ipnet::IpNet::V4(_) => None,
    });
    let prefix = zone
        .subnet6
        .zip(address)
        .and_then(|(subnet, address)| zone::prefix::of(subnet, address));
    PortSpec {
        prefixes: prefix.into_iter().collect(),
        mac: container.mac(),
        container,
        zone: zone.name.clone(),
        bridge: zone.bridge.clone(),
        ifname: "host0".parse().unwrap(),
        addresses,
        gateway4: zone.gateway4,
        gateway6_ll: zone.gateway6_ll(),
        mtu: zone.mtu,
        configure: Configure::Static,
        place: 0,
        several: false,
        subnet6: None,
    }
}
