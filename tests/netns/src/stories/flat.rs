//! Cost that does not grow: the same rules and chains for one container and for hundreds, and no program
//! started for any of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::net::netns::{self, Netns};
use crate::world::World;

/// How many containers the ruleset is counted with.
const MANY: usize = 500;

/// Tables, chains and rules, as `nft` sees them.
fn skeleton(world: &World) -> [usize; 3] {
    let list = world.nft("-j -t list ruleset").json();
    let things: &[Value] = list["nftables"].as_array().map_or(&[], Vec::as_slice);
    ["table", "chain", "rule"].map(|kind| {
        things
            .iter()
            .filter(|thing| thing.get(kind).is_some())
            .count()
    })
}

pub fn rules_and_chains_stay_the_same() {
    let world = World::new("flat");
    world
        .zone("web")
        .option("--subnet4", "10.89.0.0/20")
        .create();
    world.policy(
        "web",
        "applies-to = { zone = \"web\" }\n\
         [[ingress]]\nfrom = [\"label:tier=front\", \"192.0.2.0/24\", \"host\"]\nports = [\"tcp/80\", \"tcp/8000-8099\"]\n\
         [[egress]]\nto = [\"zone:web\", \"world\"]\n",
    );
    let attach = |name: &str| {
        let netns = Netns::create(name);
        let line = format!(
            "attach {name} --zone web --label tier=front --netns {}",
            netns.path().display()
        );
        let started = Instant::now();
        world.netd(&line).ok();
        (netns, started.elapsed())
    };
    let (_first, alone) = attach("c0");
    let one = skeleton(&world);
    assert!(
        one[0] >= 2 && one[1] > 10 && one[2] > 30,
        "netd's tables are not there: {one:?}"
    );
    let mut crowd = Vec::new();
    let mut last = Duration::ZERO;
    for number in 1..MANY {
        let (netns, took) = attach(&format!("c{number}"));
        crowd.push(netns);
        last = took;
    }
    let many = skeleton(&world);
    eprintln!("measured: tables, chains and rules with 1 container {one:?}, with {MANY} {many:?}");
    eprintln!(
        "measured: attach command alone {alone:?}, with {MANY} {last:?} (debug build, not a benchmark)"
    );
    assert_eq!(one, many);
    let list = world.netd("list --json").json();
    assert_eq!(list.as_array().map(Vec::len), Some(MANY));
    world.netd("zone delete web --force").ok();
    // The links are closed at once and reaped behind.
    let deleted = Instant::now();
    while !world.own_links().is_empty() {
        assert!(
            deleted.elapsed() < Duration::from_secs(10),
            "{:?}",
            world.own_links()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!(
        "measured: links of {MANY} containers gone {:?} after the zone was deleted",
        deleted.elapsed()
    );
}

pub fn an_attach_execs_nothing() {
    let world = World::new("exec");
    world.zone("web").create();
    let trace = |name: &str| world.dir.join(format!("strace-{name}"));
    let daemon = trace("daemon");
    let mut tracer = Command::new("strace")
        .args([
            "-f",
            "-q",
            "-e",
            "trace=execve,execveat,sendmsg,sendto",
            "-o",
        ])
        .arg(&daemon)
        .args(["-p", &world.netd_pid().to_string()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", world.netd_pid());
    let started = Instant::now();
    while std::fs::read_to_string(&status)
        .unwrap()
        .contains("TracerPid:\t0")
    {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "strace does not attach"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let netns = Netns::create("one");
    let client = trace("client");
    let mut attach = Command::new("strace");
    attach
        .args(["-f", "-q", "-e", "trace=execve,execveat", "-o"])
        .arg(&client)
        .arg(crate::world::netd_binary())
        .args(["attach", "one", "--zone", "web", "--netns"])
        .arg(netns.path())
        .args(["--publish", "8080:80"]);
    for (key, value) in world.command().get_envs() {
        attach.env(key, value.unwrap_or_default());
    }
    world.netns.enter(|| netns::run(&mut attach)).ok();
    world.netd("detach one").ok();
    crate::world::signal(tracer.id(), rustix::process::Signal::TERM);
    tracer.wait().unwrap();
    let daemon = std::fs::read_to_string(daemon).unwrap();
    let client = std::fs::read_to_string(client).unwrap();
    // Controls: the daemon was watched at work, and the client's own start was seen.
    assert!(
        daemon.contains("sendmsg(") || daemon.contains("sendto("),
        "strace saw nothing:\n{daemon}"
    );
    assert_eq!(
        client.matches("execve").count(),
        1,
        "the command starts programs:\n{client}"
    );
    assert_eq!(
        daemon.matches("execve").count(),
        0,
        "the daemon starts programs:\n{daemon}"
    );
}
