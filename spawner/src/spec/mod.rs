//! Plan → OCI runtime configuration (`config.json`), pure.
//!
//! Defaults are those of systemd-nspawn or stricter: fewer capabilities, a seccomp allow-list, masked files in /proc and /sys.
//! What is asked of libcontainer and what it is spared:
//! - no `resources` and no cgroup mount: this crate's own `cgroup` module sets limits; `cgroupsPath` leads to nothing,
//! - no `readonlyPaths` inside /proc/sys/net where the network is private, as systemd-nspawn has it: DHCP clients write there,
//! - no `seccomp`: this crate's own `seccomp` module makes the filter, and its executor loads it. Without `noNewPrivileges` that takes
//!   CAP_SYS_ADMIN, which is granted up to that moment: the executor drops it before anything of the container runs.

mod capabilities;
mod mounts;

use serde_json::{Map, Value, json};

use crate::cgroup;
use crate::plan::{IdRange, Plan};
use crate::settings::{CapabilitySet, Hook, Network, Personality, Volatile};

pub(crate) use capabilities::FOR_THE_FILTER;
pub use capabilities::capabilities;

/// Files of /proc and /sys that tell about, or change, the whole machine: hidden.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/pstore",
];

/// Files of /proc that change the whole machine: read-only.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where the command finds its credentials, as in a container of systemd-nspawn.
pub(crate) const CREDENTIALS: &str = "/run/host/credentials";

/// The configuration for `plan`.
pub fn spec(plan: &Plan<'_>) -> Value {
    let settings = plan.settings;
    let hostname = settings.hostname.as_deref();
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "hostname": hostname.unwrap_or_else(|| hostname_of(settings.name.as_str())),
        "root": { "path": plan.root, "readonly": settings.read_only || settings.volatile == Volatile::State },
        "process": process(plan),
        "mounts": mounts::mounts(plan),
        "annotations": annotations(plan),
        "linux": {
            "cgroupsPath": cgroup::decoy_path(&plan.root.with_file_name("bundle")),
            "namespaces": namespaces(plan),
            "rootfsPropagation": "slave",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    });
    if plan.range.is_some() && plan.userns.is_none() {
        spec["linux"]["uidMappings"] = mappings(plan.uid_map());
        spec["linux"]["gidMappings"] = mappings(plan.gid_map());
    }
    if settings.personality == Some(Personality::Bits32) {
        spec["linux"]["personality"] = json!({ "domain": "LINUX32" });
    }
    let hooks = create_runtime(plan);
    if !hooks.is_empty() {
        spec["hooks"] = json!({ "createRuntime": hooks });
    }
    spec
}

fn mappings(map: Vec<IdRange>) -> Value {
    map.into_iter()
        .map(|(inside, outside, size)| json!({ "containerID": inside, "hostID": outside, "size": size }))
        .collect()
}

/// The part of a machine name that fits in a host name (64 bytes, uts(7)).
fn hostname_of(name: &str) -> &str {
    name.get(..64).unwrap_or(name)
}

fn process(plan: &Plan<'_>) -> Value {
    let settings = plan.settings;
    let mut caps = capabilities(settings);
    if !settings.no_new_privileges {
        caps = caps.and(CapabilitySet::of(&FOR_THE_FILTER));
    }
    let caps = caps.names();
    let ambient = settings.privileges.ambient.names();
    let mut user = json!({ "uid": plan.user.uid, "gid": plan.user.gid, "umask": 0o022 });
    if !plan.user.groups.is_empty() {
        user["additionalGids"] = json!(plan.user.groups);
    }
    let mut process = json!({
        "terminal": plan.pty,
        "user": user,
        "args": plan.command,
        "env": environment(plan),
        "cwd": settings.chdir.as_deref().unwrap_or("/".as_ref()),
        "capabilities": {
            "bounding": caps,
            "effective": caps,
            "permitted": caps,
            // empty unless asked for: a program of another user gains nothing by exec (CVE-2022-24769); named, because
            // what is not named libcontainer leaves as the caller has it
            "inheritable": ambient,
            "ambient": ambient,
        },
    });
    if let Some(score) = settings.oom_score_adjust {
        process["oomScoreAdj"] = json!(score);
    }
    if settings.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    process
}

/// The command's environment. `--setenv=` wins over what we set.
fn environment(plan: &Plan<'_>) -> Vec<String> {
    let mut env: Vec<(String, String)> = vec![
        (
            "PATH".into(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        ),
        ("container".into(), "netd".into()),
    ];
    if plan.pty {
        let term = plan.term.clone().unwrap_or_else(|| "vt220".into());
        env.push(("TERM".into(), term));
    }
    let home = plan.user.home.as_deref().unwrap_or("/".as_ref());
    env.push(("HOME".into(), home.to_string_lossy().into_owned()));
    if let Some(name) = &plan.user.name {
        env.push(("USER".into(), name.clone()));
        env.push(("LOGNAME".into(), name.clone()));
    }
    if let Some(uuid) = &plan.settings.uuid {
        env.push(("container_uuid".into(), uuid.clone()));
    }
    if !plan.settings.credentials.is_empty() {
        env.push(("CREDENTIALS_DIRECTORY".into(), CREDENTIALS.into()));
    }
    for (key, value) in &plan.settings.env {
        env.retain(|(known, _)| known != key);
        env.push((key.clone(), value.clone()));
    }
    env.into_iter().map(|(k, v)| format!("{k}={v}")).collect()
}

fn namespaces(plan: &Plan<'_>) -> Vec<Value> {
    let mut types = vec!["pid", "mount", "ipc", "uts", "cgroup"];
    // one that is there already the monitor has entered
    if !plan.network_ahead()
        && matches!(
            plan.settings.network,
            Network::Private | Network::Hook { .. } | Network::Caller(_)
        )
    {
        types.push("network");
    }
    if plan.range.is_some() {
        types.push("user");
    }
    let namespace = |typ| match &plan.userns {
        Some(path) if typ == "user" => json!({ "type": typ, "path": path }),
        _ => json!({ "type": typ }),
    };
    types.into_iter().map(namespace).collect()
}

/// Annotations of the OCI state: those asked for, and the labels and the name where they do not say otherwise.
pub(crate) fn annotations(plan: &Plan<'_>) -> Map<String, Value> {
    let settings = plan.settings;
    let mut all = Map::new();
    all.insert("io.netd.name".into(), json!(settings.name.as_str()));
    if !settings.labels.is_empty() {
        let labels: Vec<_> = settings
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        all.insert("io.netd.labels".into(), json!(labels.join(",")));
    }
    for (key, value) in &settings.annotations {
        all.insert(key.clone(), json!(value));
    }
    all
}

/// createRuntime hooks, the network's first. poststop hooks are run by the monitor itself, because libcontainer
/// would run them only after a start that went well.
fn create_runtime(plan: &Plan<'_>) -> Vec<Value> {
    let network = match &plan.settings.network {
        Network::Hook { attach, .. } => Some(attach),
        Network::Host | Network::Private | Network::Namespace(_) | Network::Caller(_) => None,
    };
    network
        .into_iter()
        .chain(&plan.settings.hooks.create_runtime)
        .map(hook)
        .collect()
}

fn hook(hook: &Hook) -> Value {
    let mut value = json!({ "path": hook.path, "args": hook.args, "env": hook.env });
    if let Some(timeout) = hook.timeout {
        // OCI counts whole seconds, and 0 is not allowed
        value["timeout"] = json!(timeout.as_millis().div_ceil(1000).max(1) as u64);
    }
    value
}

#[cfg(test)]
mod tests;
