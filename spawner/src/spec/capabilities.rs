//! What root may do inside.

use crate::settings::{CapabilitySet, Settings};

/// Capabilities that concern the container's own files, users and processes.
const ALWAYS: [&str; 12] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Capabilities over a network namespace of its own: interfaces, routes, raw sockets (DHCP clients, ping).
const OVER_ITS_NETWORK: [&str; 2] = ["CAP_NET_ADMIN", "CAP_NET_RAW"];

/// What an init tells by that it is done, and wants to be started again or not: in a pid namespace reboot(2) does no more than end
/// that. The calls that load kernels need the capability too, and are not among those that an init may make.
const TO_END: [&str; 1] = ["CAP_SYS_BOOT"];

/// What loading a system call filter takes, unless no new privileges can be gained anyway (seccomp(2)), and what taking
/// that away again takes.
pub(crate) const FOR_THE_FILTER: [&str; 2] = ["CAP_SYS_ADMIN", "CAP_SETPCAP"];

/// The capabilities of a container. Not among the default ones, though systemd-nspawn has them: CAP_SYS_ADMIN, and
/// CAP_MKNOD, which would reach every disk of the host as long as no device cgroup forbids that.
pub fn capabilities(settings: &Settings) -> CapabilitySet {
    let privileges = &settings.privileges;
    let default = || {
        let own = CapabilitySet::of(&OVER_ITS_NETWORK);
        let always = CapabilitySet::of(&ALWAYS);
        let mut default = match settings.network.is_private() {
            true => always.and(own),
            false => always,
        };
        if settings.boot {
            default = default.and(CapabilitySet::of(&TO_END));
        }
        default
    };
    privileges
        .base
        .unwrap_or_else(default)
        .and(privileges.add)
        .without(privileges.drop)
}
