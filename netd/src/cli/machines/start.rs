//! `netd start`, `netd reboot`: a machine in the background, as systemd's nspawn@.service would have it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use images::ImageName;
use serde::Serialize;
use zone::{ContainerName, ZoneName};

use crate::cli::args::StopArgs;
use crate::cli::{Context, output, stop};
use crate::error::Error;

/// How long a start may take until the first process runs: user ids may have to be looked for, a zone made.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take from the end of an init that wants to be started again to its next start.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Started {
    machine: String,
    leader: i32,
    log: PathBuf,
}

pub(super) fn start(
    context: &Context,
    machines: &[ContainerName],
    zones: &[ZoneName],
) -> Result<ExitCode, Error> {
    let mut started = Vec::new();
    for machine in machines {
        started.push(start_one(context, machine, zones)?);
    }
    told(context, &started)
}

fn told(context: &Context, started: &[Started]) -> Result<ExitCode, Error> {
    if context.json {
        output::print_json(&started)?;
    } else {
        for one in started {
            output::print(&format!(
                "{} started, its console is {}\n",
                one.machine,
                one.log.display()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn reboot(
    context: &Context,
    machine: &ContainerName,
    time: u64,
) -> Result<ExitCode, Error> {
    let running = super::running(context, machine)?;
    let zones = zones_of(context, machine)?;
    if running.boots
        && let Some(again) = restarted(context, &running, time)?
    {
        return told(context, &[again]);
    }
    let running = spawner::list(&context.dirs.containers())?;
    if !running.iter().any(|one| one.name == machine.as_str()) {
        return start(context, std::slice::from_ref(machine), &zones);
    }
    // before it is stopped: one that could not be started again is better left running
    find(context, machine)?;
    let quiet = Context {
        dirs: context.dirs.clone(),
        json: false,
        autostart: context.autostart,
    };
    let args = StopArgs {
        container: machine.clone(),
        time: Some(time),
    };
    stop::end(&quiet, &args)?;
    start(context, std::slice::from_ref(machine), &zones)
}

/// Has an init ask for a restart: whoever runs it starts it again, with all that it was started with. `None`: it did not in time, or
/// ended for good.
fn restarted(
    context: &Context,
    before: &spawner::Running,
    time: u64,
) -> Result<Option<Started>, Error> {
    let containers = context.dirs.containers();
    let name = before.name.parse()?;
    match spawner::kill(&containers, &name, super::signals::restart(before)) {
        Err(spawner::SpawnError::NoSuchContainer(_)) => return Ok(None),
        sent => sent?,
    }
    let mut deadline = Instant::now() + Duration::from_secs(time);
    let mut ended = false;
    while Instant::now() < deadline {
        let running = spawner::list(&containers)?;
        match running.into_iter().find(|one| one.name == before.name) {
            Some(one) if (one.pid, one.start_ticks) == (before.pid, before.start_ticks) => {}
            Some(one) => {
                return Ok(Some(Started {
                    log: context.dirs.console_log(&one.name),
                    machine: one.name,
                    leader: one.pid,
                }));
            }
            // it has ended: what comes again comes at once
            None if !ended => {
                ended = true;
                deadline = Instant::now() + AGAIN;
            }
            None => {}
        }
        sleep(Duration::from_millis(5));
    }
    Ok(None)
}

/// The zones that it is in now, for the next start.
fn zones_of(context: &Context, machine: &ContainerName) -> Result<Vec<ZoneName>, Error> {
    match context.connect()?.show(machine) {
        Ok((container, _, _)) => {
            let ports = container.ports();
            Ok(ports
                .iter()
                .filter_map(|port| port.zone.parse().ok())
                .collect())
        }
        Err(Error::NoSuchContainer(_)) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// `netd run` as nspawn@.service would have it, but for the network: what no zone judges is not there.
pub(super) fn words(zones: &[ZoneName]) -> Vec<String> {
    let mut words: Vec<String> = ["run", "--quiet", "--boot", "-U", "--settings=override"]
        .map(str::to_owned)
        .to_vec();
    match zones {
        [] => words.push("--private-network".into()),
        zones => {
            words.extend(zones.iter().map(|zone| format!("--network-zone={zone}")));
            words.push("--configure=dhcp".into());
        }
    }
    words
}

/// The image of that name.
fn find(context: &Context, machine: &ContainerName) -> Result<images::Image, Error> {
    let name: ImageName = machine.as_str().parse()?;
    Ok(context.dirs.images().find(&name)?)
}

fn start_one(
    context: &Context,
    machine: &ContainerName,
    zones: &[ZoneName],
) -> Result<Started, Error> {
    let containers = context.dirs.containers();
    if spawner::list(&containers)?
        .iter()
        .any(|running| running.name == machine.as_str())
    {
        return Err(Error::Refused(format!("start {machine}: it runs already")));
    }
    find(context, machine)?;
    // here, and not among the container's mounts
    context.connect()?;
    let log = context.dirs.console_log(machine.as_str());
    let write = |source| Error::Write {
        path: log.clone(),
        source,
    };
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(write)?;
    }
    let mut options = OpenOptions::new();
    let options = options.create(true).append(true).mode(0o600);
    let file = options.open(&log).map_err(write)?;
    let begin = file.metadata().map_or(0, |meta| meta.len());
    let own = std::env::current_exe().map_err(Error::WorkingDirectory)?;
    let errors = file.try_clone().map_err(write)?;
    let mut child = Command::new(own)
        .args(context.dirs.to_args())
        .args(words(zones))
        .arg(format!("--machine={machine}"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        // its terminal is not ours: neither its keys nor its end
        .process_group(0)
        .spawn()
        .map_err(write)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let running = spawner::list(&containers)?;
        if let Some(running) = running
            .into_iter()
            .find(|running| running.name == machine.as_str())
        {
            return Ok(Started {
                machine: machine.to_string(),
                leader: running.pid,
                log,
            });
        }
        let ended = child.try_wait().map_err(write)?;
        if ended.is_some() || Instant::now() > deadline {
            return Err(failed(machine, &mut child, &log, begin));
        }
        sleep(Duration::from_millis(5));
    }
}

fn failed(machine: &ContainerName, child: &mut Child, log: &PathBuf, begin: u64) -> Error {
    let _ = child.kill();
    let _ = child.wait();
    let mut words = String::new();
    if let Ok(mut file) = File::open(log) {
        let _ = file.seek(SeekFrom::Start(begin));
        let _ = file.take(64 << 10).read_to_string(&mut words);
    }
    let lines: Vec<&str> = words
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    Error::Refused(format!(
        "start {machine}: it did not start: {last} (see {})",
        log.display()
    ))
}
