//! Writes a container's /etc/resolv.conf, as a process of its own: `netd fill-resolv-conf`, with the container's root as
//! standard input.
//!
//! The tree belongs to the container, and may be changed while this looks at it. So no link is followed, neither /etc nor
//! its file; what is there is looked at before it is opened (a FIFO or a device never is); the process is the container's
//! root user and no more; a file or folder that is the host's own stays as it is. File systems that do not answer hold up
//! this process alone: who started it waits only for so long.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use clap::{Args, ValueEnum};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid};
use rustix::io::Errno;

use super::mark;

const ETC: &str = "etc";
const FILE: &str = "resolv.conf";
/// No resolv.conf is as long; of a longer one not all is read.
const LONGEST: u64 = 64 << 10;

/// How much is dared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Daring {
    /// What is missing, empty, or as netd wrote it.
    Gently,
    /// A file that somebody wrote too, or a link in its place.
    Replace,
}

/// `netd fill-resolv-conf`: see the [module](self).
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct FillArgs {
    /// Whether somebody's own file stays
    pub(crate) daring: Daring,
    /// The container's root user, as the host has it
    pub(crate) uid: u32,
    /// Its group
    pub(crate) gid: u32,
    /// What the file is to say
    pub(crate) text: String,
}

/// What became of it; told by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Outcome {
    /// It says what it is to say.
    Written,
    /// Somebody's own was left alone.
    Theirs,
    /// The file, or the folder it would be made in, is the host's own.
    Hosts,
    /// There is no folder for it.
    NoFolder,
}

/// The hidden subcommand: tells what became of it on standard output, or why nothing did.
pub(crate) fn fill(args: &FillArgs) -> String {
    match descend(args) {
        Ok(outcome) => match outcome.to_possible_value() {
            Some(word) => word.get_name().to_owned(),
            None => String::new(),
        },
        Err(e) => format!("failed {e}"),
    }
}

fn descend(args: &FillArgs) -> io::Result<Outcome> {
    let host = Host::look();
    become_user(args.uid, args.gid)?;
    write(io::stdin().as_fd(), &host, args.daring, &args.text)
}

/// The host's own, by device and inode: however it came into the container's tree, it is not written.
#[derive(Default)]
struct Host {
    folder: Option<(u64, u64)>,
    file: Option<(u64, u64)>,
}

impl Host {
    fn look() -> Self {
        let id = |path: &str| {
            let meta = std::fs::metadata(path).ok();
            meta.map(|meta| (meta.dev(), meta.ino()))
        };
        Self {
            folder: id("/etc"),
            file: id("/etc/resolv.conf"),
        }
    }
}

/// Becomes the container's root user for good. Where that is the host's, nothing changes.
fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // This process has one thread, so what is said of a thread is said of it. Capabilities go with the user.
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

fn write(root: BorrowedFd<'_>, host: &Host, daring: Daring, text: &str) -> io::Result<Outcome> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let etc = match open(root, ETC, flags) {
        Ok(etc) => etc,
        // A link in the place of /etc, or a file: nobody keeps resolvers there.
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(Outcome::NoFolder),
        Err(e) => return Err(e.into()),
    };
    let hosts_folder = host.folder == Some(identity(&etc)?.0);
    let there = match open(
        etc.as_fd(),
        FILE,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
    ) {
        Ok(there) => there,
        Err(Errno::NOENT) if hosts_folder => return Ok(Outcome::Hosts),
        Err(Errno::NOENT) => return create(&etc, text),
        Err(e) => return Err(e.into()),
    };
    let (id, kind, names) = identity(&there)?;
    match kind {
        FileType::RegularFile if host.file == Some(id) => return Ok(Outcome::Hosts),
        // Something may be mounted over the host's file for the host, and not for the container. What is mounted there for
        // the container is its own.
        FileType::RegularFile if hosts_folder && mount(&there)? == mount(&etc)? => {
            return Ok(Outcome::Hosts);
        }
        FileType::RegularFile => {}
        // A link belongs to whom it leads to: a systemd-resolved inside, for example.
        FileType::Symlink if daring == Daring::Gently => return Ok(Outcome::Theirs),
        FileType::Symlink if hosts_folder => return Ok(Outcome::Hosts),
        FileType::Symlink => {
            rustix::fs::unlinkat(&etc, FILE, AtFlags::empty())?;
            return create(&etc, text);
        }
        _ => return Ok(Outcome::Theirs),
    }
    // A file with another name beside this one is something else too.
    if names > 1 {
        return Ok(Outcome::Theirs);
    }
    // The very file that was looked at: whatever has its name by now.
    let opened = reopen(&there, OFlags::RDONLY)?;
    let mut said = Vec::new();
    opened.take(LONGEST).read_to_end(&mut said)?;
    if said == text.as_bytes() {
        return Ok(Outcome::Written);
    }
    let free = said.iter().all(u8::is_ascii_whitespace) || mark::is_ours(&said);
    if !free && daring == Daring::Gently {
        return Ok(Outcome::Theirs);
    }
    // In its place, for it may be mounted there, as podman and Docker do.
    let mut file = reopen(&there, OFlags::WRONLY)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    Ok(Outcome::Written)
}

fn create(etc: &OwnedFd, text: &str) -> io::Result<Outcome> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(etc, FILE, flags, Mode::from_raw_mode(0o644)) {
        Ok(fd) => {
            let mut file = File::from(fd);
            // Whatever the umask is: everybody inside asks for names.
            file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            Ok(Outcome::Written)
        }
        // Somebody inside was faster.
        Err(Errno::EXIST) => Ok(Outcome::Theirs),
        Err(e) => Err(e.into()),
    }
}

/// Device and inode, kind, and how many names it has.
fn identity(fd: &OwnedFd) -> io::Result<((u64, u64), FileType, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(((stat.st_dev, stat.st_ino), kind, stat.st_nlink))
}

/// The mount that a file is looked at through. A kernel before 5.8 tells none: all are the same then.
fn mount(fd: &OwnedFd) -> io::Result<u64> {
    let wanted = StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, wanted)?;
    let told = stat.stx_mask & wanted.bits() != 0;
    Ok(if told { stat.stx_mnt_id } else { 0 })
}

/// Opens a plain file that was only looked at. It never waits, not for who holds a lease on it either.
fn reopen(there: &OwnedFd, flags: OFlags) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", there.as_raw_fd());
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = match flags.contains(OFlags::NOFOLLOW) {
        true => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        false => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
    };
    // EAGAIN: something was renamed meanwhile.
    for _ in 0..16 {
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    const TEXT: &str = "nameserver 10.89.0.1\n";

    fn told() -> String {
        mark::marked("container web", TEXT)
    }

    fn write_to(root: &Path, host: &Host, daring: Daring) -> Outcome {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = rustix::fs::open(root, flags, Mode::empty()).unwrap();
        write(fd.as_fd(), host, daring, &told()).unwrap()
    }

    fn gently(root: &Path) -> Outcome {
        write_to(root, &Host::default(), Daring::Gently)
    }

    fn replaced(root: &Path) -> Outcome {
        write_to(root, &Host::default(), Daring::Replace)
    }

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        dir
    }

    #[test]
    fn what_is_missing_empty_or_ours_is_written() {
        let dir = root();
        let root = dir.path().join("root");
        let file = root.join("etc/resolv.conf");
        assert_eq!(gently(&root), Outcome::Written);
        assert_eq!(fs::read_to_string(&file).unwrap(), told());
        assert_eq!(gently(&root), Outcome::Written);
        let before = mark::marked("container web", "nameserver 10.89.7.1\n");
        fs::write(&file, before).unwrap();
        assert_eq!(gently(&root), Outcome::Written);
        assert_eq!(fs::read_to_string(&file).unwrap(), told());
        fs::write(&file, "\n").unwrap();
        assert_eq!(gently(&root), Outcome::Written);
        // somebody edited it since
        let edited = format!("{}options ndots:3\n", told());
        fs::write(&file, &edited).unwrap();
        assert_eq!(gently(&root), Outcome::Theirs);
        assert_eq!(fs::read_to_string(&file).unwrap(), edited);
        assert_eq!(replaced(&root), Outcome::Written);
        assert_eq!(fs::read_to_string(&file).unwrap(), told());
    }

    #[test]
    fn no_link_is_followed() {
        let dir = root();
        let root = dir.path().join("root");
        let (outside, file) = (dir.path().join("outside"), root.join("etc/resolv.conf"));
        fs::write(&outside, "").unwrap();
        for target in [outside.as_path(), Path::new("../../outside")] {
            symlink(target, &file).unwrap();
            assert_eq!(gently(&root), Outcome::Theirs);
            assert_eq!(replaced(&root), Outcome::Written);
            assert!(fs::symlink_metadata(&file).unwrap().is_file());
            fs::remove_file(&file).unwrap();
        }
        assert_eq!(fs::read(&outside).unwrap(), b"");
        // nor in the place of the folder
        fs::remove_dir(root.join("etc")).unwrap();
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        for target in ["../elsewhere", "/proc/self/root/etc", "etc"] {
            symlink(target, root.join("etc")).unwrap();
            assert_eq!(gently(&root), Outcome::NoFolder);
            assert_eq!(replaced(&root), Outcome::NoFolder);
            fs::remove_file(root.join("etc")).unwrap();
        }
        assert_eq!(
            fs::read_dir(dir.path().join("elsewhere")).unwrap().count(),
            0
        );
        // none at all
        assert_eq!(gently(&root), Outcome::NoFolder);
    }

    #[test]
    fn what_is_no_plain_file_is_not_even_opened() {
        let dir = root();
        let root = dir.path().join("root");
        let file = root.join("etc/resolv.conf");
        rustix::fs::mknodat(rustix::fs::CWD, &file, FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(gently(&root), Outcome::Theirs);
        assert_eq!(replaced(&root), Outcome::Theirs);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(replaced(&root), Outcome::Theirs);
        fs::remove_dir(&file).unwrap();
        // a second name of something else
        let other = dir.path().join("other");
        fs::write(&other, "").unwrap();
        fs::hard_link(&other, &file).unwrap();
        assert_eq!(gently(&root), Outcome::Theirs);
        assert_eq!(replaced(&root), Outcome::Theirs);
        assert_eq!(fs::read(&other).unwrap(), b"");
    }

    #[test]
    fn the_hosts_own_stays() {
        let dir = root();
        let root = dir.path().join("root");
        let (etc, file) = (root.join("etc"), root.join("etc/resolv.conf"));
        let id = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
        let host = Host {
            folder: id(&etc),
            file: None,
        };
        assert_eq!(write_to(&root, &host, Daring::Replace), Outcome::Hosts);
        symlink("x", &file).unwrap();
        assert_eq!(write_to(&root, &host, Daring::Replace), Outcome::Hosts);
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        // one that is not what the host sees there, since something is mounted over it for the host
        assert_eq!(write_to(&root, &host, Daring::Replace), Outcome::Hosts);
        assert_eq!(fs::read(&file).unwrap(), b"");
        let host = Host {
            folder: None,
            file: id(&file),
        };
        assert_eq!(write_to(&root, &host, Daring::Replace), Outcome::Hosts);
        assert_eq!(fs::read(&file).unwrap(), b"");
    }
}
