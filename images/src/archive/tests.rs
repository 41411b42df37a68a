#![allow(clippy::unwrap_used)]
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::error::ImageError;

struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// A member with its path as it is, checked by nobody.
    fn member(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        ustar.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.member(EntryType::Regular, path, "", data)
    }

    fn link(self, path: &str, to: &str) -> Self {
        self.member(EntryType::Symlink, path, to, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn into(self, tree: &Path) -> Result<Unpacked, ImageError> {
        let dir = File::open(tree).unwrap();
        unpack(
            self.bytes().as_slice(),
            dir.as_fd(),
            Owners::Mine,
            &Cancel::default(),
        )
    }
}

/// A tree in a folder that holds something precious beside it.
fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "mine").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    (dir, tree)
}

fn untouched(dir: &Path) {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["precious", "tree"], "something was made outside");
    let precious = dir.join("precious");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    let meta = fs::metadata(precious).unwrap();
    assert!(meta.nlink() == 1, "it was linked");
}

#[test]
fn two_dots_are_refused() {
    let (dir, tree) = place();
    for path in ["../evil", "a/../../evil", "/../evil", ".."] {
        let refused = Tar::new().file(path, b"x").into(&tree);
        assert!(
            matches!(refused, Err(ImageError::Entry { .. })),
            "{path}: {refused:?}"
        );
    }
    let refused = Tar::new()
        .member(EntryType::Link, "a", "../precious", b"")
        .into(&tree);
    assert!(
        matches!(refused, Err(ImageError::Entry { .. })),
        "{refused:?}"
    );
    untouched(dir.path());
}

#[test]
fn absolute_paths_stay_inside() {
    let (dir, tree) = place();
    Tar::new()
        .file("/etc/passwd", b"inside")
        .into(&tree)
        .unwrap();
    assert_eq!(
        fs::read_to_string(tree.join("etc/passwd")).unwrap(),
        "inside"
    );
    untouched(dir.path());
}

#[test]
fn a_link_made_before_leads_nowhere_outside() {
    let (dir, tree) = place();
    let outside = dir.path().to_str().unwrap().to_owned();
    // a folder through a link: by its path, and by dots
    for to in [
        outside.as_str(),
        "..",
        "../../../../../../../../../../tmp",
        "/",
    ] {
        let _ = Tar::new()
            .link("door", to)
            .file("door/evil", b"x")
            .into(&tree);
        untouched(dir.path());
        assert!(!Path::new("/evil").exists() && !Path::new("/tmp/evil").exists());
        let _ = fs::remove_file(tree.join("door"));
    }
    // a file over a link to one outside
    Tar::new()
        .link("p", &format!("{outside}/precious"))
        .file("p", b"x")
        .into(&tree)
        .unwrap();
    assert_eq!(fs::read_to_string(tree.join("p")).unwrap(), "x");
    // a hard link through a link
    let _ = Tar::new()
        .link("q", &outside)
        .member(EntryType::Link, "r", "q/precious", b"")
        .into(&tree);
    assert!(!tree.join("r").exists());
    // a hard link of a link is a link, and what is written to it replaces it
    let linked = Tar::new()
        .link("s", &format!("{outside}/precious"))
        .member(EntryType::Link, "t", "s", b"")
        .file("t", b"x");
    linked.into(&tree).unwrap();
    untouched(dir.path());
}

#[test]
fn a_folder_that_becomes_a_link_leads_nowhere_outside() {
    let (dir, tree) = place();
    let outside = dir.path().to_str().unwrap().to_owned();
    let mut tar = Tar::new().member(EntryType::Directory, "d/", "", b"");
    // its times and rights are set at the end: not those of where the link leads
    tar = tar.member(EntryType::Link, "d2", "d", b"");
    let _ = tar.link("d", &outside).into(&tree);
    let before = fs::metadata(dir.path()).unwrap().mtime();
    let _ = Tar::new()
        .member(EntryType::Directory, "e/", "", b"")
        .link("e", &outside)
        .into(&tree);
    assert_eq!(fs::metadata(dir.path()).unwrap().mtime(), before);
    assert!(fs::symlink_metadata(tree.join("e")).unwrap().is_symlink());
    untouched(dir.path());
}

#[test]
fn devices_are_left_out_and_counted() {
    let (dir, tree) = place();
    let done = Tar::new()
        .member(EntryType::Char, "dev/null", "", b"")
        .file("a", b"x")
        .into(&tree)
        .unwrap();
    assert_eq!(done.devices, 1);
    assert!(!tree.join("dev/null").exists() && tree.join("a").exists());
    untouched(dir.path());
}

#[test]
fn what_is_cut_off_or_no_archive_is_refused() {
    let (_dir, tree) = place();
    let whole = Tar::new()
        .file("a", &[7; 4000])
        .file("b", &[8; 4000])
        .bytes();
    let open = File::open(&tree).unwrap();
    let try_it = |bytes: &[u8]| unpack(bytes, open.as_fd(), Owners::Mine, &Cancel::default());
    for end in [512, 700, 5000] {
        assert!(try_it(&whole[..end]).is_err(), "{end}");
    }
    assert!(try_it(b"no archive at all, but long enough to look at").is_err());
    assert!(try_it(b"").is_err());
    assert!(try_it(&[0; 1024]).is_err());
    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = unpack(whole.as_slice(), open.as_fd(), Owners::Mine, &cancel);
    assert!(matches!(stopped, Err(ImageError::Cancelled)), "{stopped:?}");
}

#[test]
fn a_tree_survives_the_way_there_and_back() {
    let (_dir, tree) = place();
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    fs::write(tree.join("usr/bin/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(
        tree.join("usr/bin/tool"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    fs::hard_link(tree.join("usr/bin/tool"), tree.join("usr/bin/same")).unwrap();
    symlink("usr/bin", tree.join("bin")).unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    fs::create_dir(tree.join("d".repeat(120))).unwrap();
    fs::write(tree.join(&long), "long").unwrap();
    let mut holes = File::create(tree.join("holes")).unwrap();
    holes.set_len(4 << 20).unwrap();
    holes.write_all(b"start").unwrap();
    drop(holes);
    let tool = File::open(tree.join("usr/bin/tool")).unwrap();
    let kept = rustix::fs::fsetxattr(
        &tool,
        "user.note",
        b"\x01\x02",
        rustix::fs::XattrFlags::empty(),
    )
    .is_ok();
    fs::set_permissions(tree.join("usr"), fs::Permissions::from_mode(0o555)).unwrap();

    let open = File::open(&tree).unwrap();
    let packed = pack(open.as_fd(), Vec::new(), &Cancel::default()).unwrap();
    assert_eq!(
        packed,
        pack(open.as_fd(), Vec::new(), &Cancel::default()).unwrap()
    );
    let (_other, copy) = place();
    let into = File::open(&copy).unwrap();
    unpack(
        packed.as_slice(),
        into.as_fd(),
        Owners::Kept,
        &Cancel::default(),
    )
    .unwrap();

    let meta = fs::metadata(copy.join("usr/bin/tool")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(
        meta.ino(),
        fs::metadata(copy.join("usr/bin/same")).unwrap().ino()
    );
    assert_eq!(
        fs::read_link(copy.join("bin")).unwrap(),
        Path::new("usr/bin")
    );
    assert_eq!(fs::read_to_string(copy.join(&long)).unwrap(), "long");
    assert_eq!(
        fs::metadata(copy.join("usr")).unwrap().permissions().mode() & 0o7777,
        0o555
    );
    let holes = fs::metadata(copy.join("holes")).unwrap();
    assert!(holes.len() == 4 << 20 && holes.blocks() < 64, "{holes:?}");
    if kept {
        let tool = File::open(copy.join("usr/bin/tool")).unwrap();
        let mut value = [0; 8];
        assert_eq!(
            rustix::fs::fgetxattr(&tool, "user.note", &mut value).unwrap(),
            2
        );
    }
    // GNU tar agrees about what is in it, and what it makes is understood, holes as a map too
    let file = tree.parent().unwrap().join("all.tar");
    fs::write(&file, &packed).unwrap();
    let compared = std::process::Command::new("tar")
        .arg("-df")
        .arg(&file)
        .arg("-C")
        .arg(&tree)
        .output()
        .unwrap();
    assert!(
        compared.status.success(),
        "{}",
        String::from_utf8_lossy(&compared.stdout)
    );
    let made = std::process::Command::new("tar")
        .args(["--sparse", "--format=posix", "-czf"])
        .arg(&file)
        .arg("-C")
        .arg(&tree)
        .arg(".")
        .status();
    assert!(made.unwrap().success());
    let (_third, again) = place();
    let into = File::open(&again).unwrap();
    unpack(
        File::open(&file).unwrap(),
        into.as_fd(),
        Owners::Kept,
        &Cancel::default(),
    )
    .unwrap();
    assert_eq!(
        fs::read(again.join("holes")).unwrap(),
        fs::read(tree.join("holes")).unwrap()
    );
    assert_eq!(fs::read_to_string(again.join(&long)).unwrap(), "long");
}
