//! `netd zone …`

use std::collections::HashMap;
use std::process::ExitCode;

use serde::Serialize;
use zone::ZoneName;

use super::Context;
use super::args::{ZoneCommand, ZoneDefault, ZoneOptions};
use super::output;
use crate::api::{Zone, ZoneSettings};
use crate::error::Error;
use crate::values;

impl ZoneOptions {
    /// As the control socket has it. A setting that was not given is absent.
    fn settings(&self) -> ZoneSettings {
        let default = self.default.map(|default| match default {
            ZoneDefault::Egress => "egress",
            ZoneDefault::Deny => "deny",
            ZoneDefault::Allow => "allow",
        });
        let dns: Vec<String> = self.dns.iter().map(|a| a.to_string()).collect();
        let mut domains: HashMap<String, Vec<String>> = HashMap::new();
        for values::UpstreamDomain { domain, servers } in &self.upstream_domains {
            let list = domains.entry(domain.clone()).or_default();
            list.extend(servers.iter().cloned());
        }
        ZoneSettings {
            bridge: self.bridge.as_ref().map(|name| name.to_string()),
            subnet4: self.subnet4.clone(),
            subnet6: self.subnet6.clone(),
            internal: self.internal,
            uplink: self.uplink.as_ref().map(|name| name.to_string()),
            default: default.map(str::to_owned),
            mtu: self.mtu.map(i64::from),
            domain: self.domain.clone(),
            pool: self.pool.clone(),
            dns: (!dns.is_empty()).then_some(dns),
            upstream: (!self.upstream.is_empty()).then(|| self.upstream.clone()),
            upstream_domains: (!domains.is_empty()).then_some(domains),
        }
    }
}

pub(super) fn run(context: &Context, command: ZoneCommand) -> Result<ExitCode, Error> {
    match command {
        ZoneCommand::Create { name, options } => create(context, &name, &options.settings()),
        ZoneCommand::Set { name, options } => set(context, &name, &options.settings()),
        ZoneCommand::List => list(context),
        ZoneCommand::Show { name } => show(context, &context.connect()?.zone_show(&name)?),
        ZoneCommand::Delete { name, force } => delete(context, &name, force),
    }
}

fn create(context: &Context, name: &ZoneName, settings: &ZoneSettings) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(flatten)]
        zone: &'a Zone,
        created: bool,
    }
    let answer = context.connect()?.zone_create(name, settings)?;
    if context.json {
        output::print_json(&Document {
            zone: &answer.zone,
            created: answer.created,
        })?;
    } else {
        output::print(&output::zone_created(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn set(context: &Context, name: &ZoneName, settings: &ZoneSettings) -> Result<ExitCode, Error> {
    if *settings == ZoneSettings::default() {
        return Err(Error::Invalid(format!(
            "zone set {name}: nothing to change was given, see `netd zone set --help`"
        )));
    }
    show(context, &context.connect()?.zone_set(name, settings)?)
}

fn show(context: &Context, zone: &Zone) -> Result<ExitCode, Error> {
    if context.json {
        output::print_json(zone)?;
    } else {
        output::print(&output::zone(zone))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context) -> Result<ExitCode, Error> {
    let zones = context.connect()?.zone_list()?;
    if context.json {
        output::print_json(&zones)?;
    } else if zones.is_empty() {
        output::note("no zones; `netd zone create NAME` makes one");
    } else {
        output::print(&output::zones(&zones))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn delete(context: &Context, name: &ZoneName, force: bool) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        name: &'a ZoneName,
        deleted: bool,
    }
    let deleted = context.connect()?.zone_delete(name, force)?;
    if context.json {
        output::print_json(&Document { name, deleted })?;
    } else {
        let how = if deleted { "deleted" } else { "was not there" };
        output::print(&format!("zone {name} {how}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
