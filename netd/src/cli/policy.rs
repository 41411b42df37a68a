//! `netd policy show`, `netd reload`

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zone::ContainerName;

use super::Context;
use super::output;
use crate::error::{Error, exit};

pub(super) fn show(
    context: &Context,
    container: &ContainerName,
    nft: bool,
) -> Result<ExitCode, Error> {
    let view = context.connect()?.policy_show(container, nft)?;
    if context.json {
        output::print_json(&view)?;
    } else {
        output::print(&output::policy(&view))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn reload(context: &Context) -> Result<ExitCode, Error> {
    let reloaded = context.connect()?.reload()?;
    for problem in &reloaded.refused {
        output::note(&output::problem(problem));
    }
    for warning in &reloaded.warnings {
        output::note(&format!("warning: {warning}"));
    }
    let code = if reloaded.refused.is_empty() {
        exit::DONE
    } else {
        exit::FAILED
    };
    if context.json {
        output::print_json(&reloaded)?;
    }
    Ok(ExitCode::from(code))
}

/// The files a daemon would read in this folder: `*.toml`, no dotfiles, in the order of their names.
/// A folder that does not exist has none.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source: io::Error| Error::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension() == Some(OsStr::new("toml")) && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_has_the_files_a_daemon_would_read() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", ".c.toml", "d.toml~", "e.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("f.toml")).unwrap();
        let files = files_in(dir.path()).unwrap();
        let names: Vec<&str> = files
            .iter()
            .map(|f| f.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a.toml", "b.toml"]);
        assert_eq!(
            files_in(&dir.path().join("none")).unwrap(),
            Vec::<PathBuf>::new()
        );
    }
}
