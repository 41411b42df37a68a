//! The file of decisions: one JSON object a line, bounded by one rotation.
//!
//! A disk that is full loses lines, says so once, and never keeps anybody waiting but this thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes after which the file becomes the old one.
pub(super) const LARGEST: u64 = 8 << 20;

/// Bytes that are written at once, however early it is.
const FULL: usize = 64 << 10;

/// The file, and lines that wait to be written.
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<Open>,
    buffer: Vec<u8>,
    /// As many decisions as the lines that wait stand for.
    decisions: u64,
    largest: u64,
}

struct Open {
    file: File,
    size: u64,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, largest: u64) -> Self {
        Self {
            path,
            open: None,
            buffer: Vec::new(),
            decisions: 0,
            largest,
        }
    }

    /// Adds a line, which stands for so many decisions: itself, and those that it says were lost. True
    /// when it is time to write.
    pub(super) fn add(&mut self, line: &[u8], stands_for: u64) -> bool {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.decisions += stands_for;
        self.buffer.len() >= FULL
    }

    /// Whether something waits.
    pub(super) fn waits(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Writes what waits. Where that fails, it is gone, with how many decisions it stood for.
    pub(super) fn flush(&mut self) -> Result<(), (u64, io::Error)> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let result = self.write();
        self.buffer.clear();
        self.buffer.shrink_to(FULL);
        let decisions = std::mem::take(&mut self.decisions);
        result.map_err(|error| (decisions, error))
    }

    fn write(&mut self) -> io::Result<()> {
        let len = self.buffer.len() as u64;
        if self.open.as_ref().is_some_and(Open::is_gone) {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(Open::at(&self.path)?);
        }
        if self
            .open
            .as_ref()
            .is_some_and(|o| o.size > 0 && o.size + len > self.largest)
        {
            self.open = None;
            std::fs::rename(&self.path, old(&self.path))?;
            self.open = Some(Open::at(&self.path)?);
        }
        match &mut self.open {
            Some(open) => open.append(&self.buffer),
            None => Ok(()),
        }
    }
}

/// Where the lines before the last rotation are.
pub(crate) fn old(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            // Whoever was killed within a line left it without an end.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Self { file, size })
    }

    /// Whether somebody deleted the file, or put another in its place.
    fn is_gone(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        match &written {
            Ok(()) => self.size += bytes.len() as u64,
            // No half of a line stays.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        written
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn lines_are_rotated_whole_and_at_most_twice_the_bytes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let mut log = LogFile::new(path.clone(), 30);
        for n in 0..10 {
            log.add(format!("line {n:04}").as_bytes(), 1);
            log.flush().unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= 30);
        }
        assert_eq!(text(&path), "line 0009\n");
        let old = old(&path);
        assert_eq!(old.file_name().unwrap(), "decisions.jsonl.1");
        assert_eq!(text(&old), "line 0006\nline 0007\nline 0008\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_others_do_to_the_file_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        fs::write(&path, "{\"half a li").unwrap();
        let mut log = LogFile::new(path.clone(), LARGEST);
        log.add(b"one", 1);
        log.flush().unwrap();
        assert_eq!(text(&path), "{\"half a li\none\n");
        fs::remove_file(&path).unwrap();
        log.add(b"two", 1);
        log.flush().unwrap();
        assert_eq!(text(&path), "two\n");
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::write(&path, "other\n").unwrap();
        log.add(b"three", 1);
        log.flush().unwrap();
        // a file that was moved is written on until it is gone
        assert_eq!(text(&dir.path().join("moved")), "two\nthree\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_loses_lines_and_counts_them() {
        let mut log = LogFile::new("/dev/full".into(), LARGEST);
        assert!(!log.add(b"one", 1));
        assert!(!log.add(b"two", 5));
        let (lost, error) = log.flush().unwrap_err();
        assert_eq!((lost, log.waits()), (6, false), "{error}");
        let mut log = LogFile::new("/proc/nowhere/decisions.jsonl".into(), LARGEST);
        log.add(b"one", 1);
        assert_eq!(log.flush().unwrap_err().0, 1);
    }

    #[test]
    fn a_full_buffer_is_written_at_once() {
        let mut log = LogFile::new("/dev/null".into(), u64::MAX);
        let line = [b'x'; 1000];
        let added = (1..).find(|_| log.add(&line, 1)).unwrap();
        assert_eq!(added, FULL / 1001 + 1);
        log.flush().unwrap();
    }
}
