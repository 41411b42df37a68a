//! The system call filter of a container, made without libseccomp: lists → numbers → a program for the kernel, pure.
//!
//! libseccomp takes 10 ms of processor time for a list of this length (it copies its whole state for every rule), half of what a
//! container's start takes altogether; this takes microseconds. The program is a tree of comparisons with runs of numbers, which
//! costs nothing later: since 5.11 the kernel finds out, when a filter is loaded, which calls pass whatever their arguments
//! (seccomp_cache, kernel/seccomp.c).
//!
//! What is not listed answers ENOSYS, so that a C library falls back as on an older kernel; what is refused on purpose, EPERM.

mod calls;
mod groups;
mod lists;
mod numbers;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use calls::Calls;

/// One instruction of classic BPF, `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data (linux/seccomp.h); of an argument the low half, little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT_0: u32 = 16;
const ARGUMENT_1: u32 = 24;

const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
const NOTHING_DONE: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO with 0: success
const NOT_THERE: u32 = 0x0005_0000 | libc::ENOSYS as u32; // SECCOMP_RET_ERRNO
const NOT_PERMITTED: u32 = 0x0005_0000 | libc::EPERM as u32;

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: clone(2). clone3 has its flags in memory, where no filter can
/// look, so it is not listed and everybody falls back to clone.
const NEW_NAMESPACES: u32 = 0x7E02_0000;

/// TIOCSTI and TIOCLINUX: they push keys into a terminal, which may be the caller's (ioctl_tty(2)). The kernel takes no more than
/// these 32 bits of the request.
const KEY_PUSHERS: [u32; 2] = [0x5412, 0x541C];

/// PER_LINUX, PER_LINUX32, the two with UNAME26, and the question what it is now: personality(2).
const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// One architecture: its name for the kernel (linux/audit.h), its numbers, where a second one (x32) begins that shares its name.
struct Architecture {
    audit: u32,
    numbers: &'static [(&'static str, u32)],
    below: u32,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        audit: 0xc000_003e,
        numbers: numbers::X86_64,
        below: 0x4000_0000,
    },
    Architecture {
        audit: 0x4000_0003,
        numbers: numbers::I386,
        below: u32::MAX,
    },
];

#[cfg(not(target_arch = "x86_64"))]
const ARCHITECTURES: &[Architecture] = &[Architecture {
    #[cfg(target_arch = "aarch64")]
    audit: 0xc000_00b7,
    #[cfg(target_arch = "riscv64")]
    audit: 0xc000_00f3,
    #[cfg(target_arch = "loongarch64")]
    audit: 0xc000_0102,
    numbers: numbers::GENERIC,
    below: u32::MAX,
}];

/// The filter for the machine this was compiled for.
pub(crate) fn filter(calls: &Calls) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in ARCHITECTURES {
        let block = block(architecture, calls);
        // a block is longer than a conditional jump reaches, hence the unconditional one
        program.push(branch(JUMP_EQUAL, architecture.audit, 1, 0));
        program.push(jump(block.len()));
        program.extend(block);
    }
    program.push(end(NOT_THERE));
    program
}

/// What is done with the calls of one architecture. Every way through it ends in a verdict.
fn block(architecture: &Architecture, calls: &Calls) -> Vec<Instruction> {
    let mut block = vec![load(NUMBER)];
    tree(&mut block, &ranges(architecture, calls), &looked_at());
    block
}

/// What decides about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// This, whatever its arguments.
    Plain(u32),
    /// Its arguments: an index into [`looked_at`].
    Arguments(usize),
}

/// Numbers from the first on, until the next range begins, and what decides about them.
type Range = (u32, Verdict);

/// All numbers there are, without gaps.
fn ranges(architecture: &Architecture, calls: &Calls) -> Vec<Range> {
    let lists = [
        (&calls.refused, NOT_PERMITTED),
        (&calls.unlooked, ALLOW),
        (&calls.allowed, ALLOW),
        // last: they are on the list of those allowed, too
        (&calls.skipped, NOTHING_DONE),
    ];
    let mut verdicts = BTreeMap::new();
    for (names, verdict) in lists {
        for number in numbers_of(names, architecture) {
            verdicts.insert(number, Verdict::Plain(verdict));
        }
    }
    for (index, (name, _)) in looked_at().iter().enumerate() {
        if !(calls.unlooked.contains(name) || calls.refused.contains(name)) {
            for number in numbers_of(&BTreeSet::from([*name]), architecture) {
                verdicts.insert(number, Verdict::Arguments(index));
            }
        }
    }
    let not_there = Verdict::Plain(NOT_THERE);
    let mut ranges: Vec<Range> = Vec::new();
    let mut next = 0;
    let mut begin = |first: u32, verdict: Verdict| {
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((first, verdict));
        }
    };
    for (number, verdict) in verdicts {
        if number >= architecture.below {
            break;
        }
        if number > next {
            begin(next, not_there);
        }
        begin(number, verdict);
        next = number + 1;
    }
    begin(next, not_there);
    ranges
}

/// The numbers of those names that this architecture has. Both are in alphabetical order.
fn numbers_of<'a>(
    names: &'a BTreeSet<&'static str>,
    architecture: &Architecture,
) -> impl Iterator<Item = u32> + 'a {
    let mut table = architecture.numbers.iter().peekable();
    names.iter().filter_map(move |name| {
        while table.next_if(|(known, _)| known < name).is_some() {}
        let found = table.next_if(|(known, _)| known == name);
        found.map(|(_, number)| *number)
    })
}

/// Finds the range of the number that is loaded in a few comparisons: the kernel, which tries every number when a filter is loaded,
/// took twice as long for a chain of them.
fn tree(program: &mut Vec<Instruction>, ranges: &[Range], looked_at: &[(&str, Vec<Instruction>)]) {
    let (below, above) = match ranges {
        [] => return program.push(end(NOT_THERE)),
        [(_, Verdict::Plain(verdict))] => return program.push(end(*verdict)),
        [(_, Verdict::Arguments(index))] => return program.extend(&looked_at[*index].1),
        more => more.split_at(more.len() / 2),
    };
    let at = program.len();
    program.push(branch(JUMP_GREATER_OR_EQUAL, above[0].0, 0, 0));
    tree(program, below, looked_at);
    let over = program.len() - at - 1;
    match u8::try_from(over) {
        Ok(over) => program[at].jt = over,
        // farther than a conditional jump reaches; jumps further on are relative and stay right
        Err(_) => {
            program[at].jf = 1;
            program.insert(at + 1, jump(over));
        }
    }
    tree(program, above, looked_at);
}

/// Calls of which arguments decide, and how.
fn looked_at() -> [(&'static str, Vec<Instruction>); 4] {
    let argument = load(ARGUMENT_0);
    let refuse_or_allow = |comparison| vec![argument, comparison, end(NOT_PERMITTED), end(ALLOW)];
    let mut personality = vec![argument];
    for value in PERSONALITIES {
        personality.extend([branch(JUMP_EQUAL, value, 0, 1), end(ALLOW)]);
    }
    personality.push(end(NOT_PERMITTED));
    let mut ioctl = vec![load(ARGUMENT_1)];
    for request in KEY_PUSHERS {
        ioctl.extend([branch(JUMP_EQUAL, request, 0, 1), end(NOT_PERMITTED)]);
    }
    ioctl.push(end(ALLOW));
    [
        (
            "clone",
            refuse_or_allow(branch(JUMP_ANY_BIT, NEW_NAMESPACES, 0, 1)),
        ),
        // AF_VSOCK reaches the hypervisor whatever the network namespace
        (
            "socket",
            refuse_or_allow(branch(JUMP_EQUAL, libc::AF_VSOCK as u32, 0, 1)),
        ),
        ("personality", personality),
        ("ioctl", ioctl),
    ]
}

fn load(k: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips `jt` instructions when the comparison holds, else `jf`.
fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Skips instructions: BPF_JMP | BPF_JA.
fn jump(over: usize) -> Instruction {
    Instruction {
        code: 0x05,
        jt: 0,
        jf: 0,
        k: over as u32,
    }
}

fn end(verdict: u32) -> Instruction {
    Instruction {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: verdict,
    }
}

#[cfg(test)]
mod tests;
