//! One set of policy files in a folder: kept as it is on disk, and put in place file by file.
//!
//! ```text
//! FOLDER/NAME.toml        its bytes, mode and owner
//! FOLDER/groups.toml      the groups file (a policy file of that name is .policy-groups.toml)
//! FOLDER/.links/NAME.toml where the file was a symbolic link: the link
//! FOLDER/.good/           what was in force, where the file itself was bad: NAME.toml, NAME.part
//! FOLDER/.good-groups.toml
//! FOLDER/.no-groups       there was no groups file
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

const LINKS: &str = ".links";
const GOOD: &str = ".good";
const GROUPS: &str = "groups.toml";
const GOOD_GROUPS: &str = ".good-groups.toml";
const NO_GROUPS: &str = ".no-groups";
const POLICY_GROUPS: &str = ".policy-groups.toml";
/// Where files wait to be renamed into their place: a folder inside, so that it is on the same file system.
const WAITING: &str = ".netd-apply";

/// The texts of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// By stem.
    pub(crate) files: BTreeMap<String, String>,
    /// The groups file; `None`: as it is.
    pub(crate) groups: Option<String>,
}

/// Where the files are that count.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) policies: PathBuf,
    pub(super) groups: PathBuf,
    /// Last good texts, and what they depend on.
    pub(super) good: PathBuf,
    /// The last good groups.
    pub(super) good_groups: PathBuf,
}

impl Places {
    /// The text of each policy file, by stem.
    pub(super) fn on_disk(&self) -> io::Result<Vec<(String, Option<String>)>> {
        let stems = stems(&self.policies)?.into_iter();
        let text = |stem: &str| fs::read_to_string(self.policies.join(name(stem))).ok();
        Ok(stems.map(|stem| (stem.clone(), text(&stem))).collect())
    }

    /// Keeps everything as it is now, durably; and what was last good, where that is something else.
    pub(super) fn keep(&self, folder: &Path) -> io::Result<()> {
        for sub in [LINKS, GOOD] {
            fs::create_dir_all(folder.join(sub))?;
        }
        for stem in stems(&self.policies)? {
            keep_file(&self.policies, folder, &name(&stem))?;
        }
        for stem in stems(&self.good)? {
            let (name, part) = (name(&stem), part(&stem));
            let has_part = self.good.join(&part).exists();
            if has_part || !same(&self.good.join(&name), &self.policies.join(&name)) {
                copy(&self.good.join(&name), &folder.join(GOOD).join(&name))?;
            }
            if has_part {
                copy(&self.good.join(&part), &folder.join(GOOD).join(&part))?;
            }
        }
        if self.groups.exists() {
            copy(&self.groups, &folder.join(GROUPS))?;
        } else {
            File::create(folder.join(NO_GROUPS))?.sync_all()?;
        }
        if self.good_groups.exists() && !same(&self.good_groups, &self.groups) {
            copy(&self.good_groups, &folder.join(GOOD_GROUPS))?;
        }
        sync_all(folder)
    }

    /// Writes a set that is to come, durably. Files that are there already keep their mode and owner, and
    /// stay links where they say the same.
    pub(super) fn write(&self, folder: &Path, content: &Content) -> io::Result<()> {
        for sub in [LINKS, GOOD] {
            fs::create_dir_all(folder.join(sub))?;
        }
        for (stem, text) in &content.files {
            let name = name(stem);
            let there = self.policies.join(&name);
            if fs::read(&there).is_ok_and(|bytes| bytes == text.as_bytes()) {
                keep_file(&self.policies, folder, &name)?;
                continue;
            }
            write_whole(&kept(folder, &name), text.as_bytes())?;
            if there.exists() {
                same_mode(&there, &kept(folder, &name))?;
            }
        }
        if let Some(groups) = &content.groups {
            write_whole(&folder.join(GROUPS), groups.as_bytes())?;
            if self.groups.exists() {
                same_mode(&self.groups, &folder.join(GROUPS))?;
            }
        }
        sync_all(folder)
    }

    /// Writes what will be renamed, so that what is left to do needs no room any more.
    pub(super) fn prepare(&self, folder: &Path) -> io::Result<()> {
        // a set that is not there must not be taken for one without files
        fs::metadata(folder)?;
        let waiting = self.policies.join(WAITING);
        remove_folder(&waiting)?;
        fs::create_dir(&waiting)?;
        for stem in kept_stems(folder)? {
            self.prepare_file(folder, &waiting, &name(&stem))?;
        }
        let groups = folder.join(GROUPS);
        if groups.exists() && !same(&groups, &self.groups) {
            copy(&groups, &self.waiting_groups())?;
        }
        sync_dir(&waiting)
    }

    fn prepare_file(&self, folder: &Path, waiting: &Path, name: &str) -> io::Result<()> {
        let (kept, there) = (kept(folder, name), self.policies.join(name));
        if let Ok(target) = fs::read_link(folder.join(LINKS).join(name)) {
            let says_the_same = match fs::read(&kept) {
                Ok(bytes) => fs::read(self.policies.join(&target)).is_ok_and(|now| now == bytes),
                Err(_) => true,
            };
            if says_the_same {
                let is_there = fs::read_link(&there).is_ok_and(|now| now == target);
                return if is_there {
                    Ok(())
                } else {
                    symlink(target, waiting.join(name))
                };
            }
        }
        let is_file = fs::symlink_metadata(&there).is_ok_and(|meta| meta.is_file());
        if is_file && same(&there, &kept) {
            return Ok(());
        }
        copy(&kept, &waiting.join(name))
    }

    /// Makes the files those of a kept set that was prepared: renames what differs, removes what it does not
    /// have.
    pub(super) fn finish(&self, folder: &Path) -> io::Result<()> {
        let kept = kept_stems(folder)?;
        let waiting = self.policies.join(WAITING);
        self.place_good(folder, &kept)?;
        for entry in fs::read_dir(&waiting)? {
            let entry = entry?;
            fs::rename(entry.path(), self.policies.join(entry.file_name()))?;
        }
        for stem in stems(&self.policies)? {
            if !kept.contains(&stem) {
                remove_if_there(&self.policies.join(name(&stem)))?;
            }
        }
        if self.waiting_groups().exists() {
            fs::rename(self.waiting_groups(), &self.groups)?;
        } else if folder.join(NO_GROUPS).exists() {
            remove_if_there(&self.groups)?;
        }
        fs::remove_dir(&waiting)?;
        sync_dir(&self.policies)?;
        self.groups.parent().map_or(Ok(()), sync_dir)
    }

    /// The last good texts are those of the set: of files that are good themselves the daemon keeps them
    /// when it reads them.
    fn place_good(&self, folder: &Path, stems_of_set: &[String]) -> io::Result<()> {
        for stem in stems(&self.good)? {
            let good = self.good.join(name(&stem));
            let of_set = stems_of_set.contains(&stem) && same(&good, &kept(folder, &name(&stem)));
            if !of_set {
                remove_if_there(&good)?;
            }
            remove_if_there(&self.good.join(part(&stem)))?;
        }
        for stem in stems(&folder.join(GOOD))? {
            for name in [name(&stem), part(&stem)] {
                let kept = folder.join(GOOD).join(&name);
                if kept.exists() {
                    write_whole(&self.good.join(&name), &fs::read(kept)?)?;
                }
            }
        }
        let groups = folder.join(GROUPS);
        if folder.join(GOOD_GROUPS).exists() {
            write_whole(&self.good_groups, &fs::read(folder.join(GOOD_GROUPS))?)?;
        } else if folder.join(NO_GROUPS).exists()
            || groups.exists() && !same(&self.good_groups, &groups)
        {
            remove_if_there(&self.good_groups)?;
        }
        Ok(())
    }

    fn waiting_groups(&self) -> PathBuf {
        self.groups.with_file_name(format!("{WAITING}-{GROUPS}"))
    }

    /// Removes what a cut-off attempt left.
    pub(super) fn clean(&self) {
        let outcome = remove_folder(&self.policies.join(WAITING))
            .and_then(|()| remove_if_there(&self.waiting_groups()));
        if let Err(e) = outcome {
            tracing::warn!(folder = %self.policies.display(), error = %e, "cannot remove what a cut-off apply left");
        }
    }
}

fn name(stem: &str) -> String {
    format!("{stem}.toml")
}

/// What a last good text depends on, where that has changed since.
fn part(stem: &str) -> String {
    format!("{stem}.part")
}

/// Whether two files have the same bytes. One that cannot be read is like no other.
fn same(one: &Path, other: &Path) -> bool {
    fs::read(one).is_ok_and(|bytes| fs::read(other).is_ok_and(|others| bytes == others))
}

/// Where a kept set has a policy file.
fn kept(folder: &Path, name: &str) -> PathBuf {
    folder.join(if name == GROUPS { POLICY_GROUPS } else { name })
}

/// Stems of the files and links that count as policy files.
fn stems(dir: &Path) -> io::Result<Vec<String>> {
    let mut stems = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(stems),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".toml"));
        let counts = |stem: &&str| !stem.starts_with('.') && !stem.is_empty();
        if let Some(stem) = stem.filter(counts)
            && !entry.file_type()?.is_dir()
        {
            stems.push(stem.to_owned());
        }
    }
    stems.sort();
    Ok(stems)
}

/// Stems of a kept set: of files, and of links that led nowhere.
fn kept_stems(folder: &Path) -> io::Result<Vec<String>> {
    let mut all = stems(folder)?;
    // the groups file of a set lies beside its policies
    all.retain(|stem| name(stem) != GROUPS);
    if folder.join(POLICY_GROUPS).exists() {
        all.extend(GROUPS.strip_suffix(".toml").map(str::to_owned));
    }
    all.extend(stems(&folder.join(LINKS))?);
    all.sort();
    all.dedup();
    Ok(all)
}

/// Keeps one file: its bytes, mode and owner, and that it is a link.
fn keep_file(from: &Path, folder: &Path, name: &str) -> io::Result<()> {
    let path = from.join(name);
    if let Ok(target) = fs::read_link(&path) {
        symlink(target, folder.join(LINKS).join(name))?;
        if !path.exists() {
            return Ok(());
        }
    }
    copy(&path, &kept(folder, name))
}

/// Copies bytes, mode and owner, durably.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut bytes = File::open(from)?;
    let mut copy = File::create(to)?;
    io::copy(&mut bytes, &mut copy)?;
    same_mode(from, to)?;
    copy.sync_all()
}

/// Gives a file the mode and owner of another.
fn same_mode(of: &Path, file: &Path) -> io::Result<()> {
    let meta = fs::metadata(of)?;
    let now = fs::metadata(file)?;
    if (now.uid(), now.gid()) != (meta.uid(), meta.gid()) {
        std::os::unix::fs::chown(file, Some(meta.uid()), Some(meta.gid()))?;
    }
    fs::set_permissions(file, meta.permissions())
}

/// Writes a file so that readers see the old or the new bytes, durably.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Makes names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for dir in [&folder.join(LINKS), &folder.join(GOOD), folder] {
        sync_dir(dir)?;
    }
    folder.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
