#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

struct Disk {
    dirs: Dirs,
    _root: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dirs = Dirs {
            config: root.path().join("config"),
            state: root.path().join("state"),
            runtime: root.path().join("runtime"),
        };
        fs::create_dir_all(dirs.policies()).unwrap();
        fs::create_dir_all(dirs.good().join("policies")).unwrap();
        Self { dirs, _root: root }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dirs.policies().join(name), text).unwrap();
    }

    /// Everything under the config dir.
    fn all(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for dir in [&self.dirs.config, &self.dirs.policies()] {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&self.dirs.config).unwrap();
                let text = fs::read_to_string(&path).unwrap_or_else(|_| "-".to_owned());
                all.insert(name.display().to_string(), text);
            }
        }
        all
    }

    fn open(&self, now: u64) -> Applied {
        Applied::open(&self.dirs, now).unwrap()
    }
}

fn content(files: &[(&str, &str)]) -> Content {
    let files = files
        .iter()
        .map(|(stem, text)| ((*stem).to_owned(), (*text).to_owned()));
    Content {
        files: files.collect(),
        groups: None,
    }
}

fn old_and_new() -> (Disk, Content) {
    let disk = Disk::new();
    for (name, text) in [
        ("a.toml", "1"),
        ("b.toml", "1"),
        (".a.toml.swp", "x"),
        ("notes.txt", "x"),
    ] {
        disk.write(name, text);
    }
    (disk, content(&[("b", "2"), ("c", "2")]))
}

#[test]
fn a_set_replaces_the_whole_and_comes_back_whole() {
    let (disk, next) = old_and_new();
    let old = disk.all();
    let mut applied = disk.open(100);
    assert_eq!(applied.last(), None);
    applied.apply(&next, 100, None).unwrap();
    applied.settle().unwrap();
    let new = disk.all();
    let has = |all: &BTreeMap<String, String>, name: &str| all.get(name).cloned();
    assert_eq!(has(&new, "policies/a.toml"), None);
    assert_eq!(has(&new, "policies/b.toml").as_deref(), Some("2"));
    assert_eq!(has(&new, "policies/c.toml").as_deref(), Some("2"));
    // what is no policy is nobody's business
    for other in ["policies/.a.toml.swp", "policies/notes.txt"] {
        assert_eq!(has(&new, other), has(&old, other));
    }
    assert_eq!(new.len(), old.len());
    disk.write("c.toml", "3");
    applied.undo(200, false).unwrap();
    applied.settle().unwrap();
    assert_eq!(disk.all(), old);
    // nothing is lost
    let Some(State::Undone {
        kept: Some(kept),
        at: 200,
        timed_out: false,
    }) = applied.last().map(|l| l.state.clone())
    else {
        panic!("{:?}", applied.last());
    };
    assert_eq!(fs::read_to_string(kept.join("c.toml")).unwrap(), "3");
    assert_eq!(disk.open(300).last(), applied.last());
}

#[test]
fn who_does_not_confirm_gets_the_old_set_back_also_after_a_restart() {
    let (disk, next) = old_and_new();
    let old = disk.all();
    let mut applied = disk.open(100);
    applied.apply(&next, 100, Some(60)).unwrap();
    applied.settle().unwrap();
    let new = disk.all();
    assert_eq!(applied.waits_until(), Some(160));
    let applied = disk.open(159);
    assert_eq!((applied.waits_until(), disk.all()), (Some(160), new));
    let applied = disk.open(160);
    assert_eq!((applied.waits_until(), disk.all()), (None, old));
    assert!(matches!(
        applied.last().unwrap().state,
        State::Undone {
            timed_out: true,
            ..
        }
    ));
}

#[test]
fn a_clock_that_was_set_back_does_not_prolong_the_wait() {
    let (disk, next) = old_and_new();
    disk.open(1_000_000)
        .apply(&next, 1_000_000, Some(60))
        .unwrap();
    assert_eq!(disk.open(5).waits_until(), Some(65));
}

#[test]
fn who_confirms_keeps_the_new_set() {
    let (disk, next) = old_and_new();
    let mut applied = disk.open(100);
    applied.apply(&next, 100, Some(60)).unwrap();
    applied.settle().unwrap();
    applied.confirm().unwrap();
    let new = disk.all();
    let applied = disk.open(1000);
    assert_eq!((applied.waits_until(), disk.all()), (None, new));
    assert_eq!(applied.last().unwrap().state, State::InForce);
}

/// Cuts an apply off by hand at each point: what a start makes of it is one of the two sets.
#[test]
fn what_was_cut_off_is_finished() {
    let (disk, next) = old_and_new();
    let old = disk.all();
    let mut applied = disk.open(100);
    applied.apply(&next, 100, None).unwrap();
    let new = disk.all();
    // the journal says that the set is still being placed; files are as some moment left them
    for name in ["a.toml", "b.toml"] {
        disk.write(name, "1");
    }
    fs::remove_file(disk.dirs.policies().join("c.toml")).unwrap();
    fs::create_dir(disk.dirs.policies().join(".netd-apply")).unwrap();
    disk.write(".netd-apply/c.toml", "half");
    let applied = disk.open(101);
    assert_eq!(disk.all(), new);
    assert_eq!(applied.journal.placing, None);
    // before the journal is written, nothing has happened
    let (disk, _) = old_and_new();
    fs::create_dir(disk.dirs.policies().join(".netd-apply")).unwrap();
    disk.write(".netd-apply/c.toml", "2");
    fs::create_dir_all(disk.dirs.state.join("apply/next-100")).unwrap();
    disk.open(101);
    assert_eq!(disk.all(), old);
    assert!(!disk.dirs.state.join("apply/next-100").exists());
}

#[test]
fn a_set_that_cannot_be_in_force_is_as_if_it_had_not_been() {
    let (disk, next) = old_and_new();
    let mut applied = disk.open(100);
    applied.apply(&content(&[("a", "0")]), 90, None).unwrap();
    applied.settle().unwrap();
    let (old, last) = (disk.all(), applied.last().cloned());
    applied.apply(&next, 100, Some(5)).unwrap();
    applied.give_up();
    applied.settle().unwrap();
    assert_eq!((disk.all(), applied.last().cloned()), (old, last));
    // and the way back from the apply before is still there
    applied.undo(110, false).unwrap();
    assert_eq!(disk.all()["policies/b.toml"], "1");
}

#[test]
fn links_modes_and_what_was_good_come_back() {
    let (disk, next) = old_and_new();
    let elsewhere = disk.dirs.config.join("elsewhere.toml.txt");
    fs::write(&elsewhere, "linked").unwrap();
    let link = disk.dirs.policies().join("link.toml");
    symlink("../elsewhere.toml.txt", &link).unwrap();
    symlink("/nowhere", disk.dirs.policies().join("dangling.toml")).unwrap();
    let b = disk.dirs.policies().join("b.toml");
    fs::set_permissions(&b, fs::Permissions::from_mode(0o640)).unwrap();
    let good = disk.dirs.good().join("policies/a.toml");
    let part = disk.dirs.good().join("policies/a.part");
    let good_groups = disk.dirs.good().join("groups.toml");
    for (path, text) in [(&good, "0"), (&part, "of 0"), (&good_groups, "good groups")] {
        fs::write(path, text).unwrap();
    }
    disk.write("groups.toml", "a policy of a container of that name");
    fs::write(disk.dirs.groups(), "old groups").unwrap();
    let old = disk.all();
    let mut applied = disk.open(100);
    let next = Content {
        groups: Some("new groups".into()),
        ..next
    };
    applied.apply(&next, 100, None).unwrap();
    applied.settle().unwrap();
    assert_eq!(disk.all()["groups.toml"], "new groups");
    assert!(!good.exists() && !part.exists() && !good_groups.exists());
    assert!(!link.is_symlink());
    assert_eq!(
        fs::metadata(&b).unwrap().permissions().mode() & 0o777,
        0o640
    );
    applied.undo(200, false).unwrap();
    assert_eq!(disk.all(), old);
    assert_eq!(
        fs::read_link(&link).unwrap(),
        PathBuf::from("../elsewhere.toml.txt")
    );
    assert!(disk.dirs.policies().join("dangling.toml").is_symlink());
    assert_eq!(
        fs::metadata(&b).unwrap().permissions().mode() & 0o777,
        0o640
    );
    for (path, text) in [(&good, "0"), (&part, "of 0"), (&good_groups, "good groups")] {
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }
}

#[test]
fn groups_that_were_not_there_go_again() {
    let (disk, next) = old_and_new();
    let mut applied = disk.open(100);
    let next = Content {
        groups: Some("groups".into()),
        ..next
    };
    applied.apply(&next, 100, None).unwrap();
    assert!(disk.dirs.groups().exists());
    applied.undo(200, false).unwrap();
    assert!(!disk.dirs.groups().exists());
}

#[test]
fn a_kept_set_that_is_gone_is_not_an_empty_one() {
    let (disk, next) = old_and_new();
    let mut applied = disk.open(100);
    applied.apply(&next, 100, Some(5)).unwrap();
    applied.settle().unwrap();
    let new = disk.all();
    fs::remove_dir_all(disk.dirs.state.join("apply/before-100")).unwrap();
    applied.undo(200, true).unwrap_err();
    assert_eq!(disk.all(), new);
}
