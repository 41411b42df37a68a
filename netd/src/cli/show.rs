//! `netd status`, `netd lease list`

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use zone::ContainerName;

use super::Context;
use super::output;
use crate::error::Error;

pub(super) fn status(
    context: &Context,
    container: Option<&ContainerName>,
) -> Result<ExitCode, Error> {
    match container {
        Some(container) => super::machines::status(context, container),
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
