//! Outside of the stories: gives each its private host, sees how it ended, and proves that nothing is left.
//!
//! A private host is `unshare --net --mount --pid`: when its first process dies, the kernel ends every
//! other process in it, and with the last of them the namespaces and mounts go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::debian::{self, NotRun};
use crate::machine::{self, Footprint};
use crate::stories;

/// A test with a name and a body; it fails by panicking.
pub struct Story {
    /// `file::function`.
    pub name: &'static str,
    /// The body.
    pub run: fn(),
}

/// Longest a story may take, on a loaded machine; `NETD_LONGEST` gives it other seconds.
const LONGEST: Duration = Duration::from_secs(180);

/// They wait longest for times to run out, and begin first: nobody waits for them at the end.
const FIRST: [&str; 6] = [
    "opened::what_a_name_opened_ends",
    "dhcp_life::a_whole_life_of_each_client",
    "six_life::a_whole_life_of_each_client",
    "crash::killed_at_random_moments",
    "proof::a_lie_is_found_and_made_small",
    "flat::rules_and_chains_stay_the_same",
];

/// How many of the slowest are told at the end.
const SLOWEST: usize = 8;

/// How long the stories took that were run.
static TOOK: Mutex<Vec<(Duration, &str)>> = Mutex::new(Vec::new());

/// Names the folder of a story to its processes.
pub const DIR: &str = "NETD_STORY_DIR";

/// Runs the stories that the command line asks for.
pub fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Stories wait for time-outs more than they compute.
    if args.test_threads.is_none() {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        args.test_threads = Some(3 * cores);
    }
    let before = Footprint::take();
    let (first, others): (Vec<_>, Vec<_>) = stories::ALL
        .iter()
        .partition(|story| FIRST.contains(&story.name));
    let trials = first
        .into_iter()
        .chain(others)
        .map(|story| Trial::ignorable_test(story.name, || timed(story)))
        .collect();
    let conclusion = libtest_mimic::run(&args, trials);
    tell_slowest();
    let left = Footprint::take().beyond(&before);
    if !left.is_empty() {
        eprintln!("left behind on this machine: {left:#?}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn timed(story: &'static Story) -> Result<Completion, Failed> {
    let started = Instant::now();
    let outcome = perform(story);
    if let Ok(mut took) = TOOK.lock() {
        took.push((started.elapsed(), story.name));
    }
    outcome
}

/// What a whole run waits for: nobody asks how long one story takes.
fn tell_slowest() {
    let Ok(mut took) = TOOK.lock() else { return };
    if took.len() <= SLOWEST {
        return;
    }
    took.sort_unstable_by(|one, other| other.cmp(one));
    let all: Duration = took.iter().map(|(time, _)| *time).sum();
    let slowest: Vec<String> = took[..SLOWEST]
        .iter()
        .map(|(time, name)| format!("{name} {} s", time.as_secs()))
        .collect();
    eprintln!(
        "slowest of {} s in all: {}",
        all.as_secs(),
        slowest.join(", ")
    );
}

fn perform(story: &'static Story) -> Result<Completion, Failed> {
    if !rustix::process::geteuid().is_root() {
        if std::env::var_os("CI").is_some() {
            return Err("stories need root, and under CI they must run".into());
        }
        return Ok(Completion::ignored_with("SKIPPED: needs root"));
    }
    // Minutes of building for one story: it runs where `tests/bench/setup` was run.
    let by_netavark = [
        "netavark::netavark_sets_a_container_up",
        "netavark::a_container_is_in_two_networks",
    ];
    if by_netavark.contains(&story.name) && stories::netavark::netavark().is_none() {
        return Ok(Completion::ignored_with(
            "SKIPPED: no netavark 2 (tests/bench/setup builds it)",
        ));
    }
    if debian::is_needed(story.name) {
        match debian::prepare() {
            Ok(()) => {}
            Err(NotRun::NoMirror(why)) => {
                return Ok(Completion::ignored_with(format!(
                    "SKIPPED: no mirror for debootstrap: {why}"
                )));
            }
            Err(NotRun::Failed(why)) => return Err(why.into()),
        }
    }
    let dir = tempfile::Builder::new()
        .prefix("netd-story-")
        .tempdir()
        .map_err(|error| format!("make a folder for {}: {error}", story.name))?;
    let mut host = enter(story, dir.path())?;
    let ended = wait(&mut host, dir.path());
    let end = machine::ticks();
    let output = fs::read_to_string(dir.path().join("output")).unwrap_or_default();
    match ended {
        Ended::Kept => {
            let pid = machine::children(host.id())
                .first()
                .copied()
                .unwrap_or_default();
            let kept = dir.keep();
            Err(format!(
                "{output}\nkept: nsenter -t {pid} -n -m -p   folder: {}\nend it with: kill -9 {pid}",
                kept.display()
            )
            .into())
        }
        Ended::Failed(how) => Err(format!("{output}\n{how}").into()),
        Ended::Well => {
            let ids = fs::read_to_string(dir.path().join("namespaces")).unwrap_or_default();
            let left = machine::processes_in(&ids, end, dir.path());
            if !left.is_empty() {
                return Err(format!(
                    "{output}\nprocesses left in the story's namespaces: {left:?}"
                )
                .into());
            }
            if std::env::var_os("NETD_TALK").is_some() {
                eprintln!("--- {}\n{output}", story.name);
            } else {
                // What a story measured is worth reading also when it went well.
                for line in output.lines().filter(|line| line.starts_with("measured:")) {
                    eprintln!("{}: {line}", story.name);
                }
            }
            Ok(Completion::Completed)
        }
    }
}

enum Ended {
    Well,
    Failed(String),
    Kept,
}

fn enter(story: &Story, dir: &Path) -> Result<Child, Failed> {
    let output = fs::File::create(dir.join("output")).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(std::env::current_exe().map_err(|error| error.to_string())?)
        .args(["--private-host", story.name])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("unshare (package util-linux): {error}").into())
}

fn wait(host: &mut Child, dir: &Path) -> Ended {
    let started = Instant::now();
    let given = std::env::var("NETD_LONGEST").ok();
    let given = given.and_then(|seconds| seconds.parse().ok());
    let longest = given.map_or(LONGEST, Duration::from_secs);
    loop {
        match host.try_wait() {
            Ok(Some(status)) if status.success() => return Ended::Well,
            Ok(Some(status)) => return Ended::Failed(format!("the story ended with {status}")),
            Ok(None) => {}
            Err(error) => return Ended::Failed(format!("wait for the story: {error}")),
        }
        if dir.join("kept").exists() {
            return Ended::Kept;
        }
        if started.elapsed() > longest {
            // The private host's first process dies with unshare, and all others with it.
            let _ = host.kill();
            let _ = host.wait();
            return Ended::Failed(format!("no end after {longest:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// First process of a private host: its own /run/netns and /sys, then the story; reaps what is orphaned,
/// so that nobody takes a dead daemon for a living one.
#[expect(
    clippy::zombie_processes,
    reason = "reap_until waits for any child, this one too"
)]
pub fn private_host(name: &str) -> ExitCode {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    machine::own_mounts(&dir).unwrap();
    fs::write(dir.join("namespaces"), machine::own_namespaces()).unwrap();
    let story = Command::new(std::env::current_exe().unwrap())
        .args(["--story", name])
        .spawn()
        .unwrap();
    let code = machine::reap_until(story.id());
    if code != 0 && std::env::var_os("NETD_KEEP").is_some() {
        fs::write(dir.join("kept"), "").unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    ExitCode::from(code)
}

/// The story itself.
pub fn story(name: &str) -> ExitCode {
    let story = stories::ALL
        .iter()
        .find(|story| story.name == name)
        .unwrap();
    match std::panic::catch_unwind(story.run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
