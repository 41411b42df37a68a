//! The sides of an attach comparison: netd, the floor, and what people use today.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::container::Container;
use crate::error::{During, Error, Result};
use crate::ns::Netns;

pub(crate) mod cni;
pub(crate) mod dhcp;
pub(crate) mod floor;
pub(crate) mod netavark;
pub(crate) mod netd;
pub(crate) mod shell;

/// One way to attach a container. Each has a host (a network namespace) of its own.
pub(crate) trait Side {
    /// How it is called in tables.
    fn name(&self) -> String;
    /// Prefix of its containers' names: short, unlike any other side's.
    fn prefix(&self) -> &str;
    /// Its host. The bench enters it before it calls and measures the rest.
    fn host(&self) -> &Netns;
    /// Attaches.
    fn attach(&mut self, container: &Container) -> Result<()>;
    /// Detaches, as its caller sees it.
    fn detach(&mut self, container: &Container) -> Result<()>;
    /// Waits until nothing of a detached container is left, so that no side's clearing up is on another's bill.
    fn settle(&mut self, _container: &Container) -> Result<()> {
        Ok(())
    }
}

/// Runs a program to its end, with `input` on its standard input, and returns what it printed.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let line = || format!("{command:?}");
    let failed = line();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().during(|| failed.clone())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading has not failed for that.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().during(|| failed.clone())?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stderr, output.stdout].concat();
    Err(Error::Command {
        command: failed,
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Runs a program line, words separated by blanks.
pub(crate) fn line(line: &str) -> Result<Vec<u8>> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    run(command.args(words), b"")
}

/// Whether a program is among the folders of PATH.
pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|file| file.is_file())
    })
}

/// A program of PATH, or the error that says how to get it.
pub(crate) fn need(program: &str) -> Result<std::path::PathBuf> {
    find(program).ok_or_else(|| Error::Missing {
        what: program.to_owned(),
        remedy: "run `bench setup`",
    })
}

/// A folder made anew, empty.
pub(crate) fn empty_folder(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).during(|| format!("empty {}", path.display()))?;
    }
    std::fs::create_dir_all(path).during(|| format!("create {}", path.display()))
}
