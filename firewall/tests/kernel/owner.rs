//! Nobody else changes the tables: not while the daemon lives, nor after it died.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use firewall::kernel::{Tables, TablesError, keeper};
use firewall::sets::Action;

use crate::elements::{EGRESS, INGRESS, zone};
use crate::lab::{Lab, bare_host, privileged, sh, try_sh};
use crate::probe::{serve, tcp};

/// What somebody's scripts might do; each must fail, or change nothing of ours.
const ATTACKS: [&str; 8] = [
    "nft flush ruleset",
    "nft delete table inet netd",
    "nft delete table bridge netd",
    "nft flush table inet netd",
    "nft flush chain inet netd forward",
    "nft flush set inet netd own4",
    "nft add rule inet netd forward accept",
    "nft delete element inet netd own4 '{ 10.99.0.11 }'",
];

/// Everything but counters and meters, which a packet of the lab may change at any time.
/// nft names the process that has the owner's number, whoever that is by now.
const LISTED: &str =
    "nft list ruleset | grep -v counter | sed '/set rate_/,/^\t}/d; s/ # progname .*//'";

fn attack(tables: &mut Tables, elements: &[firewall::sets::Element]) {
    let before = sh(LISTED);
    for attack in ATTACKS {
        let (ok, out) = try_sh(attack);
        // A flush of everything succeeds and leaves owned tables out.
        assert!(!ok || attack == "nft flush ruleset", "{attack}: {out}");
        assert_eq!(sh(LISTED), before, "{attack}");
    }
    assert_eq!(tables.verify(elements).unwrap(), [""; 0]);
}

#[test]
fn owned_tables_withstand_other_programs() {
    let Some(mut lab) = Lab::new() else { return };
    let elements = lab.base();
    attack(&mut lab.tables, &elements);
    // Another daemon is told so.
    let mut other = Tables::open(None).unwrap();
    assert!(matches!(
        other.install(&[], &[]),
        Err(TablesError::Owned { .. })
    ));
    assert!(matches!(other.remove(), Err(TablesError::Owned { .. })));
    attack(&mut lab.tables, &elements);
}

#[test]
fn orphans_are_adopted_and_plain_tables_replaced() {
    let Some(mut lab) = Lab::new() else { return };
    let elements = lab.base();
    // The owner dies: the tables persist, but anybody can change them.
    lab.tables = Tables::open(None).unwrap();
    assert!(sh("nft list ruleset").contains("10.99.0.11"));
    sh("nft delete element inet netd own4 '{ 10.99.0.11 }'");
    sh("nft add chain inet netd stray; nft add set inet netd strays '{ type mark; }'");
    sh(
        "nft add rule inet netd stray meta mark @strays accept; nft insert rule inet netd forward jump stray",
    );
    lab.tables.install(&elements, &[]).unwrap();
    assert!(!sh("nft list ruleset").contains("stray"));
    attack(&mut lab.tables, &elements);
    // A plain table of that name, of whatever content.
    lab.tables.remove().unwrap();
    sh(
        "nft add table inet netd; nft add chain inet netd forward '{ type filter hook forward priority 5; }'",
    );
    sh("nft add set inet netd own4 '{ type ipv6_addr; }'; nft add table bridge netd");
    lab.tables.install(&elements, &[]).unwrap();
    attack(&mut lab.tables, &elements);
}

/// A process of its own that holds the socket, as `netd keep` does: this test's binary again.
struct Keeper {
    child: std::process::Child,
    path: PathBuf,
}

const PATH: &str = "NETD_TEST_KEEPER";

/// Not a story: the keeper's process, when the stories below start it.
#[test]
fn keeper_process() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let stdin = std::io::stdin();
    let fd = std::os::fd::AsFd::as_fd(&stdin)
        .try_clone_to_owned()
        .unwrap();
    // libtest's own descriptors are closed with the others; so end without it.
    let code = match keeper::serve(Path::new(&path), vec![fd], &mut ()) {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    };
    std::process::exit(code);
}

impl Keeper {
    fn start(socket: OwnedFd, folder: &Path) -> Self {
        let path = folder.join("keeper.sock");
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "owner::keeper_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(PATH, &path)
            .stdin(socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while !path.exists() {
            assert!(Instant::now() < end, "the keeper does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The name is bound a moment before it listens.
        std::thread::sleep(Duration::from_millis(50));
        Self { child, path }
    }

    /// How it ended, if it does within two seconds.
    fn ends(&mut self) -> Option<std::process::ExitStatus> {
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn duplicate(tables: &Tables) -> OwnedFd {
    tables.socket().try_clone_to_owned().unwrap()
}

#[test]
fn with_a_keeper_the_tables_stay_owned_while_the_daemon_is_dead() {
    let Some(mut lab) = Lab::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    serve(&lab.c(2).ns, 80);
    serve(&lab.c(3).ns, 80);
    let mut elements = lab.base();
    elements.extend(lab.c(1).group(EGRESS, Action::Allow, zone(0), None));
    elements.extend(lab.c(2).group(INGRESS, Action::Allow, zone(0), None));
    lab.tables.install(&elements, &[]).unwrap();
    let mut keeper = Keeper::start(duplicate(&lab.tables), folder.path());
    // The daemon dies. (Its place is taken by a socket that owns nothing.)
    lab.tables = Tables::open(None).unwrap();
    let before = sh(LISTED);
    for attack in ATTACKS {
        let (ok, out) = try_sh(attack);
        assert!(!ok || attack == "nft flush ruleset", "{attack}: {out}");
        assert_eq!(sh(LISTED), before, "{attack}");
    }
    assert!(tcp(&lab.c(1).ns, lab.c(2).ip4, 80).is_open());
    assert!(!tcp(&lab.c(1).ns, lab.c(3).ip4, 80).is_open());
    // A new daemon takes the socket, and owns them.
    let socket = keeper::take(&keeper.path).unwrap();
    lab.tables = Tables::open(socket).unwrap();
    lab.tables.install(&elements, &[]).unwrap();
    assert_eq!(lab.tables.verify(&elements).unwrap(), [""; 0]);
    assert_eq!(
        sh("nft list ruleset | grep -c chain"),
        before.matches("chain ").count().to_string() + "\n"
    );
    // The keeper is small, holds nothing else, and is called by its name.
    let status = std::fs::read_to_string(format!("/proc/{}/status", keeper.child.id())).unwrap();
    let fds = std::fs::read_dir(format!("/proc/{}/fd", keeper.child.id()))
        .unwrap()
        .count();
    assert!(fds <= 7, "{fds}");
    assert!(status.contains("Name:"), "{status}");
    keeper::dismiss(&keeper.path).unwrap();
    assert_eq!(keeper.ends().and_then(|s| s.code()), Some(0));
    assert!(!keeper.path.exists());
    assert!(keeper::take(&keeper.path).unwrap().is_none());
    keeper::dismiss(&keeper.path).unwrap();
}

#[test]
fn a_keeper_goes_when_its_path_does() {
    if !privileged() {
        return;
    }
    bare_host();
    let tables = Tables::open(None).unwrap();
    for gone in ["socket", "folder"] {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::start(duplicate(&tables), folder.path());
        assert!(keeper.child.try_wait().unwrap().is_none());
        match gone {
            "socket" => std::fs::remove_file(&keeper.path).unwrap(),
            _ => drop(folder),
        }
        assert_eq!(keeper.ends().and_then(|s| s.code()), Some(0), "{gone}");
    }
    // A second keeper at the same path relieves the first.
    let folder = tempfile::tempdir().unwrap();
    let mut first = Keeper::start(duplicate(&tables), folder.path());
    let second = Keeper::start(duplicate(&tables), folder.path());
    assert_eq!(first.ends().and_then(|s| s.code()), Some(0));
    assert!(keeper::take(&second.path).unwrap().is_some());
}

#[test]
fn what_a_killed_daemon_left_in_the_socket_does_no_harm() {
    if !privileged() {
        return;
    }
    bare_host();
    let mut dead = Tables::open(None).unwrap();
    dead.install(&[], &[]).unwrap();
    let fd = duplicate(&dead);
    // An acknowledgement that nobody read: a request for the ruleset's generation, and its answer.
    let mut request = Vec::new();
    for word in [20u32, 0x0005_0a10, 7, 0, 0] {
        request.extend(word.to_ne_bytes());
    }
    for _ in 0..20 {
        rustix::net::send(&fd, &request, rustix::net::SendFlags::empty()).unwrap();
    }
    drop(dead);
    let mut heir = Tables::open(Some(fd)).unwrap();
    heir.install(&[], &[]).unwrap();
    assert_eq!(heir.verify(&[]).unwrap(), [""; 0]);
    heir.remove().unwrap();
}
