//! `netd list`, `netd status`, `netd lease list`

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use zone::ContainerName;

use super::Context;
use super::output;
use crate::api::{Container, Problem};
use crate::error::Error;

pub(super) fn list(context: &Context) -> Result<ExitCode, Error> {
    let containers = context.connect()?.list()?;
    if context.json {
        output::print_json(&containers)?;
    } else if containers.is_empty() {
        output::note("no containers; `netd attach` and `netd run` make them known");
    } else {
        output::print(&output::containers(&containers))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(
    context: &Context,
    container: Option<&ContainerName>,
) -> Result<ExitCode, Error> {
    match container {
        Some(container) => status_of(context, container),
        None => {
            let status = context.connect()?.status()?;
            if context.json {
                output::print_json(&status)?;
            } else {
                output::print(&output::status(&status, now()))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn status_of(context: &Context, container: &ContainerName) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(flatten)]
        container: &'a Container,
        problems: &'a [Problem],
        warnings: &'a [String],
    }
    let (container, problems, warnings) = context.connect()?.show(container)?;
    if context.json {
        output::print_json(&Document {
            container: &container,
            problems: &problems,
            warnings: &warnings,
        })?;
    } else {
        output::print(&output::container(&container, &problems, &warnings))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn leases(context: &Context) -> Result<ExitCode, Error> {
    let leases = context.connect()?.lease_list()?;
    if context.json {
        output::print_json(&leases)?;
    } else if leases.is_empty() {
        output::note("no addresses are given out");
    } else {
        output::print(&output::leases(&leases, now()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.map_or(0, |since| since.as_secs())).unwrap_or(i64::MAX)
}
