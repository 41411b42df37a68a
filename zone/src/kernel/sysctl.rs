//! Files under /proc/sys/net. They are those of the network namespace of the thread that opens them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::LinkError;

/// `/proc/sys/net/` + `path`
pub(super) fn file(path: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(path)
}

/// The value, without the newline; none when there is no such sysctl (an interface that is gone, a
/// kernel without it).
pub(super) fn read(path: &str) -> Result<Option<String>, LinkError> {
    match fs::read_to_string(file(path)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(LinkError::Sysctl {
            verb: "read".to_owned(),
            path: file(path),
            source: error.into(),
        }),
    }
}

/// Writes a value; false when there is no such sysctl.
pub(super) fn write(path: &str, value: &str) -> Result<bool, LinkError> {
    let open = fs::OpenOptions::new().write(true).open(file(path));
    match open.and_then(|mut file| file.write_all(value.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) if gone(&error) => Ok(false),
        Err(error) => Err(LinkError::Sysctl {
            verb: format!("write {value} to"),
            path: file(path),
            source: error.into(),
        }),
    }
}

/// Writes a value if another is there, so that unchanged settings wake nobody.
pub(super) fn ensure(path: &str, value: &str) -> Result<bool, LinkError> {
    match read(path)? {
        None => Ok(false),
        Some(now) if now == value => Ok(true),
        Some(_) => write(path, value),
    }
}

/// The interface went away, before the file was opened or between that and the write.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
