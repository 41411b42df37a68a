//! What names have opened, on disk: a line is added before each answer that opens something leaves, so that a daemon that is
//! killed knows it again.
//!
//! It lies with the records of attached containers in the runtime dir, which dies with the machine. A line is written with
//! one call and not synced: what was written outlives the process. Lines of another boot, and what cannot be read, count
//! for nothing: a name that is asked again is open again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Bytes at which what counts no more is left out.
const LARGE: u64 = 1024 * 1024;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// The first one: the boot that the others are of.
    Boot(String),
    /// A container was given addresses for a name.
    Open(Opening),
    /// A container went, and all that was open to it.
    Closed(String),
}

/// What one answer opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opening {
    pub(crate) container: String,
    pub(crate) name: String,
    /// Each until a second of the kernel's monotonic clock.
    pub(crate) addresses: Vec<(IpAddr, u64)>,
}

/// The file.
pub(crate) struct Opened {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    /// At which it is written anew.
    large: u64,
}

impl Opened {
    /// Reads the lines of the daemon before, oldest first. Nothing is written until [`Opened::rewrite`].
    pub(crate) fn read(path: PathBuf) -> (Self, Vec<Line>) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok());
        let same = matches!(lines.next(), Some(Line::Boot(id)) if id == boot());
        let lines = if same { lines.collect() } else { Vec::new() };
        let opened = Self {
            path,
            file: None,
            bytes: 0,
            large: LARGE,
        };
        (opened, lines)
    }

    /// Adds lines. True when it has grown so much that it should be written anew.
    pub(crate) fn add<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) -> io::Result<bool> {
        let text = text(lines);
        let Some(file) = &mut self.file else {
            return Ok(true);
        };
        file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(self.bytes > self.large)
    }

    /// Puts these lines in the place of all there are, in one step.
    pub(crate) fn rewrite<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) -> io::Result<()> {
        let boot = Line::Boot(boot());
        let text = [text([boot].iter()), text(lines)].concat();
        let draft = self.path.with_extension("draft");
        std::fs::write(&draft, &text)?;
        std::fs::rename(&draft, &self.path)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        self.bytes = text.len() as u64;
        self.large = LARGE.max(2 * self.bytes);
        Ok(())
    }
}

fn text<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        // strings, addresses and numbers: nothing that has no JSON
        if let Ok(json) = serde_json::to_vec(line) {
            text.extend(json);
            text.push(b'\n');
        }
    }
    text
}

/// Tells boots of the machine apart (proc_sys_kernel(5), random/boot_id).
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(container: &str, until: u64) -> Line {
        Line::Open(Opening {
            container: container.into(),
            name: "www.example.org".into(),
            addresses: vec![("198.51.100.7".parse().unwrap(), until)],
        })
    }

    #[test]
    fn lines_are_read_back_up_to_the_first_that_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names");
        let (mut opened, lines) = Opened::read(path.clone());
        assert_eq!(lines, []);
        assert!(opened.add([open("web", 1)].iter()).unwrap(), "no file yet");
        opened.rewrite([open("web", 100)].iter()).unwrap();
        let more = [Line::Closed("web".into()), open("db", 300)];
        assert!(!opened.add(more.iter()).unwrap());
        let read = || Opened::read(path.clone()).1;
        assert_eq!(read(), [&[open("web", 100)], &more[..]].concat());
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        assert_eq!(read(), [open("web", 100), more[0].clone()]);
    }

    #[test]
    fn another_boot_opened_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names");
        let lines = [Line::Boot("another".into()), open("web", 100)];
        std::fs::write(&path, text(lines.iter())).unwrap();
        assert_eq!(Opened::read(path.clone()).1, []);
        std::fs::write(&path, text([open("web", 100)].iter())).unwrap();
        assert_eq!(Opened::read(path).1, [], "without its first line");
    }
}
