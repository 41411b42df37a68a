//! A file or directory of the host, shown in a container that runs.
//!
//! The mount is copied and gets its attributes where nobody sees it; a process then enters the container's mount namespace, and only
//! that, and moves it into place. Paths inside are resolved in the container's root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::process::DumpableBehavior;

use super::subject::Subject;
use crate::error::SpawnError;
use crate::settings::MachineName;
use crate::sys::{self, Fork, MountAttributes, join};
use crate::wire::Wire;

/// What is shown, and how.
#[derive(Debug, Clone)]
pub struct Shown {
    /// A path of the host.
    pub source: PathBuf,
    /// An absolute path inside.
    pub destination: PathBuf,
    /// Whether nobody inside may write to it.
    pub read_only: bool,
    /// Whether what it is shown over is made where it is missing.
    pub make: bool,
    /// Whether the files' owners are mapped as the container's users are.
    pub idmap: bool,
}

/// Shows it, until the container ends. Devices among the files do nothing.
///
/// # Errors
/// [`SpawnError::NoSuchContainer`], or [`SpawnError::Join`] with what could not be done.
pub fn bind(state_root: &Path, name: &MachineName, what: &Shown) -> Result<(), SpawnError> {
    let subject = Subject::find(state_root, name)?;
    let fail = |action: &str, path: &Path| {
        let action = format!("{action} {}", path.display());
        let subject = &subject;
        move |e: io::Error| subject.fail(action, e)
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    let mount = rustix::mount::open_tree(CWD, &what.source, flags)
        .map_err(|e| fail("take a copy of the mount at", &what.source)(e.into()))?;
    let set = libc::MOUNT_ATTR_NODEV
        | if what.read_only {
            libc::MOUNT_ATTR_RDONLY
        } else {
            0
        };
    let plain = MountAttributes {
        set,
        ..Default::default()
    };
    sys::mount_setattr(mount.as_fd(), &plain)
        .map_err(fail("set attributes of the mount at", &what.source))?;
    let users = format!("/proc/{}/ns/user", subject.pid);
    let own_users = std::fs::read_link("/proc/self/ns/user").ok();
    if what.idmap && std::fs::read_link(&users).ok() != own_users {
        let userns = std::fs::File::open(&users)
            .map_err(fail("find the users of", Path::new(name.as_str())))?;
        let mapped = MountAttributes {
            set: libc::MOUNT_ATTR_IDMAP,
            clear: 0,
            userns: Some(userns.as_fd()),
        };
        sys::mount_setattr(mount.as_fd(), &mapped)
            .map_err(fail("map the user ids of the mount at", &what.source))?;
    }
    let directory =
        rustix::fs::fstat(&mount).map_err(|e| fail("look at", &what.source)(e.into()))?;
    let directory = FileType::from_raw_mode(directory.st_mode) == FileType::Directory;
    let root_id = subject.host_id(0);
    let (near, far) = Wire::pair().map_err(SpawnError::system("make a pair of sockets"))?;
    let child = match sys::fork().map_err(SpawnError::system("fork"))? {
        Fork::Child => {
            drop(near);
            let done = place(&subject, &mount, what, directory, root_id);
            far.send(&done.map_err(|e| e.to_string()));
            sys::exit(0)
        }
        Fork::Parent(child) => child,
    };
    drop(far);
    let answer: Option<Result<(), String>> = near.receive();
    let _ = sys::wait(child);
    match answer {
        Some(Ok(())) => Ok(()),
        Some(Err(reason)) => Err(subject.fail(
            format!(
                "show {} at {}",
                what.source.display(),
                what.destination.display()
            ),
            io::Error::other(reason),
        )),
        None => Err(subject.fail("enter its mount namespace", io::ErrorKind::BrokenPipe)),
    }
}

/// In a process of its own, which ends afterwards.
fn place(
    subject: &Subject,
    mount: &OwnedFd,
    what: &Shown,
    directory: bool,
    root_id: Option<u32>,
) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    join::setns(subject.pidfd.as_fd(), libc::CLONE_NEWNS.cast_unsigned())?;
    if what.make {
        // what is made belongs to the container's root; on a mapped mount nobody else could make it
        if let Some(id) = root_id {
            join::set_fs_user(id);
        }
        make(&what.destination, directory)?;
        join::set_fs_user(0);
    }
    let target = open(&what.destination, OFlags::PATH)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", &target, "", flags)?)
}

/// Below the root, which is the container's by now; no link of its /proc leads anywhere.
fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        &root,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

fn make(path: &Path, directory: bool) -> io::Result<()> {
    let mut so_far = PathBuf::from("/");
    let parts: Vec<_> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    for (n, part) in parts.iter().enumerate() {
        let parent = open(&so_far, OFlags::PATH | OFlags::DIRECTORY)?;
        so_far.push(part);
        match open(&so_far, OFlags::PATH) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => match n + 1 == parts.len()
                && !directory
            {
                true => {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    rustix::fs::openat(
                        &parent,
                        part.as_os_str(),
                        flags,
                        Mode::from_raw_mode(0o644),
                    )
                    .map(drop)?;
                }
                false => {
                    rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755))?
                }
            },
            Err(e) => return Err(e),
        }
        // a link that leads nowhere was there before, and is no place to mount on
        rustix::fs::statat(&parent, part.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
