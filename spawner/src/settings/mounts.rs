//! `--bind=`, `--bind-ro=`, `--tmpfs=`: what is mounted over the root.

use std::path::{Component, Path, PathBuf};

use crate::error::SpawnError;

/// `--bind=SOURCE[:DESTINATION[:OPTIONS]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the container, absolute. Made when missing, where the root can be written.
    pub destination: PathBuf,
    /// `--bind-ro=`.
    pub read_only: bool,
    /// With what is mounted below it: `rbind` (the default) or `norbind`.
    pub recursive: bool,
    /// `idmap`: with private users, files belong inside to the ids they belong to outside.
    pub idmap: bool,
}

impl Bind {
    /// Reads the argument of `--bind=` and `--bind-ro=`; a colon in a path is written `\:`.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a path that is not absolute, or an unknown option.
    pub fn parse(text: &str, read_only: bool) -> Result<Self, SpawnError> {
        let what = if read_only { "--bind-ro=" } else { "--bind=" };
        let parts = split_colons(text);
        let (source, destination, options) = match parts.as_slice() {
            [source] => (source, source, ""),
            [source, destination] => (source, destination, ""),
            [source, destination, options] => (source, destination, options.as_str()),
            _ => {
                return Err(SpawnError::setting(
                    what,
                    text,
                    "has more than three parts (write a colon in a path as \\:)",
                ));
            }
        };
        let destination = if destination.is_empty() {
            source
        } else {
            destination
        };
        let mut bind = Self {
            source: absolute(what, text, source)?,
            destination: absolute(what, text, destination)?,
            read_only,
            recursive: true,
            idmap: false,
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "rbind" => bind.recursive = true,
                "norbind" => bind.recursive = false,
                "idmap" => bind.idmap = true,
                "noidmap" => bind.idmap = false,
                other => {
                    return Err(SpawnError::setting(
                        what,
                        text,
                        format!(
                            "has the unknown option {other:?} (rbind, norbind, idmap, noidmap)"
                        ),
                    ));
                }
            }
        }
        Ok(bind)
    }
}

/// `--tmpfs=PATH[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// In the container, absolute.
    pub destination: PathBuf,
    /// Mount options of tmpfs and of mount(8), e.g. `size=1M`, `mode=1777`, `noexec`.
    pub options: Vec<String>,
}

impl Tmpfs {
    /// Reads the argument of `--tmpfs=`; a colon in the path is written `\:`.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a path that is not absolute.
    pub fn parse(text: &str) -> Result<Self, SpawnError> {
        let parts = split_colons(text);
        let (path, options) = match parts.as_slice() {
            [path] => (path, ""),
            [path, options] => (path, options.as_str()),
            _ => {
                return Err(SpawnError::setting(
                    "--tmpfs=",
                    text,
                    "has more than two parts",
                ));
            }
        };
        Ok(Self {
            destination: absolute("--tmpfs=", text, path)?,
            options: options
                .split(',')
                .filter(|o| !o.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }
}

/// An absolute path without `..`.
pub(super) fn absolute(
    what: &'static str,
    text: &str,
    path: impl AsRef<Path>,
) -> Result<PathBuf, SpawnError> {
    let path = path.as_ref();
    if !path.is_absolute() {
        return Err(SpawnError::setting(
            what,
            text,
            "has a path that is not absolute",
        ));
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(SpawnError::setting(what, text, "has a path with '..'"));
    }
    Ok(path.to_owned())
}

/// Splits at colons that no backslash precedes, as systemd-nspawn does.
fn split_colons(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(|next| matches!(next, ':' | '\\')) => {
                if let (Some(last), Some(next)) = (parts.last_mut(), chars.next()) {
                    last.push(next);
                }
            }
            ':' => parts.push(String::new()),
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn binds() {
        let bind = Bind::parse("/a", false).unwrap();
        assert_eq!(bind.destination, Path::new("/a"));
        assert!(bind.recursive && !bind.read_only && !bind.idmap);
        let bind = Bind::parse(r"/a\:b:/c:norbind,idmap", true).unwrap();
        assert_eq!(bind.source, Path::new("/a:b"));
        assert_eq!(bind.destination, Path::new("/c"));
        assert!(!bind.recursive && bind.read_only && bind.idmap);
        let bind = Bind::parse("/a::norbind", false).unwrap();
        assert_eq!(bind.destination, Path::new("/a"));
        for bad in ["", "a", "/a:b", "/a:/b:x", "/a:/b:rbind:y", "/a:/../b"] {
            let error = Bind::parse(bad, false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--bind= {bad:?} ")), "{error}");
        }
    }

    #[test]
    fn tmpfs() {
        let tmpfs = Tmpfs::parse("/x:size=1M,mode=700").unwrap();
        assert_eq!(tmpfs.options, ["size=1M", "mode=700"]);
        assert!(Tmpfs::parse("/x").unwrap().options.is_empty());
        assert!(Tmpfs::parse("x").is_err());
        assert!(Tmpfs::parse("/x:a:b").is_err());
    }
}
