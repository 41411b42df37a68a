//! Options of `netd run` about the container's place among files, clocks, journals and inits of the host.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::boolean;
use crate::values::ValueError;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Execution")]
pub(crate) struct IntegrationArgs {
    /// Start the root's own init (systemd, /sbin/init), with COMMAND as its arguments
    #[arg(short = 'b', long)]
    pub(crate) boot: bool,
    /// Signal for process 1 when netd is sent SIGTERM [default with --boot: SIGRTMIN+3]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) kill_signal: Option<i32>,
    /// What --boot's init is told is its machine ID, as $container_uuid
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    pub(crate) uuid: Option<String>,
    /// Make fsync(2) and its like say that they did, and do nothing
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(crate) suppress_sync: Option<bool>,
    /// Wait for the init's word that it is ready: `no` is all there is
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(crate) notify_ready: Option<bool>,
    /// What becomes of /etc/localtime inside, as in systemd-nspawn(1) [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) timezone: Option<Timezone>,
    /// Journals are not linked: `no`, and what does not insist (`auto`, `try-host`, `try-guest`)
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) link_journal: Option<LinkJournal>,
    /// Same as --link-journal=try-guest
    #[arg(short = 'j', overrides_with = "link_journal")]
    pub(crate) try_guest_journal: bool,
    /// Whether NAME.nspawn is read (systemd.nspawn(5)): `yes`, `no`, `override` (it wins over options), `trusted` (also beside
    /// the root it may do everything)
    #[arg(long, value_name = "MODE", value_parser = settings)]
    pub(crate) settings: Option<SettingsMode>,
    /// Run an OCI bundle; options win over what its config.json says
    #[arg(long, value_name = "DIR", conflicts_with = "directory")]
    pub(crate) oci_bundle: Option<PathBuf>,
    /// No output is ever handed to a pager
    #[arg(long, hide = true)]
    pub(crate) no_pager: bool,
}

/// `--settings=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SettingsMode {
    #[default]
    Yes,
    No,
    Override,
    Trusted,
}

fn settings(text: &str) -> Result<SettingsMode, ValueError> {
    match (text, spawner::boolean(text)) {
        ("override", _) => Ok(SettingsMode::Override),
        ("trusted", _) => Ok(SettingsMode::Trusted),
        (_, Some(true)) => Ok(SettingsMode::Yes),
        (_, Some(false)) => Ok(SettingsMode::No),
        _ => Err(ValueError::new(text, "is not yes, no, override or trusted")),
    }
}

/// `--timezone=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Timezone {
    /// Left alone
    Off,
    /// The host's file, copied
    Copy,
    /// The host's file, shown read-only
    Bind,
    /// A link to the zone's own file inside
    Symlink,
    /// Taken away
    Delete,
    /// A link where the host has one, else a copy; shown where the root cannot be written
    #[default]
    Auto,
}

/// `--link-journal=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinkJournal {
    No,
    Host,
    TryHost,
    Guest,
    TryGuest,
    Auto,
}

/// A signal by name, with or without SIG, or number.
pub(in crate::cli) fn signal(text: &str) -> Result<i32, ValueError> {
    const NAMES: [(&str, i32); 31] = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("STKFLT", libc::SIGSTKFLT),
        ("CHLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("VTALRM", libc::SIGVTALRM),
        ("PROF", libc::SIGPROF),
        ("WINCH", libc::SIGWINCH),
        ("IO", libc::SIGIO),
        ("PWR", libc::SIGPWR),
        ("SYS", libc::SIGSYS),
    ];
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = NAMES.iter().find(|(known, _)| *known == name);
    let real_time = || match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(libc::SIGRTMIN()),
        (_, Some("")) => Some(libc::SIGRTMAX()),
        (Some(above), _) => {
            Some(libc::SIGRTMIN() + above.strip_prefix('+')?.parse::<u8>().ok()? as i32)
        }
        (_, Some(below)) => {
            Some(libc::SIGRTMAX() - below.strip_prefix('-')?.parse::<u8>().ok()? as i32)
        }
        _ => name.parse().ok(),
    };
    let number = named.map(|(_, number)| *number).or_else(real_time);
    number
        .filter(|number| (1..=libc::SIGRTMAX()).contains(number))
        .ok_or_else(|| {
            ValueError::new(
                text,
                "is no signal (signal(7)), such as SIGTERM or SIGRTMIN+3",
            )
        })
}

/// A UUID, with or without hyphens; not the one of zeroes.
fn uuid(text: &str) -> Result<String, ValueError> {
    let bad = || ValueError::new(text, "is no UUID");
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let hex = digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let written = matches!(groups.as_slice(), [32] | [8, 4, 4, 4, 12]);
    if !hex || !written || digits.chars().all(|c| c == '0') {
        return Err(bad());
    }
    let digits = digits.to_ascii_lowercase();
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Ok([
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!(signal("SIGTERM"), Ok(15));
        assert_eq!(signal("RTMIN+3"), Ok(libc::SIGRTMIN() + 3));
        assert_eq!(signal("SIGRTMAX-1"), Ok(libc::SIGRTMAX() - 1));
        assert_eq!(signal("9"), Ok(9));
        for bad in ["", "SIG", "TERMINATE", "0", "99", "RTMIN+99", "RTMIN3"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn uuids_are_told_in_one_way() {
        let told = "0123abcd-1111-2222-3333-444455556666";
        assert_eq!(uuid(told).as_deref(), Ok(told));
        assert_eq!(
            uuid("0123ABCD111122223333444455556666").as_deref(),
            Ok(told)
        );
        for bad in [
            "",
            "x",
            "00000000000000000000000000000000",
            "0123abcd-11112222-3333-4444-55556666",
        ] {
            assert!(uuid(bad).is_err(), "{bad}");
        }
    }
}
