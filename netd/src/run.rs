//! `netd run`: a command in a container of its own, by the spawner, with this very binary as the hook
//! that gives it its network.
//!
//! ```text
//! RunArgs, of options and of NAME.nspawn ─► zone there? (made where missing) ─► Settings ─► spawner::run ─► exit code
//!                                                                               └─ asks the daemon, as netd hook oci does
//! ```
//!
//! /etc/resolv.conf inside is [`resolver`]'s. With `--no-root` the host's own ways to ask for names are covered.
//!
//! One thread from begin to end: libcontainer forks without exec.

mod bundle;
mod disk;
mod merge;
mod resolver;
mod root;
mod settings;
mod timezone;
mod unit;
mod warnings;

use std::process::ExitCode;

use spawner::{Hooks, Settings, Volatile};
use zone::ZoneName;

use crate::api::{Zone, ZoneSettings};
use crate::cli::{self, Configure, Context, RunArgs, SettingsMode};
use crate::error::{Error, chain};
use crate::nspawn;
use bundle::Bundle;
use merge::merge;
use resolver::Names;
use root::Root;
pub(crate) use settings::variable;

pub(crate) fn run(context: &Context, args: RunArgs) -> Result<ExitCode, Error> {
    let binary = std::env::current_exe().map_err(|source| Error::Read {
        path: "/proc/self/exe".into(),
        source,
    })?;
    let bundle = args.integration.oci_bundle.as_deref();
    let bundle = bundle.map(Bundle::read).transpose()?;
    let (root, mut args, hooks) = match bundle {
        Some(bundle) => (
            Root::Bundle {
                root: bundle.root,
                name: args.integration.oci_bundle.clone().unwrap_or_default(),
            },
            merge(args, bundle.args),
            bundle.hooks,
        ),
        None => {
            let root = Root::find(context, &args);
            let args = with_settings(args, &root)?;
            (root, args, Hooks::default())
        }
    };
    if let Root::Directory(path) = &root {
        // what `netd read-only` marked; of a copy nobody minds
        args.read_only |= !args.files.ephemeral && images::is_immutable(path);
    }
    zone_of_bridge(context, &mut args)?;
    let quiet = args.quiet;
    let zones = args.network_zone.clone();
    let from_outside = matches!(args.configure, None | Some(Configure::Static));
    let mode = args.resolv_conf.unwrap_or_default();
    let timezone = args.integration.timezone.unwrap_or_default();
    let (limits, register) = unit::enter(&args)?;
    let mut hooks = hooks;
    settings::registration(context, &binary, register, &root, &mut hooks)?;
    // Everything that can be wrong with the options is found before a zone is made for them.
    let mut settings = settings::settings(context, &args, &root, &binary, hooks)?;
    settings.limits = limits;
    settings.check()?;
    let mut mounted = None;
    if let Root::Image { path, .. } = &root {
        let here = disk::mount(context, path, &args, settings.name.as_str())?;
        settings.directory = Some(here.directory().to_owned());
        mounted = Some(here);
    }
    root::populate(&args, &root)?;
    if !quiet
        && root == Root::Host
        && !args.no_root
        && let Some(name) = &args.machine
    {
        cli::note(&format!(
            "no directory {name} in the folders of machines: {name} gets the host's own root, read-only"
        ));
    }
    let zones = zones
        .iter()
        .map(|zone| ensure_zone(context, zone, quiet))
        .collect::<Result<Vec<Zone>, Error>>()?;
    let names = match zones.as_slice() {
        [_, ..] if from_outside => Names::Zones(&zones),
        [] if !settings.network.is_private() => Names::Hosts,
        _ => Names::Own,
    };
    if let Err(left) = resolver::provide(&context.dirs, mode, names, &mut settings) {
        cli::note(&format!(
            "warning: --resolv-conf={}: {}",
            mode.as_str(),
            chain(&left)
        ));
    }
    if let Err(left) = timezone::provide(timezone, &mut settings) {
        cli::note(&format!("warning: --timezone=: {}", chain(&left)));
    }
    if !quiet {
        warnings::show();
    }
    let ended = loop {
        match spawner::run(&settings) {
            // the same name, so the same policy and address, and again nothing runs before they are there
            Ok(spawner::Exit::Rebooted) => {}
            ended => break ended,
        }
    };
    drop(mounted);
    Ok(ExitCode::from(ended?.status()))
}

/// The options together with what the machine's `.nspawn` file says, `--settings=` deciding.
fn with_settings(args: RunArgs, root: &Root) -> Result<RunArgs, Error> {
    let mode = args.integration.settings.unwrap_or_default();
    if mode == SettingsMode::No || args.no_root || args.integration.oci_bundle.is_some() {
        return Ok(args);
    }
    // who names neither a machine nor a root has no settings
    if args.machine.is_none() && root.directory().is_none() {
        return Ok(args);
    }
    let name = settings::name(&args, root)?;
    let absolute = root.directory().map(std::path::absolute).transpose();
    let absolute = absolute.map_err(Error::WorkingDirectory)?;
    let Some(mut found) = nspawn::find(name.as_str(), absolute.as_deref())? else {
        return Ok(args);
    };
    found.trusted |= mode == SettingsMode::Trusted;
    let read = found.read()?;
    if !args.quiet {
        read.notices.iter().for_each(|notice| cli::note(notice));
    }
    Ok(match mode {
        SettingsMode::Override => {
            let mut both = merge(read.args, args.clone());
            // what was dropped by either side stays dropped
            both.privileges.drop_capability = [
                both.privileges.drop_capability,
                args.privileges.drop_capability,
            ]
            .concat();
            both
        }
        _ => merge(args, read.args),
    })
}

/// A port of a zone's bridge is attached to the zone, as it is for machines of systemd-nspawn.
fn zone_of_bridge(context: &Context, args: &mut RunArgs) -> Result<(), Error> {
    let Some(bridge) = &args.links.network_bridge else {
        return Ok(());
    };
    if !bridge.as_str().starts_with("vz-") {
        return Ok(());
    }
    let zones = context.connect()?.zone_list()?;
    let found = zones.iter().find(|zone| zone.bridge == bridge.as_str());
    let zone = found.map(|zone| zone.name.parse()).transpose();
    let Ok(Some(zone)) = zone else {
        return Err(Error::NoSuchZone(format!(
            "--network-bridge={bridge}: no zone has this bridge (`netd zone list` shows those there are)"
        )));
    };
    args.links.network_bridge = None;
    args.links.network_veth = false;
    args.network_zone = vec![zone];
    Ok(())
}

/// Whether what is written into the root's directory now is what the container will find in it.
fn is_kept(settings: &Settings) -> bool {
    settings.directory.is_some()
        && !settings.read_only
        && !settings.ephemeral
        && settings.volatile == Volatile::No
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

#[cfg(test)]
mod tests;
