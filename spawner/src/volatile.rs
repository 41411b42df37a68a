//! `--volatile=yes` and `--volatile=overlay`: roots of which nothing is kept.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use crate::inside;
use crate::plan::Plan;
use crate::root::{self, Attributes, failed};
use crate::wire::Failure;

/// What a root has where nothing of it is kept, and whose it is: mode and path.
const SKELETON: [(u32, &str); 9] = [
    (0o755, "dev"),
    (0o755, "etc"),
    (0o555, "proc"),
    (0o700, "root"),
    (0o755, "run"),
    (0o555, "sys"),
    (0o1777, "tmp"),
    (0o755, "usr"),
    (0o755, "var"),
];

/// Links of a root in which everything is below /usr (UsrMerge).
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// An empty root in memory, with the /usr of `source`.
pub(crate) fn usr_alone(
    plan: &Plan<'_>,
    source: &Path,
    attributes: &Attributes<'_>,
) -> Result<(), Failure> {
    let refuse = |path: PathBuf, reason: &str| Failure::Root {
        action: "use --volatile=yes with".to_owned(),
        path,
        reason: reason.to_owned(),
    };
    let usr = source.join("usr");
    if !std::fs::symlink_metadata(&usr).is_ok_and(|meta| meta.is_dir()) {
        return Err(refuse(usr, "it is no directory"));
    }
    let mut links = Vec::new();
    for name in MERGED {
        let path = source.join(name);
        match std::fs::read_link(&path) {
            Ok(target) => links.push((name, target)),
            Err(_) if !inside::is_directory(source, Path::new(name)) => {}
            Err(_) => {
                return Err(refuse(
                    path,
                    "it is no link into /usr: give --volatile=overlay",
                ));
            }
        }
    }
    let skeleton = || -> io::Result<()> {
        let owner = plan.range.map_or(0, |range| range.base);
        memory(&plan.root, 0o755, owner, owner)?;
        for (mode, name) in SKELETON {
            let path = plan.root.join(name);
            std::fs::DirBuilder::new().mode(0o700).create(&path)?;
            chown(&path, Some(owner), Some(owner))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        }
        for (name, target) in &links {
            symlink(target, plan.root.join(name))?;
        }
        Ok(())
    };
    skeleton().map_err(failed("make a root in memory at", &plan.root))?;
    root::mount_tree(&usr, &plan.root.join("usr"), &[], attributes)
}

/// The root of `source`, and what is written goes to memory.
pub(crate) fn overlay(
    plan: &Plan<'_>,
    source: &Path,
    attributes: &Attributes<'_>,
) -> Result<(), Failure> {
    // two places of the container's own that nothing else is mounted at
    let dir = plan.root.parent().unwrap_or(&plan.root);
    let (lower, memory_at) = (dir.join("binds/lower"), dir.join("binds/upper"));
    let prepare = || -> io::Result<()> {
        for path in [&lower, &memory_at] {
            std::fs::DirBuilder::new().mode(0o711).create(path)?;
        }
        memory(&memory_at, 0o755, 0, 0)
    };
    prepare().map_err(failed("make room in memory at", &memory_at))?;
    let whole = Attributes {
        nodev: true,
        top_read_only: true,
        below_read_only: true,
        userns: attributes.userns,
    };
    root::clone(source, &lower, true, &whole)?;
    let mount = || -> io::Result<()> {
        // as it is seen through the mapping
        let meta = std::fs::metadata(&lower)?;
        let (upper, work) = (memory_at.join("upper"), memory_at.join("work"));
        std::fs::DirBuilder::new().mode(0o700).create(&work)?;
        std::fs::DirBuilder::new().mode(0o700).create(&upper)?;
        chown(&upper, Some(meta.uid()), Some(meta.gid()))?;
        std::fs::set_permissions(
            &upper,
            std::fs::Permissions::from_mode(meta.mode() & 0o7777),
        )?;
        crate::making::overlay_of(&lower, &upper, &work, &plan.root)
    };
    mount().map_err(failed("lay memory over the root at", &plan.root))
}

fn memory(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    let data = format!("mode={mode:o},uid={uid},gid={gid},size=10%");
    let data = std::ffi::CString::new(data)?;
    let flags = MountFlags::NODEV;
    Ok(rustix::mount::mount(
        "tmpfs",
        path,
        "tmpfs",
        flags,
        Some(data.as_c_str()),
    )?)
}
