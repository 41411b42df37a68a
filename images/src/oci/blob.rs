//! The parts of an OCI layout, each checked against the digest that it is asked for by.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::image::{Descriptor, DigestAlgorithm};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::archive::Cancel;
use crate::codec;
use crate::error::ImageError;

/// Longest index, manifest or configuration, bytes; registries take as much.
const LONGEST: u64 = 4 << 20;

/// A folder with `index.json` and `blobs/`.
pub(super) struct Layout<'a> {
    path: &'a Path,
    folder: File,
    cancel: &'a Cancel,
}

impl<'a> Layout<'a> {
    pub(super) fn open(
        path: &'a Path,
        folder: File,
        cancel: &'a Cancel,
    ) -> Result<Self, ImageError> {
        let layout = Self {
            path,
            folder,
            cancel,
        };
        let about: serde_json::Value = layout.json("oci-layout")?;
        match about["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => Ok(layout),
            _ => Err(layout.wrong("oci-layout", "is of no version that is known (1.0.0 is)")),
        }
    }

    pub(super) fn wrong(&self, what: &str, reason: &str) -> ImageError {
        ImageError::Oci {
            path: self.path.to_owned(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// A file of the layout's own: no link leads out of it, and nobody waits for a pipe.
    fn file(&self, name: &str) -> Result<File, ImageError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || -> io::Result<File> {
            let fd = rustix::fs::openat2(self.folder.as_fd(), name, flags, Mode::empty(), resolve)?;
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
            match kind {
                FileType::RegularFile => Ok(fd.into()),
                _ => Err(io::Error::other("is no file")),
            }
        };
        open().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => self.wrong(name, "is not there"),
            _ => self.wrong(name, &e.to_string()),
        })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let read = self.file(name)?.take(LONGEST + 1).read_to_end(&mut bytes);
        read.map_err(|e| self.wrong(name, &e.to_string()))?;
        match bytes.len() as u64 > LONGEST {
            true => Err(self.wrong(name, "is too long")),
            false => Ok(bytes),
        }
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(bytes).map_err(|e| self.wrong(what, &e.to_string()))
    }

    /// A file by its name, which nothing vouches for.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ImageError> {
        self.parse(name, &self.read(name)?)
    }

    /// A part by its digest.
    pub(super) fn json_of<T: DeserializeOwned>(&self, part: &Descriptor) -> Result<T, ImageError> {
        let digest = part.digest().to_string();
        let bytes = self.read(&self.name(part)?)?;
        let mut sum = self.sum(&digest)?;
        sum.update(&bytes);
        match sum.hex() == part.digest().digest() && bytes.len() as u64 == part.size() {
            true => self.parse(&digest, &bytes),
            false => Err(self.wrong(&digest, "is not what its digest says")),
        }
    }

    /// A layer, from its beginning.
    pub(super) fn blob(&self, part: &Descriptor) -> Result<impl Read + use<>, ImageError> {
        Ok(self.file(&self.name(part)?)?.take(part.size()))
    }

    /// That a layer is what its digest says, as it stands and (`plain`) uncompressed.
    pub(super) fn verify(&self, part: &Descriptor, plain: &str) -> Result<(), ImageError> {
        let digest = part.digest().to_string();
        let (mut packed, mut sum) = (self.sum(&digest)?, self.sum(plain)?);
        let mut bytes = vec![0; 128 << 10];
        let failed = |e: io::Error| match self.cancel.is_cancelled() {
            true => ImageError::Cancelled,
            false => self.wrong(&digest, &e.to_string()),
        };
        let name = self.name(part)?;
        let mut length = 0;
        let mut file = self.cancel.reader(self.file(&name)?);
        loop {
            let n = file.read(&mut bytes).map_err(failed)?;
            if n == 0 {
                break;
            }
            length += n as u64;
            packed.update(&bytes[..n]);
        }
        if packed.hex() != part.digest().digest() || length != part.size() {
            return Err(self.wrong(&digest, "is not what its digest says"));
        }
        // only what is known to be its maker's is given to a decompressor
        let file = self.cancel.reader(self.file(&name)?);
        let mut file = codec::reader(file).map_err(failed)?;
        loop {
            let n = file.read(&mut bytes).map_err(failed)?;
            if n == 0 {
                break;
            }
            sum.update(&bytes[..n]);
        }
        let wanted = plain.rsplit(':').next().unwrap_or_default();
        match sum.hex() == wanted {
            true => Ok(()),
            false => Err(self.wrong(
                &digest,
                "is not the layer that the image's configuration names",
            )),
        }
    }

    /// Where a part lies. A digest of a known kind is hexadecimal, so nothing else can be reached by it.
    fn name(&self, part: &Descriptor) -> Result<String, ImageError> {
        let digest = part.digest();
        let known = matches!(
            digest.algorithm(),
            DigestAlgorithm::Sha256 | DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512
        );
        match known && digest.digest().bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(format!("blobs/{}/{}", digest.algorithm(), digest.digest())),
            false => Err(self.wrong(digest.as_ref(), "is no digest that is known")),
        }
    }

    fn sum(&self, digest: &str) -> Result<Sum, ImageError> {
        match digest.split(':').next() {
            Some("sha256") => Ok(Sum::Sha256(Sha256::new())),
            Some("sha384") => Ok(Sum::Sha384(Sha384::new())),
            Some("sha512") => Ok(Sum::Sha512(Sha512::new())),
            _ => Err(self.wrong(digest, "is no digest that is known")),
        }
    }
}

/// A sum that is being made.
enum Sum {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Sum {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::Sha384(sum) => sum.update(bytes),
            Self::Sha512(sum) => sum.update(bytes),
        }
    }

    fn hex(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(sum) => hex(&sum.finalize()),
            Self::Sha384(sum) => hex(&sum.finalize()),
            Self::Sha512(sum) => hex(&sum.finalize()),
        }
    }
}
