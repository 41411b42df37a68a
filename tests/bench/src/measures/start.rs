//! Starting /bin/true in a busybox root: netd with network and policy, and what people use today.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Options;
use crate::daemon::{Daemon, ZONE};
use crate::error::{During, Error, Result};
use crate::ns::Netns;
use crate::policy;
use crate::root;
use crate::sides::{empty_folder, need, run as run_command};
use crate::stats::{Comparison, Samples, Unit, timed};

const FOLDER: &str = "/run/bench-start";

/// One way to start a container.
struct Starter<'a> {
    label: &'static str,
    held: &'static str,
    host: &'a Netns,
    command: Result<Box<dyn Fn(u32) -> Command>>,
    samples: Samples,
}

/// `bench start`: everybody `rounds` times, in turns.
pub(crate) fn run(options: &Options, rounds: u32) -> Result<()> {
    let folder = PathBuf::from(FOLDER);
    empty_folder(&folder)?;
    let root = root::busybox(&folder.join("root"))?;
    let others = Netns::create("host-others")?;
    let daemon = Daemon::start(&options.netd, "start", false).and_then(|mut daemon| {
        daemon.write_policy("ten", &policy::ten("ten"))?;
        daemon.reload()?;
        Ok(daemon)
    });
    let (home, why) = match &daemon {
        Ok(daemon) => (daemon.host(), None),
        Err(error) => (&others, Some(error.chain())),
    };
    let mut all = starters(&folder, &root, home, &others);
    match &daemon {
        Ok(daemon) => {
            all[0].command = Ok(netd_run(daemon, &root));
        }
        Err(_) => {
            all[0].command = Err(Error::void(why.unwrap_or_default()));
        }
    }
    // One start of each that does not count: caches, and the bridges that some tools make.
    for round in 0..=rounds {
        for starter in &mut all {
            starter.host.enter()?;
            let Ok(make) = &starter.command else {
                continue;
            };
            let mut command = make(round);
            let (result, time) = timed(|| run_command(&mut command, b""));
            match result {
                Ok(_) if round > 0 => starter.samples.push(time),
                Ok(_) => {}
                Err(error) => starter.command = Err(error),
            }
        }
    }
    let mut table = Comparison::new(
        "Start /bin/true in a busybox root, until it has ended",
        Unit::Micros,
    );
    table.against(all[0].samples.median());
    for starter in &all {
        match &starter.command {
            Ok(_) => table.samples(starter.label, &starter.samples, starter.held),
            Err(error) => table.missing(starter.label, &error.chain()),
        }
    }
    table.print();
    Ok(())
}

fn netd_run(daemon: &Daemon, root: &Path) -> Box<dyn Fn(u32) -> Command> {
    let environment: Vec<_> = daemon
        .command()
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect();
    let program = daemon.command().get_program().to_owned();
    let root = root.to_owned();
    Box::new(move |round| {
        let mut command = Command::new(&program);
        command
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .args(["run", "-D"])
            .arg(&root)
            .args(["-M", &format!("start{round}"), "--network-zone", ZONE])
            .args(["--label", "role=ten", "--", "/bin/true"]);
        command
    })
}

fn starters<'a>(
    folder: &Path,
    root: &Path,
    home: &'a Netns,
    others: &'a Netns,
) -> Vec<Starter<'a>> {
    let root = root.display().to_string();
    let bundle = folder.join("bundle");
    let bundled = spec(&bundle, &root);
    let bundle = bundle.display().to_string();
    let with_bundle = |program: &str, words: Vec<String>| -> Result<Box<dyn Fn(u32) -> Command>> {
        let program = need(program)?;
        if let Err(error) = &bundled {
            return Err(Error::void(error.chain()));
        }
        Ok(Box::new(move |round| {
            let mut command = Command::new(&program);
            command.args(&words).arg(format!("bench{round}"));
            command
        }))
    };
    let plain = |program: &str, words: &[&str]| -> Result<Box<dyn Fn(u32) -> Command>> {
        let program = need(program)?;
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Ok(Box::new(move |_| {
            let mut command = Command::new(&program);
            command.args(&words);
            command
        }))
    };
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let nspawn = |network: &str| {
        plain(
            "systemd-nspawn",
            &[
                "-q",
                "-D",
                &root,
                "--register=no",
                "--keep-unit",
                "--as-pid2",
                network,
                "/bin/true",
            ],
        )
    };
    let podman = plain(
        "podman",
        &[
            "run",
            "--rm",
            "--cgroups=disabled",
            "--network=none",
            "--rootfs",
            &root,
            "/bin/true",
        ],
    );
    let bwrap = plain(
        "bwrap",
        &[
            "--bind",
            &root,
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--unshare-all",
            "/bin/true",
        ],
    );
    let crun = format!("--root {FOLDER}/crun --cgroup-manager=disabled run -b {bundle}");
    let runc = format!("--root {FOLDER}/runc run -b {bundle}");
    [
        (
            "netd run, zone and ten rules",
            "",
            home,
            Err(Error::void("no daemon")),
        ),
        (
            "systemd-nspawn, --network-zone",
            "netd 5× faster",
            others,
            nspawn("--network-zone=bench"),
        ),
        (
            "systemd-nspawn, --private-network",
            "",
            others,
            nspawn("--private-network"),
        ),
        (
            "runc, empty network",
            "netd 2× faster",
            others,
            with_bundle("runc", words(&runc)),
        ),
        ("podman, no network", "netd 8× faster", others, podman),
        (
            "crun, empty network",
            "netd within 2×",
            others,
            with_bundle("crun", words(&crun)),
        ),
        ("bwrap --unshare-all", "", others, bwrap),
        (
            "chroot (fork and exec)",
            "",
            others,
            plain("chroot", &[&root, "/bin/true"]),
        ),
    ]
    .into_iter()
    .map(|(label, held, host, command)| Starter {
        label,
        held,
        host,
        command,
        samples: Samples::default(),
    })
    .collect()
}

/// A bundle with the specification that `runc spec` writes, without a terminal.
fn spec(bundle: &Path, root: &str) -> Result<()> {
    empty_folder(bundle)?;
    let mut command = Command::new(need("runc")?);
    run_command(command.args(["spec", "-b"]).arg(bundle), b"")?;
    let file = bundle.join("config.json");
    let text = fs::read_to_string(&file).during(|| format!("read {}", file.display()))?;
    let mut spec: Value = serde_json::from_str(&text).map_err(|_| Error::Garbled {
        who: "runc spec",
        answer: text,
    })?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    spec["root"]["path"] = root.into();
    fs::write(&file, spec.to_string()).during(|| format!("write {}", file.display()))
}
