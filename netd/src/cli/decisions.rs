//! `netd policy log`, `netd policy learn`

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use firewall::rfc3339;
use firewall::sets::Direction;
use serde::Serialize;
use zone::ContainerName;

use super::Context;
use super::args::LogArgs;
use super::output;
use crate::daemon;
use crate::decision::Decision;
use crate::error::Error;
use crate::lesson::{self, Seen};
use crate::since::Since;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Lines that are printed in one go.
const MANY: usize = 1024;

pub(super) fn learn(
    context: &Context,
    container: &ContainerName,
    since: Option<Since>,
) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        container: &'a ContainerName,
        policy: &'a str,
        seen: Vec<Seen>,
        lost: u64,
        more: bool,
    }
    let told = context.connect()?.policy_learn(container)?;
    let mut learned = lesson::read(Path::new(&told.file)).map_err(|source| Error::Read {
        path: told.file.into(),
        source,
    })?;
    if let Some(since) = since.map(|since| since.time(SystemTime::now())) {
        learned = learned.since(since);
        if learned.kinds.is_empty() {
            return Err(Error::NothingLearned {
                container: container.clone(),
                since: rfc3339::seconds(since),
            });
        }
    }
    let closes = |direction: Direction| told.on_trial.iter().any(|d| d == direction.as_str());
    let policy = firewall::learn::policy(container, &learned, closes, &told.in_force);
    if context.json {
        output::print_json(&Document {
            container,
            policy: &policy,
            seen: lesson::seen(&learned),
            lost: learned.lost,
            more: learned.more,
        })?;
    } else {
        output::print(&policy)?;
    }
    if learned.lost > 0 {
        output::note(&format!(
            "{} decisions were not recorded: the policy may lack something",
            learned.lost
        ));
    }
    if learned.more {
        output::note("there were more kinds of connections than are kept: the policy lacks some");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn forget(context: &Context, container: &ContainerName) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        container: &'a ContainerName,
        forgotten: bool,
    }
    let forgotten = context.connect()?.policy_forget(container)?;
    if context.json {
        output::print_json(&Document {
            container,
            forgotten,
        })?;
    } else if forgotten {
        output::print(&format!("what {container} was seen doing is forgotten\n"))?;
    } else {
        output::print(&format!("there was nothing to forget of {container}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn log(context: &Context, args: &LogArgs) -> Result<ExitCode, Error> {
    let mut printer = Printer {
        args,
        json: context.json,
        held: VecDeque::new(),
        out: BufWriter::new(io::stdout().lock()),
    };
    match show(&context.dirs.decisions(), &mut printer) {
        // Whoever read it has all that was wanted.
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn show<W: Write>(path: &Path, printer: &mut Printer<'_, W>) -> Result<(), Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    // The lines from before the rotation first.
    if let Some(mut old) = Tail::open(&daemon::old(path)).map_err(failed)? {
        printer.take(old.lines().map_err(failed)?)?;
    }
    let mut tail = Tail::open(path).map_err(failed)?;
    if let Some(tail) = &mut tail {
        printer.take(tail.lines().map_err(failed)?)?;
    }
    printer.let_go()?;
    while printer.args.follow {
        std::thread::sleep(LOOK);
        let rotated = tail.as_ref().is_none_or(|tail| tail.is_not(path));
        if let Some(tail) = &mut tail {
            printer.take(tail.lines().map_err(failed)?)?;
        }
        if rotated {
            tail = Tail::open(path).map_err(failed)?;
            if let Some(tail) = &mut tail {
                printer.take(tail.lines().map_err(failed)?)?;
            }
        }
        printer.let_go()?;
    }
    Ok(())
}

/// A file that grows by lines.
struct Tail {
    file: File,
    inode: u64,
    /// The beginning of a line that is not whole yet.
    rest: Vec<u8>,
}

impl Tail {
    /// `None` where there is no such file.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let inode = file.metadata()?.ino();
        Ok(Some(Self {
            file,
            inode,
            rest: Vec::new(),
        }))
    }

    /// Whether another file has the name by now.
    fn is_not(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|meta| meta.ino() != self.inode)
    }

    /// The lines that came since the last call; those that are no text are left out.
    fn lines(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.rest)?;
        let end = self
            .rest
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let lines = whole.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        Ok(lines
            .filter_map(|line| std::str::from_utf8(line).ok())
            .map(str::to_owned)
            .collect())
    }
}

/// Chooses lines and prints them.
struct Printer<'a, W: Write> {
    args: &'a LogArgs,
    json: bool,
    /// Lines that are printed with [`Printer::let_go`].
    held: VecDeque<String>,
    out: W,
}

impl<W: Write> Printer<'_, W> {
    fn take(&mut self, lines: Vec<String>) -> Result<(), Error> {
        for line in lines {
            // A line that was cut by a crash, or is of a later version, is nobody's decision.
            let Ok(decision) = serde_json::from_str::<Decision>(&line) else {
                continue;
            };
            let of = self.args.container.as_ref();
            if of.is_some_and(|name| name.as_str() != decision.container)
                || self.args.audit && !decision.audit
            {
                continue;
            }
            self.held
                .push_back(if self.json { line } else { shown(&decision) });
            if self.args.lines.is_some_and(|most| self.held.len() > most) {
                self.held.pop_front();
            } else if self.args.lines.is_none() && self.held.len() >= MANY {
                self.let_go()?;
            }
        }
        Ok(())
    }

    fn let_go(&mut self) -> Result<(), Error> {
        for line in self.held.drain(..) {
            writeln!(self.out, "{line}").map_err(Error::Output)?;
        }
        self.out.flush().map_err(Error::Output)
    }
}

/// A decision in one line.
fn shown(decision: &Decision) -> String {
    let mut line = format!("{} {}", decision.time, daemon::message(decision));
    if decision.lost > 0 {
        line.push_str(&format!(" ({} before it were not recorded)", decision.lost));
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::time::UNIX_EPOCH;

    use firewall::model::Traffic;
    use firewall::sets::Action;

    use super::*;
    use crate::decision::tests::record;

    fn line(container: &str, audit: bool, port: u16) -> String {
        let mut record = record(Traffic::Port(6, port), Action::Deny);
        record.container = container.parse().unwrap();
        if !audit {
            record.would = None;
        }
        serde_json::to_string(&Decision::new(&record, UNIX_EPOCH, 0)).unwrap()
    }

    fn printed(args: &LogArgs, json: bool, path: &Path) -> String {
        let mut out = Vec::new();
        let mut printer = Printer {
            args,
            json,
            held: VecDeque::new(),
            out: &mut out,
        };
        show(path, &mut printer).unwrap();
        String::from_utf8(out).unwrap()
    }

    const ALL: LogArgs = LogArgs {
        container: None,
        follow: false,
        audit: false,
        lines: None,
    };

    #[test]
    fn lines_are_chosen_and_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        assert_eq!(printed(&ALL, true, &path), "", "nothing was recorded");
        let (a, b, c) = (
            line("web", true, 1),
            line("db", true, 2),
            line("web", false, 3),
        );
        fs::write(daemon::old(&path), format!("{a}\n{{\"half a\n")).unwrap();
        fs::write(&path, format!("{b}\n\n{c}\n{{\"time\":")).unwrap();
        assert_eq!(printed(&ALL, true, &path), format!("{a}\n{b}\n{c}\n"));
        let web = LogArgs {
            container: Some("web".parse().unwrap()),
            ..ALL
        };
        assert_eq!(printed(&web, true, &path), format!("{a}\n{c}\n"));
        let audit = LogArgs { audit: true, ..ALL };
        assert_eq!(printed(&audit, true, &path), format!("{a}\n{b}\n"));
        let last = LogArgs {
            lines: Some(1),
            ..ALL
        };
        assert_eq!(printed(&last, true, &path), format!("{c}\n"));
        assert_eq!(
            printed(&last, false, &path),
            "1970-01-01T00:00:00.000Z egress of web: deny web (10.89.0.2) → db (10.89.0.3) tcp/3, \
             policies/web.toml:3:1: denies to container:db on tcp/5432\n"
        );
    }

    #[test]
    fn a_file_that_grows_and_is_rotated_is_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        assert!(Tail::open(&path).unwrap().is_none());
        fs::write(&path, "one\ntw").unwrap();
        let mut tail = Tail::open(&path).unwrap().unwrap();
        assert_eq!(tail.lines().unwrap(), ["one"]);
        assert!(!tail.is_not(&path));
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"o\nthree\n").unwrap();
        fs::rename(&path, daemon::old(&path)).unwrap();
        assert!(!tail.is_not(&path), "there is none yet");
        fs::write(&path, "four\n").unwrap();
        assert!(tail.is_not(&path));
        assert_eq!(tail.lines().unwrap(), ["two", "three"]);
    }
}
