//! `netd images`, `clone`, `rename`, `remove`, `read-only`

use std::process::ExitCode;

use images::archive::Cancel;
use images::{Image, ImageName};
use serde::Serialize;

use super::transfer;
use crate::cli::{Context, output};
use crate::error::Error;

pub(super) fn list(context: &Context) -> Result<ExitCode, Error> {
    let all = context.dirs.images().list()?;
    if context.json {
        output::print_json(&all)?;
    } else if all.is_empty() {
        output::note("no images; `netd import-tar` and `netd pull-tar` make some");
    } else {
        output::print(&output::images(&all))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn copy(
    context: &Context,
    from: &ImageName,
    to: &ImageName,
    read_only: bool,
) -> Result<ExitCode, Error> {
    idle(context, from)?;
    let cancel = Cancel::default();
    let (from, to) = (from.clone(), to.clone());
    let store = context.dirs.images();
    let image = transfer::interruptible(&cancel.clone(), move || {
        store.clone_image(&from, &to, read_only, &cancel)
    })?;
    tell(context, &image)
}

pub(super) fn rename(
    context: &Context,
    from: &ImageName,
    to: &ImageName,
) -> Result<ExitCode, Error> {
    idle(context, from)?;
    tell(context, &context.dirs.images().rename(from, to)?)
}

pub(super) fn mark(
    context: &Context,
    name: &ImageName,
    read_only: bool,
) -> Result<ExitCode, Error> {
    tell(context, &context.dirs.images().mark(name, read_only)?)
}

pub(super) fn remove(context: &Context, names: &[ImageName]) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Removed {
        removed: Vec<String>,
    }
    let store = context.dirs.images();
    // all or none, as far as that can be told before
    for name in names {
        store.find(name)?;
        idle(context, name)?;
    }
    let mut removed = Vec::new();
    for name in names {
        removed.push(store.remove(name)?.name);
    }
    if context.json {
        output::print_json(&Removed { removed })?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn tell(context: &Context, image: &Image) -> Result<ExitCode, Error> {
    if context.json {
        output::print_json(image)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses while a container runs from the image.
pub(super) fn idle(context: &Context, name: &ImageName) -> Result<(), Error> {
    let image = context.dirs.images().find(name)?;
    let path = image.path.canonicalize().unwrap_or(image.path);
    let running = spawner::list(&context.dirs.containers())?;
    let uses = |running: &spawner::Running| {
        running
            .directory
            .as_deref()
            .is_some_and(|dir| dir.starts_with(&path))
    };
    match running.iter().find(|running| uses(running)) {
        Some(running) => Err(Error::Refused(format!(
            "image {name}: container {} runs from it (`netd stop {}` ends it)",
            running.name, running.name
        ))),
        None => Ok(()),
    }
}
