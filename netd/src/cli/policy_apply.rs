//! `netd policy apply`, `netd policy confirm`, `netd policy rollback`

use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use super::output;
use super::policy_set;
use crate::error::Error;

pub(super) fn apply(
    context: &Context,
    paths: &[PathBuf],
    confirm: Option<u32>,
) -> Result<ExitCode, Error> {
    let texts = policy_set::read(paths)?;
    let step = context.connect()?.policy_apply(&texts, confirm)?;
    for warning in &step.warnings {
        output::note(warning);
    }
    if context.json {
        output::print_json(&step)?;
    } else {
        output::print(&output::policy_step(&step))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn confirm(context: &Context) -> Result<ExitCode, Error> {
    let confirmed = context.connect()?.policy_confirm()?;
    if context.json {
        output::print_json(&confirmed)?;
    } else {
        output::print("confirmed: the policies stay as they were applied\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn rollback(context: &Context) -> Result<ExitCode, Error> {
    let step = context.connect()?.policy_rollback()?;
    if context.json {
        output::print_json(&step)?;
    } else {
        output::print(&output::policy_step(&step))?;
    }
    Ok(ExitCode::SUCCESS)
}
