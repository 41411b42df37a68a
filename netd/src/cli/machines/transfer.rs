//! `netd import-…`, `export-…`, `pull-…`, `list-transfers`, `cancel-transfer`.
//!
//! Whoever transfers notes it in RUNTIME/transfers/NUMBER.json, and holds that file's lock as long as it lives: so a list needs no
//! daemon, and nobody is taken for alive who is not. SIGINT and SIGTERM call it off, and then nothing is left of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use images::archive::{Cancel, Unpacked};
use images::{Codec, Image, ImageError, ImageName, Making, Pull, Verify};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::image_args::{ExportArgs, Format, ImportArgs, ImportOciArgs, PullArgs, Verified};
use super::images::tell;
use crate::cli::{Context, output};
use crate::error::Error;

/// What is an archive, and what a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Tar,
    Raw,
}

/// How often a note is written again.
const NOTE: Duration = Duration::from_millis(250);
/// How long something that was called off may take to clean up after itself; a server that says nothing more holds it up.
const GRACE: Duration = Duration::from_secs(3);

/// What is known of a transfer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Transfer {
    pub(in crate::cli) id: u32,
    pub(in crate::cli) verb: String,
    pub(in crate::cli) name: String,
    /// File or address.
    pub(in crate::cli) remote: String,
    /// Bytes so far.
    pub(in crate::cli) done: u64,
    /// Of how many, where that is known.
    pub(in crate::cli) total: Option<u64>,
    pub(in crate::cli) pid: i32,
}

/// A transfer of this process.
struct Own {
    folder: PathBuf,
    path: PathBuf,
    _lock: File,
    state: std::sync::Mutex<(Transfer, Instant)>,
    bar: ProgressBar,
}

impl Own {
    fn begin(context: &Context, verb: &str, name: &str, remote: &str) -> Result<Self, Error> {
        let folder = context.dirs.runtime.join("transfers");
        fs::create_dir_all(&folder).map_err(write_error(&folder))?;
        for id in 1..u32::MAX {
            let path = folder.join(format!("{id}.lock"));
            let mut options = OpenOptions::new();
            let file = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let file = file.map_err(write_error(&path))?;
            let free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            // whoever had it may have removed it before we had its lock
            let same = fs::metadata(&path).is_ok_and(|there| same_file(&there, &file));
            if !free || !same {
                continue;
            }
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let shown = context.json || !io::stderr().is_terminal();
            if shown {
                bar.set_draw_target(ProgressDrawTarget::hidden());
            }
            let form = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(form) {
                bar.set_style(style);
            }
            bar.set_message(format!("{verb} {name}"));
            let transfer = Transfer {
                id,
                verb: verb.to_owned(),
                name: name.to_owned(),
                remote: remote.to_owned(),
                done: 0,
                total: None,
                pid: std::process::id().cast_signed(),
            };
            let own = Self {
                path: folder.join(format!("{id}.json")),
                folder,
                _lock: file,
                state: std::sync::Mutex::new((transfer, Instant::now())),
                bar,
            };
            own.note();
            return Ok(own);
        }
        Err(Error::Refused("there are too many transfers".into()))
    }

    fn note(&self) {
        if let Ok(state) = self.state.lock() {
            let text = serde_json::to_vec(&state.0).unwrap_or_default();
            let new = self.path.with_extension("new");
            let _ = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path));
        }
    }

    fn at(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        let mut due = false;
        if let Ok(mut state) = self.state.lock() {
            (state.0.done, state.0.total) = (done, total);
            if state.1.elapsed() > NOTE {
                state.1 = Instant::now();
                due = true;
            }
        }
        if due {
            self.note();
        }
    }

    /// Tells of what is read through it.
    fn reader<R: io::Read>(&self, inner: R, total: Option<u64>) -> Counted<'_, R> {
        Counted {
            inner,
            own: self,
            done: 0,
            total,
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        let id = self.state.lock().map_or(0, |state| state.0.id);
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.folder.join(format!("{id}.lock")));
    }
}

struct Counted<'a, R> {
    inner: R,
    own: &'a Own,
    done: u64,
    total: Option<u64>,
}

impl<R: io::Read> io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        self.own.at(self.done, self.total);
        Ok(n)
    }
}

fn same_file(there: &fs::Metadata, held: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    held.metadata()
        .is_ok_and(|held| (held.dev(), held.ino()) == (there.dev(), there.ino()))
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

/// Does `work`, and has it stop at SIGINT, SIGTERM and SIGHUP, so that it can clean up after itself.
pub(super) fn interruptible<T>(
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, Error> {
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
            ]
            .map(signal);
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            cancel.cancel();
            tokio::time::sleep(GRACE).await;
            std::process::exit(1);
        });
    });
    Ok(work()?)
}

/// The name that was given, or what the file or address suggests.
fn name_of(given: Option<ImageName>, remote: &str, verb: &str) -> Result<ImageName, Error> {
    given.or_else(|| images::suggested(remote)).ok_or_else(|| {
        Error::Invalid(format!(
            "{verb} {remote}: no name can be made of that, give one after it"
        ))
    })
}

pub(super) fn import(context: &Context, args: ImportArgs, form: Form) -> Result<ExitCode, Error> {
    let verb = if form == Form::Tar {
        "import-tar"
    } else {
        "import-raw"
    };
    let remote = args.file.display().to_string();
    let (source, total): (Box<dyn io::Read>, _) = match args.file.as_os_str() == "-" {
        true => (Box::new(io::stdin().lock()), None),
        false => {
            let fail = |source| Error::Read {
                path: args.file.clone(),
                source,
            };
            let file = File::open(&args.file).map_err(fail)?;
            let meta = file.metadata().map_err(fail)?;
            (Box::new(file), meta.is_file().then_some(meta.len()))
        }
    };
    let name = name_of(args.name, &remote, verb)?;
    if args.making.force {
        unused(context, &name)?;
    }
    let own = Own::begin(context, verb, name.as_str(), &remote)?;
    let making = Making::from(args.making);
    let cancel = Cancel::default();
    let image = interruptible(&cancel, || {
        make(
            context,
            own.reader(source, total),
            &name,
            making,
            form,
            &cancel,
        )
    })?;
    drop(own);
    tell(context, &image)
}

/// Refuses to replace what a container runs from.
fn unused(context: &Context, name: &ImageName) -> Result<(), Error> {
    match context.dirs.images().find(name) {
        Ok(_) => super::images::idle(context, name),
        Err(_) => Ok(()),
    }
}

fn make(
    context: &Context,
    source: impl io::Read,
    name: &ImageName,
    making: Making,
    form: Form,
    cancel: &Cancel,
) -> Result<Image, ImageError> {
    let store = context.dirs.images();
    if form == Form::Raw {
        return images::import_raw(&store, source, name, making, cancel);
    }
    let (image, unpacked) = images::import_tar(&store, source, name, making, cancel)?;
    left_out(&unpacked);
    Ok(image)
}

/// Tells what of an archive is not in the tree.
fn left_out(unpacked: &Unpacked) {
    if unpacked.devices > 0 {
        output::note(&format!(
            "{} device nodes were left out: a container has its own /dev",
            unpacked.devices
        ));
    }
    if unpacked.attributes > 0 {
        output::note(&format!(
            "{} extended attributes could not be kept",
            unpacked.attributes
        ));
    }
}

pub(super) fn import_oci(context: &Context, args: ImportOciArgs) -> Result<ExitCode, Error> {
    let (path, reference) = args.layout.split();
    let named = match args.name {
        Some(name) => Some(name),
        // `docker.io/library/alpine:3.20` is alpine
        None => reference.as_deref().and_then(|reference| {
            let last = reference.rsplit('/').next()?;
            images::suggested(last.split([':', '@']).next()?)
        }),
    };
    let remote = path.display().to_string();
    let name = name_of(named, &remote, "import-oci")?;
    if args.making.force {
        unused(context, &name)?;
    }
    let own = Own::begin(context, "import-oci", name.as_str(), &remote)?;
    let making = Making::from(args.making);
    let cancel = Cancel::default();
    let store = context.dirs.images();
    let (image, unpacked) = interruptible(&cancel, || {
        images::import_oci(&store, &path, reference.as_deref(), &name, making, &cancel)
    })?;
    drop(own);
    left_out(&unpacked);
    tell(context, &image)
}

pub(super) fn pull(context: &Context, args: PullArgs, form: Form) -> Result<ExitCode, Error> {
    let verb = if form == Form::Tar {
        "pull-tar"
    } else {
        "pull-raw"
    };
    let name = name_of(args.name, &args.url, verb)?;
    let store = context.dirs.images();
    match store.find(&name) {
        // before anything is fetched
        Ok(there) if !args.making.force => {
            let taken = ImageError::Exists {
                name: there.name,
                path: there.path,
            };
            return Err(taken.into());
        }
        Ok(_) => unused(context, &name)?,
        Err(_) => {}
    }
    let own = Own::begin(context, verb, name.as_str(), &args.url)?;
    let cancel = Cancel::default();
    let pull = Pull {
        url: &args.url,
        verify: match args.verify {
            Verified::No => Verify::No,
            Verified::Checksum => Verify::Checksum,
            Verified::Signature => Verify::Signature,
        },
        keyrings: &args.keyring,
        folder: store.home(),
    };
    let making = Making::from(args.making);
    let image = interruptible(&cancel, || {
        let mut fetched = pull.fetch(&cancel, &|done, total| own.at(done, total))?;
        make(context, fetched.file(), &name, making, form, &cancel)
    })?;
    drop(own);
    tell(context, &image)
}

pub(super) fn export(context: &Context, args: &ExportArgs, form: Form) -> Result<ExitCode, Error> {
    let image = context.dirs.images().find(&args.image)?;
    let file = args.file.as_deref().filter(|file| file.as_os_str() != "-");
    let codec = match (args.format, file) {
        (Some(format), _) => codec_of(format),
        (None, Some(file)) => Codec::of_name(file),
        (None, None) => Codec::None,
    };
    let cancel = Cancel::default();
    let verb = if form == Form::Tar {
        "export-tar"
    } else {
        "export-raw"
    };
    let Some(file) = file else {
        if io::stdout().is_terminal() {
            let words = format!(
                "{verb} {}: an archive is not written to a terminal, name a file",
                args.image
            );
            return Err(Error::Invalid(words));
        }
        let _own = Own::begin(context, verb, &image.name, "-")?;
        let sink = io::BufWriter::new(io::stdout().lock());
        interruptible(&cancel, || {
            write(&image, sink, codec, form, &cancel).map(drop)
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    if !args.force && fs::symlink_metadata(file).is_ok() {
        return Err(Error::Write {
            path: file.to_owned(),
            source: io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is there already (--force replaces it)",
            ),
        });
    }
    let own = Own::begin(context, verb, &image.name, &file.display().to_string())?;
    // beside it until it is whole
    let mut half = file.as_os_str().to_owned();
    half.push(format!(".{}.part", std::process::id()));
    let half = PathBuf::from(half);
    let mut options = OpenOptions::new();
    let sink = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)
        .map_err(write_error(&half))?;
    let written = interruptible(&cancel, || {
        let sink = write(&image, io::BufWriter::new(sink), codec, form, &cancel)?;
        let sink = sink
            .into_inner()
            .map_err(|e| ImageError::Write(e.into_error()))?;
        sink.sync_all().map_err(ImageError::Write)
    });
    let done = written.and_then(|()| fs::rename(&half, file).map_err(write_error(file)));
    if done.is_err() {
        let _ = fs::remove_file(&half);
    }
    done?;
    drop(own);
    tell(context, &image)
}

fn write<W: Write>(
    image: &Image,
    sink: W,
    codec: Codec,
    form: Form,
    cancel: &Cancel,
) -> Result<W, ImageError> {
    match form {
        Form::Tar => images::export_tar(image, sink, codec, cancel),
        Form::Raw => images::export_raw(image, sink, codec, cancel),
    }
}

fn codec_of(format: Format) -> Codec {
    match format {
        Format::Uncompressed => Codec::None,
        Format::Gzip => Codec::Gzip,
        Format::Xz => Codec::Xz,
        Format::Zstd => Codec::Zstd,
        Format::Bzip2 => Codec::Bzip2,
    }
}

/// Those that are under way, by number.
fn under_way(context: &Context) -> Vec<Transfer> {
    let folder = context.dirs.runtime.join("transfers");
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut all: Vec<Transfer> = entries
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|suffix| suffix == "json")
        })
        .filter_map(|entry| serde_json::from_slice::<Transfer>(&fs::read(entry.path()).ok()?).ok())
        .filter(|transfer| {
            let lock = File::open(folder.join(format!("{}.lock", transfer.id)));
            lock.is_ok_and(|lock| {
                rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
            })
        })
        .collect();
    all.sort_by_key(|transfer| transfer.id);
    all
}

pub(super) fn list(context: &Context) -> Result<ExitCode, Error> {
    let all = under_way(context);
    if context.json {
        output::print_json(&all)?;
    } else if all.is_empty() {
        output::note("no transfers");
    } else {
        output::print(&output::transfers(&all))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn cancel(context: &Context, ids: &[u32]) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Cancelled<'a> {
        cancelled: &'a [u32],
    }
    for id in ids {
        let absent = || {
            Error::NoSuchContainer(format!(
                "cancel-transfer {id}: no transfer of this number is under way"
            ))
        };
        let find = || {
            under_way(context)
                .into_iter()
                .find(|transfer| transfer.id == *id)
        };
        let transfer = find().ok_or_else(absent)?;
        let pid = rustix::process::Pid::from_raw(transfer.pid).ok_or_else(absent)?;
        let held = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .map_err(|_| absent())?;
        // only now: it lives, so the number is still its own
        find().ok_or_else(absent)?;
        rustix::process::pidfd_send_signal(&held, rustix::process::Signal::TERM)
            .map_err(|_| absent())?;
        let deadline = Instant::now() + GRACE * 2;
        while find().is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    if context.json {
        output::print_json(&Cancelled { cancelled: ids })?;
    }
    Ok(ExitCode::SUCCESS)
}
