//! Private ground: the bench moves itself into namespaces of its own before it does anything, and makes further
//! network namespaces there, one for each host and each container it plays with.
//!
//! Nothing here ever touches the machine's own network: [`privately`] comes first, and every mount it makes is seen
//! by this process and its children only.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::error::{During, Result};

/// Where network namespaces get names, as `ip netns` and the container tools expect.
const NETNS_DIR: &str = "/run/netns";

/// Folders that tools under comparison write to: hidden under a tmpfs each.
const HIDDEN: [&str; 3] = ["/run", "/var/lib/cni", "/var/lib/containers"];

/// Moves this process into a network and a mount namespace of its own.
/// Must be called before any thread is started.
pub(crate) fn privately() -> Result<()> {
    unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .during(|| "make all mounts private".into())?;
    for folder in HIDDEN {
        if Path::new(folder).is_dir() {
            mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None)
                .during(|| format!("hide {folder}"))?;
        }
    }
    // sysfs shows the network namespace it was mounted in, and programs look there for interfaces. Under it, a
    // plain cgroup2 tree: OCI runtimes refuse a missing one, and crun a hybrid one. The old mounts go first, or
    // /proc/self/mountinfo would still tell of v1 hierarchies hidden below the new ones.
    unmount("/sys", UnmountFlags::DETACH).during(|| "unmount the old sysfs".into())?;
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).during(|| "mount sysfs".into())?;
    mount(
        "cgroup2",
        "/sys/fs/cgroup",
        "cgroup2",
        MountFlags::empty(),
        None,
    )
    .during(|| "mount cgroup2".into())?;
    fs::create_dir_all(NETNS_DIR).during(|| format!("create {NETNS_DIR}"))
}

/// A network namespace with a name under /run/netns. Dropping it takes the name away; the namespace dies with the
/// last process in it.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
    fd: OwnedFd,
}

impl Netns {
    /// Makes an empty one.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let path = Path::new(NETNS_DIR).join(name);
        fs::File::create(&path).during(|| format!("create {}", path.display()))?;
        // A thread that dies afterwards: nothing has to be put back.
        on_thread(|| {
            unshare(UnshareFlags::NEWNET)?;
            mount_bind("/proc/thread-self/ns/net", &path)
                .during(|| format!("name a network namespace {}", path.display()))
        })?;
        let fd = fs::File::open(&path)
            .during(|| format!("open {}", path.display()))?
            .into();
        Ok(Self { path, fd })
    }

    /// Its name under /run/netns.
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(|n| n.to_str()).unwrap_or("")
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor, for messages that name a namespace by one.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its descriptor alone, for another thread.
    pub(crate) fn try_clone(&self) -> Result<Handle> {
        self.fd
            .try_clone()
            .map(Handle)
            .during(|| format!("duplicate the descriptor of {}", self.path.display()))
    }

    /// Moves the calling thread, and what it starts from now on, into it.
    pub(crate) fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.fd(), Some(LinkNameSpaceType::Network))
            .during(|| format!("enter {}", self.path.display()))
    }

    /// Does `work` inside, on a thread of its own.
    pub(crate) fn on<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            self.enter()?;
            work()
        })
    }
}

/// A network namespace without a name.
pub(crate) struct Handle(OwnedFd);

impl Handle {
    /// Moves the calling thread into it.
    pub(crate) fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .during(|| "enter a network namespace".into())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Best effort: the mount namespace dies with this process anyway.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// Does `work` on a thread of its own, which may enter namespaces.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[allow(
    unsafe_code,
    reason = "rustix marks every unshare unsafe because of UnshareFlags::FILES"
)]
fn unshare(flags: UnshareFlags) -> Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: unsound only with `FILES`, where a thread could see another thread's descriptors vanish; callers in
    // this module pass NEWNET and NEWNS.
    unsafe { rustix::thread::unshare_unsafe(flags) }.during(|| format!("unshare {flags:?}"))
}
