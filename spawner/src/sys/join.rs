//! The system calls of those who enter a container that runs, or look at it.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::FdFlags;
use rustix::mount::OpenTreeFlags;

use super::{MountAttributes, check, mount_setattr};

/// How many resource limits there are, linux/resource.h.
const LIMITS: u32 = 16;

/// A descriptor that this process was given by number, made its own and closed on exec.
pub(crate) fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number was handed down by the process that started this one for just this use, and each is taken once;
    // one that is not open is found out by the next line.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    match rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        Ok(()) => Ok(fd),
        Err(e) => {
            // nothing to close
            mem::forget(fd);
            Err(e.into())
        }
    }
}

/// A descriptor by its number, for as long as its owner, whom the caller holds, lives.
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the callers hold the owner of each number across the use of what is returned.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// This program's file in a way that nobody who reaches it by /proc/PID/exe can write to: a mount of its own, read-only, that no
/// namespace holds; or, where the file is gone from its directory, a sealed copy in memory.
pub(crate) fn own_program() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if let Ok(mount) = rustix::mount::open_tree(CWD, "/proc/self/exe", flags) {
        let attributes = MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Default::default()
        };
        mount_setattr(mount.as_fd(), &attributes)?;
        return Ok(mount);
    }
    let mut program = std::fs::File::from(rustix::fs::open(
        "/proc/self/exe",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = std::fs::File::from(rustix::fs::memfd_create("netd", flags)?);
    io::copy(&mut program, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// setns(2) into several namespaces of one process at once.
pub(crate) fn setns(pidfd: BorrowedFd<'_>, namespaces: u32) -> io::Result<()> {
    if namespaces == 0 {
        return Ok(());
    }
    // SAFETY: changes what later calls see, and no memory.
    check(unsafe { libc::setns(pidfd.as_raw_fd(), namespaces.cast_signed()) }.into()).map(drop)
}

/// Becomes a user, all ids and groups. For a process with one thread.
pub(crate) fn set_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the list lives across the call and its length is passed with it; the others take numbers.
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()).into())?;
        check(libc::setresgid(gid, gid, gid).into())?;
        check(libc::setresuid(uid, uid, uid).into())?;
    }
    Ok(())
}

/// The resource limits of a process: which, soft, hard.
pub(crate) fn limits(pid: i32) -> io::Result<Vec<(u32, u64, u64)>> {
    (0..LIMITS)
        .map(|which| {
            let mut limit = libc::rlimit64 {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: nothing new is set, and the structure that is written lives across the call.
            check(unsafe { libc::prlimit64(pid, which, std::ptr::null(), &mut limit) }.into())?;
            Ok((which, limit.rlim_cur, limit.rlim_max))
        })
        .collect()
}

/// Sets this process's limits.
pub(crate) fn set_limits(limits: &[(u32, u64, u64)]) -> io::Result<()> {
    for (which, soft, hard) in limits {
        let limit = libc::rlimit64 {
            rlim_cur: *soft,
            rlim_max: *hard,
        };
        // SAFETY: the structure lives across the call; the old limit is not asked for.
        check(unsafe { libc::prlimit64(0, *which, &limit, std::ptr::null_mut()) }.into())?;
    }
    Ok(())
}

/// Closes everything but standard input, output, error and `kept`. For a process that will exec or `_exit`.
pub(crate) fn close_all_but_stdio_and(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd().cast_unsigned();
    let range = |first: u32, last: u32| -> io::Result<()> {
        if first > last {
            return Ok(());
        }
        // SAFETY: only for a process that does not return from this code to any owner of another descriptor.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
    };
    range(3, kept.saturating_sub(1))?;
    range(kept + 1, u32::MAX)
}

/// Begins to trace a process, and asks it to stop.
pub(crate) fn trace(pid: i32) -> io::Result<()> {
    // SAFETY: neither request touches memory of ours.
    unsafe {
        check(libc::ptrace(libc::PTRACE_SEIZE, pid, 0usize, 0usize))?;
        check(libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0usize, 0usize))
            .inspect_err(|_| untrace(pid))?;
    }
    Ok(())
}

/// Whether a traced process has stopped by now.
pub(crate) fn has_stopped(pid: i32) -> io::Result<bool> {
    let mut status = 0;
    // SAFETY: the status lives across the call.
    let who =
        check(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG | libc::__WALL) }.into())?;
    match who != 0 && !libc::WIFSTOPPED(status) {
        true => Err(io::ErrorKind::NotFound.into()),
        false => Ok(who != 0),
    }
}

/// Lets a traced process go on. One that has not stopped yet goes on when this process ends.
pub(crate) fn untrace(pid: i32) {
    // SAFETY: no memory of ours is touched.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0usize, 0usize) };
}

/// The `index`th filter, oldest first, of a stopped process; an instruction in eight bytes. ENOENT: there is none.
pub(crate) fn filter_of(pid: i32, index: u64) -> io::Result<Vec<u64>> {
    const GET_FILTER: libc::c_uint = 0x420c; // PTRACE_SECCOMP_GET_FILTER, linux/ptrace.h
    // SAFETY: without a buffer the kernel only tells how long the filter is; then the buffer has that length.
    unsafe {
        let count = check(libc::ptrace(
            GET_FILTER,
            pid,
            index,
            std::ptr::null_mut::<u64>(),
        ))?;
        let mut filter = vec![0u64; usize::try_from(count).unwrap_or(0)];
        let written = check(libc::ptrace(GET_FILTER, pid, index, filter.as_mut_ptr()))?;
        match written == count {
            true => Ok(filter),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Puts this process under a filter as [`filter_of`] gave it.
pub(crate) fn load_raw_filter(filter: &[u64]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?,
        filter: filter.as_ptr() as *mut libc::sock_filter,
    };
    // SAFETY: an instruction is eight bytes, aligned to four; structure and instructions live across the call; the kernel
    // copies and checks them, and does not write to them.
    check(
        unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &program as *const libc::sock_fprog,
            )
        }
        .into(),
    )
    .map(drop)
}

/// Makes files as this user and group from now on. For a process with one thread.
pub(crate) fn set_fs_user(id: u32) {
    // SAFETY: plain numbers. They report no failure; who may not has the old ids, and the next call on a file tells.
    unsafe {
        libc::setfsgid(id);
        libc::setfsuid(id);
    }
}
