//! `.nspawn` files, systemd.nspawn(5): where they are, whom they may be believed, and what they are on the command line.
//!
//! ```text
//! text ─► lines ([`syntax`]) ─► keys ([`keys`]) ─► words ─► RunArgs, by the same parser as the command line's
//! ```
//!
//! So a file means what its options mean, whatever those are.

mod keys;
pub(crate) mod syntax;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::{self, RunArgs};
use keys::{Key, Words};
use syntax::Wrong;

/// Where an administrator's settings are looked for, in this order.
pub(crate) const SETTINGS: [&str; 2] = ["/etc/systemd/nspawn", "/run/systemd/nspawn"];

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {why}", .path.display())]
    Line {
        path: PathBuf,
        line: usize,
        why: String,
    },
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// An administrator's, and not one that came with an image.
    pub(crate) trusted: bool,
}

/// What a file says.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) args: RunArgs,
    /// What was left out of a file that is not trusted, a sentence each.
    pub(crate) notices: Vec<String>,
}

/// Looks for the settings of a machine: an administrator's, then what is beside its root.
///
/// # Errors
/// [`FileError::Read`] for a file that is there and cannot be read.
pub(crate) fn find(name: &str, root: Option<&Path>) -> Result<Option<Found>, FileError> {
    let file = format!("{name}.nspawn");
    let mut places: Vec<_> = SETTINGS
        .iter()
        .map(|dir| (Path::new(dir).join(&file), true))
        .collect();
    places.extend(
        root.and_then(Path::parent)
            .map(|dir| (dir.join(&file), false)),
    );
    for (path, trusted) in places {
        match fs::read_to_string(&path) {
            Ok(text) => {
                return Ok(Some(Found {
                    path,
                    text,
                    trusted,
                }));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(FileError::Read { path, source }),
        }
    }
    Ok(None)
}

impl Found {
    /// What it says; of one that is not trusted, what may be said by anybody.
    ///
    /// # Errors
    /// [`FileError::Line`] for a line that cannot be understood.
    pub(crate) fn read(&self) -> Result<Read, FileError> {
        let error = |line, why| FileError::Line {
            path: self.path.clone(),
            line,
            why,
        };
        let mut notices = Vec::new();
        // By key, because an empty value takes back what the same key said before.
        let mut said: Vec<(&str, Words)> = Vec::new();
        let lines = syntax::lines(&self.text).map_err(|Wrong { line, why }| error(line, why))?;
        for line in lines {
            let Some((key, value)) = &line.assignment else {
                continue;
            };
            // private to others, as in every file of systemd
            if line.section.starts_with("X-") {
                continue;
            }
            let wrong = |why: String| error(line.number, why);
            let key = Key::find(&line.section, key).map_err(wrong)?;
            if value.is_empty() {
                said.retain(|(name, _)| *name != key.name);
                continue;
            }
            let words = key
                .words(value)
                .map_err(|why| wrong(format!("{}=: {why}", key.name)))?;
            // by itself, so that what is wrong has a line
            parse(std::slice::from_ref(&words))
                .map_err(|why| wrong(format!("{}=: {why}", key.name)))?;
            if !self.trusted && key.is_privileged(value) {
                notices.push(format!(
                    "{}:{}: {}= is left out: a file beside the root may not widen what the container may do \
                     (put it into {}, or run with --settings=trusted)",
                    self.path.display(),
                    line.number,
                    key.name,
                    SETTINGS[0]
                ));
                continue;
            }
            // one that is not repeated says the last thing said
            if matches!(words, Words::Command(_)) || words == Words::Options(Vec::new()) {
                said.retain(|(name, _)| *name != key.name);
            }
            said.push((key.name, words));
        }
        let words: Vec<Words> = said.into_iter().map(|(_, words)| words).collect();
        let args = parse(&words).map_err(|why| error(1, why))?;
        Ok(Read { args, notices })
    }
}

/// Words as the command line's own parser takes them.
fn parse(all: &[Words]) -> Result<RunArgs, String> {
    let mut argv = vec!["netd".to_owned(), "run".to_owned()];
    let mut last = Vec::new();
    for words in all {
        match words {
            Words::Options(options) => {
                for option in options {
                    // of a flag or of an option that is given once, the last counts
                    let name = option.split('=').next().unwrap_or(option);
                    if !cli::is_repeated(name) {
                        argv.retain(|known| known.split('=').next() != Some(name));
                    }
                    argv.push(option.clone());
                }
            }
            Words::Command(command) => last = command.clone(),
        }
    }
    argv.push("--".to_owned());
    argv.extend(last);
    cli::parse_run_words(&argv)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::TOR_BROWSER;
