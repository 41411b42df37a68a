//! `netd policy diff`

use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use super::output;
use super::policy_set;
use crate::error::{Error, exit};

pub(super) fn diff(context: &Context, paths: &[PathBuf], tell: bool) -> Result<ExitCode, Error> {
    let texts = policy_set::read(paths)?;
    let difference = context.connect()?.policy_diff(&texts)?;
    if context.json {
        output::print_json(&difference)?;
    } else {
        output::print(&output::policy_difference(&difference))?;
    }
    let same = difference.changes.is_empty()
        && difference.bandwidth.is_empty()
        && difference.unexamined == 0;
    Ok(ExitCode::from(if tell && !same {
        exit::FAILED
    } else {
        exit::DONE
    }))
}
