#![allow(clippy::unwrap_used)]
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::codec::{Codec, Writer};

/// An entry of a layer: its path, and what it is.
enum Entry {
    File(&'static str),
    Folder,
    Link(&'static str),
}
use Entry::{File as Plain, Folder, Link};

fn layer(entries: &[(&str, Entry)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        // as it stands: the library would refuse what leads out
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        let text = match entry {
            Plain(text) => text,
            Folder => "",
            Link(target) => {
                header.set_link_name_literal(target).unwrap();
                ""
            }
        };
        header.set_entry_type(match entry {
            Plain(_) => tar::EntryType::Regular,
            Folder => tar::EntryType::Directory,
            Link(_) => tar::EntryType::Symlink,
        });
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        header.set_uid(uid.as_raw().into());
        header.set_gid(gid.as_raw().into());
        header.set_size(text.len() as u64);
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn sum(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes);
    hex.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("machines");
        fs::create_dir_all(dir.path().join("layout/blobs/sha256")).unwrap();
        let store = Store::new(vec![home.clone()], home);
        Self { dir, store }
    }

    fn layout(&self) -> PathBuf {
        self.dir.path().join("layout")
    }

    fn tree(&self) -> PathBuf {
        self.store.home().join("box")
    }

    fn put(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = sum(bytes);
        fs::write(self.layout().join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// An image of these layers, each compressed in its own way.
    fn image(&self, layers: &[Vec<u8>]) -> Value {
        let codecs = [
            (Codec::None, ""),
            (Codec::Gzip, "+gzip"),
            (Codec::Zstd, "+zstd"),
        ];
        let mut parts = Vec::new();
        for (tar, (codec, suffix)) in layers.iter().zip(codecs.iter().cycle()) {
            let mut writer = Writer::new(*codec, Vec::new()).unwrap();
            std::io::Write::write_all(&mut writer, tar).unwrap();
            let kind = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
            parts.push(self.put(&kind, &writer.finish().unwrap()));
        }
        let sums: Vec<String> = layers
            .iter()
            .map(|tar| format!("sha256:{}", sum(tar)))
            .collect();
        let arch = Arch::default().to_string();
        let config = json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": sums } });
        let config = self.put(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": parts });
        self.put(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        )
    }

    fn index(&self, entries: &[(&str, Value)]) {
        let entries: Vec<Value> = entries
            .iter()
            .map(|(name, entry)| {
                let mut entry = entry.clone();
                if !name.is_empty() {
                    entry["annotations"] = json!({ ANNOTATION_REF_NAME: name });
                }
                entry
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        fs::write(self.layout().join("index.json"), index.to_string()).unwrap();
        let about = r#"{"imageLayoutVersion": "1.0.0"}"#;
        fs::write(self.layout().join("oci-layout"), about).unwrap();
    }

    fn import(&self, reference: Option<&str>) -> Result<(), String> {
        let (name, making) = (
            "box".parse().unwrap(),
            Making {
                force: true,
                read_only: false,
            },
        );
        let cancel = Cancel::default();
        import_oci(
            &self.store,
            &self.layout(),
            reference,
            &name,
            making,
            &cancel,
        )
        .map(drop)
        .map_err(|e| {
            let mut text = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(e) = source {
                text += &format!(": {e}");
                source = e.source();
            }
            text
        })
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.tree().join(path)).ok()
    }
}

#[test]
fn layers_add_change_and_take_away() {
    let place = Place::new();
    let lowest = layer(&[
        ("etc/", Folder),
        ("etc/keep", Plain("1")),
        ("etc/change", Plain("1")),
        ("etc/gone", Plain("1")),
        ("dir/", Folder),
        ("dir/sub/", Folder),
        ("dir/sub/file", Plain("1")),
        ("opaque/", Folder),
        ("opaque/old", Plain("1")),
        ("opaque/deep/old", Plain("1")),
        ("becomes-file/", Folder),
        ("becomes-file/x", Plain("1")),
        ("becomes-dir", Link("/etc")),
    ]);
    let middle = layer(&[
        ("etc/change", Plain("2")),
        ("etc/.wh.gone", Plain("")),
        (".wh.dir", Plain("")),
        // what it takes away and brings is there, whatever comes first
        ("opaque/new", Plain("2")),
        ("opaque/.wh..wh..opq", Plain("")),
        ("opaque/deep/new", Plain("2")),
        ("becomes-file", Plain("2")),
        ("becomes-dir/", Folder),
        ("becomes-dir/x", Plain("2")),
        ("nothing/.wh.there", Plain("")),
        (".wh..wh.plnk", Plain("")),
    ]);
    let topmost = layer(&[("etc/gone", Plain("3")), ("opaque/.wh.new", Plain(""))]);
    place.index(&[("", place.image(&[lowest, middle, topmost]))]);
    place.import(None).unwrap();
    let read = |path| place.read(path);
    assert_eq!(read("etc/keep").as_deref(), Some("1"));
    assert_eq!(read("etc/change").as_deref(), Some("2"));
    assert_eq!(read("etc/gone").as_deref(), Some("3"));
    assert!(!place.tree().join("dir").exists());
    assert_eq!(read("opaque/old"), None);
    assert_eq!(read("opaque/new"), None);
    assert!(!place.tree().join("opaque/deep/old").exists());
    assert_eq!(read("opaque/deep/new").as_deref(), Some("2"));
    assert_eq!(read("becomes-file").as_deref(), Some("2"));
    assert_eq!(read("becomes-dir/x").as_deref(), Some("2"));
    assert_eq!(read("etc/x"), None, "a link of a lower layer was followed");
    let whiteouts = fs::read_dir(place.tree()).unwrap().flatten();
    assert!(
        !whiteouts
            .into_iter()
            .any(|e| e.file_name().to_string_lossy().starts_with(".wh."))
    );
}

#[test]
fn nothing_outside_is_reached() {
    let place = Place::new();
    let precious = place.dir.path().join("precious");
    let safe = || fs::read_to_string(&precious).unwrap() == "mine";
    fs::write(&precious, "mine").unwrap();
    let outside: &'static str = place.dir.path().to_str().unwrap().to_owned().leak();
    for evil in [
        vec![("../../precious", Plain("x"))],
        vec![("../.wh.precious", Plain(""))],
        vec![("a", Link(outside)), ("a/precious", Plain("x"))],
        vec![("a", Link(outside)), ("a/.wh.precious", Plain(""))],
        vec![("a", Link("..")), ("a/.wh..wh..opq", Plain(""))],
        vec![(".wh...", Plain(""))],
        vec![(".wh.", Plain(""))],
    ] {
        // the link in a layer of its own, too
        let (first, rest) = evil.split_at(1);
        let all = [layer(first), layer(rest), layer(&evil)];
        place.index(&[("", place.image(&all))]);
        let _ = place.import(None);
        assert!(safe());
    }
    // a layout that leads out of itself
    place.index(&[("", place.image(&[layer(&[("x", Plain("1"))])]))]);
    fs::write(place.dir.path().join("index"), "{}").unwrap();
    fs::remove_file(place.layout().join("index.json")).unwrap();
    symlink("../index", place.layout().join("index.json")).unwrap();
    assert!(place.import(None).unwrap_err().contains("is not there"));
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let tar = layer(&[("x", Plain("1"))]);
    let (one, other) = (sum(&tar), layer(&[("x", Plain("2"))]));
    let place = Place::new();
    place.index(&[("", place.image(std::slice::from_ref(&tar)))]);
    place.import(None).unwrap();
    // the blob is another
    let blob = place.layout().join("blobs/sha256").join(&one);
    fs::write(&blob, &other).unwrap();
    assert!(place.import(None).unwrap_err().contains("digest"));
    assert_eq!(
        place.read("x").as_deref(),
        Some("1"),
        "the one that was there stays"
    );
    let mut longer = tar.clone();
    longer.extend([0; 512]);
    fs::write(&blob, longer).unwrap();
    assert!(place.import(None).unwrap_err().contains("digest"));
    fs::remove_file(&blob).unwrap();
    assert!(place.import(None).unwrap_err().contains("is not there"));
    // a manifest that names another layer than the configuration does
    let other = place.put("application/vnd.oci.image.layer.v1.tar", &other);
    let entry = place.image(std::slice::from_ref(&tar));
    let digest = entry["digest"]
        .as_str()
        .unwrap()
        .strip_prefix("sha256:")
        .unwrap();
    let file = place.layout().join("blobs/sha256").join(digest);
    let mut manifest: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    manifest["layers"][0] = other;
    let manifest = place.put(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    place.index(&[("", manifest)]);
    assert!(
        place
            .import(None)
            .unwrap_err()
            .contains("configuration names")
    );
    assert_eq!(fs::read_dir(place.store.home()).unwrap().count(), 1);
}

#[test]
fn images_are_found_by_name_and_platform() {
    let place = Place::new();
    let (one, two) = (layer(&[("x", Plain("1"))]), layer(&[("x", Plain("2"))]));
    let (one, two) = (place.image(&[one]), place.image(&[two]));
    place.index(&[("one", one.clone()), ("two", two.clone())]);
    place.import(Some("two")).unwrap();
    assert_eq!(place.read("x").as_deref(), Some("2"));
    let told = place.import(None).unwrap_err();
    assert!(told.contains("one, two"), "{told}");
    assert!(
        place
            .import(Some("three"))
            .unwrap_err()
            .contains("one, two")
    );
    place.import(one["digest"].as_str()).unwrap();
    assert_eq!(place.read("x").as_deref(), Some("1"));
    // one for every platform, below an index of its own
    let on = |mut entry: Value, arch: &str| {
        entry["platform"] = json!({ "architecture": arch, "os": "linux" });
        entry
    };
    let ours = Arch::default().to_string();
    let index =
        json!({ "schemaVersion": 2, "manifests": [on(one.clone(), "s390x"), on(two, &ours)] });
    let index = place.put(
        "application/vnd.oci.image.index.v1+json",
        index.to_string().as_bytes(),
    );
    place.index(&[("multi", index)]);
    place.import(None).unwrap();
    assert_eq!(place.read("x").as_deref(), Some("2"));
    place.index(&[("", on(one, "s390x"))]);
    assert!(
        place
            .import(None)
            .unwrap_err()
            .contains("has none for linux/")
    );
}

#[test]
fn what_is_no_image_is_refused() {
    let place = Place::new();
    assert!(place.import(None).unwrap_err().contains("oci-layout"));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let config = place.put("application/vnd.oci.image.config.v1+json", b"{}");
    let tar = layer(&[("x", Plain("1"))]);
    let encrypted = place.put("application/vnd.oci.image.layer.v1.tar+encrypted", &tar);
    for (manifest, word) in [
        (
            json!({ "schemaVersion": 2, "config": config, "layers": [] }),
            "missing field",
        ),
        (json!([]), "invalid"),
        (
            json!({ "schemaVersion": 2, "config": { "mediaType": "x", "digest": "md5:ab", "size": 1 }, "layers": [] }),
            "digest",
        ),
        (
            json!({ "schemaVersion": 2, "config": { "mediaType": "x", "digest": "sha256:../../x", "size": 1 }, "layers": [] }),
            "Invalid",
        ),
    ] {
        place.index(&[("", place.put(kind, manifest.to_string().as_bytes()))]);
        let told = place.import(None).unwrap_err();
        assert!(told.contains(word), "{told}");
    }
    let arch = Arch::default().to_string();
    let config = json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sum(&tar))] } });
    let config = place.put(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [encrypted] });
    place.index(&[("", place.put(kind, manifest.to_string().as_bytes()))]);
    assert!(place.import(None).unwrap_err().contains("encrypted"));
    // an index that is its own
    let about = json!({ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": format!("sha256:{}", "0".repeat(64)), "size": 1 });
    place.index(&[("", about)]);
    assert!(place.import(None).unwrap_err().contains("is not there"));
    fs::write(place.layout().join("index.json"), vec![b' '; 5 << 20]).unwrap();
    assert!(place.import(None).unwrap_err().contains("too long"));
}

#[test]
fn an_archive_of_a_layout_is_one() {
    let place = Place::new();
    place.index(&[("a", place.image(&[layer(&[("etc/x", Plain("1"))])]))]);
    let file = place.dir.path().join("layout.tar");
    let folder = File::open(place.layout()).unwrap();
    let cancel = Cancel::default();
    archive::pack(folder.as_fd(), File::create(&file).unwrap(), &cancel).unwrap();
    let name = "box".parse().unwrap();
    import_oci(
        &place.store,
        &file,
        Some("a"),
        &name,
        Making::default(),
        &cancel,
    )
    .unwrap();
    assert_eq!(place.read("etc/x").as_deref(), Some("1"));
    assert_eq!(fs::read_dir(place.store.home()).unwrap().count(), 1);
    let again = import_oci(&place.store, &file, None, &name, Making::default(), &cancel);
    assert!(matches!(again, Err(ImageError::Exists { .. })));
}
