//! Zone and policy files: what is on disk, what of it is good, and what was good last.
//!
//! A bad file never replaces a good one. The last good text of each file is kept under `STATE/good`,
//! so that this holds across a restart as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// One kind of file: how its text becomes a value.
pub(crate) trait Parsed: Sized {
    /// Parses `text`; the error is the whole diagnostic, beginning with `FILE:LINE:COLUMN`.
    fn parse(path: &Path, text: &str) -> Result<Self, String>;
}

/// A file that is in force.
#[derive(Debug, Clone)]
pub(crate) struct Good<T> {
    /// Its text.
    pub(crate) text: String,
    /// What it says.
    pub(crate) value: T,
}

/// A file that cannot be taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// The diagnostic.
    pub(crate) message: String,
    /// Its text, as far as it could be read.
    pub(crate) text: String,
}

/// All files of one kind, by file stem.
#[derive(Debug)]
pub(crate) struct Files<T> {
    dir: PathBuf,
    good_dir: PathBuf,
    /// In force; also last good ones of files that are bad now.
    pub(crate) good: BTreeMap<String, Good<T>>,
    /// Bad as they are on disk now.
    pub(crate) bad: BTreeMap<String, Bad>,
}

impl<T: Parsed> Files<T> {
    /// Makes the folders where missing; reads nothing yet.
    pub(crate) fn open(dir: PathBuf, good_dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        std::fs::create_dir_all(&good_dir)?;
        Ok(Self {
            dir,
            good_dir,
            good: BTreeMap::new(),
            bad: BTreeMap::new(),
        })
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        &self.dir
    }

    /// The path of the file with this stem.
    pub(crate) fn path(&self, stem: &str) -> PathBuf {
        self.dir.join(format!("{stem}.toml"))
    }

    /// Reads the folder again. Returns the stems whose value in force changed.
    ///
    /// `keep` tells of a stem whose file is gone whether its last good value stays in force
    /// nevertheless.
    pub(crate) fn read(&mut self, keep: impl Fn(&str) -> bool) -> io::Result<BTreeSet<String>> {
        let mut all: BTreeSet<String> = stems(&self.dir)?.into_iter().collect();
        all.extend(self.good.keys().chain(self.bad.keys()).cloned());
        Ok(self.read_some(all, keep))
    }

    /// Reads these files again, and no others.
    pub(crate) fn read_some(
        &mut self,
        stems: BTreeSet<String>,
        keep: impl Fn(&str) -> bool,
    ) -> BTreeSet<String> {
        stems
            .into_iter()
            .filter(|stem| self.read_one(stem, &keep))
            .collect()
    }

    /// Reads one file again. Returns whether its value in force changed.
    fn read_one(&mut self, stem: &str, keep: &impl Fn(&str) -> bool) -> bool {
        let path = self.path(stem);
        if !path.exists() && !path.is_symlink() {
            return self.gone(stem, keep);
        }
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(message) => return self.refuse(stem, message, String::new()),
        };
        if self.good.get(stem).is_some_and(|good| good.text == text) {
            self.bad.remove(stem);
            return false;
        }
        let known = |bad: &Bad| bad.text == text && !text.is_empty();
        if self.bad.get(stem).is_some_and(known) {
            return false;
        }
        match T::parse(&path, &text) {
            Ok(value) => {
                self.accept(stem, text, value);
                true
            }
            Err(message) => self.refuse(stem, message, text),
        }
    }

    /// A file is gone.
    fn gone(&mut self, stem: &str, keep: &impl Fn(&str) -> bool) -> bool {
        self.bad.remove(stem);
        if self.good.contains_key(stem) && keep(stem) {
            let message = format!(
                "{}: the file is gone, but containers are attached; what it said last stays in force \
                 (restore it, or detach them and delete the zone)",
                self.path(stem).display()
            );
            let text = String::new();
            self.bad.insert(stem.to_owned(), Bad { message, text });
            return false;
        }
        let had = self.good.remove(stem).is_some();
        if had {
            self.forget_good(stem);
        }
        had
    }

    fn accept(&mut self, stem: &str, text: String, value: T) {
        let kept = self.good_dir.join(format!("{stem}.toml"));
        if std::fs::read_to_string(&kept).ok().as_deref() != Some(&text)
            && let Err(e) = write_whole(&kept, &text)
        {
            tracing::warn!(file = %kept.display(), error = %e, "cannot keep the last good text");
        }
        self.bad.remove(stem);
        self.good.insert(stem.to_owned(), Good { text, value });
    }

    /// Notes that a file is bad and, where nothing is in force for it yet, takes up what was good
    /// before a restart. Returns whether that changed what is in force.
    fn refuse(&mut self, stem: &str, message: String, text: String) -> bool {
        if self.bad.get(stem).is_none_or(|bad| bad.message != message) {
            tracing::error!("{message}");
        }
        self.bad.insert(stem.to_owned(), Bad { message, text });
        if self.good.contains_key(stem) {
            return false;
        }
        let kept = self.good_dir.join(format!("{stem}.toml"));
        let Ok(text) = std::fs::read_to_string(&kept) else {
            return false;
        };
        let Ok(value) = T::parse(&self.path(stem), &text) else {
            return false;
        };
        self.good.insert(stem.to_owned(), Good { text, value });
        true
    }

    /// Takes up the last good value of a file that is gone.
    pub(crate) fn revive(&mut self, stem: &str) -> bool {
        if self.good.contains_key(stem) {
            return true;
        }
        let message = format!("{}: the file is gone", self.path(stem).display());
        self.refuse(stem, message, String::new())
    }

    /// Writes a file (whole or not at all) and puts it in force.
    pub(crate) fn write(&mut self, stem: &str, text: String, value: T) -> io::Result<()> {
        write_whole(&self.path(stem), &text)?;
        self.accept(stem, text, value);
        Ok(())
    }

    /// Removes a file and what was kept of it.
    pub(crate) fn remove(&mut self, stem: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(stem)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.good.remove(stem);
        self.bad.remove(stem);
        self.forget_good(stem);
        Ok(())
    }

    fn forget_good(&self, stem: &str) {
        let kept = self.good_dir.join(format!("{stem}.toml"));
        if let Err(e) = std::fs::remove_file(&kept)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %kept.display(), error = %e, "cannot remove the kept text");
        }
    }
}

/// Stems of the `*.toml` files in a folder; dotfiles and others do not count.
fn stems(dir: &Path) -> io::Result<Vec<String>> {
    let mut stems = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else {
            tracing::warn!(file = ?name, "file name is not UTF-8; not read");
            continue;
        };
        if let Some(stem) = name.strip_suffix(".toml")
            && !name.starts_with('.')
        {
            stems.push(stem.to_owned());
        }
    }
    stems.sort();
    Ok(stems)
}

fn read_text(path: &Path) -> Result<String, String> {
    let failed = |e: io::Error| format!("{}:1:1: error: cannot read the file: {e}", path.display());
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(format!(
            "{}:1:1: error: not a regular file; remove it or give it another name",
            path.display()
        ));
    }
    if meta.len() > LARGEST {
        return Err(format!(
            "{}:1:1: error: the file has {} bytes; at most 1 MiB is read; split it into several files",
            path.display(),
            meta.len()
        ));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        let column = good.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        format!(
            "{}:{line}:{column}: error: not UTF-8; save the file as UTF-8",
            path.display()
        )
    })
}

/// Writes a file so that readers see the old or the new text, never a part of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // The half-written file is of no use to anybody.
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file whose text is a number.
    impl Parsed for u32 {
        fn parse(path: &Path, text: &str) -> Result<Self, String> {
            text.trim()
                .parse()
                .map_err(|e| format!("{}:1:1: error: {e}", path.display()))
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

        std::fs::write(first.path("web"), "x").unwrap();
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
}
