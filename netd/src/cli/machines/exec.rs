//! `netd exec`, `netd shell`, `netd login`: somebody visits a running container.

use std::path::Path;
use std::process::ExitCode;

use spawner::join::{self, Visit};
use spawner::{MachineName, SpawnError, Terminal};
use zone::ContainerName;

use super::args::{self, ExecArgs, ShellArgs, VisitArgs};
use crate::cli::Context;
use crate::error::Error;
use crate::run;

/// Where login(1) may be.
const LOGIN: [&str; 4] = [
    "/bin/login",
    "/usr/bin/login",
    "/sbin/login",
    "/usr/sbin/login",
];

pub(super) fn exec(context: &Context, args: ExecArgs) -> Result<ExitCode, Error> {
    visit(
        context,
        &args.container,
        args.how,
        args.command,
        Terminal::Auto,
    )
}

pub(super) fn shell(context: &Context, args: ShellArgs) -> Result<ExitCode, Error> {
    let mut how = args.how;
    if let Some(user) = args.whom.user {
        if how.user.is_some() {
            let twice = "shell: the user is given twice, by USER@NAME and by --user";
            return Err(Error::Invalid(twice.into()));
        }
        how.user = Some(user);
    }
    // a shell is for a terminal, unless something is piped through it on purpose
    visit(
        context,
        &args.whom.container,
        how,
        args.command,
        Terminal::Auto,
    )
}

pub(super) fn login(context: &Context, container: &ContainerName) -> Result<ExitCode, Error> {
    let running = super::running(context, container)?;
    let root = format!("/proc/{}/root", running.pid);
    // Only to tell which is there; it is looked up anew inside.
    let there = LOGIN
        .iter()
        .find(|path| super::inside::exists(Path::new(&root), path));
    let Some(login) = there else {
        return Err(Error::Refused(format!(
            "login {container}: there is no login program inside: `netd shell {container}` opens a shell"
        )));
    };
    visit(
        context,
        container,
        VisitArgs::default(),
        vec![(*login).to_owned()],
        Terminal::Interactive,
    )
}

fn visit(
    context: &Context,
    container: &ContainerName,
    how: VisitArgs,
    command: Vec<String>,
    terminal: Terminal,
) -> Result<ExitCode, Error> {
    let name: MachineName = container.as_str().parse()?;
    let visit = Visit {
        command,
        env: how.setenv.into_iter().map(run::variable).collect(),
        chdir: how.chdir,
        user: how.user,
        terminal: if how.pipe { Terminal::Pipe } else { terminal },
        door: args::door(),
        task: None,
    };
    let exit = join::exec(&context.dirs.containers(), &name, &visit).map_err(|e| match e {
        SpawnError::NoSuchContainer(_) => super::not_running(container),
        e => e.into(),
    })?;
    Ok(ExitCode::from(exit.status()))
}
