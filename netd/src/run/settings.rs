//! Options in the spawner's words.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use spawner::{
    CapabilitySet, Hook, Hooks, MachineName, Network, Ownership, PrivateUsers, Privileges,
    Settings, Terminal,
};
use zone::{ContainerName, ZoneName};

use super::root::Root;
use super::unit::Register;
use crate::cli::{Console, Context, LinkJournal, RunArgs, Variable};
use crate::error::Error;
use crate::hook::link;
use crate::hook::oci::InProcess;
use crate::values;

/// The shell that is run where no command is given.
pub(super) const SHELL: &str = "/bin/sh";

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

/// The options in the spawner's words. `binary` is what its hooks call; `hooks` are those of a bundle.
pub(super) fn settings(
    context: &Context,
    args: &RunArgs,
    root: &Root,
    binary: &Path,
    hooks: Hooks,
) -> Result<Settings, Error> {
    check(args)?;
    let name = name(args, root)?;
    let command = match args.command.is_empty() && !args.integration.boot {
        true => vec![SHELL.to_owned()],
        false => args.command.clone(),
    };
    let mut settings = Settings::new(name, context.dirs.containers(), command);
    settings.directory = root.directory().map(Path::to_owned);
    files(args, &mut settings);
    processes(args, &mut settings);
    settings.env = args.setenv.iter().cloned().map(variable).collect();
    if args.no_root {
        settings.no_root = true;
        settings.hidden = RESOLVERS.iter().map(Into::into).collect();
    }
    settings.terminal = match (args.pipe || args.no_root, args.console) {
        (true, _) | (_, Some(Console::Pipe)) => Terminal::Pipe,
        (_, Some(Console::Interactive)) => Terminal::Interactive,
        (_, Some(Console::ReadOnly)) => Terminal::ReadOnly,
        (_, Some(Console::Passive)) => Terminal::Passive,
        (false, None | Some(Console::Autopipe)) => Terminal::Auto,
    };
    settings.labels = values::label_map(&args.label)
        .map_err(|e| Error::Invalid(format!("run: --label: {e}")))?
        .into_iter()
        .collect();
    if !args.network_zone.is_empty() {
        let zones: Vec<&str> = args.network_zone.iter().map(ZoneName::as_str).collect();
        let annotate = &mut settings.annotations;
        annotate.insert("io.netd.zone".into(), zones.join(","));
        // `--resolv-conf=` says what becomes of it
        annotate.insert("io.netd.resolv-conf".into(), "off".into());
        if !args.port.is_empty() {
            annotate.insert("io.netd.publish".into(), args.port.join(","));
        }
        if let Some(how) = args.configure {
            annotate.insert("io.netd.configure".into(), how.as_str().into());
        }
        if let Some(limit) = &args.bandwidth {
            annotate.insert("io.netd.bandwidth".into(), limit.clone());
        }
        // hooks of others come after the network's, and must be hooks of the same kind for that
        settings.network = match hooks.create_runtime.is_empty() {
            true => Network::Caller(Rc::new(InProcess::new(context))),
            false => Network::Hook {
                attach: hook(context, binary, ["oci", "attach"]),
                detach: Some(hook(context, binary, ["oci", "detach"])),
            },
        };
    } else if let Some(links) = link::text(&settings.name, &args.links)? {
        settings.annotations.insert(link::LINKS.into(), links);
        settings.network = Network::Hook {
            attach: hook(context, binary, ["link", "attach"]),
            detach: Some(hook(context, binary, ["link", "detach"])),
        };
    } else if let Some(path) = &args.links.network_namespace_path {
        settings.network = Network::Namespace(path.clone());
    } else if args.private_network {
        settings.network = Network::Private;
    }
    settings.hooks = hooks;
    Ok(settings)
}

/// What goes together only with something else, or not at all.
fn check(args: &RunArgs) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Invalid(format!("run: {why}")));
    if args.network_zone.is_empty() {
        for (given, option) in [
            (!args.port.is_empty(), "--port"),
            (!args.label.is_empty(), "--label"),
            (args.configure.is_some(), "--configure"),
            (args.bandwidth.is_some(), "--bandwidth"),
        ] {
            if given {
                return refuse(&format!(
                    "{option} needs --network-zone: nobody else publishes, labels, limits or configures"
                ));
            }
        }
    }
    let links = &args.links;
    let others = links.network_veth
        || links.network_bridge.is_some()
        || !(links.network_veth_extra.is_empty()
            && links.network_interface.is_empty()
            && links.network_macvlan.is_empty()
            && links.network_ipvlan.is_empty());
    if others && !args.network_zone.is_empty() {
        return refuse(
            "--network-zone goes not with other interfaces (--network-veth, -bridge, -interface, -macvlan, -ipvlan): a way \
             around the zone's policy is not opened",
        );
    }
    if links.network_namespace_path.is_some()
        && (!args.network_zone.is_empty() || args.private_network || others)
    {
        return refuse("--network-namespace-path goes not with another network");
    }
    if args.integration.notify_ready == Some(true) {
        return refuse("--notify-ready=yes: netd passes no sd_notify(3) socket into a container");
    }
    match args.integration.link_journal {
        Some(LinkJournal::Host | LinkJournal::Guest) => refuse(
            "--link-journal=: netd links no journals; `no`, `auto`, `try-host` and `try-guest` do without",
        ),
        _ => Ok(()),
    }
}

fn files(args: &RunArgs, settings: &mut Settings) {
    settings.private_users = match (args.private_users, args.pick_users) {
        (Some(users), _) => users,
        (None, true) => PrivateUsers::Pick,
        (None, false) => PrivateUsers::No,
    };
    let files = &args.files;
    settings.ownership = match files.private_users_chown {
        true => Ownership::Chown,
        false => files.private_users_ownership.unwrap_or_default(),
    };
    settings.read_only = args.read_only;
    settings.volatile = files.volatile.unwrap_or_default();
    settings.ephemeral = files.ephemeral;
    settings.binds = [args.bind.as_slice(), &args.bind_ro].concat();
    settings.tmpfs = args.tmpfs.clone();
    settings.overlays = [files.overlay.as_slice(), &files.overlay_ro].concat();
    settings.inaccessible = files.inaccessible.clone();
    settings.bind_users = files.bind_user.clone();
    settings.credentials = [files.load_credential.as_slice(), &files.set_credential].concat();
}

fn processes(args: &RunArgs, settings: &mut Settings) {
    settings.user = args.user.clone();
    settings.hostname = args.hostname.clone();
    settings.chdir = args.chdir.clone();
    settings.as_pid2 = args.as_pid2;
    let integration = &args.integration;
    settings.boot = integration.boot;
    settings.kill_signal = integration.kill_signal;
    settings.uuid = integration.uuid.clone();
    settings.suppress_sync = integration.suppress_sync.unwrap_or_default();
    let given = &args.privileges;
    let all = |sets: &[CapabilitySet]| {
        sets.iter()
            .fold(CapabilitySet::default(), |all, set| all.and(*set))
    };
    settings.privileges = Privileges {
        base: given.bounding,
        add: all(&given.capability),
        drop: all(&given.drop_capability),
        ambient: all(&given.ambient_capability),
    };
    settings.no_new_privileges = given.no_new_privileges.unwrap_or_default();
    for list in &given.system_call_filter {
        let names = match list.refuse {
            true => &mut settings.calls_refused,
            false => &mut settings.calls_allowed,
        };
        names.extend(list.names.iter().cloned());
    }
    settings.personality = given.personality;
    settings.rlimits = given.rlimit.clone();
    settings.oom_score_adjust = given.oom_score_adjust;
    settings.cpus = given.cpu_affinity.clone();
}

/// The container's name: as given, else the directory's, else one that nobody else has now.
pub(super) fn name(args: &RunArgs, root: &Root) -> Result<MachineName, Error> {
    if let Some(name) = &args.machine {
        return Ok(name.as_str().parse()?);
    }
    let directory = match root.named() {
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

/// A variable with its value; without one it is taken from here, and empty where there is none (as systemd-nspawn has it).
pub(crate) fn variable(variable: Variable) -> (String, String) {
    let Variable { name, value } = variable;
    let value = value.or_else(|| std::env::var(&name).ok());
    (name, value.unwrap_or_default())
}

/// Hooks that have systemd-machined know the container.
pub(super) fn registration(
    context: &Context,
    binary: &Path,
    register: Register,
    root: &Root,
    hooks: &mut Hooks,
) -> Result<(), Error> {
    if register == Register::No {
        return Ok(());
    }
    let mut attach = hook(context, binary, ["machined", "attach"]);
    let directory = match root {
        Root::Directory(_) | Root::Bundle { .. } => root.directory(),
        Root::Host | Root::Image { .. } => None,
    };
    if let Some(directory) = directory {
        let path = std::path::absolute(directory).map_err(Error::WorkingDirectory)?;
        attach.args.push(format!("--root={}", path.display()));
    }
    if register == Register::Must {
        attach.args.push("--must".to_owned());
    }
    hooks.create_runtime.push(attach);
    hooks
        .poststop
        .push(hook(context, binary, ["machined", "detach"]));
    Ok(())
}

/// This binary as a hook, with the directories of this call.
///
/// Hooks start no daemon: one was there a moment ago, and one that is started among the container's
/// mounts would stay among them.
fn hook(context: &Context, binary: &Path, [door, action]: [&str; 2]) -> Hook {
    let dirs = &context.dirs;
    let env = [
        ("NETD_CONFIG_DIR", dirs.config.as_path()),
        ("NETD_STATE_DIR", &dirs.state),
        ("NETD_RUNTIME_DIR", &dirs.runtime),
        ("NETD_AUTOSTART", Path::new("0")),
    ];
    Hook {
        path: binary.to_owned(),
        args: ["netd", "hook", door, action].map(str::to_owned).to_vec(),
        env: env
            .map(|(name, value)| format!("{name}={}", value.display()))
            .to_vec(),
        timeout: Some(HOOK_PATIENCE),
    }
}
