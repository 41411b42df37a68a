//! Images of machines: made of archives, copied, marked, packed, fetched from a server of the story's own, and started from.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::run::root;
use crate::net::netns::{Ran, run};
use crate::world::World;

pub(super) fn netd(world: &World, args: &[&str]) -> Ran {
    let mut netd = world.command();
    netd.args(args);
    world.netns.enter(|| run(&mut netd))
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An archive of the little root, made by GNU tar.
pub(super) fn archive(world: &World) -> PathBuf {
    let root = root(&world.dir);
    fs::write(root.join("etc/os-release"), "ID=box\nVERSION_ID=7\n").unwrap();
    let file = world.dir.join("box.tar.gz");
    let made = Command::new("tar")
        .arg("-czf")
        .arg(&file)
        .arg("-C")
        .arg(&root)
        .arg(".")
        .status()
        .unwrap();
    assert!(made.success());
    file
}

/// What is in the folder of images, hidden names too.
pub(super) fn kept(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.folder("state").join("machines"))
        .into_iter()
        .flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn names(world: &World) -> Vec<String> {
    let list = netd(world, &["images", "--json"]).json();
    let of = |image: &serde_json::Value| image["name"].as_str().unwrap().to_owned();
    list.as_array()
        .unwrap()
        .iter()
        .map(of)
        .filter(|name| kept(world).iter().any(|k| k.starts_with(name.as_str())))
        .collect()
}

pub fn a_whole_life() {
    let world = World::new("images");
    let file = archive(&world);
    let machines = world.folder("state").join("machines");
    netd(&world, &["import-tar", text(&file)]).ok();
    netd(&world, &["import-tar", text(&file)]).fails(1);
    assert_eq!(kept(&world), ["box"]);
    fs::write(machines.join("box.nspawn"), "[Exec]\nBoot=no\n").unwrap();
    netd(&world, &["clone", "box", "copy"]).ok();
    netd(&world, &["read-only", "copy"]).ok();
    let table = netd(&world, &["images"]).ok();
    let line = table
        .lines()
        .find(|line| line.starts_with("copy "))
        .unwrap();
    assert!(
        line.split_whitespace()
            .take(3)
            .eq(["copy", "directory", "ro"]),
        "{table}"
    );
    let written = fs::write(machines.join("copy/new"), "x");
    assert!(written.is_err(), "the mark holds nobody");
    netd(&world, &["rename", "copy", "other"]).ok();
    assert!(machines.join("other.nspawn").exists());
    // a disk, its holes kept
    let disk = world.dir.join("disk.raw");
    fs::File::create(&disk).unwrap().set_len(2 << 20).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&disk)
        .unwrap()
        .write_all(b"end")
        .unwrap();
    netd(&world, &["import-raw", text(&disk)]).ok();
    assert!(fs::metadata(machines.join("disk.raw")).unwrap().blocks() < 1000);
    for suffix in ["gz", "xz", "zst", "bz2"] {
        let packed = world.dir.join(format!("box.tar.{suffix}"));
        netd(&world, &["export-tar", "box", text(&packed), "--force"]).ok();
        netd(&world, &["import-tar", text(&packed), "again", "--force"]).ok();
        let tool = Command::new("tar")
            .arg("-tf")
            .arg(&packed)
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&tool.stdout).contains("./etc/os-release"),
            "GNU tar cannot read {suffix}"
        );
        let packed = world.dir.join(format!("disk.raw.{suffix}"));
        netd(&world, &["export-raw", "disk", text(&packed)]).ok();
        netd(&world, &["import-raw", text(&packed), "disk", "--force"]).ok();
    }
    assert!(fs::read(machines.join("disk.raw")).unwrap() == fs::read(&disk).unwrap());
    netd(&world, &["export-tar", "disk", "-"]).fails(1);
    assert_eq!(names(&world), ["again", "box", "disk", "other"]);
    // one that runs is not taken away
    let mut running = world.command();
    running.args([
        "run",
        "-q",
        "-M",
        "c1",
        "-D",
        text(&machines.join("box")),
        "--",
        "/bin/sleep",
        "1000",
    ]);
    let mut running = world
        .netns
        .enter(|| running.stdin(Stdio::null()).spawn())
        .unwrap();
    until("it runs", || {
        netd(&world, &["exec", "c1", "--", "true"]).code == 0
    });
    let refused = netd(&world, &["remove", "box"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("c1"),
        "{refused}"
    );
    netd(&world, &["stop", "c1"]).ok();
    running.wait().unwrap();
    netd(&world, &["remove", "box", "other", "again", "disk"]).ok();
    netd(&world, &["remove", "box"]).fails(3);
    netd(&world, &["clone", "../etc", "x"]).fails(2);
    assert!(kept(&world).is_empty(), "{:?}", kept(&world));
}

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "not yet: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn archives_of_strangers_stay_in_their_tree() {
    let world = World::new("images-evil");
    let precious = world.dir.join("precious");
    fs::write(&precious, "mine").unwrap();
    let tar = |name: &str, script: &str| {
        let dir = world.dir.join(format!("make-{name}"));
        fs::create_dir(&dir).unwrap();
        let file = world.dir.join(format!("{name}.tar"));
        let script = format!(
            "set -e; cd {}; {}",
            dir.display(),
            script
                .replace("OUT", text(&file))
                .replace("DIR", text(&world.dir))
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        file
    };
    let evil = [
        tar(
            "dots",
            "echo x >evil; tar -cPf OUT --transform 's,^,../../../../,' evil",
        ),
        tar(
            "absolute",
            "echo x >evil; tar -cPf OUT --transform 's,^,DIR/,' evil",
        ),
        tar(
            "link",
            "ln -s DIR door; tar -cf OUT door; rm door; mkdir door; echo x >door/evil; tar -rf OUT door/evil",
        ),
        tar(
            "hard",
            "ln -s DIR/precious a; tar -cf OUT a; rm a; echo evil >a; ln a b; tar -rf OUT a b",
        ),
    ];
    for file in &evil {
        let ran = netd(&world, &["import-tar", text(file), "evil", "--force"]);
        assert!(ran.code <= 1, "{ran}");
        assert!(
            !world.dir.join("evil").exists() && !Path::new("/evil").exists(),
            "{ran}"
        );
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine", "{ran}");
    }
    // devices are the host's
    let devices = tar(
        "devices",
        "mknod sda b 8 0; mknod mem c 1 1; echo x >file; tar -cf OUT sda mem file",
    );
    let ran = netd(&world, &["import-tar", text(&devices), "devices"]);
    assert!(ran.stderr.contains("2 device nodes"), "{ran}");
    let machines = world.folder("state").join("machines");
    assert!(!machines.join("devices/sda").exists() && machines.join("devices/file").exists());
    // cut off, or killed on the way: nothing is left of it, also where nobody could clean up
    let whole = fs::read(archive(&world)).unwrap();
    let cut = world.dir.join("cut.tar.gz");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    netd(&world, &["import-tar", text(&cut)]).fails(1);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let mut import = world.command();
        import
            .args(["import-tar", "-", "slow"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        let mut import = import.spawn().unwrap();
        let mut input = import.stdin.take().unwrap();
        input.write_all(&whole[..whole.len() / 2]).unwrap();
        until("it began", || {
            netd(&world, &["list-transfers", "--json"]).json()[0]["verb"] == "import-tar"
        });
        until("it is on disk", || {
            kept(&world)
                .iter()
                .any(|name| name.starts_with(".#image.slow"))
        });
        crate::world::signal(import.id(), signal);
        drop(input);
        import.wait().unwrap();
        assert_eq!(
            netd(&world, &["list-transfers", "--json"]).json(),
            serde_json::json!([])
        );
    }
    netd(
        &world,
        &["import-tar", text(&archive_again(&world)), "next"],
    )
    .ok();
    let hidden: Vec<String> = kept(&world)
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    assert!(!machines.join("slow").exists() && !machines.join("cut").exists());
}

fn archive_again(world: &World) -> PathBuf {
    world.dir.join("box.tar.gz")
}

/// A web server that knows ranges, breaks off where it is told to, and tells what it was asked.
pub(super) struct Web {
    asked: Arc<Mutex<Vec<String>>>,
    break_after: Arc<AtomicU64>,
}

impl Web {
    pub(super) fn serve(world: &World, folder: &Path) -> Self {
        let listener = world
            .outside
            .enter(|| TcpListener::bind(("192.0.2.2", 8000)).unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let break_after = Arc::new(AtomicU64::new(u64::MAX));
        let (log, limit, folder) = (asked.clone(), break_after.clone(), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut request = Vec::new();
                while let Some(Ok(line)) = lines.next() {
                    if line.is_empty() {
                        break;
                    }
                    request.push(line);
                }
                let Some(path) = request.first().and_then(|line| line.split(' ').nth(1)) else {
                    continue;
                };
                let lower = |name: &str| {
                    request.iter().find_map(|l| {
                        Some(l.to_ascii_lowercase().strip_prefix(name)?.trim().to_owned())
                    })
                };
                let range = lower("range:").and_then(|r| {
                    r.strip_prefix("bytes=")?
                        .strip_suffix('-')?
                        .parse::<usize>()
                        .ok()
                });
                log.lock()
                    .unwrap()
                    .push(format!("{path} {}", range.unwrap_or(0)));
                let mut stream = stream;
                let Ok(body) = fs::read(folder.join(&path[1..])) else {
                    let _ = stream.write_all(
                        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    );
                    continue;
                };
                let tag = format!("\"{}\"", body.len());
                let from = range
                    .filter(|_| lower("if-range:").is_some_and(|t| t == tag))
                    .unwrap_or(0);
                let status = match from {
                    0 => "200 OK".to_owned(),
                    from => format!(
                        "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                        body.len() - 1,
                        body.len()
                    ),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nETag: {tag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len() - from
                );
                let end = body
                    .len()
                    .min(usize::try_from(limit.load(Ordering::SeqCst)).unwrap_or(usize::MAX));
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body[from..end.max(from)]));
                if end < body.len() {
                    // a server that stalls until its client has gone
                    let _ = stream.read(&mut [0]);
                }
            }
        });
        Self { asked, break_after }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

pub fn pulled_verified_and_resumed() {
    let world = World::new("images-pull");
    let file = archive(&world);
    let site = world.dir.join("site");
    fs::create_dir(&site).unwrap();
    fs::copy(&file, site.join("box.tar.gz")).unwrap();
    let web = Web::serve(&world, &site);
    let url = "http://192.0.2.2:8000/box.tar.gz";
    // without sums nothing is verified, and nothing is even fetched
    let refused = netd(&world, &["pull-tar", url]);
    assert!(
        refused.code == 1 && refused.stderr.contains("SHA256SUMS"),
        "{refused}"
    );
    assert!(
        !web.asked()
            .iter()
            .any(|asked| asked.starts_with("/box.tar.gz "))
    );
    netd(&world, &["pull-tar", url, "trusting", "--verify=no"]).ok();
    let sum = |name: &str| {
        let out = Command::new("sha256sum")
            .arg(name)
            .current_dir(&site)
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let good = sum("box.tar.gz");
    fs::write(
        site.join("SHA256SUMS"),
        format!("{}  box.tar.gz\n", "0".repeat(64)),
    )
    .unwrap();
    let wrong = netd(&world, &["pull-tar", url, "--verify=checksum"]);
    assert!(
        wrong.code == 1 && wrong.stderr.contains("SHA256"),
        "{wrong}"
    );
    assert_eq!(kept(&world), ["trusting"], "what was wrong is not kept");
    fs::write(site.join("SHA256SUMS"), &good).unwrap();
    web.asked();
    // it breaks off, and goes on from there
    let size = fs::metadata(&file).unwrap().len();
    web.break_after.store(size / 2, Ordering::SeqCst);
    let mut pull = world.command();
    pull.args(["pull-tar", url, "--verify=checksum"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut pull = world.netns.enter(|| pull.spawn()).unwrap();
    let half = || {
        kept(&world).iter().any(|name| {
            let path = world.folder("state").join("machines").join(name);
            name.starts_with(".download")
                && fs::metadata(path).is_ok_and(|meta| meta.len() == size / 2)
        })
    };
    until("half of it is there", half);
    pull.kill().unwrap();
    pull.wait().unwrap();
    web.break_after.store(u64::MAX, Ordering::SeqCst);
    web.asked();
    netd(&world, &["pull-tar", url, "--verify=checksum"]).ok();
    assert!(
        web.asked().contains(&format!("/box.tar.gz {}", size / 2)),
        "it began anew"
    );
    assert_eq!(kept(&world), ["box", "trusting"]);
    netd(&world, &["pull-tar", url, "--verify=no"]).fails(1);
    // signed, by somebody who is known
    let home = world.dir.join("gpg");
    fs::create_dir(&home).unwrap();
    let gpg = |args: &str| {
        let script = format!(
            "cd {}; chmod 700 {h}; gpg --homedir {h} --batch --quiet --passphrase '' {args}",
            site.display(),
            h = home.display()
        );
        let ran = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    gpg("--quick-gen-key maker@example.org ed25519 sign");
    gpg("--output SHA256SUMS.gpg --detach-sign SHA256SUMS");
    gpg("--output ../keys.gpg --export");
    let unknown = netd(&world, &["pull-tar", url, "signed"]);
    assert!(
        unknown.code == 1 && unknown.stderr.contains("keyring")
            || unknown.stderr.contains("signature"),
        "{unknown}"
    );
    let keyring = format!("--keyring={}", world.dir.join("keys.gpg").display());
    netd(
        &world,
        &["pull-tar", url, "signed", &keyring, "--read-only"],
    )
    .ok();
    fs::write(site.join("SHA256SUMS"), format!("{good}\n")).unwrap();
    netd(&world, &["pull-tar", url, "forged", &keyring]).fails(1);
    let _ = Command::new("gpgconf")
        .arg("--homedir")
        .arg(&home)
        .args(["--kill", "all"])
        .status();
    // called off: nothing is left
    web.break_after.store(size / 2, Ordering::SeqCst);
    let mut pull = world.command();
    pull.args(["pull-tar", url, "off", "--verify=no"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut pull = world.netns.enter(|| pull.spawn()).unwrap();
    until("half of it is there", half);
    let id = netd(&world, &["list-transfers", "--json"]).json()[0]["id"].to_string();
    netd(&world, &["cancel-transfer", &id]).ok();
    assert!(!pull.wait().unwrap().success());
    netd(&world, &["cancel-transfer", &id]).fails(3);
    // it answers again, with a part that was kept or without one
    web.break_after.store(u64::MAX, Ordering::SeqCst);
    netd(&world, &["pull-tar", url, "off", "--verify=no"]).ok();
    netd(&world, &["read-only", "signed", "no"]).ok();
    assert_eq!(kept(&world), ["box", "off", "signed", "trusting"]);
}

pub fn a_unit_starts_a_machine_at_boot() {
    let world = World::new("images-enable");
    netd(&world, &["import-tar", text(&archive(&world))]).ok();
    let units = world.dir.join("units");
    let dir = format!("--unit-dir={}", units.display());
    netd(&world, &["enable", "none", &dir]).fails(3);
    netd(&world, &["enable", "box", &dir]).ok();
    netd(&world, &["enable", "box", &dir]).ok();
    let unit = units.join("netd-machine-box.service");
    let link = units.join("machines.target.wants/netd-machine-box.service");
    assert_eq!(
        fs::canonicalize(&link).unwrap(),
        fs::canonicalize(&unit).unwrap()
    );
    // of the units it names, ours need not be installed here
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verify.stderr);
    assert!(!said.contains("netd-machine-box.service:"), "{said}");
    netd(&world, &["disable", "box", &dir]).ok();
    netd(&world, &["disable", "box", &dir]).ok();
    assert!(!unit.exists() && fs::symlink_metadata(&link).is_err());
}
