//! `--oci-bundle=`: what a bundle's config.json says (runtime-spec, config.md), in the words of options.
//!
//! What is the same in every container of netd (its own /proc, /dev and /sys, the masks over them, the system call filter) is
//! not taken from the bundle. What would have to be and cannot is refused by its name.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use spawner::{CapabilitySet, Hook, Hooks};

use crate::cli::{self, RunArgs};
use crate::error::Error;

/// Where netd mounts what a container needs of the kernel, whatever the bundle says.
const OWN: [&str; 7] = [
    "/proc",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/sys",
    "/sys/fs/cgroup",
];

/// A bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) root: PathBuf,
    pub(super) args: RunArgs,
    pub(super) hooks: Hooks,
}

impl Bundle {
    /// # Errors
    /// The file is missing, is no configuration, or says what netd cannot do: with file and key.
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = std::fs::read(&path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let told = |what: &dyn Display| Error::Invalid(format!("run: {}: {what}", path.display()));
        let config: Value = serde_json::from_slice(&text).map_err(|e| told(&e))?;
        let mut words = Words::default();
        words.all(&config).map_err(|what| told(&what))?;
        let argv = [
            vec!["netd".to_owned(), "run".to_owned()],
            words.options,
            vec!["--".to_owned()],
            words.command,
        ];
        let mut args = cli::parse_run_words(&argv.concat()).map_err(|what| told(&what))?;
        args.privileges.bounding = words.bounding;
        Ok(Self {
            root: dir.join(words.root),
            args,
            hooks: words.hooks,
        })
    }
}

#[derive(Default)]
struct Words {
    options: Vec<String>,
    command: Vec<String>,
    bounding: Option<CapabilitySet>,
    root: PathBuf,
    hooks: Hooks,
}

/// What is wrong, by its key.
type Wrong = String;

impl Words {
    fn option(&mut self, name: &str, value: impl Display) {
        self.options.push(format!("--{name}={value}"));
    }

    fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.options.push(format!("--{name}"));
        }
    }

    fn all(&mut self, config: &Value) -> Result<(), Wrong> {
        let keys = [
            "ociVersion",
            "process",
            "root",
            "hostname",
            "mounts",
            "hooks",
            "annotations",
            "linux",
        ];
        only(config, "", &keys)?;
        only(&config["root"], "root.", &["path", "readonly"])?;
        self.root = text(&config["root"]["path"], "root.path")?.into();
        self.flag("read-only", config["root"]["readonly"] == true);
        if let Some(name) = config["hostname"].as_str() {
            self.option("hostname", name);
        }
        self.process(&config["process"])?;
        for mount in items(&config["mounts"]) {
            self.mount(mount)?;
        }
        self.linux(&config["linux"])?;
        self.hooks(&config["hooks"])
    }

    fn process(&mut self, process: &Value) -> Result<(), Wrong> {
        let keys = [
            "terminal",
            "consoleSize",
            "user",
            "args",
            "env",
            "cwd",
            "capabilities",
            "rlimits",
            "noNewPrivileges",
            "oomScoreAdj",
        ];
        only(process, "process.", &keys)?;
        self.option(
            "console",
            if process["terminal"] == true {
                "interactive"
            } else {
                "pipe"
            },
        );
        for word in items(&process["args"]) {
            self.command.push(text(word, "process.args")?.to_owned());
        }
        for variable in items(&process["env"]) {
            self.option("setenv", text(variable, "process.env")?);
        }
        if let Some(cwd) = process["cwd"].as_str() {
            self.option("chdir", cwd);
        }
        only(&process["user"], "process.user.", &["uid", "gid", "umask"])?;
        let id = |key: &str| process["user"][key].as_u64().unwrap_or_default();
        self.option("user", format!("{}:{}", id("uid"), id("gid")));
        let capabilities = &process["capabilities"];
        let set = |key: &str| -> Result<Option<CapabilitySet>, Wrong> {
            let names: Vec<_> = items(&capabilities[key])
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let set = names.join(",").parse();
            let set = set.map_err(|e| format!("process.capabilities.{key}: {e}"))?;
            Ok(capabilities.get(key).map(|_| set))
        };
        // without the object there are none
        self.bounding = Some(set("bounding")?.unwrap_or_default());
        for name in set("ambient")?.unwrap_or_default().names() {
            self.option("ambient-capability", name);
        }
        for limit in items(&process["rlimits"]) {
            let (soft, hard) = (&limit["soft"], &limit["hard"]);
            self.option(
                "rlimit",
                format!("{}={soft}:{hard}", text(&limit["type"], "process.rlimits")?),
            );
        }
        if process["noNewPrivileges"] == true {
            self.option("no-new-privileges", "yes");
        }
        if let Some(score) = process["oomScoreAdj"].as_i64() {
            self.option("oom-score-adjust", score);
        }
        Ok(())
    }

    fn mount(&mut self, mount: &Value) -> Result<(), Wrong> {
        let destination = text(&mount["destination"], "mounts.destination")?;
        if OWN.contains(&destination.trim_end_matches('/')) {
            return Ok(());
        }
        let escaped = |path: &str| path.replace('\\', "\\\\").replace(':', "\\:");
        let options: Vec<_> = items(&mount["options"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let has = |name: &str| options.contains(&name);
        let at = escaped(destination);
        match mount["type"].as_str() {
            _ if has("bind") || has("rbind") => {
                let source = escaped(text(&mount["source"], "mounts.source")?);
                let how = if has("ro") { "bind-ro" } else { "bind" };
                let depth = if has("rbind") { "rbind" } else { "norbind" };
                self.option(how, format!("{source}:{at}:{depth}"));
            }
            Some("bind") => {
                return Err(format!(
                    "mounts: {destination}: a bind needs the option bind or rbind"
                ));
            }
            Some("tmpfs") => self.option("tmpfs", format!("{at}:{}", options.join(","))),
            other => {
                let kind = other.unwrap_or("nothing");
                return Err(format!(
                    "mounts: {destination}: a mount of type {kind} is not made"
                ));
            }
        }
        Ok(())
    }

    fn linux(&mut self, linux: &Value) -> Result<(), Wrong> {
        let keys = [
            "namespaces",
            "uidMappings",
            "gidMappings",
            "resources",
            "maskedPaths",
            "readonlyPaths",
            "seccomp",
            "rootfsPropagation",
            "cgroupsPath",
        ];
        only(linux, "linux.", &keys)?;
        for namespace in items(&linux["namespaces"]) {
            let path = namespace["path"].as_str().filter(|path| !path.is_empty());
            match (text(&namespace["type"], "linux.namespaces")?, path) {
                ("network", Some(path)) => self.option("network-namespace-path", path),
                ("network", None) => self.flag("private-network", true),
                ("user", None) => self.users(linux)?,
                ("pid" | "mount" | "ipc" | "uts" | "cgroup", None) => {}
                (kind, _) => return Err(format!("linux.namespaces: {kind} as it is asked for")),
            }
        }
        let resources = &linux["resources"];
        only(
            resources,
            "linux.resources.",
            &["devices", "memory", "cpu", "pids"],
        )?;
        if items(&resources["devices"])
            .iter()
            .any(|device| device["allow"] == true)
        {
            return Err(
                "linux.resources.devices: devices beside the usual ones are not given".to_owned(),
            );
        }
        if let Some(bytes) = resources["memory"]["limit"].as_u64() {
            self.option("property", format!("MemoryMax={bytes}"));
        }
        if let Some(tasks) = resources["pids"]["limit"].as_u64() {
            self.option("property", format!("TasksMax={tasks}"));
        }
        if let Some(quota) = resources["cpu"]["quota"].as_u64() {
            let period = resources["cpu"]["period"]
                .as_u64()
                .filter(|p| *p > 0)
                .unwrap_or(100_000);
            self.option(
                "property",
                format!("CPUQuota={}%", (quota * 100 / period).max(1)),
            );
        }
        Ok(())
    }

    fn users(&mut self, linux: &Value) -> Result<(), Wrong> {
        let (uids, gids) = (items(&linux["uidMappings"]), items(&linux["gidMappings"]));
        match (uids, gids) {
            ([map], [same]) if map == same && map["containerID"] == 0 => {
                self.option(
                    "private-users",
                    format!("{}:{}", map["hostID"], map["size"]),
                );
                Ok(())
            }
            _ => Err(
                "linux.uidMappings: other than one range from 0 on, the same for users and groups"
                    .to_owned(),
            ),
        }
    }

    fn hooks(&mut self, hooks: &Value) -> Result<(), Wrong> {
        only(hooks, "hooks.", &["prestart", "createRuntime", "poststop"])?;
        let read = |key: &str| {
            items(&hooks[key])
                .iter()
                .map(hook)
                .collect::<Result<Vec<_>, _>>()
        };
        self.hooks.create_runtime = [read("prestart")?, read("createRuntime")?].concat();
        self.hooks.poststop = read("poststop")?;
        Ok(())
    }
}

fn hook(hook: &Value) -> Result<Hook, Wrong> {
    let strings = |key: &str| -> Vec<String> {
        let all = items(&hook[key]).iter().filter_map(Value::as_str);
        all.map(str::to_owned).collect()
    };
    let path = text(&hook["path"], "hooks.path")?;
    let mut args = strings("args");
    if args.is_empty() {
        args.push(path.to_owned());
    }
    Ok(Hook {
        path: path.into(),
        args,
        env: strings("env"),
        timeout: hook["timeout"].as_u64().map(Duration::from_secs),
    })
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Wrong> {
    value
        .as_str()
        .ok_or_else(|| format!("{key}: is missing, or no text"))
}

/// Refuses keys that are not known: what they ask for would silently not be so.
fn only(value: &Value, prefix: &str, keys: &[&str]) -> Result<(), Wrong> {
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    let unknown = object
        .iter()
        .find(|(key, value)| !keys.contains(&key.as_str()) && !empty(value));
    match unknown {
        Some((key, _)) => Err(format!("{prefix}{key}: netd does not do that")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> Result<Bundle, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        Bundle::read(dir.path()).map_err(|e| e.to_string())
    }

    /// As `runc spec` writes it.
    fn usual() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false, "user": { "uid": 33, "gid": 34 }, "args": ["sh", "-c", "id"], "cwd": "/",
                "env": ["PATH=/bin", "A=b"],
                "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": [] },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512 }], "noNewPrivileges": true,
            },
            "root": { "path": "rootfs", "readonly": true },
            "hostname": "runc",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/data", "type": "bind", "source": "/srv/a:b", "options": ["rbind", "ro"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"] },
            ],
            "linux": {
                "resources": { "devices": [{ "allow": false, "access": "rwm" }], "memory": { "limit": 1048576 } },
                "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "mount" }, { "type": "user" }],
                "uidMappings": [{ "containerID": 0, "hostID": 1000000, "size": 65536 }],
                "gidMappings": [{ "containerID": 0, "hostID": 1000000, "size": 65536 }],
                "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/bus"],
            },
        })
    }

    #[test]
    fn a_bundle_is_its_options() {
        let bundle = read(&usual()).unwrap();
        let words: Vec<String> = r"netd run --read-only --hostname=runc --console=pipe -E PATH=/bin -E A=b --chdir=/ -u 33:34
            --rlimit=RLIMIT_NOFILE=512:1024 --no-new-privileges=yes --bind-ro=/srv/a\:b:/data --tmpfs=/tmp:nosuid,size=1m
            --private-network --private-users=1000000:65536 --property=MemoryMax=1048576 sh -c id"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let mut expected = cli::parse_run_words(&words).unwrap();
        expected.privileges.bounding = Some("CAP_KILL".parse().unwrap());
        assert_eq!(bundle.args, expected);
        assert!(bundle.root.ends_with("rootfs"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_name() {
        let refused = |pointer: &str, key: &str, value: Value| {
            let mut config = usual();
            config.pointer_mut(pointer).unwrap()[key] = value;
            read(&config).unwrap_err()
        };
        let told = refused("/linux", "sysctl", json!({ "net.core.somaxconn": "5" }));
        assert!(told.contains("config.json: linux.sysctl"), "{told}");
        assert!(
            refused("/linux", "devices", json!([{ "path": "/dev/sda" }])).contains("linux.devices")
        );
        assert!(
            refused("/process", "apparmorProfile", json!("x")).contains("process.apparmorProfile")
        );
        assert!(
            refused("", "hooks", json!({ "startContainer": [{ "path": "/x" }] }))
                .contains("hooks.startContainer")
        );
        assert!(
            refused(
                "/linux",
                "namespaces",
                json!([{ "type": "pid", "path": "/proc/1/ns/pid" }])
            )
            .contains("pid")
        );
        let mount = json!([{ "destination": "/x", "type": "overlay", "source": "o" }]);
        assert!(refused("", "mounts", mount).contains("overlay"));
        assert!(
            refused("/linux/resources", "devices", json!([{ "allow": true }])).contains("devices")
        );
    }

    #[test]
    fn hooks_come_along() {
        let mut config = usual();
        config["hooks"] = json!({
            "createRuntime": [{ "path": "/bin/a", "args": ["a", "b"], "timeout": 5 }], "poststop": [{ "path": "/bin/c" }],
        });
        let hooks = read(&config).unwrap().hooks;
        assert_eq!(hooks.create_runtime[0].args, ["a", "b"]);
        assert_eq!(
            hooks.create_runtime[0].timeout,
            Some(Duration::from_secs(5))
        );
        assert_eq!(hooks.poststop[0].args, ["/bin/c"]);
    }
}
