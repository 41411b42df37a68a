//! `netd policy check`, `netd policy show`, `netd reload`

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firewall::diagnostics::{Diagnostic, Severity};
use firewall::policy::{MAX_BYTES, PolicyFile};
use serde::Serialize;
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

/// Parses files without a daemon; without names, those that a daemon would read.
pub(super) fn check(context: &Context, named: &[PathBuf]) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document {
        files: Vec<PathBuf>,
        diagnostics: Vec<Diagnostic>,
    }
    let mut files = Vec::new();
    if named.is_empty() {
        files = files_in(&context.dirs.policies())?;
    }
    for path in named {
        if path.is_dir() {
            files.extend(files_in(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut diagnostics = Vec::new();
    for file in &files {
        diagnostics.extend(check_one(file)?);
    }
    let errors = diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .count();
    if context.json {
        output::print_json(&Document { files, diagnostics })?;
    } else {
        let colour = io::stderr().is_terminal();
        for diagnostic in &diagnostics {
            output::print_error(&format!("{}\n", diagnostic.render(colour)));
        }
        output::print(&summary(files.len(), errors, diagnostics.len() - errors))?;
    }
    Ok(ExitCode::from(if errors == 0 {
        exit::DONE
    } else {
        exit::FAILED
    }))
}

fn summary(files: usize, errors: usize, warnings: usize) -> String {
    let count = |n: usize, what: &str| match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let mut text = format!(
        "{} checked, {}",
        count(files, "file"),
        count(errors, "error")
    );
    if warnings > 0 {
        text.push_str(&format!(", {}", count(warnings, "warning")));
    }
    text.push('\n');
    text
}

/// What is wrong with one file.
fn check_one(path: &Path) -> Result<Vec<Diagnostic>, Error> {
    let failed = |source: io::Error| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(failed)?
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(diagnose(&path.display().to_string(), &bytes))
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

fn diagnose(file: &str, bytes: &[u8]) -> Vec<Diagnostic> {
    match PolicyFile::parse_bytes(file, bytes) {
        Ok(policy) => policy.warnings.0,
        Err(diagnostics) => diagnostics.0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_good_file_has_no_diagnostics_and_a_bad_one_points_at_it() {
        let good = b"[[ingress]]\nfrom = [\"world\"]\nports = [\"tcp/80\"]\n";
        assert_eq!(diagnose("web.toml", good), []);
        let bad = b"[[ingress]]\nfrom = [\"world\"]\nport = [\"tcp/80\"]\n";
        let found = diagnose("policies/web.toml", bad);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0]
                .render(false)
                .starts_with("policies/web.toml:3:1: error: "),
            "{}",
            found[0]
        );
        let found = diagnose("web.toml", &vec![b'#'; (1 << 20) + 1]);
        assert_eq!(found[0].severity, Severity::Error, "over 1 MiB");
    }

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

    #[test]
    fn summaries() {
        assert_eq!(summary(0, 0, 0), "no files checked, no errors\n");
        assert_eq!(summary(1, 0, 2), "1 file checked, no errors, 2 warnings\n");
        assert_eq!(summary(2, 1, 0), "2 files checked, 1 error\n");
    }
}
