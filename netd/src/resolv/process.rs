//! The resolvers of a container that somebody else started, known by one of its processes.
//!
//! Whoever is attached by `netd attach --pid` or by an OCI runtime's hook, and is configured from outside, finds its
//! zones' resolvers in /etc/resolv.conf, where that file is its own. Nothing of this stops an attach: what could not be
//! done is told.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::inside::{Daring, Outcome};
use super::{Part, mark, rest};
use crate::api::Container;

/// How long the container's file systems may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What becomes of /etc/resolv.conf of a container that is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Wish {
    /// The zone's resolvers, where the file is missing, empty, or as netd wrote it
    #[default]
    Auto,
    /// It is left alone
    Off,
    /// The zone's resolvers, whatever it says
    Replace,
}

impl Wish {
    /// As an annotation has it; `None` for an unknown word.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::from_str(word, false).ok()
    }
}

/// Why the file is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Left {
    #[error("process {0} is in another network namespace by now")]
    Moved(i32),
    #[error("process {pid}: {what}")]
    Look {
        pid: i32,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("it shares the host's files")]
    Hosts,
    #[error("there is something else than a plain file of its own")]
    NotPlain,
    #[error("it has no folder /etc")]
    NoFolder,
    #[error("its files did not answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("{0}")]
    Failed(String),
    #[error("start a process that writes it")]
    Start(#[source] io::Error),
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: i32,
    /// Where the runtime prepares the root that the process will change to: a path of the process, which counts
    /// while it still has the host's root.
    pub(crate) prepared: Option<PathBuf>,
}

/// Writes what the container's zones say into its file, as wished. An error says why the file is not as wished.
///
/// # Errors
/// It cannot be done, or must not; the network is there all the same.
pub(crate) fn give(
    process: &Process,
    netns: BorrowedFd<'_>,
    container: &Container,
    wish: Wish,
) -> Result<(), Left> {
    let (daring, Some(text)) = (
        match wish {
            Wish::Off => return Ok(()),
            Wish::Auto => Daring::Gently,
            Wish::Replace => Daring::Replace,
        },
        text(container),
    ) else {
        return Ok(());
    };
    let told = match Subject::find(process, netns)? {
        Some(subject) => subject.fill(daring, &text)?,
        None => Outcome::Hosts,
    };
    match (told, wish) {
        (Outcome::Written, _) | (_, Wish::Auto | Wish::Off) => Ok(()),
        (Outcome::Theirs, Wish::Replace) => Err(Left::NotPlain),
        (Outcome::Hosts, Wish::Replace) => Err(Left::Hosts),
        (Outcome::NoFolder, Wish::Replace) => Err(Left::NoFolder),
    }
}

/// What the file is to say; nothing where no zone has resolvers.
fn text(container: &Container) -> Option<String> {
    let alone = [Part {
        domain: &container.domain,
        servers: &container.dns,
    }];
    let networks: Vec<Part<'_, String>> = container
        .networks
        .iter()
        .map(|network| Part {
            domain: &network.domain,
            servers: &network.dns,
        })
        .collect();
    let parts = match networks.is_empty() {
        true => &alone[..],
        false => &networks[..],
    };
    if parts.iter().all(|part| part.servers.is_empty()) {
        return None;
    }
    let of = format!("container {}", container.container);
    Some(mark::marked(&of, &rest(parts)))
}

/// The container's root and its root user, as the host has them.
struct Subject {
    root: OwnedFd,
    uid: u32,
    gid: u32,
}

impl Subject {
    /// `None`: it has the host's files.
    fn find(process: &Process, netns: BorrowedFd<'_>) -> Result<Option<Self>, Left> {
        let pid = process.pid;
        let look = |what| move |source: io::Error| Left::Look { pid, what, source };
        let path = |flags| flags | OFlags::PATH | OFlags::CLOEXEC;
        // Stays with this process, whoever has its number later.
        let own = rustix::fs::open(
            format!("/proc/{pid}"),
            path(OFlags::DIRECTORY),
            Mode::empty(),
        )
        .map_err(|e| look("it is gone")(e.into()))?;
        let at = |name: &str, flags| {
            rustix::fs::openat(&own, name, path(flags), Mode::empty()).map_err(io::Error::from)
        };
        let same = |name: &str, other: &str| -> io::Result<bool> {
            let its = rustix::fs::fstat(at(name, OFlags::empty())?)?;
            let others = rustix::fs::stat(other)?;
            Ok((its.st_dev, its.st_ino) == (others.st_dev, others.st_ino))
        };
        let attached = rustix::fs::fstat(netns).map_err(|e| look("its network")(e.into()))?;
        let its = at("ns/net", OFlags::empty())
            .and_then(|fd| Ok(rustix::fs::fstat(fd)?))
            .map_err(look("find its network namespace"))?;
        if (its.st_dev, its.st_ino) != (attached.st_dev, attached.st_ino) {
            return Err(Left::Moved(pid));
        }
        // In the mount namespace of whoever attaches, or of the host's first process, there is no container's file.
        let ours = same("ns/mnt", "/proc/self/ns/mnt").map_err(look("find its mounts"))?;
        if ours || same("ns/mnt", "/proc/1/ns/mnt").unwrap_or(false) {
            return Ok(None);
        }
        let mut root = at("root", OFlags::DIRECTORY).map_err(look("find its root"))?;
        if let Some(prepared) = process
            .prepared
            .as_deref()
            .filter(|_| same("root", "/").unwrap_or(false))
        {
            root = below(&root, prepared).map_err(look("find the root prepared for it"))?;
        }
        let status = read(&own, "status").map_err(look("find its user"))?;
        let root_user = |map: &str, field: &str| -> io::Result<u32> {
            Ok(match inside_root(&read(&own, map)?) {
                Some(id) => id,
                // Nobody is root there: the process itself then.
                None => effective(&status, field).unwrap_or(u32::MAX),
            })
        };
        let (uid, gid) = match same("ns/user", "/proc/self/ns/user") {
            Ok(true) => (0, 0),
            _ => (
                root_user("uid_map", "Uid:").map_err(look("find its root user"))?,
                root_user("gid_map", "Gid:").map_err(look("find its root user"))?,
            ),
        };
        Ok(Some(Self { root, uid, gid }))
    }

    /// Starts who writes, and waits for what it tells.
    fn fill(self, daring: Daring, text: &str) -> Result<Outcome, Left> {
        let word = daring.to_possible_value();
        let word = word.as_ref().map_or("", |value| value.get_name());
        let mut child = Command::new("/proc/self/exe")
            .arg0("netd")
            .args(["fill-resolv-conf", word])
            .args([self.uid.to_string(), self.gid.to_string()])
            .arg(text)
            .env_clear()
            .current_dir("/")
            .stdin(self.root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Left::Start)?;
        if !ends_in_time(&mut child) {
            // It may hang in a file system that never answers, where no signal reaches it: nobody waits for it.
            let _ = child.kill();
            return Err(Left::Slow);
        }
        let mut said = String::new();
        if let Some(mut out) = child.stdout.take() {
            let _ = out.read_to_string(&mut said);
        }
        let said = said.trim();
        match Outcome::from_str(said, false) {
            Ok(outcome) => Ok(outcome),
            Err(_) => Err(Left::Failed(
                said.strip_prefix("failed ").unwrap_or(said).to_owned(),
            )),
        }
    }
}

fn ends_in_time(child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(500);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) => std::thread::sleep(pause),
            Err(_) => return false,
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    false
}

/// A folder below a root that is the host's as yet: its links are those of the host.
fn below(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..16 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Err(rustix::io::Errno::AGAIN.into())
}

fn read(dir: &OwnedFd, name: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty())?;
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text)?;
    Ok(text)
}

/// The host's id of id 0 inside, by a map of user_namespaces(7).
fn inside_root(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
        let (inside, outside) = (numbers.next()??, numbers.next()??);
        (inside == 0).then_some(outside)
    })
}

/// The effective id, the second of `Uid:` and `Gid:` (proc_pid_status(5)).
fn effective(status: &str, field: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_user_is_found_by_the_map() {
        assert_eq!(
            inside_root("         0     524288      65536\n"),
            Some(524_288)
        );
        assert_eq!(inside_root("1000 1000 1\n0 100000 1000\n"), Some(100_000));
        assert_eq!(inside_root("1000 1000 1\n"), None);
        assert_eq!(effective("Name:\tx\nUid:\t1\t2\t3\t4\n", "Uid:"), Some(2));
    }
}
