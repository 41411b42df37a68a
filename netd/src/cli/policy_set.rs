//! Policy files that are named on the command line, read as they are.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use firewall::policy::{MAX_BYTES, PolicyFile};

use super::check::toml_files;
use crate::api::{PolicyText, PolicyTexts};
use crate::error::Error;

/// Name of the groups file, in a folder or by itself.
const GROUPS: &str = "groups.toml";

/// Reads files, and the `*.toml` files of folders, dotfiles excepted. What they say the daemon checks.
pub(super) fn read(paths: &[PathBuf]) -> Result<PolicyTexts, Error> {
    let mut texts = PolicyTexts::default();
    for path in paths {
        let files = if path.is_dir() {
            let files = toml_files(path)?;
            if files.is_empty() {
                return Err(Error::NoPolicies { path: path.clone() });
            }
            files
        } else {
            vec![path.clone()]
        };
        for file in files {
            let text = read_one(&file)?;
            if file.file_name() != Some(OsStr::new(GROUPS)) {
                texts.files.push(text);
            } else if let Some(other) = texts.groups.replace(text) {
                return Err(Error::TwoGroups {
                    one: other.path,
                    other: file,
                });
            }
        }
    }
    Ok(texts)
}

fn read_one(path: &Path) -> Result<PolicyText, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name
        .and_then(|name| name.strip_suffix(".toml"))
        .ok_or_else(|| Error::NotAPolicy {
            path: path.to_owned(),
        })?;
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(failed)?
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let shown = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|e| {
        // the parser knows the place of the first byte that is none of a text
        let wrong = PolicyFile::parse_bytes(&shown, e.as_bytes()).err();
        Error::BadPolicy(wrong.unwrap_or_default().to_string())
    })?;
    Ok(PolicyText {
        name: name.to_owned(),
        path: shown,
        text,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folders_and_files_are_one_set() {
        let dir = tempfile::tempdir().unwrap();
        let (set, lone) = (dir.path().join("set"), dir.path().join("lone.toml"));
        fs::create_dir(&set).unwrap();
        for name in ["b.toml", "a.toml", ".c.toml", "groups.toml", "notes"] {
            fs::write(set.join(name), name).unwrap();
        }
        fs::write(&lone, "x").unwrap();
        let texts = read(&[set.clone(), lone]).unwrap();
        let names: Vec<&str> = texts.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "lone"]);
        assert_eq!(texts.groups.unwrap().text, "groups.toml");
        assert!(matches!(
            read(&[set.join("groups.toml"), set]),
            Err(Error::TwoGroups { .. })
        ));
    }

    #[test]
    fn what_cannot_be_policies_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let read_path = |path: &Path| read(&[path.to_owned()]).unwrap_err().to_string();
        assert!(read_path(dir.path()).contains("no *.toml"));
        let note = dir.path().join("notes.txt");
        fs::write(&note, "x").unwrap();
        assert!(read_path(&note).contains("NAME.toml"));
        let latin = dir.path().join("latin.toml");
        fs::write(&latin, b"# \xe4").unwrap();
        assert!(read_path(&latin).contains("latin.toml:1:3: error"));
        assert!(read_path(&dir.path().join("none.toml")).contains("none.toml"));
    }
}
