//! Starting /bin/true in a busybox root: netd with network and policy, and what people use today.

mod doors;
mod plugins;

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

const FOLDER: &str = "/run/starts";

/// Makes the command line of a round.
type Make = Box<dyn Fn(u32) -> Command>;

/// One way to start a container, or why it cannot be had.
struct Starter<'a> {
    label: &'static str,
    held: &'static str,
    host: &'a Netns,
    command: Result<Make, String>,
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
    let (ours, home) = match &daemon {
        Ok(daemon) => (Ok(netd_run(daemon, &root)), daemon.host()),
        Err(error) => (Err(error.chain()), &others),
    };
    let mut all = starters(&folder, &root, &others);
    all.insert(
        0,
        Starter {
            label: "netd run, zone and ten rules",
            held: "",
            host: home,
            command: ours,
            samples: Samples::default(),
        },
    );
    if let Ok(daemon) = &daemon {
        all.extend(doors::starters(options, &folder, &root, daemon, &others));
        all.extend(nspawn_doors(daemon, &root, home));
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
                Err(error) => starter.command = Err(error.chain()),
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
            Err(why) => table.missing(starter.label, why),
        }
    }
    table.print();
    plugins::run(options, rounds);
    Ok(())
}

fn netd_run(daemon: &Daemon, root: &Path) -> Make {
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

/// systemd-nspawn in a zone of netd's: adopted, and by the commands of the unit's drop-in.
fn nspawn_doors<'a>(daemon: &Daemon, root: &Path, host: &'a Netns) -> Vec<Starter<'a>> {
    const MACHINE: &str = "bench-door";
    let environment: Vec<_> = daemon
        .command()
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect();
    let nspawn = format!(
        "systemd-nspawn -q -D {} --register=no --keep-unit --as-pid2",
        root.display()
    );
    let hook = format!("{} hook nspawn", daemon.command().get_program().display());
    let settings = "/run/systemd/nspawn";
    let written = need("systemd-nspawn")
        .and_then(|_| fs::create_dir_all(settings).during(|| format!("make {settings}")))
        .and_then(|()| {
            let file = format!("{settings}/{MACHINE}.nspawn");
            fs::write(&file, format!("[Network]\nZone={ZONE}\n")).during(|| format!("write {file}"))
        })
        .map_err(|error| error.chain());
    let adopted = format!("exec {nspawn} -M adopted --network-zone={ZONE} /bin/true");
    let hooked = format!(
        "{hook} prepare {MACHINE} && {hook} exec {MACHINE} -- {nspawn} -M {MACHINE} --settings=override /bin/true && {hook} remove {MACHINE}"
    );
    [
        ("systemd-nspawn --network-zone, adopted by netd", adopted),
        ("systemd-nspawn by netd hook nspawn", hooked),
    ]
    .into_iter()
    .map(|(label, script)| {
        let environment = environment.clone();
        let make = move |_| {
            let mut command = Command::new("sh");
            command.envs(environment.iter().map(|(key, value)| (key, value)));
            command.args(["-c", &script]);
            command
        };
        Starter {
            label,
            held: "",
            host,
            command: written.clone().map(|()| Box::new(make) as Make),
            samples: Samples::default(),
        }
    })
    .collect()
}

fn starters<'a>(folder: &Path, root: &Path, host: &'a Netns) -> Vec<Starter<'a>> {
    let root = root.display().to_string();
    let bundle = folder.join("bundle");
    let bundled = spec(&bundle, &root);
    let bundle = bundle.display().to_string();
    let with_bundle = |program: &str, words: Vec<String>| -> Result<Make, String> {
        let program = need(program).map_err(|error| error.chain())?;
        if let Err(error) = &bundled {
            return Err(error.chain());
        }
        Ok(Box::new(move |round| {
            let mut command = Command::new(&program);
            command.args(&words).arg(format!("bench{round}"));
            command
        }))
    };
    let plain = |program: &str, words: &[&str]| -> Result<Make, String> {
        let program = need(program).map_err(|error| error.chain())?;
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
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
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
            "systemd-nspawn, --network-zone",
            "netd 5× faster",
            nspawn("--network-zone=bench"),
        ),
        (
            "systemd-nspawn, --private-network",
            "",
            nspawn("--private-network"),
        ),
        (
            "runc, empty network",
            "netd 2× faster",
            with_bundle("runc", words(&runc)),
        ),
        ("podman, no network", "netd 8× faster", podman),
        (
            "crun, empty network",
            "netd within 2×",
            with_bundle("crun", words(&crun)),
        ),
        ("bwrap --unshare-all", "", bwrap),
        (
            "chroot (fork and exec)",
            "",
            plain("chroot", &[&root, "/bin/true"]),
        ),
    ]
    .into_iter()
    .map(|(label, held, command)| Starter {
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
