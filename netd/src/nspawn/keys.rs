//! Keys of a `.nspawn` file, systemd.nspawn(5), and the options that they are.

use super::syntax::words;

/// How a value becomes words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A boolean: the option where it is true, nothing where it is false.
    Flag(&'static str),
    /// The option with the value.
    Value(&'static str),
    /// The option once for each word.
    Each(&'static str),
    /// The option once for each user; colons or blanks are between them.
    Users(&'static str),
    /// `RLIMIT_…`
    Limit(&'static str),
    /// The command.
    Parameters,
    /// `PrivateUsersChown=`, of old: `chown` where it is true.
    Chown,
}

/// What a key may do that the container could not without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Nothing.
    Anybody,
    /// It widens what the container may do, or reach of the host.
    Administrator,
    /// Only a value that does not begin with `~` does.
    UnlessNegative,
}

use Form::{Chown, Each, Flag, Limit, Parameters, Users, Value};
use Trust::{Administrator, Anybody, UnlessNegative};

#[rustfmt::skip]
const KEYS: &[(&str, &str, Form, Trust)] = &[
    ("Exec", "Boot", Flag("--boot"), Anybody),
    ("Exec", "Ephemeral", Flag("--ephemeral"), Anybody),
    ("Exec", "ProcessTwo", Flag("--as-pid2"), Anybody),
    ("Exec", "Parameters", Parameters, Anybody),
    ("Exec", "Environment", Each("--setenv"), Anybody),
    ("Exec", "User", Value("--user"), Anybody),
    ("Exec", "WorkingDirectory", Value("--chdir"), Anybody),
    ("Exec", "PivotRoot", Value("--pivot-root"), Anybody),
    ("Exec", "Capability", Each("--capability"), Administrator),
    ("Exec", "DropCapability", Each("--drop-capability"), Anybody),
    ("Exec", "AmbientCapability", Each("--ambient-capability"), Administrator),
    ("Exec", "NoNewPrivileges", Value("--no-new-privileges"), Anybody),
    ("Exec", "KillSignal", Value("--kill-signal"), Anybody),
    ("Exec", "Personality", Value("--personality"), Anybody),
    ("Exec", "MachineID", Value("--uuid"), Administrator),
    ("Exec", "PrivateUsers", Value("--private-users"), Administrator),
    ("Exec", "NotifyReady", Value("--notify-ready"), Anybody),
    ("Exec", "SystemCallFilter", Value("--system-call-filter"), UnlessNegative),
    ("Exec", "LimitCPU", Limit("CPU"), Administrator),
    ("Exec", "LimitFSIZE", Limit("FSIZE"), Administrator),
    ("Exec", "LimitDATA", Limit("DATA"), Administrator),
    ("Exec", "LimitSTACK", Limit("STACK"), Administrator),
    ("Exec", "LimitCORE", Limit("CORE"), Administrator),
    ("Exec", "LimitRSS", Limit("RSS"), Administrator),
    ("Exec", "LimitNOFILE", Limit("NOFILE"), Administrator),
    ("Exec", "LimitAS", Limit("AS"), Administrator),
    ("Exec", "LimitNPROC", Limit("NPROC"), Administrator),
    ("Exec", "LimitMEMLOCK", Limit("MEMLOCK"), Administrator),
    ("Exec", "LimitLOCKS", Limit("LOCKS"), Administrator),
    ("Exec", "LimitSIGPENDING", Limit("SIGPENDING"), Administrator),
    ("Exec", "LimitMSGQUEUE", Limit("MSGQUEUE"), Administrator),
    ("Exec", "LimitNICE", Limit("NICE"), Administrator),
    ("Exec", "LimitRTPRIO", Limit("RTPRIO"), Administrator),
    ("Exec", "LimitRTTIME", Limit("RTTIME"), Administrator),
    ("Exec", "OOMScoreAdjust", Value("--oom-score-adjust"), Administrator),
    ("Exec", "CPUAffinity", Value("--cpu-affinity"), Administrator),
    ("Exec", "Hostname", Value("--hostname"), Anybody),
    ("Exec", "ResolvConf", Value("--resolv-conf"), Anybody),
    ("Exec", "Timezone", Value("--timezone"), Anybody),
    ("Exec", "LinkJournal", Value("--link-journal"), Administrator),
    ("Exec", "SuppressSync", Value("--suppress-sync"), Anybody),
    ("Files", "ReadOnly", Flag("--read-only"), Anybody),
    ("Files", "Volatile", Value("--volatile"), Anybody),
    ("Files", "Bind", Value("--bind"), Administrator),
    ("Files", "BindReadOnly", Value("--bind-ro"), Administrator),
    ("Files", "BindUser", Users("--bind-user"), Administrator),
    ("Files", "TemporaryFileSystem", Value("--tmpfs"), Administrator),
    ("Files", "Inaccessible", Value("--inaccessible"), Administrator),
    ("Files", "Overlay", Value("--overlay"), Administrator),
    ("Files", "OverlayReadOnly", Value("--overlay-ro"), Administrator),
    ("Files", "PrivateUsersOwnership", Value("--private-users-ownership"), Administrator),
    ("Files", "PrivateUsersChown", Chown, Administrator),
    ("Network", "Private", Flag("--private-network"), Anybody),
    ("Network", "VirtualEthernet", Flag("--network-veth"), Administrator),
    ("Network", "VirtualEthernetExtra", Value("--network-veth-extra"), Administrator),
    ("Network", "NamespacePath", Value("--network-namespace-path"), Administrator),
    ("Network", "Interface", Each("--network-interface"), Administrator),
    ("Network", "MACVLAN", Each("--network-macvlan"), Administrator),
    ("Network", "IPVLAN", Each("--network-ipvlan"), Administrator),
    ("Network", "Bridge", Value("--network-bridge"), Administrator),
    ("Network", "Zone", Value("--network-zone"), Administrator),
    ("Network", "Port", Value("--port"), Administrator),
];

/// A key of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    form: Form,
    trust: Trust,
}

impl Key {
    /// # Errors
    /// Why there is none.
    pub(super) fn find(section: &str, key: &str) -> Result<Self, String> {
        let found = KEYS.iter().find(|(s, k, ..)| (*s, *k) == (section, key));
        if let Some((_, name, form, trust)) = found {
            return Ok(Self {
                name,
                form: *form,
                trust: *trust,
            });
        }
        Err(match KEYS.iter().find(|(s, ..)| *s == section) {
            Some(_) => format!("{key}= is no key of [{section}]"),
            None if section.is_empty() => format!("{key}= comes before any section"),
            None => format!("[{section}] is no section: [Exec], [Files] and [Network] are"),
        })
    }

    /// Whether a file that nobody vouches for may not set it.
    pub(super) fn is_privileged(self, value: &str) -> bool {
        match self.trust {
            Anybody => false,
            Administrator => true,
            UnlessNegative => !value.starts_with('~'),
        }
    }

    /// What the value is on the command line: options, or the command.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn words(self, value: &str) -> Result<Words, String> {
        let split = || words(value).ok_or_else(|| "has a quote that does not end".to_owned());
        let boolean =
            || spawner::boolean(value).ok_or_else(|| format!("{value:?} is neither yes nor no"));
        Ok(Words::Options(match self.form {
            Flag(option) => match boolean()? {
                true => vec![option.to_owned()],
                false => Vec::new(),
            },
            Value(option) => vec![format!("{option}={value}")],
            Each(option) => {
                let all = split()?;
                // without a value it would be taken from whoever starts the container
                if let Some(word) = all
                    .iter()
                    .find(|w| option == "--setenv" && !w.contains('='))
                {
                    return Err(format!(
                        "{word:?} is no variable with its value, NAME=VALUE"
                    ));
                }
                all.iter().map(|word| format!("{option}={word}")).collect()
            }
            Users(option) => value
                .split(|c: char| c == ':' || c.is_whitespace())
                .filter(|user| !user.is_empty())
                .map(|user| format!("{option}={user}"))
                .collect(),
            Limit(name) => vec![format!("--rlimit=RLIMIT_{name}={value}")],
            Parameters => return Ok(Words::Command(split()?)),
            Chown => match boolean()? {
                true => vec!["--private-users-ownership=chown".to_owned()],
                false => Vec::new(),
            },
        }))
    }
}

/// Words of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Words {
    Options(Vec<String>),
    Command(Vec<String>),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_is_there_once() {
        for (section, name, ..) in KEYS {
            let times = KEYS
                .iter()
                .filter(|(s, n, ..)| s == section && n == name)
                .count();
            assert_eq!(times, 1, "{section} {name}");
        }
    }

    #[test]
    fn values_become_words() {
        let of =
            |section: &str, key: &str, value: &str| Key::find(section, key).unwrap().words(value);
        let options = |words: &[&str]| {
            Ok(Words::Options(
                words.iter().map(|w| (*w).to_owned()).collect(),
            ))
        };
        assert_eq!(of("Exec", "Boot", "1"), options(&["--boot"]));
        assert_eq!(of("Files", "ReadOnly", "off"), options(&[]));
        assert_eq!(
            of("Exec", "Environment", "A=1 'B=2 3'"),
            options(&["--setenv=A=1", "--setenv=B=2 3"])
        );
        assert_eq!(
            of("Files", "BindUser", "web:mail backup"),
            options(&["--bind-user=web", "--bind-user=mail", "--bind-user=backup"])
        );
        assert_eq!(
            of("Exec", "LimitNOFILE", "5:9"),
            options(&["--rlimit=RLIMIT_NOFILE=5:9"])
        );
        assert_eq!(
            of("Exec", "Parameters", "a 'b c'"),
            Ok(Words::Command(vec!["a".into(), "b c".into()]))
        );
        assert!(
            of("Exec", "Environment", "HOME").is_err(),
            "of whoever starts it"
        );
        assert!(of("Exec", "Boot", "perhaps").is_err());
        for (section, key) in [("Exec", "Bind"), ("", "Boot"), ("Unit", "After")] {
            assert!(Key::find(section, key).is_err(), "{section} {key}");
        }
    }

    #[test]
    fn what_widens_needs_an_administrator() {
        let privileged = |section: &str, key: &str, value: &str| {
            Key::find(section, key).unwrap().is_privileged(value)
        };
        assert!(privileged("Exec", "Capability", "CAP_SYS_ADMIN"));
        assert!(!privileged("Exec", "DropCapability", "all"));
        assert!(privileged("Exec", "SystemCallFilter", "bpf"));
        assert!(!privileged("Exec", "SystemCallFilter", "~chown"));
        for key in ["Zone", "Bridge", "Interface", "Port", "VirtualEthernet"] {
            assert!(privileged("Network", key, "x"), "{key}");
        }
    }
}
