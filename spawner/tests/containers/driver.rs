//! A small `netd run` without a daemon: this test program itself, called as `containers spawn STATE_ROOT SETTINGS_JSON`.
//!
//! In a process of its own because `spawner::run` must not be called from a process with threads, such as a test harness.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use spawner::{
    Bind, Credential, Hook, Network, Overlay, PrivateUsers, Settings, SpawnError, Terminal, Tmpfs,
};

/// Settings as strings, named as the options are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Given {
    machine: String,
    directory: Option<PathBuf>,
    private_network: bool,
    attach: Option<String>,
    detach: Option<String>,
    timeout: Option<f32>,
    private_users: Option<Value>,
    ownership: Option<String>,
    volatile: Option<String>,
    ephemeral: bool,
    overlay: Vec<String>,
    inaccessible: Vec<PathBuf>,
    bind_user: Vec<String>,
    set_credential: Vec<String>,
    boot: bool,
    uuid: Option<String>,
    capability: Option<String>,
    drop_capability: Option<String>,
    ambient_capability: Option<String>,
    calls_allowed: Vec<String>,
    calls_refused: Vec<String>,
    suppress_sync: bool,
    personality: Option<String>,
    rlimit: Vec<String>,
    oom_score_adjust: Option<i32>,
    cpus: Option<String>,
    kill_signal: Option<i32>,
    namespace: Option<PathBuf>,
    read_only_console: bool,
    read_only: bool,
    bind: Vec<String>,
    bind_ro: Vec<String>,
    tmpfs: Vec<String>,
    setenv: Vec<(String, String)>,
    hostname: Option<String>,
    user: Option<String>,
    chdir: Option<PathBuf>,
    as_pid2: bool,
    no_new_privileges: bool,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    memory_max: Option<u64>,
    tasks_max: Option<u64>,
    pipe: bool,
    interactive: bool,
    command: Vec<String>,
}

fn parsed<T: std::str::FromStr<Err = SpawnError>>(
    text: Option<String>,
) -> Result<Option<T>, SpawnError> {
    text.map(|text| text.parse()).transpose()
}

fn settings(state_root: String, given: Given) -> Result<Settings, SpawnError> {
    let hook = |script: String| Hook {
        path: "/bin/sh".into(),
        args: vec!["hook".into(), "-c".into(), script],
        env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".into()],
        timeout: given.timeout.map(Duration::from_secs_f32),
    };
    let mut settings = Settings::new(given.machine.parse()?, state_root, given.command);
    settings.directory = given.directory;
    settings.network = match given.attach {
        Some(attach) => Network::Hook {
            attach: hook(attach),
            detach: given.detach.clone().map(hook),
        },
        None if given.private_network => Network::Private,
        None => match given.namespace {
            Some(path) => Network::Namespace(path),
            None => Network::Host,
        },
    };
    if matches!(settings.network, Network::Host | Network::Private) {
        settings.hooks.poststop.extend(given.detach.map(hook));
    }
    settings.private_users = match given.private_users {
        None | Some(Value::Bool(false)) => PrivateUsers::No,
        Some(Value::Bool(true)) => PrivateUsers::Pick,
        Some(other) => other.as_str().unwrap().parse()?,
    };
    settings.ownership = parsed(given.ownership)?.unwrap_or_default();
    settings.volatile = parsed(given.volatile)?.unwrap_or_default();
    settings.ephemeral = given.ephemeral;
    for text in given.overlay {
        settings.overlays.push(Overlay::parse(&text, false)?);
    }
    settings.inaccessible = given.inaccessible;
    settings.bind_users = given.bind_user;
    for text in given.set_credential {
        settings.credentials.push(Credential::set(&text)?);
    }
    settings.boot = given.boot;
    settings.uuid = given.uuid;
    settings.privileges.add = parsed(given.capability)?.unwrap_or_default();
    settings.privileges.drop = parsed(given.drop_capability)?.unwrap_or_default();
    settings.privileges.ambient = parsed(given.ambient_capability)?.unwrap_or_default();
    settings.calls_allowed = given.calls_allowed;
    settings.calls_refused = given.calls_refused;
    settings.suppress_sync = given.suppress_sync;
    settings.personality = parsed(given.personality)?;
    for text in given.rlimit {
        settings.rlimits.push(text.parse()?);
    }
    settings.oom_score_adjust = given.oom_score_adjust;
    settings.cpus = parsed(given.cpus)?;
    settings.kill_signal = given.kill_signal;
    settings.read_only = given.read_only;
    for (texts, read_only) in [(given.bind, false), (given.bind_ro, true)] {
        for text in texts {
            settings.binds.push(Bind::parse(&text, read_only)?);
        }
    }
    for text in given.tmpfs {
        settings.tmpfs.push(Tmpfs::parse(&text)?);
    }
    settings.env = given.setenv;
    settings.hostname = given.hostname;
    settings.user = given.user.map(|user| user.parse()).transpose()?;
    settings.chdir = given.chdir;
    settings.as_pid2 = given.as_pid2;
    settings.no_new_privileges = given.no_new_privileges;
    settings.labels = given.labels;
    settings.annotations = given.annotations;
    settings.limits.memory_max = given.memory_max;
    settings.limits.tasks_max = given.tasks_max;
    settings.terminal = match (given.pipe, given.interactive) {
        _ if given.read_only_console => Terminal::ReadOnly,
        (true, _) => Terminal::Pipe,
        (false, true) => Terminal::Interactive,
        (false, false) => Terminal::Auto,
    };
    Ok(settings)
}

/// Runs one container and returns what `netd run` would.
pub(crate) fn main(state_root: String, json: &str) -> ExitCode {
    let given: Given = match serde_json::from_str(json) {
        Ok(given) => given,
        Err(e) => {
            eprintln!("spawn: {e}");
            return ExitCode::from(2);
        }
    };
    let _ = tracing::subscriber::set_global_default(warnings::ToStderr);
    match settings(state_root, given).and_then(|settings| spawner::run(&settings)) {
        Ok(exit) => ExitCode::from(exit.status()),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("spawn: {text}");
            ExitCode::from(match error {
                SpawnError::Command { status, .. } => status,
                _ => 1,
            })
        }
    }
}

/// Warnings go to standard error, as the real program does it.
mod warnings {
    use std::fmt;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    pub(crate) struct ToStderr;

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }

    impl Subscriber for ToStderr {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_event() && *metadata.level() <= Level::WARN
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            eprintln!("spawn: {}", text.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
}
