//! `netd enable`, `netd disable`: a machine starts at boot, by a unit of systemd's.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Serialize;
use zone::ZoneName;

use super::image_args::EnableArgs;
use crate::cli::{Context, output};
use crate::error::Error;

/// What brings all machines up, as systemd has it.
const TARGET: &str = "machines.target";

#[derive(Serialize)]
struct Done {
    machine: String,
    unit: PathBuf,
    enabled: bool,
}

pub(super) fn enable(context: &Context, args: &EnableArgs, on: bool) -> Result<ExitCode, Error> {
    let mut all = Vec::new();
    for machine in &args.machines {
        let name = machine.as_str();
        let file = format!("netd-machine-{}.service", escaped(name));
        let unit = args.unit_dir.join(&file);
        let wanted = args.unit_dir.join(format!("{TARGET}.wants"));
        let link = wanted.join(&file);
        if on {
            // one that could not be started is not worth waiting for at boot
            context.dirs.images().find(&name.parse()?)?;
            let text = unit_of(context, name, &args.network_zone)?;
            fs::create_dir_all(&wanted).map_err(error(&wanted))?;
            fs::write(&unit, text).map_err(error(&unit))?;
            match symlink(Path::new("..").join(&file), &link) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(error(&link))?,
            }
        } else {
            for path in [&link, &unit] {
                match fs::remove_file(path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    removed => removed.map_err(error(path))?,
                }
            }
        }
        all.push((
            file,
            Done {
                machine: name.to_owned(),
                unit,
                enabled: on,
            },
        ));
    }
    // sd_booted(3)
    if Path::new("/run/systemd/system").is_dir()
        && args.unit_dir == Path::new("/etc/systemd/system")
    {
        systemctl(&["daemon-reload"]);
        // what brings the machines up has to be wanted itself
        if on {
            systemctl(&["enable", "--quiet", TARGET]);
        }
        if args.now {
            let verb = if on { "start" } else { "stop" };
            for (file, _) in &all {
                systemctl(&[verb, file]);
            }
        }
    } else if args.now {
        output::note(
            "--now: systemd does not run here; `netd start` and `netd stop` do it by hand",
        );
    }
    let all: Vec<Done> = all.into_iter().map(|(_, done)| done).collect();
    if context.json {
        output::print_json(&all)?;
    } else {
        for done in &all {
            let how = if on {
                "starts at boot"
            } else {
                "does not start at boot"
            };
            output::print(&format!(
                "{} {how}: {}\n",
                done.machine,
                done.unit.display()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

fn systemctl(args: &[&str]) {
    let ran = Command::new("systemctl")
        .args(args)
        .stdin(Stdio::null())
        .status();
    if !ran.is_ok_and(|status| status.success()) {
        output::note(&format!("warning: `systemctl {}` failed", args.join(" ")));
    }
}

/// The unit of a machine. The daemon comes before it and ends after it, so that it has its network to the last moment.
fn unit_of(context: &Context, name: &str, zones: &[ZoneName]) -> Result<String, Error> {
    let own = std::env::current_exe().map_err(Error::WorkingDirectory)?;
    let mut line = quoted(&own.to_string_lossy());
    let words = context.dirs.to_args();
    for word in words.iter().map(|word| word.to_string_lossy()) {
        line.push(' ');
        line.push_str(&quoted(&word));
    }
    // the unit that it is in is this one
    let run = format!("{} --keep-unit", super::start::words(zones).join(" "));
    Ok(format!(
        "# Written by `netd enable {name}`; `netd disable {name}` removes it.\n\
         [Unit]\n\
         Description=Machine {name}\n\
         Documentation=man:netd(8)\n\
         Wants=netd.service\n\
         After=netd.service network.target\n\
         Before={TARGET}\n\
         PartOf={TARGET}\n\
         RequiresMountsFor=/var/lib/machines\n\
         \n\
         [Service]\n\
         ExecStart={line} {run} --machine={name}\n\
         ExecStop=-{line} stop {name}\n\
         KillMode=mixed\n\
         Type=simple\n\
         RestartForceExitStatus=133\n\
         SuccessExitStatus=133\n\
         TimeoutStopSec=100\n\
         Slice=machine.slice\n\
         Delegate=yes\n\
         \n\
         [Install]\n\
         WantedBy={TARGET}\n"
    ))
}

/// A word of ExecStart=, systemd.service(5): nothing in it is expanded.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@+,".contains(c);
    let doubled = word.replace('%', "%%").replace('$', "$$");
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("\"{}\"", doubled.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// As part of a unit's name, systemd.unit(5): names of machines hold nothing else that would have to be changed.
fn escaped(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_unit_mean_themselves() {
        assert_eq!(quoted("/usr/bin/netd"), "/usr/bin/netd");
        assert_eq!(quoted("/srv/a b"), "\"/srv/a b\"");
        assert_eq!(quoted("/srv/50%$x\"y"), "\"/srv/50%%$$x\\\"y\"");
    }
}
