//! `--slice=`, `--property=`, `--keep-unit`, `--register=`: the container's place among the units of systemd.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use spawner::Limits;

use crate::cli::RunArgs;
use crate::error::Error;

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

/// Finds the place, and the limits that need no systemd.
pub(super) fn plan(args: &RunArgs, booted: bool) -> Result<(Place, Limits), Error> {
    let given = &args.privileges;
    let mut limits = Limits::default();
    let mut others = Vec::new();
    for property in &given.property {
        if !limits.take(property)? {
            others.push(property);
        }
    }
    if given.register == Some(true) {
        return Err(Error::Invalid(
            "run: --register=yes: netd keeps its own list (`netd list`) and tells systemd-machined nothing".to_owned(),
        ));
    }
    // as for systemd-nspawn, --keep-unit takes away the meaning of both
    if given.keep_unit || given.slice.is_none() && others.is_empty() {
        return Ok((Place::Here, limits));
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
    words.extend(
        others
            .into_iter()
            .map(|property| format!("--property={property}")),
    );
    Ok((Place::Scope(words), limits))
}

/// Moves to the place: by becoming systemd-run, which starts this very command line again in the scope.
pub(super) fn enter(args: &RunArgs) -> Result<Limits, Error> {
    let (place, limits) = plan(args, Path::new(BOOTED).is_dir())?;
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
    Ok(limits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli;

    fn planned(line: &str, booted: bool) -> Result<(Place, Limits), String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let args =
            cli::parse_run_words(&[vec!["netd".into(), "run".into()], words].concat()).unwrap();
        plan(&args, booted).map_err(|e| e.to_string())
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
                .contains("--register=yes")
        );
        assert_eq!(
            planned("--register=no --keep-unit", true).unwrap().0,
            Place::Here
        );
    }
}
