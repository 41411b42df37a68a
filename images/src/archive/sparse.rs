//! Files with holes: made where zeros come, and read from GNU tar's pax form, version 1.0 (tar manual, "Storing Sparse Files").

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// What is worth a hole.
const BLOCK: usize = 4096;

/// Copies all of `source` into `file`, leaving holes for zeros. Returns the length.
pub(crate) fn copy(source: &mut dyn Read, file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * BLOCK];
    let begin = file.stream_position()?;
    let mut length = 0;
    loop {
        let filled = fill(source, &mut buffer)?;
        if filled == 0 {
            break;
        }
        for block in buffer[..filled].chunks(BLOCK) {
            match block.iter().all(|byte| *byte == 0) {
                true => file.seek(SeekFrom::Current(block.len() as i64)).map(drop)?,
                false => file.write_all(block)?,
            }
        }
        length += filled as u64;
    }
    // a hole at the end is no length yet
    let end = begin + length;
    if file.metadata()?.len() < end {
        file.set_len(end)?;
    }
    Ok(length)
}

fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Copies a member in pax sparse form 1.0: a map of (offset, length) in decimal lines, padded to 512 bytes, then the data.
pub(crate) fn copy_mapped(
    source: &mut dyn Read,
    file: &mut File,
    real_size: u64,
) -> io::Result<()> {
    let bad = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "its map of holes cannot be understood",
        )
    };
    let mut read = 0usize;
    let mut number = |source: &mut dyn Read| -> io::Result<u64> {
        let mut text = String::new();
        loop {
            let mut byte = [0];
            source.read_exact(&mut byte)?;
            read += 1;
            match byte[0] {
                b'\n' => return text.parse().map_err(|_| bad()),
                digit @ b'0'..=b'9' if text.len() < 20 => text.push(digit.into()),
                _ => return Err(bad()),
            }
        }
    };
    let count = number(source)?;
    let mut map = Vec::new();
    for _ in 0..count {
        let (offset, length) = (number(source)?, number(source)?);
        let end = offset.checked_add(length).ok_or_else(bad)?;
        if end > real_size
            || map
                .last()
                .is_some_and(|(last, n): &(u64, u64)| offset < last + n)
        {
            return Err(bad());
        }
        map.push((offset, length));
    }
    let padding = read.next_multiple_of(512) - read;
    source.read_exact(&mut vec![0; padding])?;
    for (offset, length) in map {
        file.seek(SeekFrom::Start(offset))?;
        if copy(&mut source.take(length), file)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    file.set_len(real_size)
}
