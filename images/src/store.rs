//! Folders of images: a tree `NAME`, or a disk `NAME.raw`, each with its settings `NAME.nspawn` beside it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{IFlags, RenameFlags};
use serde::Serialize;

use crate::archive::Cancel;
use crate::error::ImageError;
use crate::name::ImageName;
use crate::staging::{self, Staging};

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A tree of files.
    Directory,
    /// A disk.
    Raw,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Whether it is marked so.
    pub read_only: bool,
    /// Bytes on disk; `None` for trees, where counting takes long.
    pub usage: Option<u64>,
    /// When it was made, seconds since 1970, where the file system knows.
    pub created: Option<u64>,
    /// When it was last changed, seconds since 1970.
    pub modified: Option<u64>,
    /// Where it is.
    pub path: PathBuf,
    /// Its settings file, if it has one beside it.
    pub settings: Option<PathBuf>,
}

/// The folders that are searched, the first one first.
#[derive(Debug, Clone)]
pub struct Store {
    folders: Vec<PathBuf>,
    home: PathBuf,
}

impl Store {
    /// Images are looked for in `folders`, and made in `home`, which should be one of them.
    pub fn new(folders: Vec<PathBuf>, home: PathBuf) -> Self {
        Self { folders, home }
    }

    /// Where images are looked for, in this order.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Where images are made.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// All images, by name; of one name the first that is found.
    ///
    /// # Errors
    /// A folder that exists and cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut all: Vec<Image> = Vec::new();
        for folder in &self.folders {
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(ImageError::file("read", folder)(e)),
            };
            for entry in entries.flatten() {
                let file = entry.file_name();
                let Some(file) = file.to_str() else { continue };
                let bare = file.strip_suffix(".raw").unwrap_or(file);
                if let Ok(name) = bare.parse::<ImageName>()
                    && let Some(image) = look(folder, &name)
                    && !all.iter().any(|known| known.name == image.name)
                {
                    all.push(image);
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The image of that name.
    ///
    /// # Errors
    /// [`ImageError::Absent`].
    pub fn find(&self, name: &ImageName) -> Result<Image, ImageError> {
        let found = self.folders.iter().find_map(|folder| look(folder, name));
        found.ok_or_else(|| ImageError::Absent {
            name: name.to_string(),
            searched: self.folders.clone(),
        })
    }

    /// A place to make an image in, and where it belongs when it is whole.
    ///
    /// # Errors
    /// [`ImageError::Exists`] unless it may be replaced, or the folder cannot be used.
    pub fn stage(
        &self,
        name: &ImageName,
        kind: Kind,
        replace: bool,
    ) -> Result<Staging, ImageError> {
        make_folder(&self.home)?;
        if !replace && let Ok(there) = self.find(name) {
            return Err(ImageError::Exists {
                name: name.to_string(),
                path: there.path,
            });
        }
        Staging::begin(&self.home, &file_name(name, kind), kind, replace)
    }

    /// Copies an image, with its settings.
    ///
    /// # Errors
    /// [`ImageError::Exists`], or what went wrong with a file; then nothing is left.
    pub fn clone_image(
        &self,
        from: &ImageName,
        to: &ImageName,
        read_only: bool,
        cancel: &Cancel,
    ) -> Result<Image, ImageError> {
        let image = self.find(from)?;
        let staging = self.stage(to, image.kind, false)?;
        match image.kind {
            Kind::Directory => staging::copy_tree(&image.path, staging.path(), cancel)?,
            Kind::Raw => staging::copy_disk(&image.path, staging.path(), cancel)?,
        }
        let path = staging.finish()?;
        if let Some(settings) = &image.settings {
            let copy = path.with_file_name(format!("{to}.nspawn"));
            fs::copy(settings, &copy).map_err(ImageError::file("write", &copy))?;
        }
        self.mark(to, read_only)
    }

    /// Renames an image and its settings.
    ///
    /// # Errors
    /// As for [`Store::clone_image`].
    pub fn rename(&self, from: &ImageName, to: &ImageName) -> Result<Image, ImageError> {
        let image = self.find(from)?;
        if let Ok(there) = self.find(to) {
            return Err(ImageError::Exists {
                name: to.to_string(),
                path: there.path,
            });
        }
        let target = image.path.with_file_name(file_name(to, image.kind));
        if image.read_only {
            set_read_only(&image, false)?;
        }
        move_new(&image.path, &target)?;
        if let Some(settings) = &image.settings {
            move_new(settings, &settings.with_file_name(format!("{to}.nspawn")))?;
        }
        self.mark(to, image.read_only)
    }

    /// Removes an image and its settings.
    ///
    /// # Errors
    /// [`ImageError::Absent`], or what could not be removed.
    pub fn remove(&self, name: &ImageName) -> Result<Image, ImageError> {
        let image = self.find(name)?;
        if image.read_only {
            set_read_only(&image, false)?;
        }
        // out of sight first: what is half removed is no image
        let folder = image.path.parent().unwrap_or(Path::new("/")).to_owned();
        let hidden = staging::hidden(&folder, name.as_str());
        fs::rename(&image.path, &hidden).map_err(ImageError::file("remove", &image.path))?;
        if let Some(settings) = &image.settings {
            fs::remove_file(settings).map_err(ImageError::file("remove", settings))?;
        }
        staging::remove(&hidden).map_err(ImageError::file("remove", &hidden))?;
        Ok(image)
    }

    /// Marks an image read-only, or not any more.
    ///
    /// # Errors
    /// [`ImageError::Absent`]; a file system that knows no such mark.
    pub fn mark(&self, name: &ImageName, read_only: bool) -> Result<Image, ImageError> {
        let image = self.find(name)?;
        if image.read_only != read_only {
            set_read_only(&image, read_only)?;
        }
        self.find(name)
    }
}

pub(crate) fn file_name(name: &ImageName, kind: Kind) -> String {
    match kind {
        Kind::Directory => name.to_string(),
        Kind::Raw => format!("{name}.raw"),
    }
}

/// Makes the folder of images, which nobody but root needs to look into: there are set-user-id programs of other systems below.
fn make_folder(folder: &Path) -> Result<(), ImageError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(ImageError::file("make", folder))?;
    // others may pass: the users of a container must reach its root
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))
        .map_err(ImageError::file("make", folder))
}

fn look(folder: &Path, name: &ImageName) -> Option<Image> {
    let settings = folder.join(format!("{name}.nspawn"));
    let settings = settings.is_file().then_some(settings);
    let (kind, path) = [Kind::Directory, Kind::Raw].into_iter().find_map(|kind| {
        let path = folder.join(file_name(name, kind));
        let meta = fs::metadata(&path).ok()?;
        let fits = match kind {
            Kind::Directory => meta.is_dir(),
            Kind::Raw => meta.is_file(),
        };
        fits.then_some((kind, path))
    })?;
    let meta = fs::metadata(&path).ok()?;
    let seconds =
        |time: io::Result<SystemTime>| Some(time.ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs());
    Some(Image {
        name: name.to_string(),
        kind,
        read_only: match kind {
            Kind::Directory => is_immutable(&path),
            Kind::Raw => meta.permissions().mode() & 0o222 == 0,
        },
        usage: (kind == Kind::Raw).then(|| meta.blocks() * 512),
        created: seconds(meta.created()),
        modified: seconds(meta.modified()),
        path,
        settings,
    })
}

/// Whether a tree is marked read-only: its top folder is "immutable" (chattr(1)).
pub fn is_immutable(path: &Path) -> bool {
    let flags = fs::File::open(path).and_then(|dir| Ok(rustix::fs::ioctl_getflags(&dir)?));
    flags.is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))
}

/// A disk by its mode, a tree by the mark "immutable" of its top folder (chattr(1)), as systemd-machined has it.
fn set_read_only(image: &Image, read_only: bool) -> Result<(), ImageError> {
    let fail = || ImageError::file::<io::Error>("mark", &image.path);
    match image.kind {
        Kind::Raw => {
            let mode = if read_only { 0o444 } else { 0o644 };
            fs::set_permissions(&image.path, fs::Permissions::from_mode(mode)).map_err(fail())
        }
        Kind::Directory => {
            let dir = fs::File::open(&image.path).map_err(fail())?;
            let old = rustix::fs::ioctl_getflags(dir.as_fd()).map_err(|e| fail()(e.into()))?;
            let mut new = old;
            new.set(IFlags::IMMUTABLE, read_only);
            rustix::fs::ioctl_setflags(dir.as_fd(), new).map_err(|e| fail()(e.into()))
        }
    }
}

fn move_new(from: &Path, to: &Path) -> Result<(), ImageError> {
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        from,
        rustix::fs::CWD,
        to,
        RenameFlags::NOREPLACE,
    )
    .map_err(ImageError::file("rename", from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> ImageName {
        text.parse().unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let (first, home) = (dir.path().join("etc"), dir.path().join("var"));
        fs::create_dir_all(&first).unwrap();
        fs::create_dir_all(home.join("web/etc")).unwrap();
        fs::write(home.join("web/etc/hostname"), "web\n").unwrap();
        fs::write(home.join("web.nspawn"), "[Exec]\nBoot=no\n").unwrap();
        fs::write(home.join("disk.raw"), [7; 5000]).unwrap();
        fs::write(home.join(".hidden.raw"), "").unwrap();
        fs::write(home.join("notes.txt"), "").unwrap();
        (dir, Store::new(vec![first, home.clone()], home))
    }

    fn names(store: &Store) -> Vec<String> {
        store
            .list()
            .unwrap()
            .into_iter()
            .map(|image| image.name)
            .collect()
    }

    #[test]
    fn images_are_trees_and_disks_and_the_first_folder_wins() {
        let (dir, store) = store();
        assert_eq!(names(&store), ["disk", "web"]);
        let web = store.find(&name("web")).unwrap();
        assert!(web.kind == Kind::Directory && web.settings.is_some() && !web.read_only);
        fs::create_dir(dir.path().join("etc/web")).unwrap();
        assert!(
            store
                .find(&name("web"))
                .unwrap()
                .path
                .starts_with(dir.path().join("etc"))
        );
        assert!(matches!(
            store.find(&name("db")),
            Err(ImageError::Absent { .. })
        ));
    }

    #[test]
    fn cloned_renamed_removed_with_their_settings() {
        let (dir, store) = store();
        let cancel = Cancel::default();
        store
            .clone_image(&name("web"), &name("copy"), false, &cancel)
            .unwrap();
        let home = dir.path().join("var");
        assert_eq!(
            fs::read_to_string(home.join("copy/etc/hostname")).unwrap(),
            "web\n"
        );
        assert!(home.join("copy.nspawn").exists());
        store
            .clone_image(&name("disk"), &name("disk2"), true, &cancel)
            .unwrap();
        assert!(store.find(&name("disk2")).unwrap().read_only);
        assert_eq!(fs::read(home.join("disk2.raw")).unwrap(), [7; 5000]);
        let taken = store.clone_image(&name("web"), &name("disk"), false, &cancel);
        assert!(matches!(taken, Err(ImageError::Exists { .. })));
        assert!(store.rename(&name("copy"), &name("web")).is_err());
        store.rename(&name("copy"), &name("other")).unwrap();
        store.rename(&name("disk2"), &name("disk3")).unwrap();
        assert!(
            store.find(&name("disk3")).unwrap().read_only,
            "the mark is kept"
        );
        assert!(home.join("other.nspawn").exists() && !home.join("copy.nspawn").exists());
        store.remove(&name("other")).unwrap();
        store.remove(&name("disk3")).unwrap();
        assert_eq!(names(&store), ["disk", "web"]);
        assert!(!home.join("other.nspawn").exists());
        let left: Vec<_> = fs::read_dir(&home)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left.len(), 5, "{left:?}");
    }

    #[test]
    fn a_clone_that_is_called_off_leaves_nothing() {
        let (dir, store) = store();
        let cancel = Cancel::default();
        cancel.cancel();
        let before = fs::read_dir(dir.path().join("var")).unwrap().count();
        for from in ["web", "disk"] {
            let stopped = store.clone_image(&name(from), &name("copy"), false, &cancel);
            assert!(matches!(stopped, Err(ImageError::Cancelled)), "{stopped:?}");
        }
        assert_eq!(
            fs::read_dir(dir.path().join("var")).unwrap().count(),
            before
        );
    }
}
