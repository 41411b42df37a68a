//! What is read, refused and kept of files.

#![allow(clippy::unwrap_used)]
use super::*;

/// A file whose text is a number.
impl Parsed for u32 {
    /// What `x` stands for.
    type With = Option<u32>;

    fn parse(path: &Path, text: &str, with: &Option<u32>) -> Result<Self, String> {
        let wrong = |e: &str| format!("{}:1:1: error: {e}", path.display());
        match text.trim() {
            "x" => with.ok_or_else(|| wrong("there is no x")),
            text => text.parse().map_err(|_| wrong("no number")),
        }
    }

    fn part(&self, with: &Option<u32>) -> Option<String> {
        with.map(|x| x.to_string())
    }

    fn with_part(part: &str) -> Option<Option<u32>> {
        part.parse().ok().map(Some)
    }
}

fn files(dir: &Path) -> Files<u32> {
    Files::open(dir.join("conf"), dir.join("good")).unwrap()
}

fn value(files: &Files<u32>, stem: &str) -> Option<u32> {
    files.good.get(stem).map(|good| good.value)
}

#[test]
fn a_bad_file_leaves_the_last_good_one_in_force_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = files(dir.path());
    std::fs::write(first.path("web"), "1").unwrap();
    assert!(!first.read(|_| false).unwrap().is_empty());
    assert_eq!(value(&first, "web"), Some(1));

    std::fs::write(first.path("web"), "?").unwrap();
    assert!(first.read(|_| false).unwrap().is_empty());
    assert_eq!(value(&first, "web"), Some(1));
    assert!(first.bad.contains_key("web"));

    let mut second = files(dir.path());
    second.read(|_| false).unwrap();
    assert_eq!(value(&second, "web"), Some(1));
    assert!(second.bad.contains_key("web"));

    std::fs::write(second.path("web"), "2").unwrap();
    assert!(!second.read(|_| false).unwrap().is_empty());
    assert_eq!(value(&second, "web"), Some(2));
    assert!(second.bad.is_empty());
}

#[test]
fn what_files_depend_on_changes_their_meaning_and_only_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path());
    let change = |files: &mut Files<u32>, with| {
        let x = |bad: &Bad| bad.text.contains('x');
        let stems = files.set_with(with, |_| true, x);
        files.read_some(stems, |_| false)
    };
    std::fs::write(files.path("a"), "x").unwrap();
    std::fs::write(files.path("b"), "7").unwrap();
    files.read(|_| false).unwrap();
    assert_eq!((value(&files, "a"), value(&files, "b")), (None, Some(7)));
    assert!(files.bad.contains_key("a"));
    assert!(change(&mut files, Some(1)).contains("a"));
    assert_eq!(value(&files, "a"), Some(1));
    assert!(files.bad.is_empty());

    // its file is bad by now: what it said last means something else nevertheless
    std::fs::write(files.path("a"), "?").unwrap();
    files.read(|_| false).unwrap();
    assert!(change(&mut files, Some(2)).contains("a"));
    assert_eq!(value(&files, "a"), Some(2));
    assert!(files.bad.contains_key("a"));
}

#[test]
fn what_can_mean_nothing_any_more_keeps_its_last_meaning_also_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = files(dir.path());
    let change = |files: &mut Files<u32>, with| {
        let stems = files.set_with(with, |_| true, |_| true);
        files.read_some(stems, |_| false)
    };
    std::fs::write(first.path("a"), "x").unwrap();
    change(&mut first, Some(1));
    first.read(|_| false).unwrap();
    assert!(change(&mut first, None).is_empty());
    assert_eq!(value(&first, "a"), Some(1));
    assert!(first.bad["a"].message.contains("there is no x"));
    // reading it again for no reason makes it no better
    assert!(first.read(|_| false).unwrap().is_empty());
    assert!(first.bad.contains_key("a"));
    for _ in 0..2 {
        let mut again = files(dir.path());
        change(&mut again, None);
        again.read(|_| false).unwrap();
        assert_eq!(value(&again, "a"), Some(1));
        assert!(again.bad.contains_key("a"));
    }
    let mut mended = files(dir.path());
    change(&mut mended, Some(3));
    mended.read(|_| false).unwrap();
    assert_eq!(value(&mended, "a"), Some(3));
    assert!(mended.bad.is_empty());
    assert!(!dir.path().join("good/a.part").exists());
}

#[test]
fn a_removed_file_is_out_of_force_unless_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path());
    std::fs::write(files.path("web"), "1").unwrap();
    files.read(|_| false).unwrap();
    std::fs::remove_file(files.path("web")).unwrap();
    assert!(files.read(|_| true).unwrap().is_empty());
    assert_eq!(value(&files, "web"), Some(1));
    assert!(!files.read(|_| false).unwrap().is_empty());
    assert_eq!(value(&files, "web"), None);
}

#[test]
fn only_toml_files_count_and_no_dotfiles() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path());
    for name in ["a.toml", ".b.toml", "c.toml~", "d.conf"] {
        std::fs::write(dir.path().join("conf").join(name), "1").unwrap();
    }
    files.read(|_| false).unwrap();
    assert_eq!(files.good.keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_large_file_and_one_that_is_not_utf8_are_refused_with_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path());
    std::fs::write(files.path("big"), vec![b' '; 1024 * 1024 + 1]).unwrap();
    std::fs::write(files.path("latin"), b"1\n\xe4").unwrap();
    files.read(|_| false).unwrap();
    assert!(files.bad["big"].message.contains("big.toml:1:1"));
    assert!(files.bad["latin"].message.contains("latin.toml:2:1"));
    assert!(files.good.is_empty());
}

#[test]
fn a_file_that_is_too_much_beside_others_waits_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path());
    let write = |stem: &str, text: &str| {
        std::fs::write(dir.path().join(format!("conf/{stem}.toml")), text).unwrap();
    };
    // all together not more than ten
    let read = |files: &mut Files<u32>, stems: &[&str]| {
        let mut sizes: BTreeMap<String, u32> = files
            .good
            .iter()
            .map(|(stem, good)| (stem.clone(), good.value))
            .collect();
        let mut judge = |stem: &str, value: Option<&u32>| {
            let before = sizes.insert(stem.to_owned(), value.copied().unwrap_or(0));
            if sizes.values().sum::<u32>() <= 10 {
                return Ok(());
            }
            sizes.insert(stem.to_owned(), before.unwrap_or(0));
            Err(format!("{stem}: too much"))
        };
        let stems = stems.iter().map(|stem| (*stem).to_owned()).collect();
        files.read_judged(stems, |_| false, &mut judge)
    };
    write("a", "4");
    write("b", "6");
    assert_eq!(read(&mut files, &["a", "b"]).len(), 2);
    // the larger one comes first, and there is room once the other was read
    write("a", "7");
    write("b", "3");
    assert_eq!(read(&mut files, &["a", "b"]).len(), 2);
    assert!(files.bad.is_empty());
    write("a", "8");
    assert_eq!(read(&mut files, &["a"]).len(), 0);
    assert_eq!(value(&files, "a"), Some(7));
    assert_eq!(files.bad["a"].message, "a: too much");
    // it is looked at again with every other edit
    write("b", "2");
    assert_eq!(read(&mut files, &["b"]).len(), 2);
    assert_eq!(value(&files, "a"), Some(8));
    assert!(files.bad.is_empty());
    write("c", "1");
    assert_eq!(read(&mut files, &["c"]).len(), 0);
    std::fs::remove_file(dir.path().join("conf/b.toml")).unwrap();
    assert_eq!(read(&mut files, &["b"]).len(), 2);
    assert_eq!((value(&files, "b"), value(&files, "c")), (None, Some(1)));
}
