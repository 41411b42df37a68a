//! The system calls that rustix does not wrap, or wraps as unsafe. All of this crate's `unsafe` is here.
#![allow(unsafe_code)]

pub(crate) mod join;

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::plan::IdRange;
use crate::seccomp::Instruction;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Waits for a child, whatever signals come meanwhile.
pub(crate) fn wait(child: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// A status as a shell reports it.
pub(crate) fn shell_status(status: WaitStatus) -> u8 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128u8.saturating_add(signal as u8),
        (None, None) => 255,
    }
}

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, and who the new one is.
    Parent(Pid),
}

/// fork(2). The caller has made sure that the process has one thread.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: with a single thread no lock can be held by somebody who does not exist in the child; `run` checks
    // for that, and the pid 1 of a container, the other caller, was itself made by a single-threaded clone.
    let pid = check(unsafe { libc::fork() }.into())?;
    Ok(match Pid::from_raw(pid as i32) {
        None => Fork::Child,
        Some(pid) => Fork::Parent(pid),
    })
}

/// Ends this process at once: no atexit handlers, no flushing of buffers that the parent owns, too.
pub(crate) fn exit(status: u8) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(status.into()) }
}

/// Moves this process into a mount namespace of its own.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS changes nothing that Rust code relies on; it also unshares the working directory, which
    // is no memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into()).map(drop)
}

/// Moves this process into a network namespace of its own.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes what later calls see, and no memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }.into()).map(drop)
}

/// Takes this process's loopback interface up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: the request is plain data, zeroed and with a name that ends in NUL; the kernel reads and writes it
    // during the calls only. Both calls are made for the member of the union that they use, the flags.
    unsafe {
        let mut request: libc::ifreq = mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request).into())?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request).into())?;
    }
    Ok(())
}

/// Attributes for [`mount_setattr`].
#[derive(Default)]
pub(crate) struct MountAttributes<'a> {
    /// `MOUNT_ATTR_…` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_…` to clear.
    pub(crate) clear: u64,
    /// The user namespace whose map `MOUNT_ATTR_IDMAP` takes.
    pub(crate) userns: Option<BorrowedFd<'a>>,
}

/// mount_setattr(2) on the mount that `mount` was opened from, without those below it.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, what: &MountAttributes<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: what.set,
        attr_clr: what.clear,
        propagation: 0,
        userns_fd: what.userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: the path is a NUL-terminated constant, the structure is initialised, lives across the call, and its
    // size is passed with it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// A user namespace with these maps (user_namespaces(7)): first inside, first outside, how many. It lives as long as the
/// descriptor.
pub(crate) fn user_namespace(uids: &[IdRange], gids: &[IdRange]) -> io::Result<OwnedFd> {
    let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let pid = match fork()? {
        Fork::Child => {
            // SAFETY: unshare and pause have no memory effects; the child does nothing else.
            let done = unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
            let _ = rustix::io::write(&tell, &[u8::from(done)]);
            loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            }
        }
        Fork::Parent(pid) => pid,
    };
    drop(tell);
    let opened = (|| {
        let mut done = [0];
        rustix::io::read(&ready, &mut done)?;
        if done != [1] {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let dir = format!("/proc/{}", pid.as_raw_nonzero());
        for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
            let lines = map
                .iter()
                .map(|(inside, outside, size)| format!("{inside} {outside} {size}\n"));
            std::fs::write(format!("{dir}/{file}"), lines.collect::<String>())?;
        }
        Ok(OwnedFd::from(std::fs::File::open(format!(
            "{dir}/ns/user"
        ))?))
    })();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    let _ = wait(pid);
    opened
}

/// pidfd_send_signal(2) with any signal number, real-time ones too.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks for the one kill(2) would send; the other arguments are plain numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// kill(2), for the stub that is pid 1.
pub(crate) fn kill(pid: Pid, signal: i32) {
    // SAFETY: plain numbers. Failure means that the process is gone, which the caller learns by waiting.
    unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
}

/// Overwrites this process's command line, as ps(1) shows it, with `name`.
pub(crate) fn set_command_line(name: &str) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // arg_start and arg_end are fields 48 and 49, proc_pid_stat(5); field 3 is the first after the name
    let mut fields = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(45);
    let mut next = || fields.next()?.parse::<usize>().ok();
    let (Some(start), Some(end)) = (next(), next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let length = end.saturating_sub(start);
    if start == 0 || length == 0 {
        return Ok(());
    }
    let name = &name.as_bytes()[..name.len().min(length - 1)];
    // SAFETY: the kernel says that these bytes are the arguments' strings; they lie on this process's own stack, are
    // writable, and only the stub calls this, which never looks at its arguments again.
    unsafe {
        let area = std::slice::from_raw_parts_mut(start as *mut u8, length);
        area.fill(0);
        area[..name.len()].copy_from_slice(name);
    }
    Ok(())
}

/// Puts this process, and all it becomes and forks, under a system call filter.
pub(crate) fn load_filter(program: &[Instruction]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        // `Instruction` is laid out as the kernel's sock_filter
        filter: program.as_ptr() as *mut libc::sock_filter,
    };
    // SAFETY: the structure and the instructions it points to live across the call; the kernel copies, and checks,
    // them, and does not write to them.
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

/// Closes everything but standard input, output and error.
pub(crate) fn close_all_but_stdio() -> io::Result<()> {
    // SAFETY: only for a process that ends without running destructors (the stub), so nobody uses or closes the
    // descriptors again.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) }).map(drop)
}

fn set_of(signals: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set that it is given, sigaddset ignores numbers that are none.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Signals that arrive as data. Dropping it lets them act again as they did.
pub(crate) struct SignalFd {
    fd: OwnedFd,
    old: libc::sigset_t,
}

impl SignalFd {
    /// Blocks `signals` and opens a descriptor (non-blocking) that they can be read from.
    pub(crate) fn open(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let set = set_of(signals);
        // SAFETY: both sets are initialised and live across the calls; a new descriptor is owned by nobody else.
        unsafe {
            let mut old = mem::zeroed();
            check(libc::sigprocmask(libc::SIG_BLOCK, &set, &mut old).into())?;
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            let fd = check(libc::signalfd(-1, &set, flags).into()).inspect_err(|_| {
                libc::sigprocmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
            })?;
            Ok(Self {
                fd: OwnedFd::from_raw_fd(fd as RawFd),
                old,
            })
        }
    }

    /// The next signal that has arrived, if there is one, and whether the terminal sent it (to the whole foreground
    /// group).
    pub(crate) fn next(&self) -> Option<(i32, bool)> {
        let mut buffer = [0u8; mem::size_of::<libc::signalfd_siginfo>()];
        // ssi_signo is the first field, ssi_code the third, signalfd(2)
        let field = |buffer: &[u8], at: usize| {
            i32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]])
        };
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(n) if n == buffer.len() => {
                Some((field(&buffer, 0), field(&buffer, 8) == libc::SI_KERNEL))
            }
            _ => None,
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        // SAFETY: `old` was filled by sigprocmask.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.old, std::ptr::null_mut()) };
    }
}

/// The signals that were blocked before [`block_all_signals`].
pub(crate) struct OldMask(libc::sigset_t);

/// For the stub: every signal waits until it is asked for.
pub(crate) fn block_all_signals() -> OldMask {
    // SAFETY: sigfillset initialises the set; both live across the calls.
    unsafe {
        let (mut set, mut old) = (mem::zeroed(), mem::zeroed());
        libc::sigfillset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, &mut old);
        OldMask(old)
    }
}

impl OldMask {
    /// For the stub's child.
    pub(crate) fn restore(&self) {
        // SAFETY: the set was filled by sigprocmask.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Makes every signal act, and arrive, as it does for a process that nobody prepared: what this one was started with (SIGINT ignored
/// in the background of a script, SIGHUP by nohup, SIGPIPE by Rust) is the caller's business and no command's inside. For a process
/// that is about to exec.
pub(crate) fn reset_signals() {
    // The kernel's own structure, of handler, flags, restorer and mask: all zero is the default action. The C library would refuse
    // the two signals that it keeps for itself, and they may have been ignored, too.
    let default = [0u64; 4];
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the structure is no longer than the array, which lives across the call; no code becomes a handler. SIGKILL and
        // SIGSTOP are refused, which nobody minds.
        unsafe {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8);
        }
    }
    let none = set_of([]);
    // SAFETY: the set is initialised and lives across the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) };
}

/// Makes it possible to wait for children, also where whoever started this process had them reaped unseen (SIGCHLD ignored).
pub(crate) fn keep_dead_children() {
    // SAFETY: no code of ours becomes a handler; a caller's own handler is left as it is.
    unsafe {
        let mut now: libc::sigaction = mem::zeroed();
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut now);
        if now.sa_sigaction == libc::SIG_IGN {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
    }
}

/// For the stub: the next signal, and whether the terminal sent it (to the whole foreground group, the stub's child
/// among them).
pub(crate) fn wait_for_signal() -> (i32, bool) {
    // SAFETY: both structures are plain data that live across the calls.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigfillset(&mut set);
        loop {
            let mut info: libc::siginfo_t = mem::zeroed();
            let signal = libc::sigwaitinfo(&set, &mut info);
            if signal > 0 {
                return (signal, info.si_code == libc::SI_KERNEL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signal_arrives_as_data_and_acts_again_afterwards() {
        // SIGURG is ignored by default, so nothing breaks if another thread of the harness takes it
        let fd = SignalFd::open([libc::SIGURG]).unwrap();
        assert_eq!(fd.next(), None);
        // SAFETY: raise sends a signal, that is blocked, to this thread.
        unsafe { libc::raise(libc::SIGURG) };
        assert_eq!(fd.next(), Some((libc::SIGURG, false)));
        assert_eq!(fd.next(), None);
    }
}
