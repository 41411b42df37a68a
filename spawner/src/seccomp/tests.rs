#![allow(clippy::unwrap_used)]

use super::lists::{ALLOWED, REFUSED};
use super::*;
use crate::settings::CapabilitySet;

/// The filter where nothing is asked for.
fn filter() -> Vec<Instruction> {
    filter_with(&[], &[], false)
}

fn filter_with(allow: &[&str], refuse: &[&str], suppress_sync: bool) -> Vec<Instruction> {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let none = CapabilitySet::default();
    super::filter(&Calls::new(none, &owned(allow), &owned(refuse), suppress_sync).unwrap())
}

/// Runs a filter as the kernel would.
fn verdict(program: &[Instruction], audit: u32, number: u32, argument: u32) -> u32 {
    let (mut at, mut a) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD if k == NUMBER => a = number,
            LOAD if k == ARCHITECTURE => a = audit,
            LOAD if k == ARGUMENT_0 || k == ARGUMENT_1 => a = argument,
            JUMP_EQUAL => branch(a == k),
            JUMP_GREATER_OR_EQUAL => branch(a >= k),
            JUMP_ANY_BIT => branch(a & k != 0),
            0x05 => at += k as usize,
            RETURN => return k,
            _ => panic!("{code:#x} {k}"),
        }
    }
}

fn number(architecture: &Architecture, name: &str) -> Option<u32> {
    architecture
        .numbers
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, n)| *n)
}

#[test]
fn every_listed_call_has_its_verdict() {
    let program = filter();
    for architecture in ARCHITECTURES {
        let say = |name: &str, argument| {
            number(architecture, name).map(|n| verdict(&program, architecture.audit, n, argument))
        };
        for name in ALLOWED {
            assert!(say(name, 0).is_none_or(|v| v == ALLOW), "{name}");
        }
        for name in REFUSED {
            assert!(say(name, 0).is_none_or(|v| v == NOT_PERMITTED), "{name}");
        }
        // what every program needs is known under its name
        for name in [
            "read",
            "write",
            "openat",
            "execve",
            "exit_group",
            "futex",
            "rt_sigreturn",
            "mprotect",
        ] {
            assert_eq!(say(name, 0), Some(ALLOW), "{name}");
        }
    }
}

#[test]
fn every_other_number_is_not_there() {
    let program = filter();
    for architecture in ARCHITECTURES {
        let listed: Vec<u32> = architecture.numbers.iter().map(|(_, n)| *n).collect();
        for n in (0..1024).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            if !listed.contains(&n) {
                assert_eq!(
                    verdict(&program, architecture.audit, n, 0),
                    NOT_THERE,
                    "{n}"
                );
            }
        }
    }
    assert_eq!(
        verdict(&program, 0x1234, 0, 0),
        NOT_THERE,
        "another architecture"
    );
}

#[test]
fn arguments_decide_where_they_must() {
    let program = filter();
    for architecture in ARCHITECTURES {
        let say = |name: &str, argument: u32| {
            let n = number(architecture, name).unwrap();
            verdict(&program, architecture.audit, n, argument)
        };
        // a thread, a process; a new network
        assert_eq!(say("clone", 0x003d_0f00), ALLOW);
        assert_eq!(say("clone", libc::SIGCHLD as u32), ALLOW);
        assert_eq!(say("clone", libc::CLONE_NEWNET as u32), NOT_PERMITTED);
        assert_eq!(
            say("clone", libc::CLONE_NEWUSER as u32 | 0x11),
            NOT_PERMITTED
        );
        assert_eq!(say("socket", libc::AF_INET as u32), ALLOW);
        assert_eq!(say("socket", libc::AF_PACKET as u32), ALLOW);
        assert_eq!(say("socket", libc::AF_VSOCK as u32), NOT_PERMITTED);
        assert_eq!(say("ioctl", libc::TIOCGWINSZ as u32), ALLOW);
        assert_eq!(say("ioctl", libc::TIOCSTI as u32), NOT_PERMITTED);
        assert_eq!(say("ioctl", libc::TIOCLINUX as u32), NOT_PERMITTED);
        assert_eq!(say("personality", 0xffff_ffff), ALLOW);
        assert_eq!(
            say("personality", 0x004_0000),
            NOT_PERMITTED,
            "ADDR_NO_RANDOMIZE"
        );
    }
}

#[test]
fn who_asks_for_a_call_by_name_gets_all_of_it() {
    let native = &ARCHITECTURES[0];
    let program = filter_with(&["ioctl"], &[], false);
    let number = number(native, "ioctl").unwrap();
    let push = libc::TIOCSTI as u32;
    assert_eq!(verdict(&program, native.audit, number, push), ALLOW);
}

#[test]
fn what_was_asked_for_is_in_the_program() {
    let native = &ARCHITECTURES[0];
    let program = filter_with(&["@keyring", "clone"], &["@chown", "socket"], true);
    let say = |name: &str, argument: u32| {
        verdict(
            &program,
            native.audit,
            number(native, name).unwrap(),
            argument,
        )
    };
    assert_eq!(say("keyctl", 0), ALLOW);
    assert_eq!(say("clone", libc::CLONE_NEWNET as u32), ALLOW);
    assert_eq!(say("fchownat", 0), NOT_PERMITTED);
    assert_eq!(say("socket", libc::AF_INET as u32), NOT_PERMITTED);
    assert_eq!(say("fsync", 0), NOTHING_DONE);
    assert_eq!(say("read", 0), ALLOW);
    assert!(filter_with(&["@known"], &[], true).len() <= 4096);
}

#[test]
fn native_numbers_are_those_of_the_c_library() {
    let native = &ARCHITECTURES[0];
    for (name, known) in [
        ("read", libc::SYS_read),
        ("openat", libc::SYS_openat),
        ("clone", libc::SYS_clone),
        ("socket", libc::SYS_socket),
        ("newfstatat", libc::SYS_newfstatat),
        ("mount", libc::SYS_mount),
        ("bpf", libc::SYS_bpf),
        ("statx", libc::SYS_statx),
        ("faccessat2", libc::SYS_faccessat2),
        ("epoll_pwait2", libc::SYS_epoll_pwait2),
    ] {
        assert_eq!(number(native, name), Some(known as u32), "{name}");
    }
}

#[test]
fn a_verdict_is_a_few_comparisons_away() {
    // what the kernel runs for every number when the filter is loaded
    let program = filter();
    let native = &ARCHITECTURES[0];
    let steps = |n: u32| {
        let (mut at, mut steps) = (0, 1);
        while program[at].code != RETURN {
            let Instruction { code, jt, jf, k } = program[at];
            let holds = match code {
                JUMP_GREATER_OR_EQUAL => n >= k,
                JUMP_EQUAL => native.audit == k,
                _ => false,
            };
            at += 1 + match code {
                JUMP_GREATER_OR_EQUAL | JUMP_EQUAL if holds => usize::from(jt),
                JUMP_GREATER_OR_EQUAL | JUMP_EQUAL => usize::from(jf),
                0x05 => k as usize,
                _ => 0,
            };
            steps += 1;
        }
        steps
    };
    let read = number(native, "read").unwrap();
    assert!((0..512).chain([read]).all(|n| steps(n) < 24));
}

#[test]
fn a_tree_may_be_larger_than_a_conditional_jump_reaches() {
    let ranges: Vec<Range> = (0..1000)
        .map(|n| {
            (
                n * 3,
                Verdict::Plain([ALLOW, NOT_PERMITTED][n as usize % 2]),
            )
        })
        .collect();
    let mut program = vec![load(NUMBER)];
    tree(&mut program, &ranges, &[]);
    for n in 0..3000 {
        let right = [ALLOW, NOT_PERMITTED][n as usize / 3 % 2];
        assert_eq!(verdict(&program, 0, n, 0), right, "{n}");
    }
    assert_eq!(verdict(&program, 0, u32::MAX, 0), NOT_PERMITTED);
}

#[test]
fn lists_and_tables_agree() {
    for table in [numbers::X86_64, numbers::I386, numbers::GENERIC] {
        assert!(
            table.is_sorted_by_key(|(name, _)| name),
            "walked beside a sorted list"
        );
    }
    for name in ALLOWED.iter().chain(REFUSED) {
        let tables = [numbers::X86_64, numbers::I386, numbers::GENERIC];
        let known = tables.iter().any(|t| t.iter().any(|(n, _)| n == name));
        assert!(known, "{name} has no number anywhere");
        let times = ALLOWED.iter().chain(REFUSED).filter(|n| *n == name).count();
        assert_eq!(times, 1, "{name}");
    }
    // classic BPF programs have at most this many instructions (BPF_MAXINSNS)
    assert!(filter().len() <= 4096);
}
