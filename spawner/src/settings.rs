//! What a container shall be, in the words of systemd-nspawn's options. Plain data: parsing and checking touch nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::error::SpawnError;

/// Everything [`run`](crate::run) needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--machine=`: the container's name.
    pub name: MachineName,
    /// Where running containers are kept, a directory each; usually `RUNTIME_DIR/containers`. Made when missing.
    pub state_root: PathBuf,
    /// `--directory=`: the root. `None` is the host's own root, read-only, with a tmpfs on /tmp and /run.
    pub directory: Option<PathBuf>,
    /// `--private-network`, `--network-zone=`.
    pub network: Network,
    /// `--private-users=pick`: a user namespace with 65,536 users, that owns the network namespace too.
    pub private_users: bool,
    /// `--read-only`: the root, not what is mounted over it.
    pub read_only: bool,
    /// `--bind=` and `--bind-ro=`, in order.
    pub binds: Vec<Bind>,
    /// `--tmpfs=`, mounted before the binds.
    pub tmpfs: Vec<Tmpfs>,
    /// `--setenv=`; the last of one name wins.
    pub env: Vec<(String, String)>,
    /// `--hostname=`; the machine name when not given.
    pub hostname: Option<String>,
    /// `--user=`; root when not given.
    pub user: Option<UserName>,
    /// `--chdir=`; `/` when not given.
    pub chdir: Option<PathBuf>,
    /// `--as-pid2`: a stub is pid 1, which reaps and passes signals on.
    pub as_pid2: bool,
    /// `--no-new-privileges=`: set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Labels; they become the annotation `io.netd.labels` (`KEY=VALUE`, joined by commas).
    pub labels: BTreeMap<String, String>,
    /// Annotations of the OCI state, which the hooks read. `io.netd.name` is added when absent.
    pub annotations: BTreeMap<String, String>,
    /// Hooks beside those of [`Network::Hook`].
    pub hooks: Hooks,
    /// Limits; they need cgroups. None given: no cgroup is made.
    pub limits: Limits,
    /// `--console=`, `--pipe`.
    pub terminal: Terminal,
    /// The command and its arguments; not empty.
    pub command: Vec<String>,
}

impl Settings {
    /// A container with defaults everywhere: the host's root, the host's network.
    pub fn new(
        name: MachineName,
        state_root: impl Into<PathBuf>,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            name,
            state_root: state_root.into(),
            directory: None,
            network: Network::Host,
            private_users: false,
            read_only: false,
            binds: Vec::new(),
            tmpfs: Vec::new(),
            env: Vec::new(),
            hostname: None,
            user: None,
            chdir: None,
            as_pid2: false,
            no_new_privileges: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            hooks: Hooks::default(),
            limits: Limits::default(),
            terminal: Terminal::Auto,
            command: command.into_iter().map(Into::into).collect(),
        }
    }

    /// Finds what cannot be meant, before anything is touched.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] names the option, its value and what is wrong with it.
    pub fn check(&self) -> Result<(), SpawnError> {
        let nul = |what, text: &str| match text.contains('\0') {
            true => Err(SpawnError::setting(what, text, "contains a NUL byte")),
            false => Ok(()),
        };
        match self.command.first() {
            None => return Err(SpawnError::setting("the command", "", "is missing")),
            Some(word) if word.is_empty() => {
                return Err(SpawnError::setting("the command", "", "is empty"));
            }
            Some(_) => {}
        }
        for word in &self.command {
            nul("the command", word)?;
        }
        for (key, value) in &self.env {
            nul("--setenv=", key)?;
            nul("--setenv=", value)?;
            if key.is_empty() || key.contains('=') {
                return Err(SpawnError::setting(
                    "--setenv=",
                    key,
                    "is not the name of a variable",
                ));
            }
        }
        if let Some(name) = &self.hostname
            && !is_hostname(name)
        {
            return Err(SpawnError::setting(
                "--hostname=",
                name,
                "is not a host name: up to 64 letters, digits, '-' and '.'",
            ));
        }
        if let Some(dir) = &self.chdir {
            absolute("--chdir=", &dir.to_string_lossy(), dir)?;
        }
        for (key, value) in &self.labels {
            if key.is_empty() || key.contains(['=', ',']) || value.contains(',') {
                return Err(SpawnError::setting(
                    "--label=",
                    &format!("{key}={value}"),
                    "is not KEY=VALUE without commas",
                ));
            }
        }
        Ok(())
    }
}

/// A container's name: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 128 bytes. It is a file name, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineName(String);

impl MachineName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for MachineName {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let err = |reason| Err(SpawnError::setting("--machine=", text, reason));
        match text.bytes().next() {
            None => return err("is empty"),
            Some(b) if b.is_ascii_alphanumeric() => {}
            Some(_) => return err("must begin with a letter or a digit"),
        }
        if text.len() > 128 {
            return err("is longer than 128 bytes");
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !text.bytes().all(fits) {
            return err("may hold letters, digits, '_', '.' and '-' only");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Which network the container sees.
#[derive(Debug, Clone, Default)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// Its own, with nothing but a loopback interface.
    Private,
    /// Its own, set up by a hook before the command runs.
    Hook {
        /// A createRuntime hook. When it fails, the command is never run.
        attach: Hook,
        /// A poststop hook; also run when the start failed.
        detach: Option<Hook>,
    },
}

impl Network {
    /// Whether a network namespace is made.
    pub fn is_private(&self) -> bool {
        !matches!(self, Self::Host)
    }
}

/// A program that is run with the OCI state on its standard input, in the host's namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub path: PathBuf,
    /// Its argument vector, the program's own name first (`argv[0]`).
    pub args: Vec<String>,
    /// Its whole environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// It is killed, and has failed, after this time. Rounded up to whole seconds, as OCI counts them.
    pub timeout: Option<Duration>,
}

/// Hooks beside those of the network.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Run after the namespaces were made and before the root is entered, the network's hook first.
    pub create_runtime: Vec<Hook>,
    /// Run after the container is gone, the network's hook last. A failure is a warning.
    pub poststop: Vec<Hook>,
}

/// Limits of the whole container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax=`, bytes.
    pub memory_max: Option<u64>,
    /// `CPUQuota=`, percent of one CPU.
    pub cpu_percent: Option<u32>,
    /// `TasksMax=`, processes and threads.
    pub tasks_max: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the command's standard input, output and error are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Terminal {
    /// A pty when our own standard input and output are terminals, else as they are.
    #[default]
    Auto,
    /// Our own descriptors, as they are.
    Pipe,
    /// A pty.
    Interactive,
}

/// `--bind=SOURCE[:DESTINATION[:OPTIONS]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the container, absolute. Made when missing, where the root can be written.
    pub destination: PathBuf,
    /// `--bind-ro=`.
    pub read_only: bool,
    /// With what is mounted below it: `rbind` (the default) or `norbind`.
    pub recursive: bool,
    /// `idmap`: with private users, files belong inside to the ids they belong to outside.
    pub idmap: bool,
}

impl Bind {
    /// Reads the argument of `--bind=` and `--bind-ro=`; a colon in a path is written `\:`.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a path that is not absolute, or an unknown option.
    pub fn parse(text: &str, read_only: bool) -> Result<Self, SpawnError> {
        let what = if read_only { "--bind-ro=" } else { "--bind=" };
        let parts = split_colons(text);
        let (source, destination, options) = match parts.as_slice() {
            [source] => (source, source, ""),
            [source, destination] => (source, destination, ""),
            [source, destination, options] => (source, destination, options.as_str()),
            _ => {
                return Err(SpawnError::setting(
                    what,
                    text,
                    "has more than three parts (write a colon in a path as \\:)",
                ));
            }
        };
        let destination = if destination.is_empty() {
            source
        } else {
            destination
        };
        let mut bind = Self {
            source: absolute(what, text, source)?,
            destination: absolute(what, text, destination)?,
            read_only,
            recursive: true,
            idmap: false,
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "rbind" => bind.recursive = true,
                "norbind" => bind.recursive = false,
                "idmap" => bind.idmap = true,
                "noidmap" => bind.idmap = false,
                other => {
                    return Err(SpawnError::setting(
                        what,
                        text,
                        format!(
                            "has the unknown option {other:?} (rbind, norbind, idmap, noidmap)"
                        ),
                    ));
                }
            }
        }
        Ok(bind)
    }
}

/// `--tmpfs=PATH[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// In the container, absolute.
    pub destination: PathBuf,
    /// Mount options of tmpfs and of mount(8), e.g. `size=1M`, `mode=1777`, `noexec`.
    pub options: Vec<String>,
}

impl Tmpfs {
    /// Reads the argument of `--tmpfs=`; a colon in the path is written `\:`.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a path that is not absolute.
    pub fn parse(text: &str) -> Result<Self, SpawnError> {
        let parts = split_colons(text);
        let (path, options) = match parts.as_slice() {
            [path] => (path, ""),
            [path, options] => (path, options.as_str()),
            _ => {
                return Err(SpawnError::setting(
                    "--tmpfs=",
                    text,
                    "has more than two parts",
                ));
            }
        };
        Ok(Self {
            destination: absolute("--tmpfs=", text, path)?,
            options: options
                .split(',')
                .filter(|o| !o.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }
}

/// `--user=NAME`, `--user=UID` or `--user=UID:GID`; looked up in the container when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserName {
    /// A name, and optionally another primary group than the user's own.
    Name(String, Option<String>),
    /// Numbers. Without a group: that of the user of this number, or 0.
    Id(u32, Option<u32>),
}

impl FromStr for UserName {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let err = |reason| SpawnError::setting("--user=", text, reason);
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group.is_some_and(str::is_empty) || text.contains(['\n', '/']) {
            return Err(err("is not NAME, UID or UID:GID"));
        }
        match (user.parse(), group.map(str::parse)) {
            (Ok(uid), None) => Ok(Self::Id(uid, None)),
            (Ok(uid), Some(Ok(gid))) => Ok(Self::Id(uid, Some(gid))),
            (Ok(_), Some(Err(_))) => Err(err("has a number and a name: both must be of one kind")),
            (Err(_), _) => Ok(Self::Name(user.to_owned(), group.map(str::to_owned))),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(user, None) => write!(f, "{user}"),
            Self::Name(user, Some(group)) => write!(f, "{user}:{group}"),
            Self::Id(uid, None) => write!(f, "{uid}"),
            Self::Id(uid, Some(gid)) => write!(f, "{uid}:{gid}"),
        }
    }
}

fn is_hostname(name: &str) -> bool {
    // HOST_NAME_MAX, uts(7)
    (1..=64).contains(&name.len())
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn absolute(what: &'static str, text: &str, path: impl AsRef<Path>) -> Result<PathBuf, SpawnError> {
    let path = path.as_ref();
    if !path.is_absolute() {
        return Err(SpawnError::setting(
            what,
            text,
            "has a path that is not absolute",
        ));
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(SpawnError::setting(what, text, "has a path with '..'"));
    }
    Ok(path.to_owned())
}

/// Splits at colons that no backslash precedes, as systemd-nspawn does.
fn split_colons(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(|next| matches!(next, ':' | '\\')) => {
                if let (Some(last), Some(next)) = (parts.last_mut(), chars.next()) {
                    last.push(next);
                }
            }
            ':' => parts.push(String::new()),
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn binds() {
        let bind = Bind::parse("/a", false).unwrap();
        assert_eq!(bind.destination, Path::new("/a"));
        assert!(bind.recursive && !bind.read_only && !bind.idmap);
        let bind = Bind::parse(r"/a\:b:/c:norbind,idmap", true).unwrap();
        assert_eq!(bind.source, Path::new("/a:b"));
        assert_eq!(bind.destination, Path::new("/c"));
        assert!(!bind.recursive && bind.read_only && bind.idmap);
        let bind = Bind::parse("/a::norbind", false).unwrap();
        assert_eq!(bind.destination, Path::new("/a"));
        for bad in ["", "a", "/a:b", "/a:/b:x", "/a:/b:rbind:y", "/a:/../b"] {
            let error = Bind::parse(bad, false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--bind= {bad:?} ")), "{error}");
        }
    }

    #[test]
    fn tmpfs() {
        let tmpfs = Tmpfs::parse("/x:size=1M,mode=700").unwrap();
        assert_eq!(tmpfs.options, ["size=1M", "mode=700"]);
        assert!(Tmpfs::parse("/x").unwrap().options.is_empty());
        assert!(Tmpfs::parse("x").is_err());
        assert!(Tmpfs::parse("/x:a:b").is_err());
    }

    #[test]
    fn users() {
        assert_eq!(
            "web".parse::<UserName>().unwrap(),
            UserName::Name("web".into(), None)
        );
        assert_eq!("7".parse::<UserName>().unwrap(), UserName::Id(7, None));
        assert_eq!("7:8".parse::<UserName>().unwrap(), UserName::Id(7, Some(8)));
        for bad in ["", ":7", "7:", "7:web", "a/b"] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_found_before_anything_is_touched() {
        let name: MachineName = "web".parse().unwrap();
        let good = Settings::new(name, "/run/x", ["true"]);
        assert!(good.check().is_ok());
        let bad = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(bad(|s| s.command.clear()).contains("command"));
        assert!(bad(|s| s.command.push("a\0b".into())).contains("NUL"));
        assert!(bad(|s| s.env.push(("A=B".into(), String::new()))).contains("--setenv="));
        assert!(bad(|s| s.hostname = Some("a b".into())).contains("--hostname="));
        assert!(bad(|s| s.chdir = Some("tmp".into())).contains("--chdir="));
        assert!(
            bad(|s| {
                s.labels.insert("a".into(), "b,c".into());
            })
            .contains("--label=")
        );
    }

    #[test]
    fn names() {
        for good in ["web", "W-1_.x", &"0".repeat(128)] {
            assert!(good.parse::<MachineName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", &"0".repeat(129)] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad}");
        }
    }
}
