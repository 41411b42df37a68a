//! `netd policy show`, `netd reload`

use std::process::ExitCode;

use zone::ContainerName;

use super::Context;
use super::output;
use crate::error::{Error, exit};

pub(super) fn show(
    context: &Context,
    container: &ContainerName,
    nft: bool,
) -> Result<ExitCode, Error> {
    let view = context.connect()?.policy_show(container, nft)?;
    if context.json {
        output::print_json(&view)?;
    } else {
        output::print(&output::policy(&view))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn reload(context: &Context) -> Result<ExitCode, Error> {
    let reloaded = context.connect()?.reload()?;
    for problem in &reloaded.refused {
        output::note(&output::problem(problem));
    }
    for warning in &reloaded.warnings {
        output::note(&format!("warning: {warning}"));
    }
    let code = if reloaded.refused.is_empty() {
        exit::DONE
    } else {
        exit::FAILED
    };
    if context.json {
        output::print_json(&reloaded)?;
    }
    Ok(ExitCode::from(code))
}
