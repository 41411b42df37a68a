//! The command line: argv → [`Invocation`] → run → exit code.
//!
//! Parsing touches nothing. Data goes to standard output, everything else to standard error as
//! `netd: …`.

mod args;
mod attach;
mod check;
mod decisions;
mod explain;
mod hook_args;
mod machines;
mod output;
mod pages;
mod policy;
mod policy_apply;
mod policy_diff;
mod policy_set;
mod quick;
mod resolv_conf;
mod run;
mod show;
mod stop;
mod zone;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

pub(crate) use args::{Configure, Invocation};
pub(crate) use output::{note, print_json};
pub(crate) use resolv_conf::{HostFile, How, ResolvConf};
pub(crate) use run::{
    Console, LinkArgs, LinkJournal, Pair, RunArgs, SettingsMode, Timezone, Variable,
};

use crate::client::{Client, autostart};
use crate::daemon::{self, DaemonArgs};
use crate::dirs::Dirs;
use crate::error::{Error, chain, exit};
use crate::hook;
use args::{
    Command, HookAction, HookCommand, LeaseCommand, NetavarkCall, NspawnCommand, PolicyCommand,
};

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Absolute.
    pub(crate) dirs: Dirs,
    /// One JSON document instead of text.
    pub(crate) json: bool,
    /// Whether a daemon may be started where none answers.
    pub(crate) autostart: bool,
}

impl Context {
    /// A connection to the daemon, which is started where none answers.
    pub(crate) fn connect(&self) -> Result<Client, Error> {
        autostart::connect(&self.dirs, self.autostart)
    }
}

/// Names by which the binary may be called, and the commands they stand for.
const DOORS: [(&str, &[&str]); 5] = [
    ("netd-cni", &["hook", "cni"]),
    ("netd-oci-hook", &["hook", "oci"]),
    ("netd-hook-oci", &["hook", "oci"]),
    ("netd-netavark", &["hook", "netavark"]),
    ("netd-daemon", &["daemon"]),
];

/// Does what the command line says.
pub(crate) fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    if hook::cni::called_as_plugin(argv.len(), std::env::var_os("CNI_COMMAND").as_deref()) {
        argv = vec!["netd-cni".into()];
    }
    let invocation = match parse(argv) {
        Ok(invocation) => invocation,
        Err(error) => return complain(&error),
    };
    run(invocation).unwrap_or_else(|error| {
        output::note(&chain(&error));
        ExitCode::from(error.exit_code())
    })
}

/// The command line as a structure.
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    let called = argv
        .first()
        .and_then(|path| Path::new(path).file_name())
        .and_then(|name| name.to_str());
    if let Some((_, words)) = DOORS.iter().find(|(name, _)| called == Some(name)) {
        argv.splice(1..1, words.iter().map(OsString::from));
    } else if argv
        .first()
        .is_some_and(|path| hook::netavark::called_as_plugin(Path::new(path)))
    {
        argv.splice(1..1, ["hook", "netavark"].map(OsString::from));
    }
    match quick::parse(&argv) {
        Some(invocation) => Ok(invocation),
        None => Invocation::try_parse_from(argv),
    }
}

/// Whether an option of `netd run` may be given more than once.
pub(crate) fn is_repeated(option: &str) -> bool {
    use clap::{ArgAction, CommandFactory};
    let command = Invocation::command();
    let run = command.find_subcommand("run");
    run.is_some_and(|run| {
        let name = option.trim_start_matches("--");
        run.get_arguments()
            .filter(|arg| arg.get_long() == Some(name))
            .any(|arg| matches!(arg.get_action(), ArgAction::Append))
    })
}

/// The options of `netd run` from words that somebody wrote elsewhere; what is wrong is told in a line.
pub(crate) fn parse_run_words(argv: &[String]) -> Result<RunArgs, String> {
    match parse(argv.iter().map(OsString::from)).map(|invocation| invocation.command) {
        Ok(Command::Run(args)) => Ok(*args),
        Ok(_) => Err("is no option of `netd run`".to_owned()),
        Err(error) => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(first.trim_start_matches("error: ").to_owned())
        }
    }
}

/// The options of `netd run`, for tests of what becomes of them.
#[cfg(test)]
pub(crate) fn parse_run(argv: impl Iterator<Item = OsString>) -> RunArgs {
    match parse(argv).map(|invocation| invocation.command) {
        Ok(Command::Run(args)) => *args,
        other => panic!("{other:?}"),
    }
}

/// Help and version on standard output, wrong usage as a message.
fn complain(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render().to_string();
        match text.strip_prefix("error: ") {
            Some(message) => output::note(message),
            None => output::print_error(&text),
        }
    } else {
        // Help goes through clap, which knows the terminal's width and colours.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
}

fn run(invocation: Invocation) -> Result<ExitCode, Error> {
    let Invocation {
        dirs,
        json,
        command,
    } = invocation;
    let context = Context {
        dirs: dirs.absolute().map_err(Error::WorkingDirectory)?,
        json,
        autostart: autostart::allowed(std::env::var_os("NETD_AUTOSTART").as_deref()),
    };
    match command {
        Command::Daemon(options) if options.background => {
            autostart::background(&context.dirs, options.json_logs)
        }
        Command::Daemon(options) => Ok(daemon::run(DaemonArgs {
            dirs: context.dirs,
            json_logs: options.json_logs,
        })),
        Command::Keep => Ok(daemon::keep(&context.dirs)),
        Command::FillResolvConf(args) => {
            output::print(&format!("{}\n", crate::resolv::fill(&args)))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Zone(command) => zone::run(&context, command),
        Command::Attach(args) => attach::attach(&context, args),
        Command::Detach(args) => attach::detach(&context, &args.container, args.zone.as_ref()),
        Command::Run(args) => crate::run::run(&context, *args),
        Command::Machine(command) => machines::run(&context, command),
        Command::Image(command) => machines::image(&context, command),
        Command::List => machines::list(&context),
        Command::Status { container } => show::status(&context, container.as_ref()),
        Command::Stop(args) => stop::stop(&context, &args),
        Command::Reload => policy::reload(&context),
        Command::Policy(PolicyCommand::Check { files, groups }) => {
            check::check(&context, &files, groups.as_deref())
        }
        Command::Policy(PolicyCommand::Show { container, nft }) => {
            policy::show(&context, &container, nft)
        }
        Command::Policy(PolicyCommand::Diff { paths, exit_code }) => {
            policy_diff::diff(&context, &paths, exit_code)
        }
        Command::Policy(PolicyCommand::Apply { paths, confirm }) => {
            policy_apply::apply(&context, &paths, confirm)
        }
        Command::Policy(PolicyCommand::Confirm) => policy_apply::confirm(&context),
        Command::Policy(PolicyCommand::Rollback) => policy_apply::rollback(&context),
        Command::Policy(PolicyCommand::Log(args)) => decisions::log(&context, &args),
        Command::Policy(PolicyCommand::Learn {
            container,
            since,
            forget,
        }) => {
            if forget {
                decisions::forget(&context, &container)
            } else {
                decisions::learn(&context, &container, since)
            }
        }
        Command::Explain(args) => explain::explain(&context, &args),
        Command::Lease(LeaseCommand::List) => show::leases(&context),
        Command::Hook(HookCommand::Cni) => Ok(hook::cni::run(&context)),
        Command::Hook(HookCommand::Oci { action }) => {
            let action = action.map(|action| match action {
                HookAction::Attach => hook::oci::Action::Attach,
                HookAction::Detach => hook::oci::Action::Detach,
            });
            hook::oci::run(&context, action).inspect_err(hook::tell_log)
        }
        Command::Hook(HookCommand::Link { action }) => {
            hook::link::run(&context, action == HookAction::Attach).inspect_err(hook::tell_log)
        }
        Command::Hook(HookCommand::Machined { action, root, must }) => {
            let attach = action == HookAction::Attach;
            hook::machined::run(&context, attach, root.as_deref(), must)
        }
        Command::Hook(HookCommand::Netavark { call }) => {
            hook::netavark::run(&context, &call.into())
        }
        Command::Hook(HookCommand::Nspawn(NspawnCommand::Prepare { machine })) => {
            hook::nspawn::prepare(&context, &machine)
        }
        Command::Hook(HookCommand::Nspawn(NspawnCommand::Exec { machine, command })) => {
            hook::nspawn::exec(&context, &machine, &command)
        }
        Command::Hook(HookCommand::Nspawn(NspawnCommand::Remove { machine })) => {
            hook::nspawn::remove(&context, &machine)
        }
        Command::Completions { shell } => pages::completions(&context, shell),
        Command::Man => pages::man(&context),
    }
}

impl From<NetavarkCall> for hook::netavark::Call {
    fn from(call: NetavarkCall) -> Self {
        match call {
            NetavarkCall::Create => Self::Create,
            NetavarkCall::Setup { netns } => Self::Setup(netns),
            NetavarkCall::Teardown { netns } => Self::Teardown(netns),
            NetavarkCall::Info => Self::Info,
        }
    }
}

#[cfg(test)]
mod tests;
