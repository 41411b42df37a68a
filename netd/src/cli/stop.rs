//! `netd stop`: ends a container that `netd run` started.

use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use spawner::{MachineName, SpawnError};
use zone::ContainerName;

use super::Context;
use super::args::StopArgs;
use super::{machines, output};
use crate::error::Error;

/// How long the cleaning up after SIGKILL may take.
const CLEANING: Duration = Duration::from_secs(10);

/// How long what runs an init may take to stop everything in it, as systemd's units have it.
const WHOLE_SYSTEM: u64 = 90;
/// How long anything else may take.
const ONE_COMMAND: u64 = 10;

pub(super) fn stop(context: &Context, args: &StopArgs) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        container: &'a ContainerName,
        killed: bool,
    }
    let killed = end(context, args)?;
    if context.json {
        output::print_json(&Document {
            container: &args.container,
            killed,
        })?;
    } else {
        let how = if killed { "killed" } else { "stopped" };
        output::print(&format!("{} {how}\n", args.container))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends a container in order; whether it had to be killed.
pub(super) fn end(context: &Context, args: &StopArgs) -> Result<bool, Error> {
    let name: MachineName = args.container.as_str().parse()?;
    let containers = context.dirs.containers();
    let running = spawner::list(&containers)?;
    let running = running.into_iter().find(|c| c.name == name.as_str());
    let signal = running.as_ref().map_or(libc::SIGTERM, machines::in_order);
    match spawner::kill(&containers, &name, signal) {
        Err(SpawnError::NoSuchContainer(_)) => {
            return Err(Error::NoSuchContainer(format!(
                "stop {name}: no container of this name runs that `netd run` started"
            )));
        }
        result => result?,
    }
    let usual = match signal {
        libc::SIGTERM => ONE_COMMAND,
        _ => WHOLE_SYSTEM,
    };
    let grace = Duration::from_secs(args.time.unwrap_or(usual));
    let killed = !gone_within(&containers, &name, grace)?;
    if killed {
        match spawner::kill(&containers, &name, libc::SIGKILL) {
            // It ended meanwhile.
            Err(SpawnError::NoSuchContainer(_)) => {}
            result => result?,
        }
        if !gone_within(&containers, &name, CLEANING)? {
            return Err(Error::StillRunning {
                container: args.container.clone(),
                seconds: CLEANING.as_secs(),
            });
        }
    }
    cleaned_up(&containers.join(name.as_str()));
    Ok(killed)
}

/// Waits for the poststop hooks and the removal of the container's directory, so that its name is free
/// when the command returns. What a monitor that was killed left behind is nobody's to wait for.
fn cleaned_up(directory: &Path) {
    let deadline = Instant::now() + CLEANING;
    while directory.exists() && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
}

/// Whether the container is off the list of those that run before the time is over.
fn gone_within(containers: &Path, name: &MachineName, time: Duration) -> Result<bool, Error> {
    let deadline = Instant::now() + time;
    let mut pause = Duration::from_millis(2);
    loop {
        let running = spawner::list(containers)?;
        if !running.iter().any(|c| c.name == name.as_str()) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
