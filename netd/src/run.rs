//! `netd run`: a command in a container of its own, by the spawner, with this very binary as the hook
//! that gives it its network.
//!
//! ```text
//! RunArgs ─► zone there? (made where missing) ─► Settings ─► spawner::run ─► exit code
//!                                                   └─ createRuntime, poststop: netd hook oci …
//! ```
//!
//! /etc/resolv.conf inside is [`resolver`]'s. With `--no-root` the host's own ways to ask for names are covered.
//!
//! One thread from begin to end: libcontainer forks without exec.

mod resolver;
mod warnings;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use spawner::{Hook, MachineName, Network, Settings, Terminal};
use zone::{ContainerName, ZoneName};

use crate::api::{Zone, ZoneSettings};
use crate::cli::{self, Configure, Console, Context, RunArgs, Variable};
use crate::error::{Error, chain};
use crate::values;
use resolver::Names;

/// The shell that is run where no command is given.
const SHELL: &str = "/bin/sh";

/// How long a hook may take: longer than the control socket's own patience, so that the reason is told.
const HOOK_PATIENCE: Duration = Duration::from_secs(75);

/// Sockets of the host by which the C library asks others to resolve names (nss-resolve(8), nscd(8), nss-mdns): past
/// the zone's resolver and its policy. Without an answer there it asks the servers of resolv.conf(5) itself.
const RESOLVERS: [&str; 4] = [
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/nscd/socket",
    "/run/avahi-daemon/socket",
];

pub(crate) fn run(context: &Context, args: RunArgs) -> Result<ExitCode, Error> {
    let binary = std::env::current_exe().map_err(|source| Error::Read {
        path: "/proc/self/exe".into(),
        source,
    })?;
    let quiet = args.quiet;
    let zone = args.network_zone.clone();
    let from_outside = matches!(args.configure, None | Some(Configure::Static));
    let mode = args.resolv_conf;
    // Everything that can be wrong with the options is found before a zone is made for them.
    let mut settings = settings(context, args, &binary)?;
    settings.check()?;
    let zone = match &zone {
        Some(zone) => Some(ensure_zone(context, zone, quiet)?),
        None => None,
    };
    let names = match &zone {
        Some(zone) if from_outside => Names::Zones(zone),
        None if !settings.network.is_private() => Names::Hosts,
        _ => Names::Own,
    };
    if let Err(left) = resolver::provide(&context.dirs, mode, names, &mut settings) {
        cli::note(&format!(
            "warning: --resolv-conf={}: {}",
            mode.as_str(),
            chain(&left)
        ));
    }
    if !quiet {
        warnings::show();
    }
    let exit = spawner::run(&settings)?;
    Ok(ExitCode::from(exit.status()))
}

/// As systemd-nspawn does, a missing zone is made with the defaults, and says so.
fn ensure_zone(context: &Context, zone: &ZoneName, quiet: bool) -> Result<Zone, Error> {
    let mut client = context.connect()?;
    match client.zone_show(zone) {
        Err(Error::NoSuchZone(_)) => {}
        result => return result,
    }
    let answer = client.zone_create(zone, &ZoneSettings::default())?;
    if answer.created && !quiet {
        let zone = &answer.zone;
        let subnets: Vec<&str> = [&zone.subnet4, &zone.subnet6]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        cli::note(&format!(
            "zone {} made with the defaults: {}",
            zone.name,
            subnets.join(", ")
        ));
    }
    Ok(answer.zone)
}

/// The options in the spawner's words. `binary` is what its hooks call.
fn settings(context: &Context, args: RunArgs, binary: &Path) -> Result<Settings, Error> {
    let name = name(&args)?;
    let command = if args.command.is_empty() {
        vec![SHELL.to_owned()]
    } else {
        args.command
    };
    let mut settings = Settings::new(name, context.dirs.containers(), command);
    settings.directory = args.directory;
    settings.private_users = args.private_users.unwrap_or(args.pick_users);
    settings.user = args.user;
    settings.read_only = args.read_only;
    settings.binds = args.bind.into_iter().chain(args.bind_ro).collect();
    // Outer mounts before inner ones, whatever order they were given in (as systemd-nspawn does).
    settings
        .binds
        .sort_by(|a, b| a.destination.cmp(&b.destination));
    settings.tmpfs = args.tmpfs;
    settings
        .tmpfs
        .sort_by(|a, b| a.destination.cmp(&b.destination));
    settings.env = args
        .setenv
        .into_iter()
        .map(variable)
        .collect::<Result<_, _>>()?;
    if args.no_root {
        settings.no_root = true;
        settings.hidden = RESOLVERS.iter().map(Into::into).collect();
    }
    settings.hostname = args.hostname;
    settings.chdir = args.chdir;
    settings.as_pid2 = args.as_pid2;
    settings.terminal = match (args.pipe || args.no_root, args.console) {
        (true, _) | (_, Some(Console::Pipe)) => Terminal::Pipe,
        (_, Some(Console::Interactive)) => Terminal::Interactive,
        (false, None) => Terminal::Auto,
    };
    settings.labels = values::label_map(&args.label)
        .map_err(|e| Error::Invalid(format!("run: --label: {e}")))?
        .into_iter()
        .collect();
    if let Some(zone) = &args.network_zone {
        let annotate = &mut settings.annotations;
        annotate.insert("io.netd.zone".into(), zone.to_string());
        if !args.port.is_empty() {
            annotate.insert("io.netd.publish".into(), args.port.join(","));
        }
        if let Some(how) = args.configure {
            annotate.insert("io.netd.configure".into(), how.as_str().into());
        }
        settings.network = Network::Hook {
            attach: hook(context, binary, "attach"),
            detach: Some(hook(context, binary, "detach")),
        };
    } else if args.private_network {
        settings.network = Network::Private;
    }
    Ok(settings)
}

/// The container's name: as given, else the directory's, else one that nobody else has now.
fn name(args: &RunArgs) -> Result<MachineName, Error> {
    if let Some(name) = &args.machine {
        return Ok(name.as_str().parse()?);
    }
    let directory = match &args.directory {
        None => return Ok(format!("run-{}", std::process::id()).parse()?),
        Some(directory) => directory,
    };
    let absolute = std::path::absolute(directory).map_err(Error::WorkingDirectory)?;
    let base = absolute.file_name().and_then(|name| name.to_str());
    match base.map(|name| name.parse::<ContainerName>()) {
        Some(Ok(name)) => Ok(name.as_str().parse()?),
        Some(Err(e)) => Err(Error::Invalid(format!("run: {e}; give one by --machine="))),
        None => Ok(format!("run-{}", std::process::id()).parse()?),
    }
}

/// A variable with its value; without one it is taken from here.
pub(crate) fn variable(variable: Variable) -> Result<(String, String), Error> {
    let Variable { name, value } = variable;
    match value.or_else(|| std::env::var(&name).ok()) {
        Some(value) => Ok((name, value)),
        None => Err(Error::Invalid(format!(
            "run: --setenv={name}: it is not set here, write {name}=VALUE"
        ))),
    }
}

/// This binary as a hook, with the directories of this call.
///
/// Hooks start no daemon: one was there a moment ago, and one that is started among the container's
/// mounts would stay among them.
fn hook(context: &Context, binary: &Path, action: &str) -> Hook {
    let dirs = &context.dirs;
    let env = [
        ("NETD_CONFIG_DIR", dirs.config.as_path()),
        ("NETD_STATE_DIR", &dirs.state),
        ("NETD_RUNTIME_DIR", &dirs.runtime),
        ("NETD_AUTOSTART", Path::new("0")),
    ];
    Hook {
        path: binary.to_owned(),
        args: ["netd", "hook", "oci", action].map(str::to_owned).to_vec(),
        env: env
            .map(|(name, value)| format!("{name}={}", value.display()))
            .to_vec(),
        timeout: Some(HOOK_PATIENCE),
    }
}

#[cfg(test)]
mod tests;
