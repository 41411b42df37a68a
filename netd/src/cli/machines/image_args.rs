//! Images of machines, as the command line has them: with machinectl's names.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use images::{ImageError, ImageName};
use zone::{ContainerName, ZoneName};

/// What is done with images.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images of machines
    Images,
    /// Copy an image, with its settings file
    Clone {
        /// The image
        #[arg(value_parser = image_name)]
        image: ImageName,
        /// Name of the copy
        #[arg(value_parser = image_name)]
        name: ImageName,
        /// Mark the copy read-only
        #[arg(long)]
        read_only: bool,
    },
    /// Rename an image, with its settings file
    Rename {
        /// The image
        #[arg(value_parser = image_name)]
        image: ImageName,
        /// Its new name
        #[arg(value_parser = image_name)]
        name: ImageName,
    },
    /// Remove images, with their settings files
    Remove {
        /// The images
        #[arg(required = true, value_name = "IMAGE", value_parser = image_name)]
        images: Vec<ImageName>,
    },
    /// Mark an image read-only, or not any more
    #[command(name = "read-only")]
    ReadOnly {
        /// The image
        #[arg(value_parser = image_name)]
        image: ImageName,
        /// `yes` or `no`
        #[arg(default_value = "yes", action = clap::ArgAction::Set, value_parser = yes_or_no)]
        mark: bool,
    },
    /// Make a tree of a tar archive
    ///
    /// Compressed or not. What would leave the tree, by `..`, links or absolute paths, is refused or stays inside; device nodes are
    /// left out. An archive that breaks off leaves nothing.
    #[command(name = "import-tar")]
    ImportTar(ImportArgs),
    /// Make a disk of a raw image, compressed or not
    #[command(name = "import-raw")]
    ImportRaw(ImportArgs),
    /// Make a tree of an image in an OCI layout
    ///
    /// The layout is a folder, or an archive of one, as skopeo, umoci, buildah and podman write it. What its digests do not vouch for is
    /// refused, and nothing of it is kept. How the image wants to be run stays behind; `netd run --oci-bundle=` runs what
    /// `umoci unpack` makes of it.
    #[command(name = "import-oci")]
    ImportOci(ImportOciArgs),
    /// Write a tree as a tar archive
    #[command(name = "export-tar")]
    ExportTar(ExportArgs),
    /// Write a disk
    #[command(name = "export-raw")]
    ExportRaw(ExportArgs),
    /// Fetch a tar archive from the web, verify it and make a tree of it
    #[command(name = "pull-tar")]
    PullTar(PullArgs),
    /// Fetch a raw disk image from the web, verify it and keep it
    #[command(name = "pull-raw")]
    PullRaw(PullArgs),
    /// List what is being fetched, imported or exported
    #[command(name = "list-transfers")]
    ListTransfers,
    /// Call off what is being fetched, imported or exported
    #[command(name = "cancel-transfer")]
    CancelTransfer {
        /// Its number, of `netd list-transfers`; may be repeated
        #[arg(required = true)]
        id: Vec<u32>,
    },
    /// Have machines start at boot, by a unit of systemd's
    Enable(EnableArgs),
    /// Have machines not start at boot any more
    Disable(EnableArgs),
}

/// How an image comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct MakingArgs {
    /// Replace an image of that name
    #[arg(long)]
    pub(crate) force: bool,
    /// Mark it read-only
    #[arg(long)]
    pub(crate) read_only: bool,
}

impl From<MakingArgs> for images::Making {
    fn from(args: MakingArgs) -> Self {
        Self {
            force: args.force,
            read_only: args.read_only,
        }
    }
}

/// `netd import-tar`, `netd import-raw`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct ImportArgs {
    /// The file; `-` is standard input
    pub(crate) file: PathBuf,
    /// Name of the image; without it the file's, less its suffixes
    #[arg(value_parser = image_name)]
    pub(crate) name: Option<ImageName>,
    #[command(flatten)]
    pub(crate) making: MakingArgs,
}

/// `netd import-oci`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct ImportOciArgs {
    /// The layout, and which of its images, if it has several
    #[arg(value_name = "PATH[:REF]")]
    pub(crate) layout: LayoutRef,
    /// Name of the image; without it the reference's, or the path's
    #[arg(value_parser = image_name)]
    pub(crate) name: Option<ImageName>,
    #[command(flatten)]
    pub(crate) making: MakingArgs,
}

/// `PATH[:REF]`, as skopeo(1) and umoci(1) have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayoutRef(PathBuf);

impl std::str::FromStr for LayoutRef {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl LayoutRef {
    /// The path, and the reference if one is given. A path that is there is a path, with all its colons.
    pub(crate) fn split(&self) -> (PathBuf, Option<String>) {
        let whole = || (self.0.clone(), None);
        let Some(text) = self.0.to_str().filter(|_| !self.0.exists()) else {
            return whole();
        };
        match text.split_once(':') {
            Some((path, reference)) if !path.is_empty() && !reference.is_empty() => {
                (path.into(), Some(reference.to_owned()))
            }
            _ => whole(),
        }
    }
}

/// `netd export-tar`, `netd export-raw`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct ExportArgs {
    /// The image
    #[arg(value_parser = image_name)]
    pub(crate) image: ImageName,
    /// The file; without it, or by `-`, standard output
    pub(crate) file: Option<PathBuf>,
    /// How it is compressed [default: by the file's suffix: .gz, .xz, .zst, .bz2]
    #[arg(long, value_name = "HOW")]
    pub(crate) format: Option<Format>,
    /// Replace the file
    #[arg(long)]
    pub(crate) force: bool,
}

/// `netd pull-tar`, `netd pull-raw`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
The sums are looked for as URL.sha256 and as SHA256SUMS beside it, their signature under the same name with .gpg or .asc.
Keys of those who may sign: /etc/systemd/import-pubring.gpg, /usr/lib/systemd/import-pubring.gpg, and --keyring.

What broke off goes on where it was at the next try. What is called off leaves nothing.")]
pub(crate) struct PullArgs {
    /// Its address
    pub(crate) url: String,
    /// Name of the image; without it the end of the address, less its suffixes
    #[arg(value_parser = image_name)]
    pub(crate) name: Option<ImageName>,
    /// What it must be: signed, of the right sum, or anything
    #[arg(long, value_name = "HOW", default_value = "signature")]
    pub(crate) verify: Verified,
    /// Further keys of those who may sign; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) keyring: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) making: MakingArgs,
}

/// `netd enable`, `netd disable`
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct EnableArgs {
    /// The machines
    #[arg(required = true, value_name = "MACHINE")]
    pub(crate) machines: Vec<ContainerName>,
    /// Where units are written
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub(crate) unit_dir: PathBuf,
    /// Attach them to this zone, unless their settings name a network; may be repeated
    #[arg(long, value_name = "ZONE")]
    pub(crate) network_zone: Vec<ZoneName>,
    /// Start, or stop, them now too
    #[arg(long)]
    pub(crate) now: bool,
}

/// How far a server is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verified {
    /// Whatever it says
    No,
    /// The file is the one of its sums
    Checksum,
    /// The sums are signed by a known key
    Signature,
}

/// How an export is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Not at all
    Uncompressed,
    /// gzip
    Gzip,
    /// xz
    Xz,
    /// Zstandard
    Zstd,
    /// bzip2
    Bzip2,
}

fn image_name(text: &str) -> Result<ImageName, ImageError> {
    text.parse()
}

fn yes_or_no(text: &str) -> Result<bool, crate::values::ValueError> {
    match text {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(crate::values::ValueError::new(
            text,
            "is neither `yes` nor `no`",
        )),
    }
}
