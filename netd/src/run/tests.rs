#![allow(clippy::unwrap_used)]

use super::*;
use crate::dirs::Dirs;

fn context() -> Context {
    Context {
        dirs: Dirs {
            config: "/etc/n".into(),
            state: "/var/n".into(),
            runtime: "/run/n".into(),
        },
        json: false,
        autostart: true,
    }
}

/// `netd run WORDS…` in the spawner's words.
fn settings_of(words: &[&str]) -> Result<Settings, Error> {
    let argv = ["netd", "run"].iter().chain(words).map(|w| w.into());
    let args = cli::parse_run(argv);
    settings(&context(), args, Path::new("/usr/bin/netd"))
}

#[test]
fn the_network_comes_by_this_binary_as_the_hook() {
    let settings = settings_of(&[
        "-D",
        "/srv/web",
        "--network-zone=dmz",
        "-p",
        "tcp:8080:80",
        "--port=udp:53",
        "--label",
        "tier=front",
        "--configure=dhcp",
        "httpd",
        "-f",
    ])
    .unwrap();
    assert_eq!(settings.name.as_str(), "web");
    assert_eq!(settings.command, ["httpd", "-f"]);
    assert_eq!(settings.state_root, Path::new("/run/n/containers"));
    assert_eq!(settings.annotations["io.netd.zone"], "dmz");
    assert_eq!(settings.annotations["io.netd.publish"], "8080:80,53:53/udp");
    assert_eq!(settings.annotations["io.netd.configure"], "dhcp");
    assert_eq!(settings.labels["tier"], "front");
    let Network::Hook {
        attach,
        detach: Some(detach),
    } = settings.network
    else {
        panic!("{:?}", settings.network);
    };
    assert_eq!(attach.path, Path::new("/usr/bin/netd"));
    assert_eq!(attach.args, ["netd", "hook", "oci", "attach"]);
    assert_eq!(detach.args, ["netd", "hook", "oci", "detach"]);
    let expected = [
        "NETD_CONFIG_DIR=/etc/n",
        "NETD_STATE_DIR=/var/n",
        "NETD_RUNTIME_DIR=/run/n",
        "NETD_AUTOSTART=0",
    ];
    assert_eq!(attach.env, expected);
}

#[test]
fn networks_are_those_of_systemd_nspawn() {
    assert!(matches!(settings_of(&[]).unwrap().network, Network::Host));
    let private = settings_of(&["--private-network"]).unwrap();
    assert!(matches!(private.network, Network::Private));
    assert!(private.annotations.is_empty());
}

#[test]
fn names_are_the_directorys_or_the_process() {
    let name = |words: &[&str]| settings_of(words).map(|s| s.name.to_string());
    assert_eq!(name(&["-D", "/srv/web/"]).unwrap(), "web");
    assert_eq!(name(&["-D", "/srv/web", "-M", "db"]).unwrap(), "db");
    let own = format!("run-{}", std::process::id());
    assert_eq!(name(&[]).unwrap(), own);
    assert_eq!(name(&["-D", "/"]).unwrap(), own);
    let error = name(&["-D", "/srv/.hidden"]).unwrap_err();
    assert!(error.to_string().contains("--machine="), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn everything_else() {
    let settings = settings_of(&[
        "-U",
        "--read-only",
        "--bind=/b/c",
        "--bind=/b",
        "--bind-ro=/a:/z",
        "--tmpfs=/tmp:size=1M",
        "-E",
        "A=1",
        "-E",
        "PATH",
        "--hostname=h",
        "-u",
        "7:8",
        "--chdir=/tmp",
        "-a",
        "--pipe",
    ])
    .unwrap();
    assert!(settings.private_users && settings.read_only && settings.as_pid2);
    assert_eq!(settings.command, [SHELL]);
    // Outer mounts come first, whatever the order they are given in.
    let binds: Vec<_> = settings
        .binds
        .iter()
        .map(|b| (b.destination.to_str().unwrap(), b.read_only))
        .collect();
    assert_eq!(binds, [("/b", false), ("/b/c", false), ("/z", true)]);
    assert_eq!(settings.tmpfs[0].options, ["size=1M"]);
    let path = std::env::var("PATH").unwrap();
    let expected = [("A".to_owned(), "1".to_owned()), ("PATH".to_owned(), path)];
    assert_eq!(settings.env, expected);
    assert_eq!(settings.hostname.as_deref(), Some("h"));
    assert_eq!(settings.chdir.as_deref(), Some(Path::new("/tmp")));
    assert_eq!(settings.terminal, Terminal::Pipe);
    assert!(settings.check().is_ok());
}

#[test]
fn private_users_by_both_names() {
    let users = |words: &[&str]| settings_of(words).unwrap().private_users;
    assert!(!users(&[]));
    assert!(users(&["-U"]));
    assert!(users(&["--private-users"]));
    assert!(users(&["--private-users=pick"]));
    assert!(!users(&["--private-users=no"]));
}

#[test]
fn a_variable_that_is_not_set_is_an_error() {
    let error = settings_of(&["-E", "NETD_TEST_OF_A_VARIABLE_NOT_SET"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn without_a_root_only_the_network_is_asked_for() {
    let settings = settings_of(&[
        "--no-root",
        "--network-zone=jail",
        "--name=fetch",
        "--",
        "curl",
        "-q",
    ])
    .unwrap();
    settings.check().unwrap();
    assert!(settings.no_root && settings.directory.is_none());
    assert_eq!(settings.name.as_str(), "fetch");
    assert_eq!(settings.command, ["curl", "-q"]);
    assert!(matches!(settings.terminal, Terminal::Pipe));
    assert!(matches!(settings.network, Network::Hook { .. }));
    let hidden = Path::new("/run/systemd/resolve/io.systemd.Resolve");
    assert!(settings.hidden.iter().any(|path| path == hidden));
    let shared = settings_of(&["--no-root", "true"]).unwrap();
    let told = shared.check().unwrap_err().to_string();
    assert!(told.contains("--network-zone="), "{told}");
}
