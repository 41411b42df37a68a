//! machinectl's verbs where a terminal, a web server or a program reads what they say.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::images::{Web, archive, kept, netd, text, until};
use super::run::root;
use super::visit::{FOREVER, start};
use crate::net::netns::run;
use crate::schema;
use crate::world::{World, netd_binary};

/// Somebody at a terminal, who reads what is on it.
struct Typist {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<String>>,
}

impl Typist {
    fn at(world: &World, line: &str) -> Self {
        let mut script = Command::new("script");
        script.args(["-qec", line, "/dev/null"]);
        for (key, value) in world.command().get_envs() {
            script.env(key, value.unwrap_or_default());
        }
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = world.netns.enter(|| script.spawn()).unwrap();
        let seen: Arc<Mutex<String>> = Arc::default();
        let (mut screen, shown) = (child.stdout.take().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                shown.lock().unwrap().push_str(&text);
            }
        });
        Self {
            keys: child.stdin.take().unwrap(),
            child,
            seen,
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn sees(&self, words: &str) {
        until(
            &format!("{words:?} on the terminal: {:?}", self.screen()),
            || self.screen().contains(words),
        );
    }

    fn screen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    fn ends(mut self) -> i32 {
        // not waited for without end
        let pid = self.child.id();
        until("it ends", || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state
                .rsplit(") ")
                .next()
                .is_none_or(|rest| rest.starts_with('Z'))
        });
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a terminal of the container's shows nothing of what is typed: busybox's login asks first, and turns
/// that off after.
fn listens_in_silence(world: &World) {
    let all = "for tty in /dev/pts/[0-9]*; do stty -a <$tty; done";
    until("the terminal shows nothing", || {
        let told = netd(world, &["exec", "c1", "--", "/bin/sh", "-c", all]).ok();
        told.split_whitespace().any(|word| word == "-echo")
    });
}

pub fn a_login_asks_for_name_and_password() {
    let world = World::without_daemon("verbs-login");
    let root = root(&world.dir);
    let _container = start(&world, &root, "-M c1", FOREVER);
    // without a program for it that is said
    let told = netd(&world, &["login", "c1"]).fails(1);
    assert!(told.contains("netd shell c1"), "{told}");
    symlink("busybox", root.join("bin/login")).unwrap();
    for tool in ["tty", "stty"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    // the word is "secret", by mkpasswd -m des -S ab
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:abNANd1rDfiNc:33:33:web:/srv:/bin/sh\n",
    )
    .unwrap();
    let line = format!("{} login c1", netd_binary().display());
    let mut typist = Typist::at(&world, &line);
    typist.sees("login:");
    typist.types("web\n");
    typist.sees("Password:");
    listens_in_silence(&world);
    typist.types("wrong\n");
    typist.sees("incorrect");
    typist.sees("login:");
    typist.types("web\n");
    until("the second question", || {
        typist.screen().matches("Password:").count() == 2
    });
    listens_in_silence(&world);
    typist.types("secret\n");
    typist.sees("$ ");
    assert!(!typist.screen().contains("secret"), "the word was shown");
    typist.types("echo me-$(id -u)-$(pwd)-$(tty)\n");
    typist.sees("me-33-/srv-/dev/pts/");
    typist.types("exit\n");
    assert_eq!(typist.ends(), 0);
}

pub fn a_shell_has_job_control_and_is_left_by_its_escape() {
    let world = World::without_daemon("verbs-shell");
    let root = root(&world.dir);
    for tool in ["tty", "stty"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    let _container = start(&world, &root, "-M c1", FOREVER);
    let line = format!("stty cols 77 rows 19; {} shell c1", netd_binary().display());
    let mut typist = Typist::at(&world, &line);
    typist.sees("# ");
    typist.types("stty size; echo on-$(tty)\n");
    typist.sees("19 77");
    typist.sees("on-/dev/pts/");
    typist.types("sleep 4715; echo ended-$?\n");
    let sleeps =
        || crate::machine::pids().any(|pid| crate::machine::command_line(pid) == "sleep 4715");
    until("it sleeps", sleeps);
    typist.types("\u{3}");
    until("^C ends it", || !sleeps());
    typist.types("sleep 4715\n");
    until("it sleeps", sleeps);
    typist.types("\u{1a}");
    typist.sees("Stopped");
    typist.types("jobs; kill %1; fg; echo after-$((40 + 2))\n");
    typist.sees("after-42");
    until("the job is gone", || !sleeps());
    // a background job is the container's, and the escape ends the visit only
    typist.types("sleep 4716 & echo begun-$((1 + 1))\n");
    typist.sees("begun-2");
    typist.types("\u{1d}\u{1d}\u{1d}");
    assert_ne!(typist.ends(), 0);
    assert_eq!(
        netd(&world, &["exec", "c1", "--", "echo", "there"]).ok(),
        "there\n"
    );
    // who the terminal belongs to gets it back as it was
    let line = format!(
        "stty -g >before; {} shell c1 /bin/true; stty -g >after; cmp before after && echo the-same",
        netd_binary().display()
    );
    let typist = Typist::at(&world, &format!("cd {}; {line}", world.dir.display()));
    typist.sees("the-same");
}

pub fn disks_come_by_https_and_from_nobody_unknown() {
    let world = World::new("verbs-https");
    let site = world.dir.join("site");
    fs::create_dir(&site).unwrap();
    let mut disk = vec![0u8; 3 << 20];
    disk[1 << 20..(1 << 20) + 5].copy_from_slice(b"words");
    fs::write(site.join("disk.raw"), &disk).unwrap();
    let sh = |script: &str| {
        let ran = run(Command::new("sh").args(["-ec", script]).current_dir(&site));
        ran.ok()
    };
    sh("xz -k disk.raw; sha256sum disk.raw.xz >SHA256SUMS");
    // plain first
    let _web = Web::serve(&world, &site);
    let url = "http://192.0.2.2:8000/disk.raw.xz";
    netd(&world, &["pull-raw", url, "--verify=checksum"]).ok();
    let machines = world.folder("state").join("machines");
    assert!(fs::read(machines.join("disk.raw")).unwrap() == disk);
    assert!(fs::metadata(machines.join("disk.raw")).is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt;
        meta.blocks() * 512 < 1 << 20
    }));
    netd(&world, &["pull-raw", url, "--verify=checksum"]).fails(1);
    netd(&world, &["pull-raw", url, "--verify=checksum", "--force"]).ok();
    // the same by TLS
    sh(
        "cd ..; openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=maker -keyout ca.key -out ca.pem 2>/dev/null; \
        openssl req -newkey rsa:2048 -nodes -subj /CN=story -keyout key.pem -out request.pem 2>/dev/null; \
        printf 'subjectAltName=IP:192.0.2.2\nbasicConstraints=CA:FALSE\n' >how; \
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile how -out cert.pem 2>/dev/null",
    );
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-WWW", "-accept", "192.0.2.2:8443"]);
    server
        .args(["-key", "../key.pem", "-cert", "../cert.pem"])
        .current_dir(&site);
    server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut server = world.outside.enter(|| server.spawn()).unwrap();
    let url = "https://192.0.2.2:8443/disk.raw.xz";
    let pull = |trusted: &Path, name: &str| {
        let mut pull = world.command();
        pull.args(["pull-raw", url, name, "--verify=checksum"])
            .env("SSL_CERT_FILE", trusted);
        world.netns.enter(|| run(&mut pull))
    };
    let certificate = world.dir.join("ca.pem");
    until("the server answers", || {
        pull(&certificate, "secure").code == 0
    });
    assert!(fs::read(machines.join("secure.raw")).unwrap() == disk);
    let unknown = pull(Path::new("/etc/ssl/certs/ca-certificates.crt"), "unknown");
    assert!(
        unknown.code == 1 && unknown.stderr.contains("certificate"),
        "{unknown}"
    );
    let nobody = pull(Path::new("/dev/null"), "unknown");
    assert_eq!(nobody.code, 1, "{nobody}");
    let _ = server.kill();
    let _ = server.wait();
    assert!(kept(&world).iter().all(|name| !name.contains("unknown")));
}

pub fn every_document_keeps_to_its_schema() {
    let world = World::new("verbs-schemas");
    // every command that there is has a schema, or prints what somebody else writes
    let mut commands = Vec::new();
    let listed = |line: &str| -> Vec<String> {
        let help = world.netd(line).ok();
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let named = commands.take_while(|line| !line.is_empty());
        named
            .filter_map(|line| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned()))
            .filter(|word| !word.is_empty())
            .collect()
    };
    for command in listed("--help") {
        match command.as_str() {
            "zone" | "policy" | "lease" => {
                let inner = listed(&format!("{command} --help"));
                commands.extend(
                    inner
                        .into_iter()
                        .filter(|word| word != "help")
                        .map(|word| format!("{command} {word}")),
                );
            }
            _ => commands.push(command),
        }
    }
    assert!(commands.len() > 40, "{commands:?}");
    let unknown: Vec<_> = commands
        .iter()
        .filter(|command| !schema::is_known(command))
        .collect();
    assert!(unknown.is_empty(), "no schema: {unknown:?}");
    // each that changes nothing or that can be done here, by the check that every story goes through
    let file = archive(&world);
    let file = text(&file);
    let ask = |line: &str| world.netd(&format!("{line} --json")).json();
    for line in [
        "zone create web",
        "zone show web",
        "zone set web --mtu 1400",
        "zone list",
        &format!("import-tar {file}"),
        "images",
        "clone box copy",
        "rename copy other",
        "read-only other",
        "read-only other no",
        "list-transfers",
        &format!("export-tar box {}/packed.tar.xz", world.dir.display()),
        &format!("enable box --unit-dir={}/units", world.dir.display()),
        &format!("disable box --unit-dir={}/units", world.dir.display()),
        "remove other",
        "lease list",
        "status",
        "reload",
        "policy check",
    ] {
        ask(line);
    }
    let little = world.dir.join("root");
    let _container = start(
        &world,
        &little,
        "-M c1 --network-zone=web -p 8080:80 --label=a=b",
        FOREVER,
    );
    let _apart = start(
        &world,
        &little,
        "-M c2 --private-network --read-only",
        FOREVER,
    );
    world.policy(
        "c1",
        "[[egress]]\nto = [\"192.0.2.0/24\"]\nports = [\"tcp/80\"]\n",
    );
    let dir = world.dir.display().to_string();
    for line in [
        "list",
        "status c1",
        "status c2",
        "show c1",
        "policy show c1",
        "policy learn c1 --forget",
        "explain c1 192.0.2.2 tcp/80",
        "lease list",
        &format!("copy-to c1 {file} /srv/box"),
        &format!("copy-from c1 /srv/box {dir}/box"),
        &format!("bind c1 {dir}/box /srv/shown --mkdir"),
        "kill -s CONT c1",
        "stop c2",
        "stop c1",
        "zone delete web",
    ] {
        let ran = world.netd(&format!("{line} --json"));
        // an explanation's code is its verdict
        assert!(
            ran.code == 0 || line.starts_with("explain"),
            "{line}: {ran}"
        );
    }
}
