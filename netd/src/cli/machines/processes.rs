//! The processes of a container, as the host's /proc shows them.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags};
use serde::Serialize;

/// A process in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Process {
    /// Its number, as the host counts.
    pub(super) pid: i32,
    /// Its parent's.
    pub(super) parent: i32,
    /// What it was called by, printable.
    pub(super) command: String,
}

/// A process that stays the one it was found as.
pub(super) struct Held(OwnedFd);

impl Held {
    /// Whether the signal was sent.
    pub(super) fn signal(&self, signal: i32) -> bool {
        crate::sys::pidfd_signal(&self.0, signal).is_ok()
    }
}

/// Every process in the pid namespace of `leader` and below it, the leader first; by number.
pub(super) fn all(leader: i32) -> Vec<Process> {
    let mut members: BTreeMap<i32, Process> = BTreeMap::new();
    let of_leader = namespace(leader);
    if of_leader.is_none() || of_leader == namespace(1).filter(|_| leader != 1) {
        // without a pid namespace of its own: the leader and what it started
        return family(leader);
    }
    for pid in pids() {
        if namespace(pid) == of_leader
            && let Some(process) = look(pid)
        {
            members.insert(pid, process);
        }
    }
    members.into_values().collect()
}

/// Every process beside the leader.
pub(super) fn others(leader: i32) -> Vec<Held> {
    let ours = namespace(leader);
    all(leader)
        .into_iter()
        .filter(|process| process.pid != leader)
        .filter_map(|process| {
            let pid = Pid::from_raw(process.pid)?;
            let held = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // only now: the number may have become another's meanwhile
            (namespace(process.pid) == ours).then_some(Held(held))
        })
        .collect()
}

fn family(leader: i32) -> Vec<Process> {
    let everybody: Vec<Process> = pids().filter_map(look).collect();
    let mut members: Vec<Process> = everybody
        .iter()
        .filter(|p| p.pid == leader)
        .cloned()
        .collect();
    let mut at = 0;
    while let Some(parent) = members.get(at).map(|p| p.pid) {
        members.extend(everybody.iter().filter(|p| p.parent == parent).cloned());
        at += 1;
    }
    members
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn namespace(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn look(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, field 2, may hold spaces and parentheses
    let (head, rest) = stat.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    let name = head.split_once('(').map_or("", |(_, name)| name);
    let command = match words.trim() {
        "" => format!("[{name}]"),
        words => words.to_owned(),
    };
    // it is printed on a terminal
    let command = command
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(200)
        .collect();
    Some(Process {
        pid,
        parent,
        command,
    })
}

/// As systemd-cgls(1) draws it: one line a process, children below their parents.
pub(super) fn tree(processes: &[Process]) -> Vec<String> {
    let known = |pid: i32| processes.iter().any(|p| p.pid == pid);
    let mut lines = Vec::new();
    let roots: Vec<&Process> = processes
        .iter()
        .filter(|p| !known(p.parent) || p.parent == p.pid)
        .collect();
    for root in roots {
        lines.push(format!("{} {}", root.pid, root.command));
        draw(root.pid, "", processes, &mut lines, 0);
    }
    lines
}

fn draw(parent: i32, indent: &str, all: &[Process], lines: &mut Vec<String>, depth: usize) {
    let children: Vec<&Process> = all
        .iter()
        .filter(|p| p.parent == parent && p.pid != parent)
        .collect();
    for (n, child) in children.iter().enumerate() {
        let last = n + 1 == children.len();
        let branch = if last { "└─" } else { "├─" };
        lines.push(format!("{indent}{branch}{} {}", child.pid, child.command));
        if depth < 32 {
            let indent = format!("{indent}{}", if last { "  " } else { "│ " });
            draw(child.pid, &indent, all, lines, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stand_below_their_parents() {
        let process = |pid, parent, command: &str| Process {
            pid,
            parent,
            command: command.into(),
        };
        let all = [
            process(10, 1, "init"),
            process(12, 10, "a"),
            process(13, 12, "b"),
            process(14, 10, "c"),
        ];
        assert_eq!(tree(&all), ["10 init", "├─12 a", "│ └─13 b", "└─14 c"]);
        // one that entered from outside has its parent there
        let visited = [process(10, 1, "init"), process(20, 7, "sh")];
        assert_eq!(tree(&visited), ["10 init", "20 sh"]);
    }

    #[test]
    fn a_process_is_found_with_what_it_was_called_by() {
        let me = std::process::id().cast_signed();
        assert!(look(me).is_some_and(|p| p.pid == me && !p.command.is_empty()));
    }
}
