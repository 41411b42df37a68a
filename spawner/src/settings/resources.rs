//! What a container may use up, and where it runs: `--rlimit=`, `--oom-score-adjust=`, `--cpu-affinity=`, `--property=`.

use std::str::FromStr;

use crate::error::SpawnError;
use crate::limits;

/// `--rlimit=LIMIT=SOFT[:HARD]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_…`
    pub resource: String,
    /// From here on the kernel says no.
    pub soft: u64,
    /// So far the container may raise it.
    pub hard: u64,
}

impl FromStr for Rlimit {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let bad = |reason: &str| SpawnError::setting("--rlimit=", text, reason);
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| bad("is not LIMIT=SOFT:HARD or LIMIT=VALUE"))?;
        let short = name.strip_prefix("RLIMIT_").unwrap_or(name);
        if limits::resource(&format!("RLIMIT_{short}")).is_none() {
            return Err(bad("names no limit of setrlimit(2)"));
        }
        let number = |text: &str| {
            match text.trim() {
            "infinity" => Ok(u64::MAX),
            text => value_of(short, text).ok_or_else(|| {
                bad("has a limit that is no number (with K, M, G, T, P, E for bytes; s, min, h, d, … for times), nor `infinity`")
            }),
        }
        };
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err(bad("has a soft limit over the hard one"));
        }
        Ok(Self {
            resource: format!("RLIMIT_{short}"),
            soft,
            hard,
        })
    }
}

/// The value of a limit, in the kernel's unit: bytes, seconds, microseconds, or a count, systemd.exec(5).
fn value_of(resource: &str, text: &str) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    match resource {
        "CPU" => match text.parse() {
            Ok(seconds) => Some(seconds),
            // what is begun of a second counts
            Err(_) => Some(microseconds(text, SECOND)?.div_ceil(SECOND)),
        },
        "RTTIME" => microseconds(text, 1),
        "NICE" => match text.starts_with(['+', '-']) {
            // a nice level: the kernel counts from 20 downwards, getrlimit(2)
            true => {
                let level = text.parse::<i64>().ok()?;
                (-20..=19)
                    .contains(&level)
                    .then(|| (20 - level).cast_unsigned())
            }
            false => text.parse().ok().filter(|limit| *limit <= 40),
        },
        "NOFILE" | "NPROC" | "LOCKS" | "SIGPENDING" | "RTPRIO" => text.parse().ok(),
        _ => amount(text),
    }
}

/// A time span as systemd.time(7) writes one, such as `1h 30min`; a number alone counts units of `plain` microseconds.
fn microseconds(text: &str, plain: u64) -> Option<u64> {
    let mut rest = text.trim();
    let mut all: Option<u64> = None;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => plain,
            "us" | "usec" | "µs" => 1,
            "ms" | "msec" => 1_000,
            "s" | "sec" | "second" | "seconds" => 1_000_000,
            "m" | "min" | "minute" | "minutes" => 60_000_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000_000,
            "d" | "day" | "days" => 86_400_000_000,
            "w" | "week" | "weeks" => 604_800_000_000,
            _ => return None,
        };
        rest = rest[end..].trim_start();
        all = Some(all.unwrap_or(0).checked_add(number.checked_mul(unit)?)?);
    }
    all
}

/// A number, perhaps with one of systemd's suffixes by 1024 (B, K, M, G, T, P, E).
fn amount(text: &str) -> Option<u64> {
    const SUFFIXES: &str = "BKMGTPE";
    let suffix = text.chars().last().and_then(|last| SUFFIXES.find(last));
    let (digits, power) = match suffix {
        Some(power) => (&text[..text.len() - 1], power),
        None => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// `--cpu-affinity=`: numbers of processors, each once, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

impl FromStr for Cpus {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        let bad = |reason: &str| SpawnError::setting("--cpu-affinity=", text, reason);
        let mut all = Vec::new();
        for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                let number = text.parse::<usize>().ok();
                let number = number.filter(|n| *n < rustix::thread::CpuSet::MAX_CPU);
                number.ok_or_else(|| bad("is no list of processors, such as 0,2-3"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad("has a range that ends before it begins"));
            }
            all.extend(first..=last);
        }
        if all.is_empty() {
            return Err(bad("names no processor"));
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all))
    }
}

/// Limits of the whole container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax=`, bytes.
    pub memory_max: Option<u64>,
    /// `CPUQuota=`, percent of one CPU.
    pub cpu_percent: Option<u32>,
    /// `TasksMax=`, processes and threads.
    pub tasks_max: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes `--property=NAME=VALUE`, systemd.resource-control(5). `Ok(false)`: it is none of these three.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a value that is none.
    pub fn take(&mut self, property: &str) -> Result<bool, SpawnError> {
        let bad = |reason: &str| SpawnError::setting("--property=", property, reason);
        let (name, value) = property
            .split_once('=')
            .ok_or_else(|| bad("is not NAME=VALUE"))?;
        match name {
            "MemoryMax" | "MemoryLimit" => {
                self.memory_max = match value {
                    "infinity" => None,
                    value => Some(amount(value).ok_or_else(|| bad("is no size in bytes"))?),
                };
            }
            "CPUQuota" => {
                let percent = value.strip_suffix('%').and_then(|n| n.parse().ok());
                let percent = percent.filter(|n: &u32| *n > 0);
                self.cpu_percent =
                    Some(percent.ok_or_else(|| bad("is no percentage, such as 150%"))?);
            }
            "TasksMax" => {
                self.tasks_max = match value {
                    "infinity" => None,
                    value => Some(value.parse().map_err(|_| bad("is no number of tasks"))?),
                };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `--personality=`: which machine uname(2) tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// `x86-64`, or what the machine is.
    Native,
    /// `x86` on x86-64.
    Bits32,
}

impl FromStr for Personality {
    type Err = SpawnError;

    fn from_str(text: &str) -> Result<Self, SpawnError> {
        match (text, std::env::consts::ARCH) {
            ("x86-64", "x86_64") => Ok(Self::Native),
            ("x86", "x86_64") => Ok(Self::Bits32),
            _ => Err(SpawnError::setting(
                "--personality=",
                text,
                "is none of this machine (x86 and x86-64 are those of x86-64)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rlimits() {
        let limit: Rlimit = "RLIMIT_NOFILE=8192:16384".parse().unwrap();
        assert_eq!((limit.soft, limit.hard), (8192, 16384));
        let limit: Rlimit = "CORE=infinity".parse().unwrap();
        assert_eq!(
            (limit.resource.as_str(), limit.soft, limit.hard),
            ("RLIMIT_CORE", u64::MAX, u64::MAX)
        );
        assert_eq!("AS=1G".parse::<Rlimit>().unwrap().soft, 1 << 30);
        let soft = |text: &str| text.parse::<Rlimit>().unwrap().soft;
        assert_eq!(soft("RLIMIT_CPU=90min"), 5400);
        assert_eq!(soft("CPU=7"), 7);
        assert_eq!(soft("CPU=1500ms"), 2);
        assert_eq!(soft("RTTIME=2ms 5"), 2005);
        assert_eq!(soft("NICE=-5"), 25);
        assert_eq!(soft("NICE=+19"), 1);
        assert_eq!(soft("NICE=7"), 7);
        assert_eq!(soft("FSIZE=1E"), 1 << 60);
        for bad in [
            "",
            "NOFILE",
            "FILES=1",
            "NOFILE=x",
            "NOFILE=2:1",
            "NOFILE=",
            "NOFILE=1K",
            "CPU=1 year of it",
            "NICE=-21",
            "NICE=41",
            "AS=99E",
            "AS=K",
        ] {
            assert!(bad.parse::<Rlimit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn processors() {
        let cpus = |text: &str| text.parse::<Cpus>().ok().map(|cpus| cpus.0);
        assert_eq!(cpus("0"), Some(vec![0]));
        assert_eq!(cpus("3,0-1,1"), Some(vec![0, 1, 3]));
        for bad in ["", "a", "2-1", "0-", "99999"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }

    #[test]
    fn properties_that_need_no_systemd() {
        let mut limits = Limits::default();
        for property in ["MemoryMax=512M", "CPUQuota=150%", "TasksMax=9"] {
            assert!(limits.take(property).unwrap(), "{property}");
        }
        assert_eq!(limits.memory_max, Some(512 << 20));
        assert_eq!((limits.cpu_percent, limits.tasks_max), (Some(150), Some(9)));
        assert!(!limits.take("IOWeight=5").unwrap());
        for bad in [
            "MemoryMax",
            "MemoryMax=a",
            "CPUQuota=5",
            "CPUQuota=0%",
            "TasksMax=-1",
        ] {
            assert!(limits.take(bad).is_err(), "{bad}");
        }
    }
}
