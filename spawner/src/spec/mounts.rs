//! What is mounted over the root, in order: the kernel's file systems, tmpfs, binds.

use serde_json::{Value, json};

use crate::plan::Plan;

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
    if private_network || plan.range.is_none() {
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
    if settings.directory.is_none() {
        let options = |mode| ["nosuid", "nodev", mode];
        all.push(mount("/tmp", "tmpfs", "tmpfs", &options("mode=1777")));
        all.push(mount("/run", "tmpfs", "tmpfs", &options("mode=755")));
    }
    for tmpfs in &settings.tmpfs {
        // what was asked for comes last and so wins
        let mut options = vec!["nosuid".to_owned(), "nodev".into(), "mode=755".into()];
        if tmpfs.options.iter().any(|o| o.starts_with("mode=")) {
            options.pop();
        }
        options.extend(tmpfs.options.iter().cloned());
        all.push(json!({ "destination": tmpfs.destination, "type": "tmpfs", "source": "tmpfs", "options": options }));
    }
    for (bind, source) in settings.binds.iter().zip(&plan.bind_sources) {
        let mut options = vec![if bind.recursive { "rbind" } else { "bind" }];
        if bind.read_only {
            options.push(if bind.recursive { "rro" } else { "ro" });
        }
        all.push(json!({ "destination": bind.destination, "type": "bind", "source": source, "options": options }));
    }
    all
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": typ, "source": source, "options": options })
}
