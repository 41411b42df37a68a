//! The container's root, put together in the monitor's own mount namespace before libcontainer sees it.
//!
//! Every mount at or below the source is cloned by itself (`open_tree`), gets its attributes while nobody can see it
//! (`mount_setattr`: no devices, read-only, id-mapped) and is then moved into place (`move_mount`). libcontainer rejects id-mapped
//! mounts; a root that is one already it takes like any other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags};

use crate::making;
use crate::plan::Plan;
use crate::settings::Volatile;
use crate::sys::{self, MountAttributes};
use crate::volatile;
use crate::wire::Failure;

/// What of the host's root is not shown: a container has its own.
const NOT_SHOWN: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Enters a mount namespace that sees what the host mounts later, and shows the host nothing.
pub(crate) fn enter_private_mounts() -> io::Result<()> {
    sys::unshare_mounts()?;
    let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", down)?;
    Ok(())
}

/// Mounts the root at `plan.root`, and makes what is shown over it.
pub(crate) fn mount(plan: &Plan<'_>) -> Result<(), Failure> {
    let settings = plan.settings;
    let userns = match plan.range {
        Some(range) => Some(
            one_to_one(range.base, range.size)
                .map_err(failed("make a user namespace for the files of", &plan.root))?,
        ),
        None => None,
    };
    if let Some(point) = &plan.userns {
        let make = || -> io::Result<()> {
            let namespace = sys::user_namespace(&plan.uid_map(), &plan.gid_map())?;
            let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
            Ok(rustix::mount::mount_bind(path, point)?)
        };
        make().map_err(failed("put a user namespace at", point))?;
    }
    let userns = userns.as_ref().map(AsFd::as_fd);
    let mapped = plan.range.is_some_and(|range| range.idmap);
    let kept = settings.volatile == Volatile::No;
    let whole = plan.directory.is_some();
    let attributes = Attributes {
        // devices are in /dev, which is its own mount; anywhere else they would be the host's
        nodev: true,
        top_read_only: !whole || !kept,
        below_read_only: !whole || settings.read_only || !kept,
        userns: userns.filter(|_| mapped),
    };
    let source = plan.directory.as_deref().unwrap_or(Path::new("/"));
    match settings.volatile {
        Volatile::No | Volatile::State => {
            let hidden: &[&str] = if whole { &[] } else { &NOT_SHOWN };
            mount_tree(source, &plan.root, hidden, &attributes)?;
        }
        Volatile::Yes => volatile::usr_alone(plan, source, &attributes)?,
        Volatile::Overlay => volatile::overlay(plan, source, &attributes)?,
    }
    for making in &plan.makings {
        making::make(plan, making, userns)?;
    }
    Ok(())
}

/// Maps files as they are on disk to the users from `base` on.
fn one_to_one(base: u32, size: u32) -> io::Result<OwnedFd> {
    let map = [(0, base, size)];
    sys::user_namespace(&map, &map)
}

pub(crate) fn failed(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure + use<> {
    let (action, path) = (action.to_owned(), path.to_owned());
    move |e: io::Error| Failure::Root {
        action,
        path,
        reason: e.to_string(),
    }
}

pub(crate) struct Attributes<'a> {
    pub(crate) nodev: bool,
    pub(crate) top_read_only: bool,
    pub(crate) below_read_only: bool,
    pub(crate) userns: Option<BorrowedFd<'a>>,
}

/// Copies every mount at or below `source`, but for what is hidden, to `target`.
pub(crate) fn mount_tree(
    source: &Path,
    target: &Path,
    hidden: &[&str],
    attributes: &Attributes<'_>,
) -> Result<(), Failure> {
    let source = source.canonicalize().map_err(|e| Failure::Root {
        action: "find".into(),
        path: source.to_owned(),
        reason: e.to_string(),
    })?;
    clone(&source, target, attributes.top_read_only, attributes)?;
    for point in mount_points(&source).map_err(|e| Failure::Root {
        action: "read".into(),
        path: "/proc/self/mountinfo".into(),
        reason: e.to_string(),
    })? {
        if hidden.iter().any(|h| point.starts_with(h)) || point.starts_with(target) {
            continue;
        }
        let Ok(below) = point.strip_prefix(&source) else {
            continue;
        };
        let done = clone(
            &point,
            &target.join(below),
            attributes.below_read_only,
            attributes,
        );
        // Of the host's root one part may be missing (a file system that cannot be mapped, or a mount point that was
        // covered); a directory that was asked for must be whole.
        if hidden.is_empty() {
            done?;
        }
    }
    Ok(())
}

/// Copies one mount, with attributes, to `target`.
pub(crate) fn clone(
    source: &Path,
    target: &Path,
    read_only: bool,
    attributes: &Attributes<'_>,
) -> Result<(), Failure> {
    let fail = |action: &'static str, path: &Path, hint: &'static str| {
        let path = path.to_owned();
        move |e: io::Error| Failure::Root {
            action: action.into(),
            path,
            reason: format!("{e}{hint}"),
        }
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    let mount: OwnedFd = rustix::mount::open_tree(CWD, source, flags)
        .map_err(|e| fail("take a copy of the mount at", source, "")(e.into()))?;
    let mut set = 0;
    if attributes.nodev {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let plain = MountAttributes {
        set,
        ..Default::default()
    };
    sys::mount_setattr(mount.as_fd(), &plain).map_err(fail(
        "set attributes of the mount at",
        source,
        "",
    ))?;
    if let Some(userns) = attributes.userns {
        let idmap = MountAttributes {
            set: libc::MOUNT_ATTR_IDMAP,
            clear: 0,
            userns: Some(userns),
        };
        sys::mount_setattr(mount.as_fd(), &idmap).map_err(fail(
            "map the user ids of the mount at",
            source,
            " (its file system cannot do that, or it is mapped already; without it, the files must belong to a range \
             of 65,536 ids that begins at a multiple of 65,536, as after --private-users-ownership=chown)",
        ))?;
    }
    rustix::mount::move_mount(
        &mount,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|e| fail("mount the container's root at", target, "")(e.into()))
}

/// What is mounted strictly below `source`, each once, outermost first.
fn mount_points(source: &Path) -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(points_below(&text, source))
}

fn points_below(mountinfo: &[u8], source: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mountinfo
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(unescape)
        .filter(|point| point != source && point.starts_with(source))
        .collect();
    // sorted by component, so a parent comes before what is below it
    points.sort();
    points.dedup();
    points
}

/// mountinfo writes blanks and backslashes as three octal digits, proc_pid_mountinfo(5).
fn unescape(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                tail @ ..,
            ] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_come_once_and_outermost_first() {
        let text = b"22 1 8:1 / / rw - ext4 x rw\n23 22 0:1 / /srv/a/b rw - tmpfs x rw\n\
            24 22 0:2 / /srv/a rw - tmpfs x rw\n25 24 0:3 / /srv/a rw - tmpfs x rw\n\
            26 22 0:4 / /srv/with\\040blank rw - tmpfs x rw\n27 22 0:5 / /srvx rw - tmpfs x rw\n";
        let below = |source: &str| points_below(text, Path::new(source));
        assert_eq!(
            below("/srv"),
            [
                Path::new("/srv/a"),
                Path::new("/srv/a/b"),
                Path::new("/srv/with blank")
            ]
        );
        assert_eq!(below("/").len(), 4);
        assert!(below("/srv/a/b").is_empty());
    }
}
