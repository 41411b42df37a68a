//! A root file system, a state directory, and the checks that nothing is left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A named test.
pub(crate) type Test = (&'static str, fn());

static APPLETS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let list = Command::new("/bin/busybox").arg("--list").output();
    let list = list.expect("these tests need Debian's busybox-static");
    String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
});

pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// How a container ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Asserts a clean end, and returns what was written.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert!(self.status == 0 && self.err.is_empty(), "{self:#?}");
        self.out
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("spawner-")
            .tempdir()
            .unwrap();
        // users of a container must be able to reach its root
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { dir };
        let root = world.root();
        for sub in ["bin", "etc", "proc", "sys", "dev", "tmp", "srv", "root"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS.iter().filter(|a| *a != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        fs::write(
            root.join("etc/group"),
            "root:x:0:\nweb:x:34:\nlog:x:4:web\n",
        )
        .unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state/containers")
    }

    /// The settings of a container `web` in this world's root, changed by `with`.
    pub(crate) fn settings(&self, with: Value) -> String {
        let mut all = json!({ "machine": "web", "directory": self.root(), "pipe": true });
        let map = all.as_object_mut().unwrap();
        for (key, value) in with.as_object().unwrap() {
            map.insert(key.clone(), value.clone());
        }
        all.to_string()
    }

    /// The command line that runs a container.
    pub(crate) fn argv(&self, with: Value) -> Vec<String> {
        let this = std::env::current_exe().unwrap();
        vec![
            this.to_str().unwrap().to_owned(),
            "spawn".to_owned(),
            self.state().to_str().unwrap().to_owned(),
            self.settings(with),
        ]
    }

    pub(crate) fn command(&self, with: Value) -> Command {
        let argv = self.argv(with);
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        command
    }

    /// Runs a container to its end, and checks that nothing of it is left.
    #[track_caller]
    pub(crate) fn run(&self, with: Value) -> Ended {
        let ended = self.command(with).stdin(Stdio::null()).output().unwrap();
        self.nothing_left();
        ended.into()
    }

    /// Runs a container after a shell script changed the mounts, in a mount namespace of its own.
    #[track_caller]
    pub(crate) fn run_after(&self, script: &str, with: Value) -> Ended {
        let output = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                &format!("{script} exec \"$@\""),
                "sh",
            ])
            .args(self.argv(with))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        self.nothing_left();
        output.into()
    }

    /// Runs a shell script in a container with nothing special.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Ended {
        self.run(json!({ "command": ["sh", "-c", script] }))
    }

    /// Starts a container and returns when it is on the list.
    #[track_caller]
    pub(crate) fn start(&self, with: Value) -> (Child, spawner::Running) {
        let child = self
            .command(with)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut found = None;
        until("the container runs", || {
            found = spawner::list(&self.state()).unwrap().pop();
            found.is_some()
        });
        (child, found.unwrap())
    }

    /// No state, no mount, no process, no cgroup.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        let left: Vec<_> = entries(&self.state())
            .into_iter()
            .filter(|e| e != ".lock")
            .collect();
        assert!(left.is_empty(), "left in the state directory: {left:?}");
        let here = self.dir.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(here), "mounts left:\n{mounts}");
        assert_eq!(self.processes(), Vec::<String>::new(), "processes left");
        for hierarchy in entries(Path::new("/sys/fs/cgroup")) {
            let hierarchy = Path::new("/sys/fs/cgroup").join(hierarchy);
            let foreign = hierarchy.join(":youki:web");
            assert!(
                !foreign.exists(),
                "left by libcontainer: {}",
                foreign.display()
            );
            let ours = hierarchy.join("netd");
            // other worlds' containers may be there at the same time
            assert!(!ours.join(self.tag()).exists(), "left: {}", ours.display());
        }
    }

    /// A machine name of this world alone, for what all worlds share.
    pub(crate) fn tag(&self) -> String {
        self.dir
            .path()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replace('.', "")
    }

    /// Processes that have a mount of this world's directory.
    pub(crate) fn processes(&self) -> Vec<String> {
        let here = self.dir.path().to_str().unwrap();
        entries(Path::new("/proc"))
            .into_iter()
            .filter(|pid| pid.parse::<u32>().is_ok())
            .filter(|pid| {
                let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"));
                mounts.is_ok_and(|text| text.contains(here))
            })
            .map(|pid| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                format!("{pid} {}", name.trim())
            })
            .collect()
    }
}

pub(crate) fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().into_string().unwrap())
        .collect()
}

/// Waits, at most ten seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
