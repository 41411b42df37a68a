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
        let number = |text: &str| match text.trim() {
            "infinity" => Ok(u64::MAX),
            text => {
                amount(text).ok_or_else(|| bad("has a limit that is no number, nor `infinity`"))
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

/// A number, perhaps with one of systemd's suffixes by 1024 (K, M, G, T).
fn amount(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'K') => (&text[..at], 10),
        (at, 'M') => (&text[..at], 20),
        (at, 'G') => (&text[..at], 30),
        (at, 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
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
        for bad in ["", "NOFILE", "FILES=1", "NOFILE=x", "NOFILE=2:1", "NOFILE="] {
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
