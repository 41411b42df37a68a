//! What the monitor mounts in its own mount namespace so that libcontainer has only plain binds to make ([`Making`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};

use crate::inside;
use crate::plan::{Making, Plan};
use crate::root::{self, Attributes};
use crate::settings::{IdMap, Source};
use crate::sys::{self, MountAttributes};
use crate::wire::Failure;

/// Makes one, after the root is there. `userns` maps files as the container's user namespace does.
pub(crate) fn make(
    plan: &Plan<'_>,
    making: &Making,
    userns: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    match making {
        Making::Clone {
            source: Source::Host(path),
            point,
            read_only,
            idmap: IdMap::Same,
            ..
        } => {
            let attributes = Attributes {
                nodev: true,
                top_read_only: *read_only,
                below_read_only: *read_only,
                userns,
            };
            root::mount_tree(path, point, &[], &attributes)
        }
        Making::Clone {
            source,
            point,
            read_only,
            recursive,
            idmap,
            owner: inside,
        } => {
            let source = open(plan, source).map_err(failed("find what is bound at", point))?;
            let userns = match (idmap, plan.range) {
                (IdMap::Root | IdMap::Owner, Some(_)) => {
                    let owner = rustix::fs::fstat(&source)
                        .map_err(|e| failed("look at what is bound at", point)(e.into()))?;
                    // the group too: what belongs to nobody inside cannot be written there
                    let uids = [(owner.st_uid, inside.0, 1)];
                    let gids = [(owner.st_gid, inside.1, 1)];
                    Some(
                        sys::user_namespace(&uids, &gids)
                            .map_err(failed("make a user namespace for", point))?,
                    )
                }
                _ => None,
            };
            let userns = userns.as_ref().map(AsFd::as_fd);
            clone(&source, point, *read_only, *recursive, userns).map_err(failed(
                "show a part of the root, or map its owner, at",
                point,
            ))
        }
        Making::Overlay {
            lower,
            upper,
            point,
        } => overlay(plan, lower, upper.as_ref(), point).map_err(failed(
            "mount an overlay (which not every file system can be a part of) at",
            point,
        )),
        Making::Files { files, point, mode } => {
            let owner = plan.range.map_or(0, |range| range.base);
            let write = || write_files(files, point, *mode, owner);
            write().map_err(failed("write files for the container into", point))
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |e| Failure::Root {
        action: action.to_owned(),
        path,
        reason: e.to_string(),
    }
}

/// A descriptor of a place, so that nobody who renames things meanwhile leads us elsewhere.
fn open(plan: &Plan<'_>, source: &Source) -> io::Result<OwnedFd> {
    match source {
        Source::Root(path) => inside::open(&plan.root, path, OFlags::PATH),
        Source::Host(path) => Ok(rustix::fs::open(
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )?),
        Source::Temporary => Err(io::ErrorKind::NotFound.into()),
    }
}

fn clone(
    source: &OwnedFd,
    point: &Path,
    read_only: bool,
    recursive: bool,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive && userns.is_none() {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = rustix::mount::open_tree(source, "", flags)?;
    let mut set = libc::MOUNT_ATTR_NODEV;
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if userns.is_some() {
        set |= libc::MOUNT_ATTR_IDMAP;
    }
    let attributes = MountAttributes {
        set,
        clear: 0,
        userns,
    };
    sys::mount_setattr(mount.as_fd(), &attributes)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&mount, "", CWD, point, empty)?)
}

fn overlay(
    plan: &Plan<'_>,
    lower: &[Source],
    upper: Option<&(Source, std::path::PathBuf)>,
    point: &Path,
) -> io::Result<()> {
    // by descriptor: no path has to be escaped, and none can lead elsewhere meanwhile
    let layers = lower
        .iter()
        .map(|layer| open(plan, layer))
        .collect::<io::Result<Vec<_>>>()?;
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    // the kernel wants the topmost first
    let mut lower: Vec<_> = layers.iter().rev().map(path).collect();
    let mut data = String::new();
    let mut held = Vec::new();
    match upper {
        Some((upper, work)) => {
            let upper = open(plan, upper)?;
            let work = open(plan, &Source::Host(work.clone()))?;
            data = format!(",upperdir={},workdir={}", path(&upper), path(&work));
            held.extend([upper, work]);
        }
        // one layer alone is no overlay for the kernel: an empty one below it
        None if lower.len() == 1 => lower.push(path(&empty(point)?)),
        None => {}
    }
    let data = format!("lowerdir={}{data}", lower.join(":"));
    let data = std::ffi::CString::new(data)?;
    let flags = MountFlags::NODEV;
    rustix::mount::mount("overlay", point, "overlay", flags, Some(data.as_c_str()))?;
    drop(held);
    Ok(())
}

/// One tree laid over another, written to in `upper`.
pub(crate) fn overlay_of(lower: &Path, upper: &Path, work: &Path, point: &Path) -> io::Result<()> {
    let open = |path: &Path| -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    };
    let (lower, upper, work) = (open(lower)?, open(upper)?, open(work)?);
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        path(&lower),
        path(&upper),
        path(&work)
    );
    let data = std::ffi::CString::new(data)?;
    let flags = MountFlags::NODEV;
    Ok(rustix::mount::mount(
        "overlay",
        point,
        "overlay",
        flags,
        Some(data.as_c_str()),
    )?)
}

/// An empty directory: the mount point itself, before something is mounted on it.
fn empty(point: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(point, flags, Mode::empty())?)
}

/// A tmpfs, with the files and nothing else, that is read-only afterwards.
fn write_files(files: &[(String, Vec<u8>)], point: &Path, mode: u32, owner: u32) -> io::Result<()> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", point, "tmpfs", flags, Some(c"mode=700,size=2m"))?;
    let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
    for (name, content) in files {
        let path = point.join(name);
        std::fs::write(&path, content)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
        rustix::fs::chown(&path, Some(uid), Some(gid))?;
    }
    // who may read the files may list them
    let search = Mode::from_raw_mode(mode | (mode & 0o444) >> 2);
    rustix::fs::chmod(point, search)?;
    rustix::fs::chown(point, Some(uid), Some(gid))?;
    let read_only = flags | MountFlags::RDONLY;
    Ok(rustix::mount::mount_remount(point, read_only, c"")?)
}
