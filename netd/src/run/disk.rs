//! `--image=`: a disk as the container's root, mounted where nobody but this process and its container sees it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use images::disk::Mounted;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::cli::{Context, RunArgs};
use crate::error::Error;
use crate::sys;

/// A disk that is mounted as long as this lives, and no longer than the process.
pub(super) struct Disk {
    directory: PathBuf,
    /// What is mounted, once it is.
    held: Option<Mounted>,
}

impl Disk {
    /// Where it is mounted.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // also where only a part of it came to be mounted
        let _ = rustix::mount::unmount(&self.directory, UnmountFlags::DETACH);
        self.held = None;
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Mounts the disk in a mount namespace of this process's own.
pub(super) fn mount(
    context: &Context,
    path: &Path,
    args: &RunArgs,
    name: &str,
) -> Result<Disk, Error> {
    if args.files.ephemeral || args.files.template.is_some() {
        let words = "run: --image= goes with neither --ephemeral nor --template=: `netd clone` copies an image, \
                     --volatile=yes and --read-only leave it as it is";
        return Err(Error::Invalid(words.into()));
    }
    let directory = context.dirs.runtime.join("disks").join(name);
    let fail = |source| Error::Write {
        path: directory.clone(),
        source,
    };
    // the users of the container must be able to pass
    let mut builder = DirBuilder::new();
    let made = builder.mode(0o711).recursive(true).create(&directory);
    made.map_err(fail)?;
    let mut disk = Disk {
        directory: directory.clone(),
        held: None,
    };
    sys::new_mounts().map_err(fail)?;
    // what is mounted on the host later is seen here, and not the other way round
    let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", down).map_err(|e| fail(e.into()))?;
    let writable = fs::metadata(path).is_ok_and(|meta| !meta.permissions().readonly());
    let read_only = args.read_only || !writable;
    disk.held = Some(images::disk::mount(path, &directory, read_only)?);
    Ok(disk)
}
