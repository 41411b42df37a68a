#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;

use super::*;
use crate::plan::{Guest, Shown, UidRange, What};
use crate::settings::{Credential, Settings, UserName};
use crate::user::User;

const RANGE: UidRange = UidRange {
    base: 1 << 20,
    size: UidRange::SIZE,
    idmap: true,
};

fn guest(id: u32) -> Guest {
    Guest {
        name: "ann".into(),
        gecos: String::new(),
        shell: "/bin/sh".into(),
        host_uid: 1000,
        host_gid: 1001,
        id,
        home: "/home/ann".into(),
    }
}

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
        directory: settings.directory.clone(),
        command: settings.command.clone(),
        user: User::root(),
        range: None,
        guests: Vec::new(),
        userns: None,
        pty: false,
        term: None,
        cgroup2: false,
        scratch: Vec::new(),
        shown: Vec::new(),
        makings: Vec::new(),
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
    let settings = settings();
    let mut plan = plan(&settings);
    plan.scratch = vec!["/run".into(), "/tmp".into()];
    golden("host-root", &plan);
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
    settings.uuid = Some("11111111-2222-3333-4444-555555555555".into());
    settings.credentials = vec![Credential::set("key:secret").unwrap()];
    settings.privileges.add = "CAP_SYS_TIME,CAP_SYS_NICE".parse().unwrap();
    settings.privileges.drop = "CAP_SYS_NICE,CAP_KILL".parse().unwrap();
    settings.privileges.ambient = "CAP_NET_RAW".parse().unwrap();
    settings.oom_score_adjust = Some(-7);
    settings.personality = Some(Personality::Bits32);
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
    plan.range = Some(RANGE);
    plan.guests = vec![guest(60514)];
    let bind = |source: &str, read_only, recursive| What::Bind {
        source: source.into(),
        read_only,
        recursive,
    };
    let shown = |destination: &str, what| Shown {
        destination: destination.into(),
        what,
    };
    plan.scratch = vec!["/run".into()];
    plan.shown = vec![
        shown("/etc/web", bind("/etc/web", true, true)),
        shown("/src", bind("/src", false, true)),
        shown("/srv", bind("/data", true, false)),
        shown(
            "/var",
            What::Tmpfs(vec!["size=1M".into(), "mode=700".into()]),
        ),
    ];
    plan.pty = true;
    plan.term = Some("xterm".into());
    plan.cgroup2 = true;
    golden("everything", &plan);
}

#[test]
fn private_users_on_the_hosts_network_see_the_hosts_sysfs_read_only() {
    let settings = settings();
    let mut plan = plan(&settings);
    plan.range = Some(RANGE);
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
    let of = |network| {
        let mut settings = settings();
        settings.network = network;
        capabilities(&settings)
    };
    let (host, private) = (of(Network::Host), of(Network::Private));
    for cap in ["CAP_NET_ADMIN", "CAP_NET_RAW"] {
        assert!(!host.has(cap) && private.has(cap), "{cap}");
    }
    for cap in [
        "CAP_SYS_ADMIN",
        "CAP_MKNOD",
        "CAP_SYS_PTRACE",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
    ] {
        assert!(!private.has(cap), "{cap}");
    }
}

#[test]
fn what_is_dropped_wins_and_a_bundle_says_it_all() {
    let mut settings = settings();
    settings.privileges.add = CapabilitySet::ALL;
    settings.privileges.drop = "CAP_SYS_ADMIN".parse().unwrap();
    let all = capabilities(&settings);
    assert!(all.has("CAP_SYS_MODULE") && !all.has("CAP_SYS_ADMIN"));
    settings.privileges.drop = CapabilitySet::ALL;
    assert!(capabilities(&settings).is_empty());
    settings.privileges.add = CapabilitySet::default();
    settings.privileges.drop = CapabilitySet::default();
    settings.privileges.base = Some("CAP_KILL".parse().unwrap());
    assert_eq!(capabilities(&settings).names(), ["CAP_KILL"]);
}

#[test]
fn a_namespace_that_is_there_is_entered_and_not_made() {
    let mut settings = settings();
    settings.network = Network::Namespace("/run/netns/x".into());
    let spec = spec(&plan(&settings));
    let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.iter().all(|n| n["type"] != "network"));
}

#[test]
fn guests_are_cut_out_of_the_range() {
    let settings = settings();
    let mut plan = plan(&settings);
    assert!(plan.uid_map().is_empty());
    plan.range = Some(RANGE);
    plan.guests = vec![guest(60514), guest(60515)];
    let base = RANGE.base;
    let expected = [
        (0, base, 60514),
        (60514, 1000, 1),
        (60515, 1000, 1),
        (60516, base + 60516, 5020),
    ];
    assert_eq!(plan.uid_map(), expected);
    assert_eq!(plan.gid_map()[1], (60514, 1001, 1));
    plan.userns = Some("/run/x".into());
    let spec = spec(&plan);
    assert!(spec["linux"].get("uidMappings").is_none());
    let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.iter().any(|n| n["path"] == "/run/x"));
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
