//! What netd's doors add to the start of what others start, beside what the usual network of those costs.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Make, Starter, spec};
use crate::Options;
use crate::daemon::{Daemon, ZONE};
use crate::error::{During, Result};
use crate::ns::Netns;
use crate::sides::{empty_folder, need};
use crate::stats::Samples;

/// podman without cgroups, which a bench leaves alone.
const PODMAN: [&str; 5] = [
    "run",
    "--rm",
    "--cgroups=disabled",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
];

/// bubblewrap that waits for its network: $1 the name, $2 the zone, $3 the root, $4 netd.
const BWRAP: &str = r#"
exec 3<> <(:) 4<> <(:)
bwrap --bind "$3" / --proc /proc --dev /dev --unshare-all --info-fd 3 --block-fd 4 /bin/true &
pid=$(while read -r line <&3; do case $line in *child-pid*) echo "${line//[^0-9]/}"; break;; esac; done)
until grep -qs 127.0.0.1 "/proc/$pid/net/fib_trie" || ! kill -0 "$pid" 2>/dev/null; do sleep 0.001; done
"$4" attach "$1" --zone "$2" --label role=ten --pid "$pid" >/dev/null || { kill -9 "$pid"; exit 1; }
echo go >&4; wait $!; code=$?
"$4" detach "$1" >/dev/null
exit $code"#;

/// Every door, each after what it is compared with.
pub(super) fn starters<'a>(
    options: &Options,
    folder: &Path,
    root: &Path,
    daemon: &'a Daemon,
    others: &'a Netns,
) -> Vec<Starter<'a>> {
    let netd = Netd {
        program: daemon.command().get_program().display().to_string(),
        environment: daemon
            .command()
            .get_envs()
            .filter_map(|(key, value)| {
                Some((key.to_str()?.to_owned(), value?.to_str()?.to_owned()))
            })
            .collect(),
        root: root.display().to_string(),
    };
    let home = daemon.host();
    let unshare: Make = Box::new(|_| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "/bin/true"]);
        command
    });
    [
        ("unshare --net --mount", others, Ok(unshare)),
        ("netd run --no-root", home, Ok(netd.no_root())),
        ("bwrap, netd attach and detach", home, netd.bwrap()),
        ("crun, netd as its hook", home, netd.bundled("crun", folder)),
        ("runc, netd as its hook", home, netd.bundled("runc", folder)),
        ("podman, netd as its hook", home, netd.podman(folder)),
        (
            "podman, netavark with a bridge",
            others,
            netavark(options, folder, root),
        ),
        (
            "podman, the distribution's default network",
            others,
            packaged(root),
        ),
    ]
    .into_iter()
    .map(|(label, host, command)| Starter {
        label,
        held: "",
        host,
        command: command.map_err(|error| error.chain()),
        samples: Samples::default(),
    })
    .collect()
}

/// How netd is called.
struct Netd {
    program: String,
    environment: Vec<(String, String)>,
    root: String,
}

impl Netd {
    fn hook(&self) -> Value {
        let variables: Vec<String> = self
            .environment
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        json!({ "path": self.program, "args": ["netd", "hook", "oci"], "env": variables })
    }

    fn no_root(&self) -> Make {
        let (program, environment) = (self.program.clone(), self.environment.clone());
        Box::new(move |round| {
            let mut command = Command::new(&program);
            command.envs(environment.iter().cloned());
            command.args(["run", "--no-root", "--network-zone", ZONE]);
            command.args([
                "-M",
                &format!("bare{round}"),
                "--label",
                "role=ten",
                "--",
                "/bin/true",
            ]);
            command
        })
    }

    fn bwrap(&self) -> Result<Make> {
        need("bwrap")?;
        let shell = need("bash")?;
        let (program, environment) = (self.program.clone(), self.environment.clone());
        let root = self.root.clone();
        Ok(Box::new(move |round| {
            let mut command = Command::new(&shell);
            command.envs(environment.iter().cloned());
            command.args(["-c", BWRAP, "bash", &format!("bw{round}"), ZONE]);
            command.args([&root, &program]);
            command
        }))
    }

    /// A bundle of crun's or runc's with the hook.
    fn bundled(&self, runtime: &'static str, folder: &Path) -> Result<Make> {
        let program = need(runtime)?;
        let folder = folder.join(format!("{runtime}-hooked"));
        spec(&folder, &self.root)?;
        let file = folder.join("config.json");
        let text = fs::read_to_string(&file).during(|| format!("read {}", file.display()))?;
        let mut config: Value = serde_json::from_str(&text).unwrap_or_default();
        let hook = json!([self.hook()]);
        config["hooks"] = json!({ "createRuntime": hook, "poststop": hook });
        config["annotations"] = json!({ "io.netd.zone": ZONE, "io.netd.labels": "role=ten" });
        fs::write(&file, config.to_string()).during(|| format!("write {}", file.display()))?;
        Ok(Box::new(move |round| {
            let mut command = Command::new(&program);
            command.arg("--root").arg(folder.join("state"));
            command.args((runtime == "crun").then_some("--cgroup-manager=disabled"));
            command.args(["run", "-b"]);
            command.arg(&folder).arg(format!("{runtime}-hooked{round}"));
            command
        }))
    }

    fn podman(&self, folder: &Path) -> Result<Make> {
        let podman = need("podman")?;
        let hooks = folder.join("hooks");
        empty_folder(&hooks)?;
        let file = hooks.join("70-netd.json");
        let text = json!({
            "version": "1.0.0", "hook": self.hook(), "stages": ["createRuntime", "poststop"],
            "when": { "annotations": { "^io\\.netd\\.zone$": ".+" } },
        });
        fs::write(&file, text.to_string()).during(|| format!("write {}", file.display()))?;
        let root = self.root.clone();
        Ok(Box::new(move |round| {
            let mut command = Command::new(&podman);
            command.arg("--hooks-dir").arg(&hooks).args(PODMAN);
            command.args(["--network=none", "--annotation"]);
            command.arg(format!("io.netd.zone={ZONE}"));
            command.args(["--annotation", &format!("io.netd.name=pod{round}")]);
            command.args(["--annotation", "io.netd.labels=role=ten"]);
            command.args(["--rootfs", &root, "/bin/true"]);
            command
        }))
    }
}

/// podman with the network that it has as it comes with the distribution.
fn packaged(root: &Path) -> Result<Make> {
    let podman = need("podman")?;
    let root = root.to_owned();
    Ok(Box::new(move |_| {
        let mut command = Command::new(&podman);
        command.args(PODMAN).args(["--network=bridge", "--rootfs"]);
        command.arg(&root).arg("/bin/true");
        command
    }))
}

/// podman with the network that it has today where nobody says otherwise: netavark, a bridge, nftables.
fn netavark(options: &Options, folder: &Path, root: &Path) -> Result<Make> {
    let podman = need("podman")?;
    let peers = options.peers.join("bin");
    let peers = peers
        .canonicalize()
        .during(|| format!("find netavark in {}, run `bench setup`", peers.display()))?;
    let networks = folder.join("networks");
    empty_folder(&networks)?;
    let file = folder.join("containers.conf");
    let text = format!(
        "[network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{}\"\n\
         [engine]\nhelper_binaries_dir = [\"{}\"]\n",
        networks.display(),
        peers.display()
    );
    fs::write(&file, text).during(|| format!("write {}", file.display()))?;
    let root = root.to_owned();
    Ok(Box::new(move |_| {
        let mut command = Command::new(&podman);
        command
            .env("CONTAINERS_CONF", &file)
            .env("NETAVARK_FW", "nftables");
        command.args(PODMAN).args(["--network=bridge", "--rootfs"]);
        command.arg(&root).arg("/bin/true");
        command
    }))
}
