//! The three directories of an instance. Several instances live on one machine by having their own.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Where an instance keeps what; global options of every command.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(crate) struct Dirs {
    /// Zones and policies
    #[arg(
        long = "config-dir",
        value_name = "DIR",
        env = "NETD_CONFIG_DIR",
        default_value = "/etc/netd",
        global = true,
        hide_env_values = true,
        help_heading = "Directories"
    )]
    pub(crate) config: PathBuf,

    /// Addresses kept for names, leases
    #[arg(
        long = "state-dir",
        value_name = "DIR",
        env = "NETD_STATE_DIR",
        default_value = "/var/lib/netd",
        global = true,
        hide_env_values = true,
        help_heading = "Directories"
    )]
    pub(crate) state: PathBuf,

    /// Socket, and what lasts until the next boot
    #[arg(
        long = "runtime-dir",
        value_name = "DIR",
        env = "NETD_RUNTIME_DIR",
        default_value = "/run/netd",
        global = true,
        hide_env_values = true,
        help_heading = "Directories"
    )]
    pub(crate) runtime: PathBuf,
}

impl Dirs {
    /// The daemon's control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime.join("netd.sock")
    }

    /// Where a daemon in the background writes its messages.
    pub(crate) fn log(&self) -> PathBuf {
        self.runtime.join("netd.log")
    }

    /// The folder of policy files.
    pub(crate) fn policies(&self) -> PathBuf {
        self.config.join("policies")
    }

    /// What rules that log and files on trial had to say, a JSON object a line.
    pub(crate) fn decisions(&self) -> PathBuf {
        self.state.join("decisions.jsonl")
    }

    /// What the spawner knows of containers that run.
    pub(crate) fn containers(&self) -> PathBuf {
        self.runtime.join("containers")
    }

    /// The images of machines: those of the config dir, of the state dir, and of systemd; new ones are made with systemd's, unless the
    /// state dir is another than usual.
    pub(crate) fn images(&self) -> images::Store {
        let systemd = PathBuf::from("/var/lib/machines");
        let own = self.state.join("machines");
        let home = match self.state == Path::new("/var/lib/netd") {
            true => systemd.clone(),
            false => own.clone(),
        };
        images::Store::new(vec![self.config.join("machines"), own, systemd], home)
    }

    /// What a machine in the background prints.
    pub(crate) fn console_log(&self, machine: &str) -> PathBuf {
        self.runtime.join("consoles").join(format!("{machine}.log"))
    }

    /// The same directories as absolute paths: a daemon in the background and the hooks of a
    /// container run in another working directory.
    pub(crate) fn absolute(self) -> io::Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path);
        Ok(Self {
            config: absolute(&self.config)?,
            state: absolute(&self.state)?,
            runtime: absolute(&self.runtime)?,
        })
    }

    /// As options of the command line.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        [
            ("--config-dir", &self.config),
            ("--state-dir", &self.state),
            ("--runtime-dir", &self.runtime),
        ]
        .into_iter()
        .flat_map(|(flag, path)| [flag.into(), path.clone().into_os_string()])
        .collect()
    }
}
