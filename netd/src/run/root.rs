//! Which root a container has.

use std::path::{Path, PathBuf};

use crate::cli::{Context, RunArgs};
use crate::error::Error;

/// A container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root {
    /// The host's own, read-only.
    Host,
    /// A directory.
    Directory(PathBuf),
    /// A disk, until it is mounted.
    Image {
        /// Its file.
        path: PathBuf,
        /// What the container is named after: the same without its suffix.
        name: PathBuf,
    },
    /// That of an OCI bundle.
    Bundle {
        /// The directory.
        root: PathBuf,
        /// The bundle, after which the container is named.
        name: PathBuf,
    },
}

impl Root {
    /// The one that is asked for: by `--directory=`, or by a machine's name in the folders of machines.
    pub(super) fn find(context: &Context, args: &RunArgs) -> Self {
        if let Some(directory) = &args.directory {
            return Self::Directory(directory.clone());
        }
        if let Some(path) = &args.image {
            return Self::image(path.clone());
        }
        let named = args.machine.as_ref().filter(|_| !args.no_root);
        let found = named.and_then(|name| {
            let images = context.dirs.images();
            let mut paths = images
                .folders()
                .iter()
                .map(|folder| folder.join(name.as_str()));
            let tree = paths.find(|path| path.is_dir()).map(Self::Directory);
            let disks = images.folders().iter();
            let mut disks = disks.map(|folder| folder.join(format!("{name}.raw")));
            tree.or_else(|| disks.find(|path| path.is_file()).map(Self::image))
        });
        found.unwrap_or(Self::Host)
    }

    fn image(path: PathBuf) -> Self {
        Self::Image {
            name: path.with_extension(""),
            path,
        }
    }

    /// The directory, where there is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Host => None,
            Self::Directory(path) | Self::Bundle { root: path, .. } | Self::Image { path, .. } => {
                Some(path)
            }
        }
    }

    /// What the container is named after, where nothing else is said.
    pub(super) fn named(&self) -> Option<&Path> {
        match self {
            Self::Host => None,
            Self::Directory(path)
            | Self::Bundle { name: path, .. }
            | Self::Image { name: path, .. } => Some(path),
        }
    }
}

/// `--template=`: copies it to where the root is to be, unless something is there.
pub(super) fn populate(args: &RunArgs, root: &Root) -> Result<(), Error> {
    let Some(template) = &args.files.template else {
        return Ok(());
    };
    if args.files.ephemeral {
        return Err(Error::Invalid(
            "run: --template= goes not with --ephemeral: the one is kept, the other is not"
                .to_owned(),
        ));
    }
    let Some(directory) = root.directory() else {
        return Err(Error::Invalid(
            "run: --template= needs --directory=, where the copy goes".to_owned(),
        ));
    };
    match directory.exists() {
        true => Ok(()),
        false => Ok(spawner::copy_tree(template, directory)?),
    }
}
