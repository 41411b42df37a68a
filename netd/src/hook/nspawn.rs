//! `netd hook nspawn`: the door of systemd-nspawn@.service.
//!
//! ```text
//! ExecStartPre  prepare  MACHINE.nspawn ─► Plan ─► namespace RUNTIME/nspawn/MACHINE/netns ─► attach
//! ExecStart     exec     the same plan, or nothing starts ─► settings without [Network] in their place ─► systemd-nspawn
//! ExecStopPost  remove   detach ─► namespace gone
//! ```
//!
//! systemd-nspawn refuses settings with a network of their own beside `--network-namespace-path=`. So it sees a copy
//! without that section, mounted over the file in a mount namespace that only it and its children see.

mod settings;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::mount::{MountPropagationFlags, UnmountFlags};
use zone::{ContainerName, NameError, ZoneName};

use crate::api::AttachRequest;
use crate::cli::{self, Context};
use crate::error::Error;
use crate::nspawn::{FileError, SETTINGS};
use crate::values::ValueError;
use crate::{netns, sys};
use settings::{Network, Settings};

/// Where images are; settings may lie beside one (systemd-nspawn(1), `--machine=`).
const IMAGES: [&str; 6] = [
    "/etc/machines",
    "/run/machines",
    "/var/lib/machines",
    "/var/lib/container",
    "/usr/local/lib/machines",
    "/usr/lib/machines",
];

/// What the unit's own command line asks for where no settings say otherwise.
const VETH: &str = "--network-veth";

/// Why a machine does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NspawnError {
    #[error("machine name is no container name")]
    Name(#[source] NameError),
    #[error("read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Settings(#[from] FileError),
    #[error("[Network] has both Zone= and Bridge=: one machine, one network")]
    TwoNetworks,
    #[error("[Network] has Private=no and a zone: without a network of its own it can be in none")]
    HostNetwork,
    #[error("[Network] has {key}= beside a zone: a way around the zone's policy is not opened")]
    Beside { key: String },
    #[error("[Network] Zone=")]
    Zone(#[source] NameError),
    #[error(
        "[Network] Bridge={bridge}: no zone has this bridge (`netd zone list` shows those there are)"
    )]
    Bridge { bridge: String },
    #[error("[Network] Port=")]
    Port(#[source] ValueError),
    #[error("its settings have changed since it was prepared, start it anew")]
    Changed,
    #[error("make its network namespace at {}", .path.display())]
    Namespace { path: PathBuf, source: io::Error },
    #[error("put settings without [Network] in the place of {}", .path.display())]
    Filter { path: PathBuf, source: io::Error },
    #[error("run {program:?}")]
    Exec {
        program: OsString,
        source: io::Error,
    },
}

/// What is to be done about a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// Its settings name no zone: it is none of ours.
    Leave,
    /// It gets a namespace in a zone.
    Attach {
        place: Place,
        /// As `--publish` writes them.
        publish: Vec<String>,
    },
}

/// How the settings name the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Zone(ZoneName),
    Bridge(String),
}

/// `netd hook nspawn prepare`
pub(crate) fn prepare(context: &Context, machine: &str) -> Result<ExitCode, Error> {
    let told = told(machine);
    let name = name(machine).map_err(&told)?;
    let found = find(machine).map_err(&told)?;
    let plan = plan(found.as_ref()).map_err(&told)?;
    let folder = folder(context, machine);
    // what a start before left when the power went
    clear(&folder).map_err(&told)?;
    let Plan::Attach { place, publish } = plan else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut client = context.connect()?;
    let zone = match place {
        Place::Zone(zone) => zone.to_string(),
        Place::Bridge(bridge) => {
            let zones = client.zone_list()?;
            let is =
                |z: &&crate::api::Zone| z.bridge == bridge || format!("vz-{}", z.name) == bridge;
            let found = zones.iter().find(is).map(|z| z.name.clone());
            found.ok_or_else(|| told(NspawnError::Bridge { bridge }))?
        }
    };
    // of a start before: its namespace is gone
    client.detach(&name, None)?;
    let path = folder.join("netns");
    let made = make(&folder, &path).map_err(&told);
    let attached = made.and_then(|()| {
        let netns = netns::open_path(&path)?;
        let request = AttachRequest {
            container: name.to_string(),
            zone,
            publish,
            ..AttachRequest::default()
        };
        client.attach(request, netns.as_fd())
    });
    match attached {
        Ok(answer) => {
            for warning in &answer.warnings {
                cli::note(&format!("warning: {warning}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => {
            let _ = clear(&folder);
            Err(e)
        }
    }
}

/// `netd hook nspawn exec`: becomes the command.
pub(crate) fn exec(
    context: &Context,
    machine: &str,
    command: &[OsString],
) -> Result<ExitCode, Error> {
    let told = told(machine);
    name(machine).map_err(&told)?;
    let found = find(machine).map_err(&told)?;
    let plan = plan(found.as_ref()).map_err(&told)?;
    let folder = folder(context, machine);
    let netns = folder.join("netns");
    let ours = plan != Plan::Leave;
    if ours != netns.exists() {
        return Err(told(NspawnError::Changed));
    }
    let Some((program, words)) = command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = Command::new(program);
    if ours {
        let mut option = OsString::from("--network-namespace-path=");
        option.push(&netns);
        command.arg(option);
        command.args(words.iter().filter(|word| *word != VETH));
        if let Some(found) = &found {
            filter(&folder, found).map_err(|source| {
                let path = found.path.clone();
                told(NspawnError::Filter { path, source })
            })?;
        }
    } else {
        command.args(words);
    }
    let source = command.exec();
    let program = program.clone();
    Err(told(NspawnError::Exec { program, source }))
}

/// `netd hook nspawn remove`: goes on past errors, so that nothing stays that can go.
pub(crate) fn remove(context: &Context, machine: &str) -> Result<ExitCode, Error> {
    let told = told(machine);
    let name = name(machine).map_err(&told)?;
    let folder = folder(context, machine);
    if !folder.exists() {
        return Ok(ExitCode::SUCCESS);
    }
    let detached = context
        .connect()
        .and_then(|mut client| client.detach(&name, None));
    clear(&folder).map_err(&told)?;
    detached?;
    Ok(ExitCode::SUCCESS)
}

fn told(machine: &str) -> impl Fn(NspawnError) -> Error + use<> {
    let machine = machine.to_owned();
    move |source| Error::Nspawn {
        machine: machine.clone(),
        source,
    }
}

fn name(machine: &str) -> Result<ContainerName, NspawnError> {
    machine.parse().map_err(NspawnError::Name)
}

fn folder(context: &Context, machine: &str) -> PathBuf {
    context.dirs.runtime.join("nspawn").join(machine)
}

/// The settings that systemd-nspawn would read for a machine; none where there are none.
fn find(machine: &str) -> Result<Option<Settings>, NspawnError> {
    let file = format!("{machine}.nspawn");
    let mut paths: Vec<PathBuf> = SETTINGS
        .iter()
        .map(|dir| Path::new(dir).join(&file))
        .collect();
    let image = |dir: &&&str| {
        let at = |name: String| Path::new(dir).join(name).symlink_metadata().is_ok();
        at(machine.to_owned()) || at(format!("{machine}.raw"))
    };
    paths.extend(
        IMAGES
            .iter()
            .find(image)
            .map(|dir| Path::new(dir).join(&file)),
    );
    for path in paths {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(Some(Settings::parse(path, &text)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(NspawnError::Read { path, source }),
        }
    }
    Ok(None)
}

fn plan(settings: Option<&Settings>) -> Result<Plan, NspawnError> {
    let Some(Network {
        zone,
        bridge,
        ports,
        private,
        others,
    }) = settings.map(|s| &s.network)
    else {
        return Ok(Plan::Leave);
    };
    let place = match (zone, bridge) {
        (None, None) => return Ok(Plan::Leave),
        (None, Some(bridge)) if !bridge.starts_with("vz-") => return Ok(Plan::Leave),
        (Some(_), Some(_)) => return Err(NspawnError::TwoNetworks),
        (Some(zone), None) => Place::Zone(zone.parse().map_err(NspawnError::Zone)?),
        (None, Some(bridge)) => Place::Bridge(bridge.clone()),
    };
    if *private == Some(false) {
        return Err(NspawnError::HostNetwork);
    }
    if let Some(key) = others.first() {
        return Err(NspawnError::Beside { key: key.clone() });
    }
    let publish = ports
        .iter()
        .map(|port| Ok(crate::publish::text(&crate::publish::parse_nspawn(port)?)))
        .collect::<Result<_, _>>()
        .map_err(NspawnError::Port)?;
    Ok(Plan::Attach { place, publish })
}

/// A new network namespace, which lives as long as the file that it is mounted on.
fn make(folder: &Path, path: &Path) -> Result<(), NspawnError> {
    let made = || -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        fs::File::create(path)?;
        // On a thread that then ends: this process stays where it is.
        let inside = || -> io::Result<()> {
            sys::new_netns()?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", path)?;
            Ok(())
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(done) => done,
            Err(_) => Err(io::ErrorKind::Other.into()),
        })
    };
    made().map_err(|source| NspawnError::Namespace {
        path: path.to_owned(),
        source,
    })
}

/// Takes a machine's folder away, namespace and all; absent is fine.
fn clear(folder: &Path) -> Result<(), NspawnError> {
    let path = folder.join("netns");
    // Not mounted, or not there: then there is nothing to take off.
    let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(NspawnError::Namespace { path, source })
        }
        _ => Ok(()),
    }
}

/// Puts a copy without `[Network]` in the place of the settings, for this process and its children.
fn filter(folder: &Path, found: &Settings) -> io::Result<()> {
    let copy = folder.join("settings");
    fs::write(&copy, &found.without_network)?;
    sys::new_mounts()?;
    // What the host mounts is seen; what is mounted here is not seen there.
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    rustix::mount::mount_bind(&copy, &found.path)?;
    Ok(())
}

#[cfg(test)]
mod tests;
