//! `netd bind`

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use spawner::MachineName;
use spawner::join::{self, Shown};
use zone::ContainerName;

use super::args;
use crate::cli::{Context, output};
use crate::error::Error;

pub(super) fn bind(
    context: &Context,
    container: &ContainerName,
    source: PathBuf,
    destination: Option<PathBuf>,
    (read_only, make, idmap): (bool, bool, bool),
) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        container: &'a ContainerName,
        source: &'a PathBuf,
        destination: &'a PathBuf,
        read_only: bool,
    }
    let source = source.canonicalize().map_err(|e| Error::Read {
        path: source.clone(),
        source: e,
    })?;
    let destination = match destination {
        None => source.clone(),
        Some(path) => args::absolute(&path.to_string_lossy())
            .map_err(|e| Error::Invalid(format!("bind: {e}")))?,
    };
    let name: MachineName = container.as_str().parse()?;
    let shown = Shown {
        source,
        destination,
        read_only,
        make,
        idmap,
    };
    super::running(context, container)?;
    join::bind(&context.dirs.containers(), &name, &shown)?;
    if context.json {
        output::print_json(&Document {
            container,
            source: &shown.source,
            destination: &shown.destination,
            read_only,
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
