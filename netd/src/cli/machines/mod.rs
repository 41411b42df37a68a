//! machinectl's verbs on what `netd run` started.
//!
//! ```text
//!   exec, shell, login, copy-to, copy-from ──▶ spawner::join ──▶ this program, anew, as `netd door`, inside
//!   start ──▶ `netd run -M NAME` in a session of its own       kill, stop ──▶ signals to pid 1
//!   list, status, show ──▶ the daemon (network) + the spawner's records + /proc (processes, OS)
//! ```

pub(super) mod args;
mod bind;
mod copy;
mod enable;
mod exec;
mod image_args;
mod images;
mod inside;
mod processes;
mod running;
mod signals;
mod start;
mod transfer;

use std::process::ExitCode;

use zone::ContainerName;

use super::Context;
use crate::error::Error;
pub(super) use args::{ExecArgs, MachineCommand, ShellArgs};
pub(super) use image_args::ImageCommand;
pub(in crate::cli) use running::Listed;
pub(super) use running::{list, status};
pub(super) use signals::in_order;
use transfer::Form;
pub(in crate::cli) use transfer::Transfer;

pub(super) fn run(context: &Context, command: MachineCommand) -> Result<ExitCode, Error> {
    match command {
        MachineCommand::Exec(args) => exec::exec(context, args),
        MachineCommand::Shell(args) => exec::shell(context, args),
        MachineCommand::Login { container } => exec::login(context, &container),
        MachineCommand::Start {
            machines,
            network_zone,
        } => start::start(context, &machines, &network_zone),
        MachineCommand::Kill(args) => signals::kill(context, &args),
        MachineCommand::Reboot { machine, time } => start::reboot(context, &machine, time),
        MachineCommand::Show {
            container,
            property,
        } => running::show(context, &container, &property),
        MachineCommand::CopyTo {
            container,
            source,
            destination,
            force,
        } => copy::to(context, &container, &source, destination.as_deref(), force),
        MachineCommand::CopyFrom {
            container,
            source,
            destination,
            force,
        } => copy::from(context, &container, &source, destination.as_deref(), force),
        MachineCommand::Bind {
            container,
            source,
            destination,
            read_only,
            mkdir,
            idmap,
        } => bind::bind(
            context,
            &container,
            source,
            destination,
            (read_only, mkdir, idmap),
        ),
        MachineCommand::Door { order } => Ok(spawner::join::door(order, copy::inside)),
    }
}

/// What is done with images.
pub(super) fn image(context: &Context, command: ImageCommand) -> Result<ExitCode, Error> {
    match command {
        ImageCommand::Images => images::list(context),
        ImageCommand::Clone {
            image,
            name,
            read_only,
        } => images::copy(context, &image, &name, read_only),
        ImageCommand::Rename { image, name } => images::rename(context, &image, &name),
        ImageCommand::Remove { images } => images::remove(context, &images),
        ImageCommand::ReadOnly { image, mark } => images::mark(context, &image, mark),
        ImageCommand::ImportTar(args) => transfer::import(context, args, Form::Tar),
        ImageCommand::ImportOci(args) => transfer::import_oci(context, args),
        ImageCommand::ImportRaw(args) => transfer::import(context, args, Form::Raw),
        ImageCommand::ExportTar(args) => transfer::export(context, &args, Form::Tar),
        ImageCommand::ExportRaw(args) => transfer::export(context, &args, Form::Raw),
        ImageCommand::PullTar(args) => transfer::pull(context, args, Form::Tar),
        ImageCommand::PullRaw(args) => transfer::pull(context, args, Form::Raw),
        ImageCommand::ListTransfers => transfer::list(context),
        ImageCommand::CancelTransfer { id } => transfer::cancel(context, &id),
        ImageCommand::Enable(args) => enable::enable(context, &args, true),
        ImageCommand::Disable(args) => enable::enable(context, &args, false),
    }
}

/// A container that runs.
fn running(context: &Context, container: &ContainerName) -> Result<spawner::Running, Error> {
    let all = spawner::list(&context.dirs.containers())?;
    let found = all
        .into_iter()
        .find(|running| running.name == container.as_str());
    found.ok_or_else(|| not_running(container))
}

fn not_running(container: &ContainerName) -> Error {
    Error::NoSuchContainer(format!(
        "{container}: no container of this name runs that `netd run` started"
    ))
}
