//! A Debian (or Ubuntu) tree, really made by debootstrap(8) from the mirror that this machine's apt has, once for a target folder.
//!
//! It is made outside of the private hosts of stories, which reach no mirror. Where none answers, the stories that need it are not
//! run, and say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::world::netd_binary;

/// What the tree has beside `--variant=minbase`: two inits, machined, and a client of DHCP.
const PACKAGES: &str = "systemd,dbus,systemd-container,udhcpc,iproute2,openrc";
/// Stories that need the tree, by the beginning of their names.
const STORIES: [&str; 2] = ["debian::", "inits::"];

/// Whether a story needs the tree.
pub fn is_needed(story: &str) -> bool {
    STORIES.iter().any(|begin| story.starts_with(begin))
}

/// Where it is, once it has been made.
pub fn tree() -> PathBuf {
    let target = netd_binary().parent().unwrap().parent().unwrap().to_owned();
    target.join(format!("debian/{}-{}", suite(), PACKAGES.replace(',', "-")))
}

/// Makes it where it is missing. The error is why there can be none.
pub fn prepare() -> Result<(), NotRun> {
    static DONE: OnceLock<Result<(), NotRun>> = OnceLock::new();
    DONE.get_or_init(|| match tree().exists() {
        true => Ok(()),
        false => make(),
    })
    .clone()
}

/// Why there is no tree.
#[derive(Debug, Clone)]
pub enum NotRun {
    /// No mirror can be asked.
    NoMirror(String),
    /// The mirror answers, and yet it went wrong.
    Failed(String),
}

/// The release of this machine, which its apt has a mirror for.
fn suite() -> String {
    let about = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = about
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or("stable").trim_matches('"').to_owned()
}

/// The mirror, and its parts, as apt's own sources have them.
fn mirror() -> Result<(String, String), NotRun> {
    let none = |why: &str| NotRun::NoMirror(why.to_owned());
    let form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY)";
    let asked = Command::new("apt-get")
        .args(["indextargets", "--format", form])
        .output();
    let told = asked.map_err(|e| none(&format!("apt-get: {e}")))?.stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    let suite = suite();
    let lines: Vec<Vec<&str>> = told.lines().map(|l| l.split(' ').collect()).collect();
    let of_suite = |line: &&Vec<&str>| {
        line.len() == 4
            && line[1] == suite
            && line[3] == "Packages"
            && ["main", "universe"].contains(&line[2])
    };
    let found: Vec<_> = lines.iter().filter(of_suite).collect();
    let main = found.iter().find(|line| line[2] == "main");
    let uri = main.ok_or_else(|| none("apt's sources have none"))?[0].to_owned();
    let parts: Vec<&str> = found
        .iter()
        .filter(|line| line[0] == uri)
        .map(|line| line[2])
        .collect();
    Ok((uri, parts.join(",")))
}

fn make() -> Result<(), NotRun> {
    let (uri, parts) = mirror()?;
    let (tree, suite) = (tree(), suite());
    let folder = tree.parent().unwrap();
    fs::create_dir_all(folder).map_err(|e| NotRun::Failed(e.to_string()))?;
    let half = tempfile::Builder::new()
        .prefix(".half-")
        .tempdir_in(folder)
        .map_err(|e| NotRun::Failed(e.to_string()))?;
    // by apt's own ways: its proxies are ours
    let probe = Command::new("/usr/lib/apt/apt-helper")
        .args([
            "-o",
            "Acquire::Retries=1",
            "-o",
            "Acquire::http::Timeout=20",
            "download-file",
        ])
        .arg(format!(
            "{}/dists/{suite}/InRelease",
            uri.trim_end_matches('/')
        ))
        .arg(half.path().join("probe"))
        .output();
    if !probe.is_ok_and(|ran| ran.status.success()) {
        return Err(NotRun::NoMirror(format!("{uri} does not answer")));
    }
    let root = half.path().join("root");
    let log = folder.join("debootstrap.log");
    let ran = || -> std::io::Result<bool> {
        let output = fs::File::create(&log)?;
        // it mounts, and leaves mounts where it is interrupted
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "debootstrap",
                "--variant=minbase",
            ])
            .arg(format!("--include={PACKAGES}"))
            .arg(format!("--components={parts}"))
            .args([suite.as_str()])
            .arg(&root)
            .arg(&uri)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output);
        Ok(command.status()?.success())
    };
    match ran() {
        Ok(true) => {}
        Ok(false) => {
            let told = fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = told.lines().rev().take(5).collect();
            return Err(NotRun::Failed(format!("debootstrap: {}", last.join(" | "))));
        }
        Err(e) => return Err(NotRun::Failed(format!("debootstrap: {e}"))),
    }
    // what every copy of it would carry along for nothing
    for rest in [
        "var/cache/apt",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/locale",
        "usr/share/man",
    ] {
        empty(&root.join(rest));
    }
    match fs::rename(&root, &tree) {
        // somebody else was faster
        Err(_) if tree.exists() => Ok(()),
        done => done.map_err(|e| NotRun::Failed(e.to_string())),
    }
}

fn empty(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let _ = fs::create_dir(folder);
}
