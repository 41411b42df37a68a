//! `--slice=`, `--property=`, `--keep-unit`, `--register=`: the container's place among the units of systemd.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use spawner::Limits;

use crate::cli::RunArgs;
use crate::error::Error;
use crate::hook::machined;

/// There where systemd is pid 1, sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// Set where this runs in its scope already.
const SCOPED: &str = "NETD_RUN_SCOPED";

/// What is to be done about units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Stay where netd was started.
    Here,
    /// A scope of its own: arguments of systemd-run(1).
    Scope(Vec<String>),
}

/// Whether systemd-machined is told of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    No,
    /// If it answers.
    Try,
    /// Or the container does not start.
    Must,
}

/// What of systemd there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Systemd {
    Absent,
    /// Its units, and no machined.
    Units,
    Machined,
}

impl Systemd {
    fn here() -> Self {
        match (Path::new(BOOTED).is_dir(), machined::is_there()) {
            (false, _) => Self::Absent,
            (true, false) => Self::Units,
            (true, true) => Self::Machined,
        }
    }
}

/// Finds the place, the limits that need no systemd, and whether machined is told.
pub(super) fn plan(args: &RunArgs, here: Systemd) -> Result<(Place, Limits, Register), Error> {
    let booted = here != Systemd::Absent;
    let given = &args.privileges;
    let mut limits = Limits::default();
    let mut others = Vec::new();
    for property in &given.property {
        if !limits.take(property)? {
            others.push(property);
        }
    }
    let register = match (given.register, here) {
        (Some(false), _) => Register::No,
        (Some(true), Systemd::Machined) => Register::Must,
        (None, Systemd::Machined) if !args.no_root => Register::Try,
        (None, _) => Register::No,
        (Some(true), Systemd::Absent) => {
            return Err(Error::Invalid(format!(
                "run: --register=yes: there is no systemd-machined, because systemd does not run here ({BOOTED} is missing); \
                 `netd list` has the machine in any case"
            )));
        }
        (Some(true), Systemd::Units) => {
            return Err(Error::Invalid(
                "run: --register=yes: systemd-machined cannot be reached: it is not installed, or there is no system bus".to_owned(),
            ));
        }
    };
    // as for systemd-nspawn, --keep-unit takes away the meaning of both
    let in_scope = given.slice.is_some() || !others.is_empty() || register != Register::No;
    if given.keep_unit || !in_scope {
        return Ok((Place::Here, limits, register));
    }
    if !booted {
        let what = match (&given.slice, others.first()) {
            (Some(slice), _) => format!("--slice={slice}"),
            (None, Some(property)) => format!("--property={property}"),
            (None, None) => String::new(),
        };
        return Err(Error::Invalid(format!(
            "run: {what}: there are no units, because systemd does not run here ({BOOTED} is missing); MemoryMax=, CPUQuota= \
             and TasksMax= need no systemd"
        )));
    }
    let slice = given.slice.as_deref().unwrap_or("machine.slice");
    let mut words = vec![
        "--quiet".to_owned(),
        "--scope".to_owned(),
        "--collect".to_owned(),
    ];
    words.push(format!("--slice={slice}"));
    if args.integration.boot {
        // the init's cgroups go below it
        words.push("--property=Delegate=yes".to_owned());
    }
    words.extend(
        others
            .into_iter()
            .map(|property| format!("--property={property}")),
    );
    Ok((Place::Scope(words), limits, register))
}

/// Moves to the place: by becoming systemd-run, which starts this very command line again in the scope.
pub(super) fn enter(args: &RunArgs) -> Result<(Limits, Register), Error> {
    let (place, limits, register) = plan(args, Systemd::here())?;
    if let Place::Scope(words) = place
        && std::env::var_os(SCOPED).is_none()
    {
        let own = std::env::current_exe().map_err(|source| Error::Read {
            path: "/proc/self/exe".into(),
            source,
        })?;
        let failed = Command::new("systemd-run")
            .args(words)
            .arg("--")
            .arg(own)
            .args(std::env::args_os().skip(1))
            .env(SCOPED, "1")
            .exec();
        return Err(Error::Invalid(format!("run: start systemd-run: {failed}")));
    }
    Ok((limits, register))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli;

    fn planned(line: &str, booted: bool) -> Result<(Place, Limits), String> {
        let here = match booted {
            true => Systemd::Units,
            false => Systemd::Absent,
        };
        registered(line, here).map(|(place, limits, _)| (place, limits))
    }

    fn registered(line: &str, here: Systemd) -> Result<(Place, Limits, Register), String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let args =
            cli::parse_run_words(&[vec!["netd".into(), "run".into()], words].concat()).unwrap();
        plan(&args, here).map_err(|e| e.to_string())
    }

    #[test]
    fn limits_need_no_systemd_and_units_do() {
        let (place, limits) =
            planned("--property=MemoryMax=1M --property=TasksMax=7", false).unwrap();
        assert_eq!(
            (place, limits.memory_max, limits.tasks_max),
            (Place::Here, Some(1 << 20), Some(7))
        );
        for (line, named) in [
            ("-S web.slice", "--slice=web.slice"),
            ("--property=IOWeight=5", "--property=IOWeight=5"),
        ] {
            let told = planned(line, false).unwrap_err();
            assert!(
                told.contains(named) && told.contains("systemd does not run"),
                "{told}"
            );
            assert_eq!(
                planned(&format!("{line} --keep-unit"), false).unwrap().0,
                Place::Here
            );
        }
        let (place, _) = planned("--property=IOWeight=5 --slice=web.slice", true).unwrap();
        let words = [
            "--quiet",
            "--scope",
            "--collect",
            "--slice=web.slice",
            "--property=IOWeight=5",
        ];
        assert_eq!(place, Place::Scope(words.map(str::to_owned).to_vec()));
        assert!(
            planned("--register=yes", true)
                .unwrap_err()
                .contains("cannot be reached")
        );
        assert!(
            planned("--register=yes", false)
                .unwrap_err()
                .contains("systemd does not run")
        );
        assert_eq!(
            planned("--register=no --keep-unit", true).unwrap().0,
            Place::Here
        );
    }

    #[test]
    fn machines_are_registered_where_somebody_lists_them() {
        let at = |line: &str, here| registered(line, here).unwrap();
        let (place, _, register) = at("-b", Systemd::Machined);
        let words = [
            "--quiet",
            "--scope",
            "--collect",
            "--slice=machine.slice",
            "--property=Delegate=yes",
        ];
        assert_eq!(place, Place::Scope(words.map(str::to_owned).to_vec()));
        assert_eq!(register, Register::Try);
        let (place, _, register) = at("--register=yes --keep-unit", Systemd::Machined);
        assert_eq!((place, register), (Place::Here, Register::Must));
        for (line, here) in [
            ("--register=no", Systemd::Machined),
            ("--no-root", Systemd::Machined),
            ("-b", Systemd::Units),
            ("-b", Systemd::Absent),
        ] {
            let (place, _, register) = at(line, here);
            assert_eq!((place, register), (Place::Here, Register::No), "{line}");
        }
    }
}
