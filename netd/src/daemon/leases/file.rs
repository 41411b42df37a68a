//! Files of the journal: frames of entries, each with a checksum, so that a torn or damaged one is known.
//!
//! ```text
//! STATE/leases-7.log:  "netd leases 1\n" │ frame │ frame │ …
//! frame:               mark u32 │ length u32 │ crc32 u32 (of length and entries) │ entries
//! ```
//!
//! A frame is what one commit made durable. A torn last one was never acknowledged. Behind damage elsewhere the
//! next whole frame is looked for: what is behind it still counts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::entry::{Entries, Entry};

const HEAD: &[u8] = b"netd leases 1\n";
const MARK: [u8; 4] = *b"\xd1\x1eas";
const FRAME: usize = 12;

/// The numbered files of a folder, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| {
            let name = name.to_str()?.strip_prefix("leases-")?;
            name.strip_suffix(".log")?.parse::<u64>().ok()
        });
        files.extend(number.map(|number| (number, path)));
    }
    files.sort();
    Ok(files)
}

/// Where file `number` is.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("leases-{number}.log"))
}

/// A file being written.
pub(super) struct Appender {
    file: File,
    /// Bytes that are known to be whole; a failed write is written over.
    end: u64,
    /// Whether they are durable, too.
    synced: bool,
    frame: Vec<u8>,
}

impl Appender {
    /// Begins a new file; its name is durable when this returns.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.write_all_at(HEAD, 0)?;
        file.sync_all()?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Self {
            file,
            end: HEAD.len() as u64,
            synced: true,
            frame: Vec::new(),
        })
    }

    /// Appends a frame; durable after [`Appender::sync`].
    pub(super) fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let length = u32::try_from(entries.len()).map_err(io::Error::other)?;
        self.frame.clear();
        self.frame.extend(MARK);
        self.frame.extend(length.to_be_bytes());
        self.frame.extend(checksum(entries).to_be_bytes());
        self.frame.extend_from_slice(entries);
        self.synced = false;
        self.file.write_all_at(&self.frame, self.end)?;
        self.end += self.frame.len() as u64;
        Ok(())
    }

    /// Makes durable what was appended.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.file.sync_data()?;
            self.synced = true;
        }
        Ok(())
    }

    /// Bytes written.
    pub(super) fn len(&self) -> u64 {
        self.end
    }
}

fn checksum(entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(entries.len() as u64).to_be_bytes());
    hasher.update(entries);
    hasher.finalize()
}

/// What reading a file came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes that belong to no whole frame, but for a torn end.
    pub(super) damaged: usize,
    /// Whether it told that it is whole.
    pub(super) whole: bool,
}

/// Tells every entry of a file in order.
pub(super) fn read(path: &Path, tell: &mut dyn FnMut(Entry)) -> io::Result<Read> {
    let bytes = std::fs::read(path)?;
    let mut outcome = Read::default();
    let mut rest = match bytes.strip_prefix(HEAD) {
        Some(rest) => rest,
        // Made, and cut off before anything was in it.
        None if HEAD.starts_with(&bytes) => return Ok(outcome),
        None => {
            outcome.damaged = HEAD.len().min(bytes.len());
            &bytes[..]
        }
    };
    let mut skipped = 0;
    while !rest.is_empty() {
        let Some((entries, tail)) = frame(rest) else {
            rest = &rest[1..];
            skipped += 1;
            continue;
        };
        // Something whole behind it: this was no torn end.
        outcome.damaged += std::mem::take(&mut skipped);
        for entry in Entries(entries) {
            match entry {
                Entry::Whole => outcome.whole = true,
                entry => tell(entry),
            }
        }
        rest = tail;
    }
    Ok(outcome)
}

/// The entries of a whole frame at the front, and what is behind it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME>()?;
    let (mark, head) = head.split_first_chunk::<4>()?;
    if *mark != MARK {
        return None;
    }
    let (length, sum) = head.split_first_chunk::<4>()?;
    let (entries, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let sum: [u8; 4] = sum.try_into().ok()?;
    (checksum(entries) == u32::from_be_bytes(sum)).then_some((entries, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::entry::push;
    use super::*;

    fn gone(n: u8) -> Entry {
        Entry::Gone {
            zone: "dmz".into(),
            address: [10, 0, 0, n].into(),
        }
    }

    /// A file of one frame for each number.
    fn written(dir: &Path) -> PathBuf {
        let path = path(dir, 3);
        let mut file = Appender::create(&path).unwrap();
        for n in 1..=4 {
            let mut bytes = Vec::new();
            push(&mut bytes, &gone(n));
            file.append(&bytes).unwrap();
            file.sync().unwrap();
        }
        path
    }

    fn told(path: &Path) -> (Vec<Entry>, Read) {
        let mut entries = Vec::new();
        let read = read(path, &mut |entry| entries.push(entry)).unwrap();
        (entries, read)
    }

    #[test]
    fn a_torn_end_is_no_damage_and_hides_nothing_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let frame = (whole.len() - HEAD.len()) / 4;
        for cut in 1..frame {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (entries, read) = told(&path);
            assert_eq!(entries, [gone(1), gone(2), gone(3)]);
            assert_eq!(read.damaged, 0);
        }
        for cut in 0..=HEAD.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(told(&path), (vec![], Read::default()));
        }
    }

    #[test]
    fn damage_costs_what_it_hits_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let frame = (whole.len() - HEAD.len()) / 4;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            let (entries, read) = told(&path);
            let hit = at.checked_sub(HEAD.len()).map(|at| at / frame);
            let expected: Vec<_> = (0..4)
                .filter(|n| Some(*n) != hit)
                .map(|n| gone(n as u8 + 1))
                .collect();
            assert_eq!(entries, expected, "byte {at}");
            // the last one cannot be told from one that was torn
            assert_eq!(read.damaged > 0, hit != Some(3), "byte {at}");
        }
    }

    #[test]
    fn files_come_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "leases-10.log",
            "leases-9.log",
            "leases-x.log",
            "netd.redb",
            "leases-1.log.tmp",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let numbers: Vec<u64> = list(dir.path())
            .unwrap()
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        assert_eq!(numbers, [9, 10]);
    }
}
