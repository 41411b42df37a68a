#![allow(clippy::unwrap_used)]

use std::path::Path;

use spawner::{Hook, Network, PrivateUsers, Terminal};

use super::settings::{SHELL, settings};
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
    let root = Root::find(&context(), &args);
    settings(
        &context(),
        &args,
        &root,
        Path::new("/usr/bin/netd"),
        Hooks::default(),
    )
}

#[test]
fn options_become_settings() {
    let settings = settings_of(&[
        "-D",
        "/srv/web",
        "--network-zone=dmz",
        "-p",
        "tcp:8080:80",
        "--port=udp:53",
        "--label",
        "tier=front",
        "--bandwidth=egress=20mbit",
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
    assert_eq!(settings.annotations["io.netd.bandwidth"], "egress=20mbit");
    assert_eq!(settings.labels["tier"], "front");
    assert!(matches!(settings.network, Network::Caller(_)));
}

#[test]
fn the_last_word_counts_and_a_variable_may_be_missing() {
    let words = "--user=a --user=b -P --console=interactive -E NETD_TEST_NOT_SET --read-only --read-only --private-users-chown \
        --private-users-ownership=map --private-users=5:6 -U true";
    let settings = settings_of(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
    assert_eq!(settings.user, Some("b".parse().unwrap()));
    assert!(matches!(settings.terminal, Terminal::Interactive));
    let missing = ("NETD_TEST_NOT_SET".to_owned(), String::new());
    assert_eq!(settings.env, [missing]);
    assert_eq!(settings.ownership, spawner::Ownership::Map);
    assert_eq!(settings.private_users, PrivateUsers::Pick);
    let chown = settings_of(&["--private-users-chown", "true"]).unwrap();
    assert_eq!(chown.ownership, spawner::Ownership::Chown);
}

#[test]
fn before_hooks_of_a_bundle_the_network_is_a_hook_too() {
    let argv = ["netd", "run", "--network-zone=dmz", "--", "true"];
    let args = cli::parse_run(argv.iter().map(|w| w.into()));
    let other = Hook {
        path: "/bin/other".into(),
        args: vec!["other".into()],
        env: Vec::new(),
        timeout: None,
    };
    let hooks = Hooks {
        create_runtime: vec![other],
        poststop: Vec::new(),
    };
    let binary = Path::new("/usr/bin/netd");
    let settings = settings(&context(), &args, &Root::Host, binary, hooks).unwrap();
    assert_eq!(settings.hooks.create_runtime.len(), 1);
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
    assert_eq!(settings.private_users, PrivateUsers::Pick);
    assert!(settings.read_only && settings.as_pid2);
    assert_eq!(settings.command, [SHELL]);
    let binds: Vec<_> = settings
        .binds
        .iter()
        .map(|b| (b.destination.to_str().unwrap(), b.read_only))
        .collect();
    assert_eq!(binds, [("/b/c", false), ("/b", false), ("/z", true)]);
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
    assert_eq!(users(&[]), PrivateUsers::No);
    for pick in [
        "-U",
        "--private-users",
        "--private-users=pick",
        "--private-users=yes",
    ] {
        assert_eq!(users(&[pick]), PrivateUsers::Pick, "{pick}");
    }
    assert_eq!(users(&["--private-users=no"]), PrivateUsers::No);
    assert_eq!(
        users(&["--private-users=524288:10"]),
        PrivateUsers::Fixed {
            base: 524_288,
            size: 10
        }
    );
}

#[test]
fn a_file_plans_what_its_options_plan() {
    let found = nspawn::Found {
        path: "/etc/systemd/nspawn/tor-browser.nspawn".into(),
        text: nspawn::TOR_BROWSER.to_owned(),
        trusted: true,
    };
    let file = found.read().unwrap().args;
    let root = Root::Directory("/var/lib/machines/tor-browser".into());
    let plan = |args: &RunArgs| {
        let settings = settings(
            &context(),
            args,
            &root,
            Path::new("/usr/bin/netd"),
            Hooks::default(),
        )
        .unwrap();
        settings.check().unwrap();
        format!("{settings:?}")
    };
    let line = [
        "netd",
        "run",
        "--drop-capability=all",
        "-E",
        "DISPLAY=:0",
        "-E",
        "TZ=UTC",
        "--hostname=tor-browser",
        "--no-new-privileges=yes",
        "-U",
        "--as-pid2",
        "--resolv-conf=copy-host",
        "--timezone=copy",
        "--user=web",
        "--chdir=/srv",
        "/bin/sh",
        "-c",
        "id -u; pwd",
    ];
    let line = cli::parse_run(line.iter().map(|w| w.into()));
    assert_eq!(plan(&file), plan(&line));
    assert_eq!(file.integration.timezone, line.integration.timezone);
    assert_eq!(file.resolv_conf, line.resolv_conf);
}

#[test]
fn machines_are_found_in_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut context = context();
    context.dirs.config = dir.path().to_owned();
    let machine = dir.path().join("machines/web");
    std::fs::create_dir_all(&machine).unwrap();
    let find = |words: &[&str]| {
        let argv = ["netd", "run"].iter().chain(words).map(|w| w.into());
        Root::find(&context, &cli::parse_run(argv))
    };
    assert_eq!(find(&["-M", "web"]), Root::Directory(machine));
    assert_eq!(find(&["-M", "no-such-machine"]), Root::Host);
    assert_eq!(
        find(&["-M", "web", "-D", "/x"]),
        Root::Directory("/x".into())
    );
    assert_eq!(find(&["--no-root", "-M", "web"]), Root::Host);
}

#[test]
fn what_needs_something_else_says_so() {
    for (words, named) in [
        (["-p", "80"].as_slice(), "--network-zone"),
        (&["--label=a=b"], "--network-zone"),
        (&["--bandwidth=1mbit"], "--network-zone"),
        (
            &["--network-namespace-path=/n", "--private-network"],
            "--network-namespace-path",
        ),
        (&["--notify-ready=yes"], "--notify-ready"),
        (&["--link-journal=host"], "--link-journal"),
    ] {
        let error = settings_of(words).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    settings_of(&["--link-journal=try-guest", "-j"].map(|w| if w == "-j" { "-q" } else { w }))
        .unwrap();
}

#[test]
fn a_variable_that_is_not_set_is_empty_inside() {
    const NAME: &str = "NETD_TEST_OF_A_VARIABLE_NOT_SET";
    let settings = settings_of(&["-E", NAME]).unwrap();
    assert_eq!(settings.env, [(NAME.to_owned(), String::new())]);
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
    assert!(matches!(settings.network, Network::Caller(_)));
    let hidden = Path::new("/run/systemd/resolve/io.systemd.Resolve");
    assert!(settings.hidden.iter().any(|path| path == hidden));
    let shared = settings_of(&["--no-root", "true"]).unwrap();
    let told = shared.check().unwrap_err().to_string();
    assert!(told.contains("--network-zone="), "{told}");
}
