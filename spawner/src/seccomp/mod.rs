//! The system call filter of a container, made without libseccomp: lists → numbers → a program for the kernel, pure.
//!
//! libseccomp takes 10 ms of processor time for a list of this length (it copies its whole state for every rule), half of what a
//! container's start takes altogether; this takes microseconds. The program is a chain of comparisons with runs of numbers, which
//! costs nothing later: since 5.11 the kernel remembers which calls pass whatever their arguments (seccomp_cache, kernel/seccomp.c).
//!
//! What is not listed answers ENOSYS, so that a C library falls back as on an older kernel; what is refused on purpose, EPERM.

mod calls;
mod groups;
mod lists;
mod numbers;

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
    let number = |name: &str| {
        let known = architecture
            .numbers
            .iter()
            .find(|(known, _)| *known == name);
        known.map(|(_, number)| *number)
    };
    let mut block = vec![
        load(NUMBER),
        branch(JUMP_GREATER_OR_EQUAL, architecture.below, 0, 1),
        end(NOT_THERE),
    ];
    let mut special = |name: &str, body: Vec<Instruction>| {
        let plain = calls.unlooked.contains(name) || calls.refused.contains(name);
        if let Some(number) = number(name).filter(|_| !plain) {
            block.push(branch(JUMP_EQUAL, number, 0, body.len() as u8));
            block.extend(body);
        }
    };
    let argument = load(ARGUMENT_0);
    special(
        "clone",
        vec![
            argument,
            branch(JUMP_ANY_BIT, NEW_NAMESPACES, 0, 1),
            end(NOT_PERMITTED),
            end(ALLOW),
        ],
    );
    // AF_VSOCK reaches the hypervisor whatever the network namespace
    special(
        "socket",
        vec![
            argument,
            branch(JUMP_EQUAL, libc::AF_VSOCK as u32, 0, 1),
            end(NOT_PERMITTED),
            end(ALLOW),
        ],
    );
    let mut personality = vec![argument];
    for value in PERSONALITIES {
        personality.extend([branch(JUMP_EQUAL, value, 0, 1), end(ALLOW)]);
    }
    personality.push(end(NOT_PERMITTED));
    special("personality", personality);
    let mut ioctl = vec![load(ARGUMENT_1)];
    for request in KEY_PUSHERS {
        ioctl.extend([branch(JUMP_EQUAL, request, 0, 1), end(NOT_PERMITTED)]);
    }
    ioctl.push(end(ALLOW));
    special("ioctl", ioctl);
    let lists = [
        // first: they are on the list of those allowed, too
        (&calls.skipped, NOTHING_DONE),
        (&calls.allowed, ALLOW),
        (&calls.unlooked, ALLOW),
        (&calls.refused, NOT_PERMITTED),
    ];
    for (names, verdict) in lists {
        for (first, last) in runs(names.iter().filter_map(|name| number(name)).collect()) {
            block.extend([
                branch(JUMP_GREATER_OR_EQUAL, first, 0, 2),
                branch(JUMP_GREATER_OR_EQUAL, last + 1, 1, 0),
                end(verdict),
            ]);
        }
    }
    block.push(end(NOT_THERE));
    block
}

/// Numbers as runs without gaps, from the first to the last of each.
fn runs(mut numbers: Vec<u32>) -> Vec<(u32, u32)> {
    numbers.sort_unstable();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
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
