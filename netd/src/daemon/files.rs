//! Zone and policy files: what is on disk, what of it is good, and what was good last.
//!
//! A bad file never replaces a good one. The last good text of each file is kept under `STATE/good`,
//! so that this holds across a restart as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Ending of what is kept of what a last good text depends on, while that is not what is in force.
const PART: &str = "part";

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// One kind of file: how its text becomes a value.
pub(crate) trait Parsed: Sized {
    /// What the meaning of a text depends on beside itself.
    type With: Default;

    /// Parses `text`; the error is the whole diagnostic, beginning with `FILE:LINE:COLUMN`.
    fn parse(path: &Path, text: &str, with: &Self::With) -> Result<Self, String>;

    /// As a text what of `with` this value depends on, so that it can be kept after that has changed.
    fn part(&self, _with: &Self::With) -> Option<String> {
        None
    }

    /// What was kept.
    fn with_part(_part: &str) -> Option<Self::With> {
        None
    }
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

/// Says why a good file cannot be taken beside the others, if so; with `None`, that it is gone.
pub(crate) type Judge<'a, T> = dyn FnMut(&str, Option<&T>) -> Result<(), String> + 'a;

/// All files of one kind, by file stem.
#[derive(Debug)]
pub(crate) struct Files<T: Parsed> {
    dir: PathBuf,
    good_dir: PathBuf,
    /// What their meaning depends on, now and before that changed last.
    with: T::With,
    with_before: T::With,
    /// Files whose meaning depends on what has changed since they were read.
    stale: BTreeSet<String>,
    /// Files that are bad only beside others: to be read again whenever those may have changed.
    beside: BTreeSet<String>,
    /// Files that are symbolic links: nobody tells when what they lead to is edited.
    links: BTreeSet<String>,
    /// In force; also last good ones of files that are bad now.
    pub(crate) good: BTreeMap<String, Good<T>>,
    /// Bad as they are on disk now.
    pub(crate) bad: BTreeMap<String, Bad>,
    /// Taken, but not kept under `STATE/good` yet.
    unkept: Unkept,
}

/// Texts that are good by now, and not on the disk as such yet.
#[derive(Debug, Default)]
#[must_use = "a restart would not know what was good last"]
pub(crate) struct Unkept(Vec<Keep>);

#[derive(Debug)]
struct Keep {
    path: PathBuf,
    text: String,
    /// What an earlier text depended on.
    part: PathBuf,
}

impl Unkept {
    /// Puts them on the disk; waits for it.
    pub(crate) fn keep(self) {
        for Keep { path, text, part } in self.0 {
            if std::fs::read_to_string(&path).ok().as_deref() != Some(&text)
                && let Err(e) = write_whole(&path, &text)
            {
                tracing::warn!(file = %path.display(), error = %e, "cannot keep the last good text");
            }
            remove_kept(&part);
        }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Parsed> Files<T> {
    /// Makes the folders where missing; reads nothing yet.
    pub(crate) fn open(dir: PathBuf, good_dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        std::fs::create_dir_all(&good_dir)?;
        Ok(Self {
            dir,
            good_dir,
            with: T::With::default(),
            with_before: T::With::default(),
            stale: BTreeSet::new(),
            beside: BTreeSet::new(),
            links: BTreeSet::new(),
            good: BTreeMap::new(),
            bad: BTreeMap::new(),
            unkept: Unkept::default(),
        })
    }

    /// What the meaning of files depends on.
    pub(crate) fn with(&self) -> &T::With {
        &self.with
    }

    /// What the meaning of files depends on has changed. Returns the stems of those concerned, for which
    /// `good` or `bad` holds; they are to be read again before anything else is.
    pub(crate) fn set_with(
        &mut self,
        with: T::With,
        good: impl Fn(&T) -> bool,
        bad: impl Fn(&Bad) -> bool,
    ) -> BTreeSet<String> {
        self.with_before = std::mem::replace(&mut self.with, with);
        let goods = self.good.iter().filter(|(_, file)| good(&file.value));
        let bads = self.bad.iter().filter(|(_, file)| bad(file));
        let stems = goods
            .map(|(stem, _)| stem)
            .chain(bads.map(|(stem, _)| stem));
        self.stale.extend(stems.cloned());
        self.stale.clone()
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
        Ok(self.read_some(self.all()?, keep))
    }

    /// Stems of files that are there, or were.
    pub(crate) fn all(&self) -> io::Result<BTreeSet<String>> {
        let mut all: BTreeSet<String> = stems(&self.dir)?.into_iter().collect();
        all.extend(self.good.keys().chain(self.bad.keys()).cloned());
        Ok(all)
    }

    /// Reads these files again, and no others.
    pub(crate) fn read_some(
        &mut self,
        stems: BTreeSet<String>,
        keep: impl Fn(&str) -> bool,
    ) -> BTreeSet<String> {
        let changed = self.read_judged(stems, keep, &mut |_, _| Ok(()));
        self.take_unkept().keep();
        changed
    }

    /// What is to be kept of what was read.
    pub(crate) fn take_unkept(&mut self) -> Unkept {
        std::mem::take(&mut self.unkept)
    }

    /// Files whose text may have changed without a word of it.
    pub(crate) fn links(&self) -> &BTreeSet<String> {
        &self.links
    }

    /// Whether some file was refused for the sake of others.
    pub(crate) fn waits(&self) -> bool {
        !self.beside.is_empty()
    }

    /// Reads these files again, and those that `judge` refused before. What it refuses now is bad: what was good
    /// last stays in force. What was taken is to be kept: [`Files::take_unkept`].
    pub(crate) fn read_judged(
        &mut self,
        mut stems: BTreeSet<String>,
        keep: impl Fn(&str) -> bool,
        judge: &mut Judge<'_, T>,
    ) -> BTreeSet<String> {
        stems.extend(self.beside.iter().cloned());
        let mut changed = BTreeSet::new();
        loop {
            for stem in &stems {
                if self.read_one(stem, &keep, judge) {
                    changed.insert(stem.clone());
                }
            }
            // one that comes before another that makes room for it
            let refused = &stems & &self.beside;
            if refused.len() == stems.len() || refused.is_empty() {
                return changed;
            }
            stems = refused;
        }
    }

    /// Reads one file again. Returns whether its value in force changed.
    fn read_one(
        &mut self,
        stem: &str,
        keep: &impl Fn(&str) -> bool,
        judge: &mut Judge<'_, T>,
    ) -> bool {
        let stale = self.stale.remove(stem);
        let beside = self.beside.remove(stem);
        let renewed = stale && self.renew(stem, judge);
        self.read_text_of(stem, stale || beside, keep, judge) || renewed
    }

    /// What was good last means something else now, whatever its file says by now. Returns whether that
    /// could be put in force; else it keeps the meaning it had.
    fn renew(&mut self, stem: &str, judge: &mut Judge<'_, T>) -> bool {
        let path = self.path(stem);
        let Some(good) = self.good.get_mut(stem) else {
            return false;
        };
        if let Ok(value) = T::parse(&path, &good.text, &self.with)
            && judge(stem, Some(&value)).is_ok()
        {
            good.value = value;
            self.forget_kept(stem, PART);
            return true;
        }
        let kept = self.good_dir.join(format!("{stem}.{PART}"));
        // one that is there is of an earlier change
        if let Some(part) = good.value.part(&self.with_before)
            && !kept.exists()
            && let Err(e) = write_whole(&kept, &part)
        {
            tracing::warn!(file = %kept.display(), error = %e, "cannot keep what the last good text depends on");
        }
        false
    }

    fn read_text_of(
        &mut self,
        stem: &str,
        stale: bool,
        keep: &impl Fn(&str) -> bool,
        judge: &mut Judge<'_, T>,
    ) -> bool {
        let path = self.path(stem);
        let meta = std::fs::symlink_metadata(&path);
        if meta.as_ref().is_ok_and(|meta| meta.is_symlink()) {
            self.links.insert(stem.to_owned());
        } else {
            self.links.remove(stem);
        }
        if meta.is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            let gone = self.gone(stem, keep);
            if gone {
                // room for others, which nobody refuses
                let _ = judge(stem, None);
            }
            return gone;
        }
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(message) => return self.refuse(stem, message, String::new()),
        };
        let known = |bad: &Bad| bad.text == text && !text.is_empty();
        if !stale && self.bad.get(stem).is_some_and(known) {
            return false;
        }
        if !stale && self.good.get(stem).is_some_and(|good| good.text == text) {
            self.bad.remove(stem);
            return false;
        }
        let value = match T::parse(&path, &text, &self.with) {
            Ok(value) => value,
            Err(message) => return self.refuse(stem, message, text),
        };
        if let Err(message) = judge(stem, Some(&value)) {
            self.beside.insert(stem.to_owned());
            return self.refuse(stem, message, text);
        }
        self.accept(stem, text, value);
        true
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
        self.unkept.0.push(Keep {
            path: self.good_dir.join(format!("{stem}.toml")),
            text: text.clone(),
            part: self.good_dir.join(format!("{stem}.{PART}")),
        });
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
        let path = self.path(stem);
        let before = || {
            let part = self.good_dir.join(format!("{stem}.{PART}"));
            let part = std::fs::read_to_string(part).ok()?;
            T::parse(&path, &text, &T::with_part(&part)?).ok()
        };
        let now = T::parse(&path, &text, &self.with).ok();
        let Some(value) = now.or_else(before) else {
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
        self.take_unkept().keep();
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
        self.forget_kept(stem, "toml");
        self.forget_kept(stem, PART);
    }

    fn forget_kept(&self, stem: &str, extension: &str) {
        remove_kept(&self.good_dir.join(format!("{stem}.{extension}")));
    }
}

fn remove_kept(path: &Path) {
    if let Err(e) = std::fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), error = %e, "cannot remove the kept text");
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
mod tests;
