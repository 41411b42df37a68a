//! `--bind=`, `--overlay=`, `--tmpfs=` and their like: what is mounted over the root, and what of the root is kept.

use std::path::{Component, Path, PathBuf};

use crate::error::SpawnError;

/// Where something that is shown inside comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path of the host, absolute.
    Host(PathBuf),
    /// `+PATH`: of the container's own root, wherever its links lead in there.
    Root(PathBuf),
    /// An empty directory below /var/tmp, which goes with the container.
    Temporary,
}

impl Source {
    /// Reads it as systemd-nspawn does: a path that is not absolute begins at the working directory.
    fn parse(what: &'static str, text: &str, path: &str) -> Result<Self, SpawnError> {
        if path.is_empty() {
            return Ok(Self::Temporary);
        }
        if let Some(inside) = path.strip_prefix('+') {
            return absolute(what, text, inside).map(Self::Root);
        }
        let whole = std::path::absolute(path)
            .map_err(|_| SpawnError::setting(what, text, "has a path that leads nowhere"))?;
        Ok(Self::Host(whole))
    }
}

/// Whose files are whose, in a bind of a container with private users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdMap {
    /// `noidmap`: as on the host, so nobody's unless they belong to the container's range.
    #[default]
    None,
    /// `idmap`: inside to the ids they belong to outside.
    Same,
    /// `rootidmap`: what belongs to the source's owner belongs to root inside.
    Root,
    /// `owneridmap`: what belongs to the source's owner belongs to whom the place belongs to that it is shown at.
    Owner,
}

/// `--bind=SOURCE[:DESTINATION[:OPTIONS]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// What is shown.
    pub source: Source,
    /// In the container, absolute. Made when missing, where the root can be written.
    pub destination: PathBuf,
    /// `--bind-ro=`.
    pub read_only: bool,
    /// With what is mounted below it: `rbind` (the default) or `norbind`.
    pub recursive: bool,
    /// `idmap`, `rootidmap`, `owneridmap`; without private users it means nothing.
    pub idmap: IdMap,
}

impl Bind {
    /// Reads the argument of `--bind=` and `--bind-ro=`; a colon in a path is written `\:`.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a destination that is not absolute, or an unknown option.
    pub fn parse(text: &str, read_only: bool) -> Result<Self, SpawnError> {
        let what = if read_only { "--bind-ro=" } else { "--bind=" };
        let parts = split_colons(text);
        let (source, destination, options) = match parts.as_slice() {
            [source] => (source, "", ""),
            [source, destination] => (source, destination.as_str(), ""),
            [source, destination, options] => (source, destination.as_str(), options.as_str()),
            _ => {
                return Err(SpawnError::setting(
                    what,
                    text,
                    "has more than three parts (write a colon in a path as \\:)",
                ));
            }
        };
        let source = Source::parse(what, text, source)?;
        let destination = match (&source, destination) {
            (Source::Host(path) | Source::Root(path), "") => absolute(what, text, path)?,
            (Source::Temporary, "") => {
                return Err(SpawnError::setting(what, text, "names no place inside"));
            }
            (_, destination) => absolute(what, text, destination)?,
        };
        let mut bind = Self {
            source,
            destination,
            read_only,
            recursive: true,
            idmap: IdMap::None,
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "rbind" => bind.recursive = true,
                "norbind" => bind.recursive = false,
                "idmap" => bind.idmap = IdMap::Same,
                "noidmap" => bind.idmap = IdMap::None,
                "rootidmap" => bind.idmap = IdMap::Root,
                "owneridmap" => bind.idmap = IdMap::Owner,
                other => {
                    return Err(SpawnError::setting(
                        what,
                        text,
                        format!(
                            "has the unknown option {other:?} (rbind, norbind, idmap, noidmap, rootidmap, owneridmap)"
                        ),
                    ));
                }
            }
        }
        Ok(bind)
    }
}

/// `--overlay=LOWER[:LOWER…][:UPPER]:DESTINATION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The trees, the lowest first. The last is written to, unless it is read-only.
    pub layers: Vec<Source>,
    /// In the container, absolute.
    pub destination: PathBuf,
    /// `--overlay-ro=`.
    pub read_only: bool,
}

impl Overlay {
    /// Reads the argument of `--overlay=` and `--overlay-ro=`; with two paths the second is both the uppermost tree
    /// and the place inside.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for fewer than two paths, or a destination that is not absolute.
    pub fn parse(text: &str, read_only: bool) -> Result<Self, SpawnError> {
        let what = if read_only {
            "--overlay-ro="
        } else {
            "--overlay="
        };
        let mut parts = split_colons(text);
        let Some(last) = parts.pop().filter(|_| !parts.is_empty()) else {
            return Err(SpawnError::setting(what, text, "has fewer than two paths"));
        };
        if parts.len() == 1 {
            parts.push(last.clone());
        }
        let above = parts.len() - 1;
        let mut layers = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let layer = Source::parse(what, text, part)?;
            if layer == Source::Temporary && at < above {
                return Err(SpawnError::setting(
                    what,
                    text,
                    "has an empty path that is not the uppermost tree",
                ));
            }
            layers.push(layer);
        }
        Ok(Self {
            layers,
            destination: absolute(what, text, last.trim_start_matches('+'))?,
            read_only,
        })
    }
}

/// `--volatile=`: what of the root is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Volatile {
    /// `no`: everything.
    #[default]
    No,
    /// `yes`: /usr, read-only; all else is empty and in memory.
    Yes,
    /// `state`: everything, read-only, but for /var, which is empty and in memory.
    State,
    /// `overlay`: everything, and what is written stays in memory.
    Overlay,
}

impl std::str::FromStr for Volatile {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        match (text, super::boolean(text)) {
            ("state", _) => Ok(Self::State),
            ("overlay", _) => Ok(Self::Overlay),
            (_, Some(true)) => Ok(Self::Yes),
            (_, Some(false)) => Ok(Self::No),
            _ => Err(SpawnError::setting(
                "--volatile=",
                text,
                "is not yes, no, state or overlay",
            )),
        }
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
        let host = |path: &str| Source::Host(path.into());
        let bind = Bind::parse("/a", false).unwrap();
        assert_eq!(bind.destination, Path::new("/a"));
        assert!(bind.recursive && !bind.read_only && bind.idmap == IdMap::None);
        let bind = Bind::parse(r"/a\:b:/c:norbind,idmap", true).unwrap();
        assert_eq!(bind.source, host("/a:b"));
        assert_eq!(bind.destination, Path::new("/c"));
        assert!(!bind.recursive && bind.read_only && bind.idmap == IdMap::Same);
        let bind = Bind::parse("/a::norbind", false).unwrap();
        assert_eq!(bind.destination, Path::new("/a"));
        let bind = Bind::parse("+/var:/srv:rootidmap", false).unwrap();
        assert_eq!(bind.source, Source::Root("/var".into()));
        assert_eq!(bind.idmap, IdMap::Root);
        let bind = Bind::parse("/a:/b:owneridmap", false).unwrap();
        assert_eq!(bind.idmap, IdMap::Owner);
        let bind = Bind::parse(":/scratch", false).unwrap();
        assert_eq!(bind.source, Source::Temporary);
        let here = std::env::current_dir().unwrap();
        let bind = Bind::parse("a:/b", false).unwrap();
        assert_eq!(bind.source, Source::Host(here.join("a")));
        for bad in [
            "",
            ":",
            "/a:b",
            "/a:/b:x",
            "/a:/b:rbind:y",
            "/a:/../b",
            "+a",
        ] {
            let error = Bind::parse(bad, false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--bind= {bad:?} ")), "{error}");
        }
    }

    #[test]
    fn overlays() {
        let host = |path: &str| Source::Host(path.into());
        let two = Overlay::parse("/low:/up", false).unwrap();
        assert_eq!(two.layers, [host("/low"), host("/up")]);
        assert_eq!(two.destination, Path::new("/up"));
        let own = Overlay::parse("+/var::/var", false).unwrap();
        assert_eq!(own.layers, [Source::Root("/var".into()), Source::Temporary]);
        assert_eq!(own.destination, Path::new("/var"));
        for bad in ["", "/a", "/a:b:c", "::/x", "/a::/b:/c"] {
            assert!(Overlay::parse(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_of_volatile() {
        let mode = |text: &str| text.parse::<Volatile>().ok();
        assert_eq!(mode("yes"), Some(Volatile::Yes));
        assert_eq!(mode("0"), Some(Volatile::No));
        assert_eq!(mode("state"), Some(Volatile::State));
        assert_eq!(mode("overlay"), Some(Volatile::Overlay));
        assert_eq!(mode("some"), None);
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
