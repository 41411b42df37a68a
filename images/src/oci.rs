//! OCI images on disk → trees: a layout (image-spec, image-layout.md) as skopeo, umoci, buildah and podman write it, a folder or an
//! archive of one.
//!
//! ```text
//!   index.json ──REF, platform──▶ manifest ──▶ layers, the lowest first ──digest checked──▶ archive::apply_layer ──▶ staging
//! ```
//! Every part is read from the layout's own folder by its digest, and is what that says, or nothing of the image is kept. What the
//! image says about how it is run stays behind: settings files are made by whoever runs the machine.

mod blob;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::image::{
    ANNOTATION_REF_NAME, Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest,
    MediaType, Os,
};

use crate::archive::{self, Cancel, Owners, Unpacked};
use crate::error::ImageError;
use crate::import::Making;
use crate::name::ImageName;
use crate::store::{Image, Kind, Store};
use blob::Layout;

/// What docker names an image by in a layout that it writes.
const DOCKER_NAME: &str = "io.containerd.image.name";
/// Indexes within indexes.
const DEPTH: usize = 4;
/// As many layers as overlayfs can stack (OVL_MAX_STACK, fs/overlayfs/params.h).
const LAYERS: usize = 500;

/// An image of an OCI layout becomes a tree: a folder, or an archive of one, compressed or not. Without `reference` it must be the only
/// one there.
///
/// # Errors
/// [`ImageError::Oci`] for what is no layout, lacks that image, or is not what its digests say; or as [`crate::import_tar`].
pub fn import_oci(
    store: &Store,
    path: &Path,
    reference: Option<&str>,
    name: &ImageName,
    making: Making,
    cancel: &Cancel,
) -> Result<(Image, Unpacked), ImageError> {
    let open = || File::open(path).map_err(ImageError::file("open", path));
    let file = open()?;
    let meta = file.metadata().map_err(ImageError::file("read", path))?;
    if !making.force
        && let Ok(there) = store.find(name)
    {
        return Err(ImageError::Exists {
            name: there.name,
            path: there.path,
        });
    }
    // an archive is unpacked beside the images, where there is room, and goes with this call
    let mut unpacked = None;
    let folder = match meta.is_dir() {
        true => file,
        false => {
            let beside = store.stage(name, Kind::Directory, true)?;
            archive::unpack(file, beside.file().as_fd(), Owners::Mine, cancel)?;
            let folder = beside
                .file()
                .try_clone()
                .map_err(ImageError::file("open", beside.path()))?;
            unpacked = Some(beside);
            folder
        }
    };
    let layout = Layout::open(path, folder, cancel)?;
    let manifest = find(&layout, reference)?;
    let layers = manifest.layers();
    let sums = sums(&layout, &manifest)?;
    let staging = store.stage(name, Kind::Directory, making.force)?;
    let owners = match rustix::process::geteuid().is_root() {
        true => Owners::Kept,
        false => Owners::Mine,
    };
    let mut done = Unpacked::default();
    for (layer, sum) in layers.iter().zip(&sums) {
        is_layer(&layout, layer)?;
        layout.verify(layer, sum)?;
        let open = || layout.blob(layer);
        let one = archive::apply_layer(open, staging.file().as_fd(), owners, cancel)?;
        done.entries += one.entries;
        done.devices += one.devices;
        done.attributes += one.attributes;
    }
    if done.entries == 0 {
        return Err(layout.wrong("its layers", "hold nothing"));
    }
    drop(unpacked);
    staging.finish()?;
    Ok((store.mark(name, making.read_only)?, done))
}

/// The manifest of the image that is asked for, for this machine.
fn find(layout: &Layout<'_>, reference: Option<&str>) -> Result<ImageManifest, ImageError> {
    let index: ImageIndex = layout.json("index.json")?;
    let named = |entry: &&Descriptor| {
        let Some(wanted) = reference else { return true };
        let notes = entry.annotations().as_ref();
        [ANNOTATION_REF_NAME, DOCKER_NAME]
            .into_iter()
            .any(|key| notes.and_then(|notes| notes.get(key)).map(String::as_str) == Some(wanted))
            || entry.digest().to_string() == wanted
    };
    let found: Vec<&Descriptor> = index.manifests().iter().filter(named).collect();
    match (found.as_slice(), reference) {
        ([], Some(wanted)) => Err(layout.wrong(
            "index.json",
            &format!("has no image {wanted:?}, {}", there(&index)),
        )),
        ([], None) => Err(layout.wrong("index.json", "has no image")),
        ([_, _, ..], None) if !same_image(&found) => {
            Err(layout.wrong("index.json", &format!("which image? {}", there(&index))))
        }
        (found, _) => resolve(layout, found, 0),
    }
}

/// Whether these are one image for several platforms, and not several images.
fn same_image(found: &[&Descriptor]) -> bool {
    let name = |entry: &Descriptor| {
        let notes = entry.annotations().as_ref()?;
        notes.get(ANNOTATION_REF_NAME).cloned()
    };
    found
        .iter()
        .all(|entry| entry.platform().is_some() && name(entry) == name(found[0]))
}

fn there(index: &ImageIndex) -> String {
    let name = |entry: &Descriptor| {
        let notes = entry.annotations().as_ref();
        let named = notes.and_then(|notes| notes.get(ANNOTATION_REF_NAME).cloned());
        named.unwrap_or_else(|| entry.digest().to_string())
    };
    // a stranger's words, and not all of a long list
    let names: Vec<String> = index
        .manifests()
        .iter()
        .take(10)
        .map(|entry| name(entry).escape_debug().to_string())
        .collect();
    format!("it has {}", names.join(", "))
}

fn resolve(
    layout: &Layout<'_>,
    entries: &[&Descriptor],
    depth: usize,
) -> Result<ImageManifest, ImageError> {
    let ours = |entry: &&&Descriptor| {
        entry.platform().as_ref().is_none_or(|platform| {
            *platform.architecture() == Arch::default() && *platform.os() == Os::default()
        })
    };
    let Some(entry) = entries.iter().find(ours) else {
        return Err(layout.wrong(
            "index.json",
            &format!("has none for {}/{}", Os::default(), Arch::default()),
        ));
    };
    let docker = |kind: &str| format!("application/vnd.docker.distribution.{kind}.v2+json");
    match entry.media_type() {
        MediaType::ImageManifest => layout.json_of(entry),
        MediaType::Other(kind) if *kind == docker("manifest") => layout.json_of(entry),
        MediaType::ImageIndex => below(layout, entry, depth),
        MediaType::Other(kind) if *kind == docker("manifest.list") => below(layout, entry, depth),
        other => Err(layout.wrong(
            entry.digest().as_ref(),
            &format!("is of the type {other}, and no image"),
        )),
    }
}

fn below(
    layout: &Layout<'_>,
    entry: &Descriptor,
    depth: usize,
) -> Result<ImageManifest, ImageError> {
    if depth == DEPTH {
        return Err(layout.wrong(entry.digest().as_ref(), "leads on and on"));
    }
    let index: ImageIndex = layout.json_of(entry)?;
    let entries: Vec<&Descriptor> = index.manifests().iter().collect();
    resolve(layout, &entries, depth + 1)
}

/// The sums of the layers as they are uncompressed, one a layer.
fn sums(layout: &Layout<'_>, manifest: &ImageManifest) -> Result<Vec<String>, ImageError> {
    let config: ImageConfiguration = layout.json_of(manifest.config())?;
    let sums = config.rootfs().diff_ids();
    if sums.len() != manifest.layers().len() || sums.len() > LAYERS {
        let reason = format!(
            "lists {} layers, and the manifest {} (at most {LAYERS} can be)",
            sums.len(),
            manifest.layers().len()
        );
        return Err(layout.wrong("its configuration", &reason));
    }
    Ok(sums.clone())
}

fn is_layer(layout: &Layout<'_>, layer: &Descriptor) -> Result<(), ImageError> {
    match layer.media_type() {
        MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => Ok(()),
        MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => Ok(()),
        MediaType::Other(kind)
            if kind.starts_with("application/vnd.docker.image.rootfs.")
                && kind.contains(".tar") =>
        {
            Ok(())
        }
        other => Err(layout.wrong(
            layer.digest().as_ref(),
            &format!("a layer of the type {other} cannot be unpacked"),
        )),
    }
}

#[cfg(test)]
mod tests;
