//! Short grammars for what is called often, or waited for: to build the whole grammar takes as long as many a command takes to be done.
//! What these cannot read is read again by [`Invocation`], which knows the helps and the errors.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use zone::ContainerName;

use super::args::{
    AttachArgs, Command, DaemonOptions, DetachArgs, HookCommand, Invocation, RunArgs, StopArgs,
};
use super::machines::{ExecArgs, MachineCommand, ShellArgs};
use crate::dirs::Dirs;

/// What the command line says, if its first word is a command of a short grammar, which reads it.
pub(super) fn parse(argv: &[OsString]) -> Option<Invocation> {
    match argv.get(1)?.to_str()? {
        "attach" | "detach" | "hook" => read::<Door>(argv),
        "run" => read::<Run>(argv),
        "exec" | "shell" | "door" => read::<Visit>(argv),
        "list" | "status" | "stop" | "reload" | "daemon" | "keep" | "fill-resolv-conf" => {
            read::<Daily>(argv)
        }
        _ => None,
    }
}

fn read<C: Subcommand + Into<Command>>(argv: &[OsString]) -> Option<Invocation> {
    let quick = Quick::<C>::try_parse_from(argv).ok()?;
    Some(Invocation {
        dirs: quick.dirs,
        json: quick.json,
        command: quick.command.into(),
    })
}

#[derive(Debug, Parser)]
#[command(name = "netd", disable_help_subcommand = true)]
struct Quick<C: Subcommand> {
    #[command(flatten)]
    dirs: Dirs,
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: C,
}

#[derive(Debug, Subcommand)]
enum Door {
    Attach(AttachArgs),
    Detach(DetachArgs),
    #[command(subcommand)]
    Hook(HookCommand),
}

impl From<Door> for Command {
    fn from(door: Door) -> Self {
        match door {
            Door::Attach(args) => Self::Attach(args),
            Door::Detach(args) => Self::Detach(args),
            Door::Hook(hook) => Self::Hook(hook),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Run {
    Run(Box<RunArgs>),
}

impl From<Run> for Command {
    fn from(Run::Run(args): Run) -> Self {
        Self::Run(args)
    }
}

#[derive(Debug, Subcommand)]
enum Visit {
    Exec(ExecArgs),
    Shell(ShellArgs),
    Door { order: i32 },
}

impl From<Visit> for Command {
    fn from(visit: Visit) -> Self {
        Self::Machine(match visit {
            Visit::Exec(args) => MachineCommand::Exec(args),
            Visit::Shell(args) => MachineCommand::Shell(args),
            Visit::Door { order } => MachineCommand::Door { order },
        })
    }
}

#[derive(Debug, Subcommand)]
enum Daily {
    List,
    Status { container: Option<ContainerName> },
    Stop(StopArgs),
    Reload,
    Daemon(DaemonOptions),
    Keep,
    FillResolvConf(crate::resolv::FillArgs),
}

impl From<Daily> for Command {
    fn from(daily: Daily) -> Self {
        match daily {
            Daily::List => Self::List,
            Daily::Status { container } => Self::Status { container },
            Daily::Stop(args) => Self::Stop(args),
            Daily::Reload => Self::Reload,
            Daily::Daemon(options) => Self::Daemon(options),
            Daily::Keep => Self::Keep,
            Daily::FillResolvConf(args) => Self::FillResolvConf(args),
        }
    }
}
