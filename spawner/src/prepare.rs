//! Settings → [`Plan`]: what is looked at, and made on disk, before anything is mounted.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::cgroup::{self, Cgroups};
use crate::error::SpawnError;
use crate::inside;
use crate::monitor;
use crate::plan::{Guest, Making, Plan, Shown, UidRange, What};
use crate::settings::{Bind, IdMap, Overlay, Ownership, Settings, Source, Tmpfs, Volatile};
use crate::spec::CREDENTIALS;
use crate::state::Slot;
use crate::terminal;
use crate::tree;
use crate::user;

/// Where directories go that live as long as a container, and may become large.
const TEMPORARY: &str = "/var/tmp";
/// File systems of the container's own: what is there is not in its root.
const KERNELS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Everything the container is made from.
pub(crate) fn plan<'a>(
    settings: &'a Settings,
    slot: &Slot,
    range: Option<UidRange>,
    cgroups: Option<&Cgroups>,
) -> Result<Plan<'a>, SpawnError> {
    let root = slot.dir().join("root");
    if range.is_some()
        && let Some(dir) = monitor::unsearchable(&root)
    {
        return Err(SpawnError::Unsearchable(dir));
    }
    let directory = directory(settings, slot, range)?;
    let tree = directory.as_deref().unwrap_or(Path::new("/"));
    let guests = user::guests(&settings.bind_users, tree)?;
    let mut command = settings.command.clone();
    if settings.boot {
        let init = inside::init(tree).ok_or_else(|| SpawnError::Command {
            command: "--boot".to_owned(),
            reason: format!(
                "there is no init in {} (/sbin/init and its like)",
                tree.display()
            ),
            status: 127,
        })?;
        command.insert(0, init.to_string_lossy().into_owned());
    }
    let delegated = cgroups.and_then(Cgroups::delegated);
    let userns = match guests.is_empty() {
        true => None,
        false => Some(slot.shown_file("userns", b"")?),
    };
    let mut plan = Plan {
        settings,
        userns,
        user: user::look_up(settings.user.as_ref(), tree, &guests)?,
        root,
        command,
        range,
        pty: terminal::wants_pty(settings.terminal),
        term: std::env::var("TERM").ok(),
        cgroup2: cgroup::is_unified() && delegated.is_none(),
        scratch: scratch(settings, tree),
        shown: Vec::new(),
        makings: Vec::new(),
        guests,
        directory,
    };
    let mut mounts = Mounts {
        plan: &mut plan,
        slot,
    };
    if let Some(own) = delegated {
        mounts.cgroups(own)?;
    }
    mounts.all()?;
    // outer before inner, whatever order they were given in, as systemd-nspawn does
    plan.shown.sort_by(|a, b| a.destination.cmp(&b.destination));
    Ok(plan)
}

/// The directory that is shown as the root.
fn directory(
    settings: &Settings,
    slot: &Slot,
    range: Option<UidRange>,
) -> Result<Option<PathBuf>, SpawnError> {
    let Some(given) = &settings.directory else {
        return Ok(None);
    };
    let failed = |what: &'static str| {
        move |failed: tree::Failed| SpawnError::State {
            action: what,
            path: failed.path,
            source: failed.source,
        }
    };
    let mut directory = given.clone();
    if settings.ephemeral {
        // beside the original, as systemd-nspawn does: the file system has the room, and can share blocks
        let parent = given.parent().unwrap_or(given);
        directory = slot.temporary(&parent.join(format!(".#machine.{}", slot.name())))?;
        tree::copy(given, &directory).map_err(failed("copy"))?;
    }
    if let (Ownership::Chown, Some(range)) = (settings.ownership, range) {
        tree::shift(&directory, range.base).map_err(failed("change the owner of"))?;
    }
    Ok(Some(directory))
}

/// Directories of the root that are in memory, as in a container of systemd-nspawn: where nothing could be written else,
/// and where an init, or something of ours, expects it.
fn scratch(settings: &Settings, tree: &Path) -> Vec<PathBuf> {
    let both = ["/run", "/tmp"];
    if settings.directory.is_none() {
        return both.map(PathBuf::from).to_vec();
    }
    let fixed = settings.read_only || settings.volatile == Volatile::State || settings.boot;
    let ours = !settings.credentials.is_empty() || !settings.bind_users.is_empty();
    let wanted = both
        .into_iter()
        .filter(|path| fixed || ours && *path == "/run");
    wanted
        .map(PathBuf::from)
        .filter(|path| inside::is_directory(tree, path))
        .collect()
}

struct Mounts<'p, 'a> {
    plan: &'p mut Plan<'a>,
    slot: &'p Slot,
}

impl Mounts<'_, '_> {
    fn all(&mut self) -> Result<(), SpawnError> {
        let settings = self.plan.settings;
        if settings.volatile == Volatile::State {
            self.show("/var", What::Tmpfs(Vec::new()));
        }
        self.guests()?;
        if !settings.credentials.is_empty() {
            let files = settings.credentials.iter();
            let files = files.map(|c| (c.id.clone(), c.content.clone())).collect();
            self.files(CREDENTIALS, files, 0o400)?;
        }
        for Tmpfs {
            destination,
            options,
        } in &settings.tmpfs
        {
            self.show(destination, What::Tmpfs(options.clone()));
        }
        for bind in &settings.binds {
            self.bind(bind)?;
        }
        for overlay in &settings.overlays {
            self.overlay(overlay)?;
        }
        for path in &settings.inaccessible {
            self.inaccessible(path)?;
        }
        Ok(())
    }

    /// An init's own cgroups, where it looks for them, and what systemd will not go without where it may mount nothing.
    fn cgroups(&mut self, own: &Path) -> Result<(), SpawnError> {
        let point = self.point(true)?;
        let making = Making::Clone {
            source: Source::Host(own.to_owned()),
            point,
            read_only: false,
            recursive: false,
            // its files were given to the container's root
            idmap: IdMap::None,
            owner: (0, 0),
        };
        self.make(Path::new("/sys/fs/cgroup"), false, making);
        if self.plan.scratch.iter().any(|path| path == "/run") {
            let options = ["noexec", "mode=1777", "size=5m"];
            self.show(
                "/run/lock",
                What::Tmpfs(options.map(str::to_owned).to_vec()),
            );
        }
        Ok(())
    }

    fn show(&mut self, destination: impl Into<PathBuf>, what: What) {
        self.plan.shown.push(Shown {
            destination: destination.into(),
            what,
        });
    }

    /// Where the monitor mounts what it makes.
    fn point(&mut self, directory: bool) -> Result<PathBuf, SpawnError> {
        self.slot.bind_point(self.plan.makings.len(), directory)
    }

    fn make(&mut self, destination: &Path, read_only: bool, making: Making) {
        let source = making.point().clone();
        self.plan.makings.push(making);
        let recursive = true;
        self.show(
            destination,
            What::Bind {
                source,
                read_only,
                recursive,
            },
        );
    }

    fn bind(&mut self, bind: &Bind) -> Result<(), SpawnError> {
        let what = match bind.read_only {
            true => "--bind-ro=",
            false => "--bind=",
        };
        let tree = self.tree();
        let read_only = bind.read_only;
        let recursive = bind.recursive;
        let directory = match &bind.source {
            Source::Temporary => {
                let source = self.temporary(0o755)?;
                let what = What::Bind {
                    source,
                    read_only,
                    recursive,
                };
                self.show(&bind.destination, what);
                return Ok(());
            }
            Source::Host(path) => {
                let given = path.to_string_lossy();
                let meta = std::fs::metadata(path).map_err(|e| {
                    SpawnError::setting(what, &given, format!("cannot be bound: {e}"))
                })?;
                if self.plan.range.is_none() || bind.idmap == IdMap::None {
                    let what = What::Bind {
                        source: path.clone(),
                        read_only,
                        recursive,
                    };
                    self.show(&bind.destination, what);
                    return Ok(());
                }
                meta.is_dir()
            }
            Source::Root(path) => {
                let given = format!("+{}", path.display());
                let stat = inside::stat(&tree, path).map_err(|e| {
                    SpawnError::setting(what, &given, format!("cannot be bound: {e}"))
                })?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
        };
        let point = self.point(directory)?;
        let root = self.outside(0, true);
        let owner = match bind.idmap {
            // a place that is not there yet will be root's
            IdMap::Owner => inside::stat(&tree, &bind.destination).map_or((root, root), |place| {
                let host = |id| self.outside(id, true);
                (host(place.st_uid), host(place.st_gid))
            }),
            IdMap::None | IdMap::Same | IdMap::Root => (root, root),
        };
        let making = Making::Clone {
            source: bind.source.clone(),
            point,
            read_only,
            recursive,
            // what is in the root is mapped already
            idmap: match bind.source {
                Source::Root(_) => IdMap::None,
                _ => bind.idmap,
            },
            owner,
        };
        self.make(&bind.destination, read_only, making);
        Ok(())
    }

    fn overlay(&mut self, overlay: &Overlay) -> Result<(), SpawnError> {
        let what = match overlay.read_only {
            true => "--overlay-ro=",
            false => "--overlay=",
        };
        let tree = self.tree();
        let stat = |layer: &Source| {
            let (path, found) = match layer {
                Source::Temporary => return Ok(None),
                Source::Host(path) => (
                    path.display().to_string(),
                    rustix::fs::stat(path).map_err(Into::into),
                ),
                Source::Root(path) => (format!("+{}", path.display()), inside::stat(&tree, path)),
            };
            let bad = |reason: String| SpawnError::setting(what, &path, reason);
            let stat = found.map_err(|e| bad(format!("is no tree to lay over others: {e}")))?;
            match FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                true => Ok(Some(stat)),
                false => Err(bad("is no directory".to_owned())),
            }
        };
        let stats = overlay
            .layers
            .iter()
            .map(stat)
            .collect::<Result<Vec<_>, _>>()?;
        let mut lower = overlay.layers.clone();
        let mut top = None;
        if !overlay.read_only
            && let Some(upper) = lower.pop()
        {
            let below = stats.iter().rev().flatten().next();
            top = Some(match &upper {
                Source::Temporary => {
                    let base = self.temporary(0o711)?;
                    let (upper, work) = (base.join("upper"), base.join("work"));
                    // the topmost directory is seen as the upper one has it
                    let (mode, uid, gid) = below.map_or((0o755, 0, 0), |stat| {
                        (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
                    });
                    let mapped = matches!(lower.last(), Some(Source::Root(_)));
                    make_directory(
                        &upper,
                        mode,
                        self.outside(uid, mapped),
                        self.outside(gid, mapped),
                    )?;
                    make_directory(&work, 0o700, 0, 0)?;
                    (Source::Host(upper), work)
                }
                Source::Host(path) => {
                    let work = self.slot.temporary(&beside(path, self.slot.name()))?;
                    make_directory(&work, 0o700, 0, 0)?;
                    (upper, work)
                }
                Source::Root(path) => {
                    return Err(SpawnError::setting(
                        what,
                        &format!("+{}", path.display()),
                        "cannot be written to as the uppermost tree: give a path of the host, or none",
                    ));
                }
            });
        }
        if lower.is_empty() {
            return Err(SpawnError::setting(
                what,
                "",
                "has nothing below its uppermost tree",
            ));
        }
        let point = self.point(true)?;
        let making = Making::Overlay {
            lower,
            upper: top,
            point,
        };
        self.make(&overlay.destination, overlay.read_only, making);
        Ok(())
    }

    /// Covers a path with something of its kind that is empty and may not be opened.
    fn inaccessible(&mut self, path: &Path) -> Result<(), SpawnError> {
        let missing = || {
            SpawnError::setting(
                "--inaccessible=",
                &path.to_string_lossy(),
                "is not there, neither in the root nor in what is bound over it",
            )
        };
        let covering = self
            .plan
            .shown
            .iter()
            .filter(|shown| path.starts_with(&shown.destination))
            .max_by_key(|shown| shown.destination.components().count());
        let stat = match covering {
            Some(Shown {
                destination,
                what: What::Bind { source, .. },
            }) => {
                let below = path.strip_prefix(destination).unwrap_or(Path::new(""));
                match below.as_os_str().is_empty() {
                    true => rustix::fs::stat(source).map_err(Into::into),
                    false => inside::stat(source, below),
                }
            }
            Some(_) => return Err(missing()),
            None if KERNELS.iter().any(|own| path.starts_with(own)) => {
                rustix::fs::stat(path).map_err(Into::into)
            }
            None => inside::stat(&self.tree(), path),
        };
        let stat = stat.map_err(|_| missing())?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let source = self.slot.inaccessible(directory)?;
        let (read_only, recursive) = (true, false);
        self.show(
            path,
            What::Bind {
                source,
                read_only,
                recursive,
            },
        );
        Ok(())
    }

    /// `--bind-user=`: homes, and lines in the files that tell of users.
    fn guests(&mut self) -> Result<(), SpawnError> {
        let guests = self.plan.guests.clone();
        if guests.is_empty() {
            return Ok(());
        }
        let (read_only, recursive) = (false, true);
        for guest in &guests {
            std::fs::metadata(&guest.home).map_err(|e| {
                let reason = format!(
                    "has a home, {}, that cannot be bound: {e}",
                    guest.home.display()
                );
                SpawnError::setting("--bind-user=", &guest.name, reason)
            })?;
            self.show(
                Path::new(user::HOMES).join(&guest.name),
                What::Bind {
                    source: guest.home.clone(),
                    read_only,
                    recursive,
                },
            );
        }
        // for a C library with nss-systemd(8) …
        let records = guests.iter().flat_map(user::records).collect();
        self.files("/run/host/userdb", records, 0o444)?;
        // … and for all others
        type Line = fn(&Guest) -> String;
        let tables: [(&str, Line); 2] = [
            ("/etc/passwd", user::passwd_line),
            ("/etc/group", user::group_line),
        ];
        for (file, line) in tables {
            let Ok(text) = inside::read(&self.tree(), Path::new(file)) else {
                continue;
            };
            let name = file.trim_start_matches("/etc/");
            let text = user::with_guests(&text, &guests, line);
            let source = self.slot.shown_file(name, text.as_bytes())?;
            let (read_only, recursive) = (true, false);
            self.show(
                file,
                What::Bind {
                    source,
                    read_only,
                    recursive,
                },
            );
        }
        Ok(())
    }

    fn files(
        &mut self,
        destination: &str,
        files: Vec<(String, Vec<u8>)>,
        mode: u32,
    ) -> Result<(), SpawnError> {
        let point = self.point(true)?;
        self.make(
            Path::new(destination),
            true,
            Making::Files { files, point, mode },
        );
        Ok(())
    }

    /// A new directory of the container's root, which goes with it.
    fn temporary(&self, mode: u32) -> Result<PathBuf, SpawnError> {
        let number = self.plan.makings.len() + self.plan.shown.len();
        let name = format!("netd-{}-{number}", self.slot.name());
        let path = self.slot.temporary(&Path::new(TEMPORARY).join(name))?;
        let owner = self.outside(0, true);
        make_directory(&path, mode, owner, owner)?;
        Ok(path)
    }

    fn tree(&self) -> PathBuf {
        let directory = self.plan.directory.as_deref();
        directory.unwrap_or(Path::new("/")).to_owned()
    }

    /// The host's id of a file's owner; `mapped`: of a file that is seen through the root's mapping.
    fn outside(&self, id: u32, mapped: bool) -> u32 {
        match self.plan.range {
            Some(range) if mapped && (range.idmap || id == 0) => range.base.saturating_add(id),
            _ => id,
        }
    }
}

/// A name beside `path`, for an overlay's scratch directory: that must be on the same file system.
fn beside(path: &Path, name: &str) -> PathBuf {
    let parent = path.parent().unwrap_or(path);
    let last = path.file_name().unwrap_or_default().to_string_lossy();
    parent.join(format!(".#{last}.{name}"))
}

fn make_directory(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), SpawnError> {
    let make = || {
        std::fs::DirBuilder::new().mode(0o700).create(path)?;
        chown(path, Some(uid), Some(gid))?;
        // whatever the umask is
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    make().map_err(SpawnError::state("create", path))
}
