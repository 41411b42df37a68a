//! Verdict tables: who reaches whom, held to packets and to `netd explain`, in both families.

use std::net::IpAddr;
use std::time::Duration;

use super::{ELSEWHERE, HOST, Host, OUTSIDE, Place};
use crate::net::netns::Netns;
use crate::net::probe::{self, Reach};

pub use Verdict::{Allow, Deny};

/// What a row expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The connection is opened, and the right server answers.
    Allow,
    /// It is not. Whoever asks from a container or the host is told so at once, the world hears nothing.
    Deny,
}

/// From whom, to whom, with what: `("shop", "web", "tcp/80")`. Names are those of containers, `host`,
/// `world`, `elsewhere` (another address of the world), or addresses.
pub type Reachable<'a> = (Verdict, &'a str, &'a str, &'a str);

impl Host {
    /// Holds every row to real packets and to `netd explain`, in each family that both ends have; all rows
    /// are probed at once, and all that failed are told.
    #[track_caller]
    pub fn verdicts(&self, rows: &[Reachable<'_>]) {
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = rows
                .iter()
                .map(|row| scope.spawn(|| self.judge(*row)))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| match thread.join() {
                    Ok(wrong) => wrong,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        });
        assert!(
            wrong.is_empty(),
            "{} of {} rows are wrong:\n{}",
            wrong.len(),
            rows.len(),
            wrong.join("\n")
        );
    }

    /// What is wrong with a row.
    fn judge(&self, (verdict, from, to, traffic): Reachable<'_>) -> Vec<String> {
        let row = format!("{verdict:?} {from} → {to} {traffic}");
        let netns = self.prober(from);
        let mut wrong = Vec::new();
        let targets = self.targets(from, to);
        assert!(!targets.is_empty(), "{row}: no address to probe");
        for target in targets {
            let mut reach = probe::probe(&netns, target, traffic);
            // A loaded machine may answer late, and the kernel sends a neighbour one ICMP error a second after
            // the first few. Only where silence is what is expected nothing is asked again.
            for _ in 0..3 {
                if reach == Reach::Silent && (verdict == Allow || !from_outside(from)) {
                    eprintln!("measured: {row}: {target} was silent at first");
                    std::thread::sleep(Duration::from_millis(700));
                    reach = probe::probe(&netns, target, traffic);
                }
            }
            let right = match verdict {
                // The kernel answers echo requests, so there no server tells its name.
                Allow => {
                    reach.passed() && (traffic.starts_with("icmp") || reach.who() == server_of(to))
                }
                Deny if from_outside(from) => reach == Reach::Silent,
                Deny => reach.turned_away(),
            };
            if !right {
                wrong.push(format!("{row}: {target}: {reach:?}"));
            }
        }
        let explained = self.netd(&format!(
            "explain {} {} {traffic} --json",
            said(from),
            said(to)
        ));
        let code = if verdict == Allow { 0 } else { 10 };
        if explained.code != code {
            wrong.push(format!("{row}: explain says otherwise: {explained}"));
        }
        wrong
    }

    fn prober(&self, name: &str) -> Netns {
        match name {
            "host" => self.netns.clone(),
            "world" => self.outside.clone(),
            name => self.known(name).netns,
        }
    }

    fn known(&self, name: &str) -> Place {
        self.place(name)
            .unwrap_or_else(|| panic!("no container {name} is attached"))
    }

    fn targets(&self, from: &str, to: &str) -> Vec<IpAddr> {
        let parse = |both: [&str; 2]| both.iter().map(|text| text.parse().unwrap()).collect();
        match to {
            // A container reaches the host by its gateway, the world by the host's address outside.
            "host" => self
                .place(from)
                .map_or_else(|| parse(HOST), |place| place.gateways),
            "world" => parse(OUTSIDE),
            "elsewhere" => parse(ELSEWHERE),
            name => match name.parse() {
                Ok(address) => vec![address],
                Err(_) => self.known(name).addresses,
            },
        }
    }
}

fn from_outside(name: &str) -> bool {
    matches!(name, "world" | "elsewhere")
}

/// What `netd explain` is asked: it knows no `elsewhere`.
fn said(name: &str) -> &str {
    if name == "elsewhere" {
        ELSEWHERE[0]
    } else {
        name
    }
}

/// Who answers for a name.
fn server_of(name: &str) -> &str {
    match name {
        "elsewhere" => "world",
        name if OUTSIDE.contains(&name) || ELSEWHERE.contains(&name) => "world",
        name if HOST.contains(&name) => "host",
        name => name,
    }
}
