//! `netd explain`

mod offline;

use std::process::ExitCode;

use super::Context;
use super::args::ExplainArgs;
use super::output;
use crate::error::{Error, exit};
use crate::explain::{Asked, TRAFFIC};

pub(crate) use offline::Located;

pub(super) fn explain(context: &Context, args: &ExplainArgs) -> Result<ExitCode, Error> {
    let asked = Asked {
        from: &args.from,
        to: &args.to,
        traffic: args.traffic.as_deref(),
        family: match (args.ipv4, args.ipv6) {
            (true, _) => Some(4),
            (_, true) => Some(6),
            _ => None,
        },
        at: args.at.as_deref(),
    };
    let explanation = match &args.files {
        Some(folder) => offline::explain(folder, &args.located, &asked)?,
        None => context.connect()?.explain(&asked)?,
    };
    if context.json {
        output::print_json(&explanation)?;
    } else {
        let mut question = format!(
            "{} → {} {}",
            args.from,
            args.to,
            args.traffic.as_deref().unwrap_or(TRAFFIC)
        );
        if let Some(at) = &args.at {
            question.push_str(&format!(" at {at}"));
        }
        output::print(&output::explanation(&explanation, &question))?;
    }
    Ok(ExitCode::from(if explanation.verdict == "allow" {
        exit::DONE
    } else {
        exit::DENIED
    }))
}
