//! The keeper: a tiny process that holds the socket which owns the tables.
//!
//! A table belongs to a netlink socket. While the daemon is dead, a duplicate of that socket lies
//! here, so that the tables stay owned and nobody's `nft` can change them; the next daemon takes it
//! back. The keeper never reads or writes the socket, and exits when it is told to, or when its own
//! socket's path disappears. Meanwhile it does what its [`Duty`] is.
//!
//! The protocol is one byte from a client that is root (or the keeper's own user): `t` is answered
//! with `t` and the descriptors, `q` with `q` and the keeper's end.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::sys;

/// Something went wrong between daemon and keeper.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the keeper's socket {path}")]
pub struct KeeperError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> KeeperError {
    move |source| KeeperError {
        doing,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A client that says nothing is not waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// A keeper is waited for longer: it may be busy waiting for others, on a machine that is busy too.
const KEEPER_PATIENCE: Duration = Duration::from_secs(10);

/// Most descriptors that are passed at a time.
const MOST: usize = 4;

const TAKE: u8 = b't';
const QUIT: u8 = b'q';

/// What a keeper does besides. It waits at one descriptor, which may be another after each call of `ready`.
pub trait Duty {
    /// Where input is waited for; none when there is nothing to do. A standard descriptor, or one that was opened
    /// since [`serve`] was called: others are closed.
    fn waits_at(&self) -> Option<BorrowedFd<'_>>;

    /// There is input, or whoever is at the other end is gone.
    fn ready(&mut self);
}

impl Duty for () {
    fn waits_at(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self) {}
}

/// Keeps `fds` and serves them at `socket_path` until dismissed, or until the path is gone. To be
/// called in a process of its own: it takes its name, and closes every other descriptor but the
/// standard ones.
///
/// # Errors
/// The socket cannot be made. Errors of single clients end that client only.
pub fn serve(
    socket_path: &Path,
    fds: Vec<OwnedFd>,
    duty: &mut dyn Duty,
) -> Result<(), KeeperError> {
    let fail = |doing| move |source: io::Error| failed(doing, socket_path)(source);
    let _ = rustix::thread::set_name(c"netd-keeper");
    // A keeper that was killed leaves its path behind. A live one was dismissed by our caller.
    let _ = std::fs::remove_file(socket_path);
    let listener = UnixListener::bind(socket_path).map_err(fail("make"))?;
    std::fs::set_permissions(socket_path, std::fs::Permissions::from_mode(0o600))
        .map_err(fail("protect"))?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(failed("watch", socket_path))?;
    let folder = socket_path.parent().unwrap_or(Path::new("/"));
    let events = inotify::WatchFlags::DELETE
        | inotify::WatchFlags::DELETE_SELF
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::MOVE_SELF
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, folder, events).map_err(failed("watch", socket_path))?;
    let inode = inode(socket_path).map_err(fail("look at"))?;

    let mut keep = vec![listener.as_raw_fd(), watch.as_raw_fd()];
    keep.extend(fds.iter().map(AsRawFd::as_raw_fd));
    sys::close_others(3, &keep);

    loop {
        let at = duty.waits_at();
        let mut ready = vec![
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(&watch, PollFlags::IN),
        ];
        ready.extend(at.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(failed("wait at", socket_path)(errno)),
        }
        let is_ready = |at: usize| ready.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (client, folder, besides) = (is_ready(0), is_ready(1), is_ready(2));
        drop(ready);
        // first: frames do not wait
        if besides {
            duty.ready();
        }
        if folder {
            drain(&watch);
            // Gone, or another keeper's now.
            if self::inode(socket_path).ok() != Some(inode) {
                return Ok(());
            }
        }
        if client
            && let Ok((stream, _)) = listener.accept()
            && matches!(answer(&stream, &fds), Ok(QUIT))
        {
            let _ = std::fs::remove_file(socket_path);
            drop(fds);
            let mut stream = stream;
            let _ = stream.write_all(&[QUIT]);
            return Ok(());
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::symlink_metadata(path)?;
    Ok((data.dev(), data.ino()))
}

fn drain(watch: &OwnedFd) {
    let mut buffer = [0u8; 4096];
    while rustix::io::read(watch, &mut buffer).is_ok_and(|len| len > 0) {}
}

/// Serves one client; returns what it asked for.
fn answer(stream: &UnixStream, fds: &[OwnedFd]) -> io::Result<u8> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut asked = [0];
    let mut reader = stream;
    reader.read_exact(&mut asked)?;
    if asked[0] == TAKE {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        let bytes = [IoSlice::new(&[TAKE])];
        sendmsg(stream, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(asked[0])
}

fn ask(path: &Path, what: u8) -> Result<Option<UnixStream>, KeeperError> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed("connect to", path)(error)),
    };
    let patience = |s: &UnixStream| s.set_read_timeout(Some(KEEPER_PATIENCE));
    patience(&stream).map_err(failed("prepare", path))?;
    stream
        .write_all(&[what])
        .map_err(failed("write to", path))?;
    Ok(Some(stream))
}

/// A duplicate of the (first) socket that a keeper holds; nothing when there is no keeper.
///
/// # Errors
/// There is a keeper, but it gives nothing.
pub fn take(socket_path: &Path) -> Result<Option<OwnedFd>, KeeperError> {
    let Some(stream) = ask(socket_path, TAKE)? else {
        return Ok(None);
    };
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    recvmsg(&stream, &mut bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(failed("read from", socket_path))?;
    let fd = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .next();
    match fd {
        Some(fd) => Ok(Some(fd)),
        None => Err(failed("receive anything from", socket_path)(
            io::Error::from(io::ErrorKind::UnexpectedEof),
        )),
    }
}

/// Tells a keeper to go, and waits until it has. Harmless when there is none.
///
/// # Errors
/// There is a keeper, but it does not listen.
pub fn dismiss(socket_path: &Path) -> Result<(), KeeperError> {
    if let Some(mut stream) = ask(socket_path, QUIT)? {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .map_err(failed("read from", socket_path))?;
    }
    Ok(())
}
