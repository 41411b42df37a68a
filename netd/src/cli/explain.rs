//! `netd explain`

use std::process::ExitCode;

use super::Context;
use super::args::ExplainArgs;
use super::output;
use crate::error::{Error, exit};

pub(super) fn explain(context: &Context, args: &ExplainArgs) -> Result<ExitCode, Error> {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(4),
        (_, true) => Some(6),
        _ => None,
    };
    let traffic = args.traffic.as_deref();
    let explanation = context
        .connect()?
        .explain(&args.from, &args.to, traffic, family)?;
    if context.json {
        output::print_json(&explanation)?;
    } else {
        let question = [Some(args.from.as_str()), Some("→"), Some(&args.to), traffic];
        let question: Vec<&str> = question.into_iter().flatten().collect();
        output::print(&output::explanation(&explanation, &question.join(" ")))?;
    }
    Ok(ExitCode::from(if explanation.verdict == "allow" {
        exit::DONE
    } else {
        exit::DENIED
    }))
}
