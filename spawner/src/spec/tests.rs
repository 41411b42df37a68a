#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;

use super::*;
use crate::settings::{Bind, Settings, Tmpfs, UserName};
use crate::user::User;

fn settings() -> Settings {
    Settings::new(
        "web".parse().unwrap(),
        "/run/netd/containers",
        ["sh", "-c", "true"],
    )
}

fn plan(settings: &Settings) -> Plan<'_> {
    Plan {
        settings,
        root: PathBuf::from("/run/netd/containers/web/root"),
        user: User::root(),
        range: None,
        pty: false,
        term: None,
        cgroup2: false,
        bind_sources: settings.binds.iter().map(|b| b.source.clone()).collect(),
    }
}

/// Compares with `golden/NAME.json`; `BLESS=1` rewrites it.
fn golden(name: &str, plan: &Plan<'_>) {
    let value = spec(plan);
    let _: Spec = serde_json::from_value(value.clone()).unwrap();
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.json"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == text,
        "{} differs (BLESS=1 rewrites it):\n{text}",
        path.display()
    );
}

#[test]
fn the_hosts_root_on_the_hosts_network() {
    golden("host-root", &plan(&settings()));
}

#[test]
fn a_directory_with_everything() {
    let mut settings = settings();
    settings.directory = Some("/srv/web".into());
    settings.network = Network::Hook {
        attach: Hook {
            path: "/usr/bin/netd".into(),
            args: vec!["netd".into(), "hook".into(), "oci".into()],
            env: vec!["NETD_RUNTIME_DIR=/run/netd".into()],
            timeout: Some(Duration::from_millis(1500)),
        },
        detach: None,
    };
    settings.read_only = true;
    settings.binds = vec![
        Bind::parse("/data:/srv:norbind", true).unwrap(),
        Bind::parse("/src", false).unwrap(),
        Bind::parse("/etc/web", true).unwrap(),
    ];
    settings.tmpfs = vec![Tmpfs::parse("/var:size=1M,mode=700").unwrap()];
    settings.env = vec![("PATH".into(), "/bin".into()), ("A".into(), "b=c".into())];
    settings.hostname = Some("www".into());
    settings.user = Some(UserName::Id(33, None));
    settings.chdir = Some("/srv".into());
    settings.no_new_privileges = true;
    settings.labels.insert("tier".into(), "front".into());
    settings.labels.insert("app".into(), "shop".into());
    settings
        .annotations
        .insert("io.netd.zone".into(), "dmz".into());
    let mut plan = plan(&settings);
    plan.user = User {
        uid: 33,
        gid: 34,
        groups: vec![4, 9],
        name: Some("web".into()),
        home: Some("/srv".into()),
    };
    plan.range = Some(UidRange {
        base: 1 << 20,
        idmap: true,
    });
    plan.pty = true;
    plan.term = Some("xterm".into());
    plan.cgroup2 = true;
    golden("everything", &plan);
}

#[test]
fn private_users_on_the_hosts_network_see_the_hosts_sysfs_read_only() {
    let settings = settings();
    let mut plan = plan(&settings);
    plan.range = Some(UidRange {
        base: 1 << 20,
        idmap: true,
    });
    let spec = spec(&plan);
    let sys = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["destination"] == "/sys")
        .unwrap();
    assert_eq!(sys["type"], "bind");
    assert!(sys["options"].as_array().unwrap().contains(&json!("rro")));
}

#[test]
fn network_capabilities_come_with_a_network_of_its_own_only() {
    let host = capabilities(&Network::Host);
    let private = capabilities(&Network::Private);
    for cap in ["CAP_NET_ADMIN", "CAP_NET_RAW"] {
        assert!(!host.contains(&cap) && private.contains(&cap), "{cap}");
    }
    for cap in [
        "CAP_SYS_ADMIN",
        "CAP_MKNOD",
        "CAP_SYS_PTRACE",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
    ] {
        assert!(!private.contains(&cap), "{cap}");
    }
}

#[test]
fn no_new_privileges_is_absent_unless_asked_for() {
    assert!(
        spec(&plan(&settings()))["process"]
            .get("noNewPrivileges")
            .is_none()
    );
}

#[test]
fn annotations_that_were_given_win() {
    let mut settings = settings();
    settings
        .annotations
        .insert("io.netd.name".into(), "other".into());
    assert_eq!(
        spec(&plan(&settings))["annotations"]["io.netd.name"],
        "other"
    );
}

#[test]
fn a_long_machine_name_gives_a_shorter_host_name() {
    let name = "n".repeat(128);
    let settings = Settings::new(name.parse().unwrap(), "/run", ["true"]);
    assert_eq!(
        spec(&plan(&settings))["hostname"].as_str().unwrap().len(),
        64
    );
}
