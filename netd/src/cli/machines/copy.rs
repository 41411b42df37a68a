//! `netd copy-to`, `netd copy-from`: an archive through a pipe, one end of it inside the container.
//!
//! ```text
//!   copy-to:    host files ──pack──▶ pipe ──▶ door: unpack below the container's root
//!   copy-from:  door: pack ──▶ pipe ──▶ unpack beside the destination, then renamed into place
//! ```
//! What is inside is touched only by a process that has entered, with the container's own rights: links there lead where they lead
//! for the container, and nowhere on the host. What comes out is unpacked as any archive of strangers is.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use images::archive::{self, Cancel, Owners};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use serde::{Deserialize, Serialize};
use spawner::join::{self, Visit};
use spawner::{MachineName, Terminal};
use zone::ContainerName;

use super::args;
use crate::cli::{Context, output};
use crate::error::{Error, chain};

/// What the end of the pipe inside does.
#[derive(Debug, Serialize, Deserialize)]
enum Task {
    /// Reads an archive of one member from standard input and puts it at this path.
    Put {
        path: PathBuf,
        force: bool,
        /// Everything becomes root's: the numbers outside mean other users.
        roots: bool,
    },
    /// Writes this file or folder to standard output, as an archive.
    Get { path: PathBuf },
}

/// The name of the one member: what it is called is the destination's business.
const MEMBER: &str = "copied";

pub(super) fn to(
    context: &Context,
    container: &ContainerName,
    source: &Path,
    destination: Option<&Path>,
    force: bool,
) -> Result<ExitCode, Error> {
    let source = std::path::absolute(source).map_err(Error::WorkingDirectory)?;
    let (dir, file) = open_parent(&source).map_err(|e| Error::Read {
        path: source.clone(),
        source: e,
    })?;
    let destination = inner(destination.unwrap_or(&source), "copy-to")?;
    let running = super::running(context, container)?;
    let task = Task::Put {
        path: destination.clone(),
        force,
        roots: running.uid_base.is_some(),
    };
    let (read, write) = pipe()?;
    let packing = std::thread::spawn(move || {
        let sink = io::BufWriter::with_capacity(64 << 10, File::from(write));
        let mut sink = archive::pack_one(
            dir.as_fd(),
            &file,
            OsStr::new(MEMBER),
            sink,
            &Cancel::default(),
        )?;
        sink.flush().map_err(images::ImageError::Write)
    });
    let status = visit(context, container, &task, Some(read), None)?;
    let packed = packing.join().unwrap_or(Err(images::ImageError::Cancelled));
    match (status, packed) {
        // it has said why, and the pipe broke for that reason
        (status, _) if status != 0 => Ok(ExitCode::from(status)),
        (_, Err(e)) => Err(e.into()),
        _ => done(context, container, &source, &destination),
    }
}

pub(super) fn from(
    context: &Context,
    container: &ContainerName,
    source: &Path,
    destination: Option<&Path>,
    force: bool,
) -> Result<ExitCode, Error> {
    let source = inner(source, "copy-from")?;
    let destination =
        std::path::absolute(destination.unwrap_or(&source)).map_err(Error::WorkingDirectory)?;
    super::running(context, container)?;
    let (read, write) = pipe()?;
    let target = destination.clone();
    let unpacking = std::thread::spawn(move || put(File::from(read), &target, force, Owners::Mine));
    let task = Task::Get {
        path: source.clone(),
    };
    let status = visit(context, container, &task, None, Some(write))?;
    let unpacked = unpacking
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("it broke off")));
    match (status, unpacked) {
        (status, _) if status != 0 => Ok(ExitCode::from(status)),
        (_, Err(source)) => Err(Error::Write {
            path: destination,
            source,
        }),
        _ => done(context, container, &source, &destination),
    }
}

fn done(
    context: &Context,
    container: &ContainerName,
    source: &Path,
    destination: &Path,
) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        container: &'a ContainerName,
        source: &'a Path,
        destination: &'a Path,
    }
    if context.json {
        output::print_json(&Document {
            container,
            source,
            destination,
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A path inside.
fn inner(path: &Path, verb: &str) -> Result<PathBuf, Error> {
    args::absolute(&path.to_string_lossy()).map_err(|e| Error::Invalid(format!("{verb}: {e}")))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Error::Output(e.into()))
}

/// Does `task` inside, with these as standard input and output (else /dev/null and ours).
fn visit(
    context: &Context,
    container: &ContainerName,
    task: &Task,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
) -> Result<u8, Error> {
    let name: MachineName = container.as_str().parse()?;
    let visit = Visit {
        command: vec!["netd".into()],
        env: Vec::new(),
        chdir: None,
        user: None,
        terminal: Terminal::Pipe,
        door: args::door(),
        task: Some(serde_json::to_string(task).map_err(|e| Error::Output(e.into()))?),
    };
    let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let ours = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)
        .map_err(|e| Error::Output(e.into()))?;
    let swap = || -> rustix::io::Result<()> {
        rustix::stdio::dup2_stdin(input.map_or_else(null, Ok)?)?;
        if let Some(output) = output {
            rustix::stdio::dup2_stdout(output)?;
        }
        Ok(())
    };
    swap().map_err(|e| Error::Output(e.into()))?;
    let exit = join::exec(&context.dirs.containers(), &name, &visit);
    // ours again; and the pipe's ends are closed, so that the other side sees the end
    let back = rustix::stdio::dup2_stdout(&ours).and_then(|()| rustix::stdio::dup2_stdin(null()?));
    back.map_err(|e| Error::Output(e.into()))?;
    Ok(exit?.status())
}

/// The task, inside. Returns an exit status; what went wrong is told on standard error.
pub(super) fn inside(task: &str) -> u8 {
    let done = match serde_json::from_str(task) {
        Ok(Task::Put { path, force, roots }) => {
            let owners = if roots { Owners::Root } else { Owners::Kept };
            put(io::stdin().lock(), &path, force, owners)
                .map_err(|e| format!("{}: {e}", path.display()))
        }
        Ok(Task::Get { path }) => get(&path).map_err(|e| format!("{}: {e}", path.display())),
        Err(e) => Err(e.to_string()),
    };
    match done {
        Ok(()) => 0,
        Err(reason) => {
            crate::cli::note(&format!("in the container: {reason}"));
            1
        }
    }
}

fn get(path: &Path) -> io::Result<()> {
    let (dir, file) = open_parent(path)?;
    let sink = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let packed = archive::pack_one(
        dir.as_fd(),
        &file,
        OsStr::new(MEMBER),
        sink,
        &Cancel::default(),
    );
    let mut sink = packed.map_err(|e| io::Error::other(chain(&e)))?;
    sink.flush()
}

/// Unpacks one member into a hidden folder beside `path`, and renames it into place.
fn put(source: impl io::Read, path: &Path, force: bool, owners: Owners) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::AlreadyExists.into());
    };
    // into a folder that is there, under the name it has
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty())?;
    let mut hidden = OsString::from(".#copy.");
    hidden.push(std::process::id().to_string());
    let clean = || {
        let at = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&parent));
        let _ = fs::remove_dir_all(Path::new(&at).join(&hidden));
    };
    clean();
    rustix::fs::mkdirat(&parent, &hidden, Mode::from_raw_mode(0o700))?;
    let place = || -> io::Result<()> {
        let flags = flags | OFlags::NOFOLLOW;
        let stage = rustix::fs::openat(&parent, &hidden, flags, Mode::empty())?;
        archive::unpack(source, stage.as_fd(), owners, &Cancel::default())
            .map_err(|e| io::Error::other(chain(&e)))?;
        let rename = |flags| rustix::fs::renameat_with(&stage, MEMBER, &parent, name, flags);
        match rename(RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) if force => Ok(rename(RenameFlags::EXCHANGE)?),
            Err(rustix::io::Errno::EXIST) => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is there already (--force replaces it)",
            )),
            done => Ok(done?),
        }
    };
    let placed = place();
    clean();
    placed
}

fn open_parent(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::openat(CWD, parent, flags, Mode::empty())?, name))
}
