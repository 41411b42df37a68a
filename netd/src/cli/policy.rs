//! `netd policy show`, `netd reload`

use std::process::ExitCode;

use serde::Serialize;
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
    #[derive(Serialize)]
    struct Document {
        refused: Vec<crate::api::Problem>,
    }
    let refused = context.connect()?.reload()?;
    for problem in &refused {
        output::note(&output::problem(problem));
    }
    let code = if refused.is_empty() {
        exit::DONE
    } else {
        exit::FAILED
    };
    if context.json {
        output::print_json(&Document { refused })?;
    }
    Ok(ExitCode::from(code))
}
