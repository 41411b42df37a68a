//! What is mounted over the root, in order: the kernel's file systems, tmpfs, binds.

use serde_json::{Value, json};

use crate::plan::{Plan, Shown, What};
use crate::settings::Network;

pub(super) fn mounts(plan: &Plan<'_>) -> Vec<Value> {
    let settings = plan.settings;
    let private_network = settings.network.is_private();
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            // group 5 is tty, everywhere
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
    ];
    // a namespace that was there before belongs to the host's users
    let sysfs = match settings.network {
        Network::Private | Network::Hook { .. } | Network::Caller(_) => true,
        Network::Host | Network::Namespace(_) => plan.range.is_none(),
    };
    if sysfs {
        let options = ["nosuid", "noexec", "nodev", "ro"];
        all.push(mount("/sys", "sysfs", "sysfs", &options));
        if plan.cgroup2 {
            all.push(mount("/sys/fs/cgroup", "cgroup2", "cgroup", &options));
        }
    } else {
        // sysfs belongs to the network namespace: who does not own that cannot mount it (sysfs(5))
        let options = ["rbind", "rnosuid", "rnoexec", "rnodev", "rro"];
        all.push(mount("/sys", "bind", "/sys", &options));
    }
    if private_network {
        // its own part of /proc/sys stays writable below the read-only rest
        let options = ["bind", "nosuid", "noexec", "nodev"];
        all.push(mount("/proc/sys/net", "bind", "/proc/sys/net", &options));
    }
    for path in &plan.scratch {
        let mode = if path == "/tmp" {
            "mode=1777"
        } else {
            "mode=755"
        };
        let path = path.to_string_lossy();
        all.push(mount(&path, "tmpfs", "tmpfs", &["nosuid", "nodev", mode]));
    }
    all.extend(plan.shown.iter().map(shown));
    all
}

fn shown(shown: &Shown) -> Value {
    match &shown.what {
        What::Tmpfs(given) => {
            // what was asked for comes last and so wins
            let mut options = vec!["nosuid".to_owned(), "nodev".into(), "mode=755".into()];
            if given.iter().any(|o| o.starts_with("mode=")) {
                options.pop();
            }
            options.extend(given.iter().cloned());
            json!({ "destination": shown.destination, "type": "tmpfs", "source": "tmpfs", "options": options })
        }
        What::Bind {
            source,
            read_only,
            recursive,
        } => {
            let mut options = vec![if *recursive { "rbind" } else { "bind" }];
            if *read_only {
                options.push(if *recursive { "rro" } else { "ro" });
            }
            json!({ "destination": shown.destination, "type": "bind", "source": source, "options": options })
        }
    }
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": typ, "source": source, "options": options })
}
