#![allow(clippy::unwrap_used)]

use super::*;

fn plan_of(state: &str, action: Option<Action>) -> Result<Plan, Error> {
    plan(state.as_bytes(), action)
}

fn request_of(state: &str) -> AttachRequest {
    match plan_of(state, None) {
        Ok(Plan::Attach { request, .. }) => *request,
        other => panic!("{other:?}"),
    }
}

/// What `plan` says to a state with these annotations, given as JSON.
fn annotated(annotations: &str) -> Result<Plan, Error> {
    plan_of(
        &format!(
            r#"{{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":4711,"bundle":"/b","annotations":{annotations}}}"#
        ),
        None,
    )
}

fn detach(id: &str) -> Plan {
    Plan::Detach {
        owner: format!("oci/{id}"),
    }
}

// Taken from runc 1.1.5.
const RUNC_CREATING: &str = r#"{"ociVersion":"1.0.2-dev","id":"hk1","status":"creating","pid":22334,"bundle":"/tmp/b","annotations":{"io.netd.zone":"dmz"}}"#;
const RUNC_STOPPED: &str = r#"{"ociVersion":"1.0.2-dev","id":"hk1","status":"stopped","bundle":"/tmp/b","annotations":{"io.netd.zone":"dmz"}}"#;
// As crun writes it: with `root`, and a pid of 0 once stopped.
const CRUN_CREATED: &str = r#"{
    "ociVersion": "1.0.0", "id": "hk1", "pid": 4711, "root": "/tmp/b/rootfs", "bundle": "/tmp/b",
    "status": "created", "annotations": { "io.netd.zone": "dmz", "run.oci.handler": "crun" }
}"#;
const CRUN_STOPPED: &str = r#"{"ociVersion":"1.0.0","id":"hk1","pid":0,"root":"/tmp/b/rootfs","bundle":"/tmp/b","status":"stopped","annotations":{"io.netd.zone":"dmz"}}"#;
// Podman's ids are 64 hex digits, and its annotations many.
const PODMAN: &str = r#"{"ociVersion":"1.0.2-dev","id":"8f9b6a2f0c1d4e5f8f9b6a2f0c1d4e5f8f9b6a2f0c1d4e5f8f9b6a2f0c1d4e5f","status":"created","pid":991,"bundle":"/var/lib/containers/storage/overlay-containers/8f9b/userdata","annotations":{"io.container.manager":"libpod","io.kubernetes.cri-o.Created":"2026-11-21T22:09:52Z","io.netd.labels":"tier=front,env=prod","io.netd.name":"web","io.netd.publish":"8080:80, 53:53/udp","io.netd.zone":"dmz","org.opencontainers.image.stopSignal":"15"}}"#;
// Runtime spec 0.5: neither status nor annotations, `bundlePath`.
const OLD: &str = r#"{"version":"0.5.0","id":"hk1","pid":4711,"bundlePath":"/nowhere/at/all"}"#;

#[test]
fn runc_and_crun_attach_and_detach_by_status() {
    for (state, expected_pid) in [(RUNC_CREATING, 22334), (CRUN_CREATED, 4711)] {
        let Plan::Attach {
            pid,
            request,
            zones,
            ..
        } = plan_of(state, None).unwrap()
        else {
            panic!("{state}");
        };
        assert_eq!(pid, expected_pid);
        assert_eq!(request.container, "hk1");
        assert_eq!(zones, ["dmz".parse().unwrap()]);
        assert_eq!(
            request.pid, None,
            "the pid is for the hook, not for the daemon"
        );
    }
    for state in [RUNC_STOPPED, CRUN_STOPPED] {
        assert_eq!(plan_of(state, None).unwrap(), detach("hk1"));
    }
}

#[test]
fn podmans_annotations() {
    let request = request_of(PODMAN);
    assert_eq!(request.container, "web");
    assert_eq!(request.publish, ["8080:80", "53:53/udp"]);
    assert_eq!(request.labels["tier"], "front");
    assert_eq!(request.labels["env"], "prod");
    assert_eq!(request.labels.len(), 2);
}

#[test]
fn every_annotation() {
    let plan = annotated(
        r#"{"io.netd.zone":" dmz ","io.netd.ip":"10.89.0.7 fd00::7","io.netd.mac":"02:00:00:00:00:07",
            "io.netd.bandwidth":"egress=20mbit burst=256kb","io.netd.configure":"dhcp","io.netd.ifname":"eth0","io.netd.labels":"","io.netd.name":""}"#,
    );
    let Plan::Attach {
        request,
        zones,
        ifnames,
        ..
    } = plan.unwrap()
    else {
        panic!();
    };
    assert_eq!(zones, ["dmz".parse().unwrap()]);
    assert_eq!(ifnames, ["eth0".parse().unwrap()]);
    let expected = AttachRequest {
        container: "c1".into(),
        bandwidth: vec![crate::api::Limit {
            direction: "egress".into(),
            rate: 20_000_000,
            burst: Some(256 << 10),
        }],
        configure: Some("dhcp".into()),
        addresses: vec!["10.89.0.7".into(), "fd00::7".into()],
        mac: Some("02:00:00:00:00:07".into()),
        owner: Some("oci/c1".into()),
        ..AttachRequest::default()
    };
    assert_eq!(*request, expected);
}

#[test]
fn several_zones() {
    let plan = annotated(r#"{"io.netd.zone":"dmz lan,x"}"#);
    let Plan::Attach { zones, ifnames, .. } = plan.unwrap() else {
        panic!();
    };
    let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
    assert_eq!(zones, ["dmz", "lan", "x"]);
    assert!(ifnames.is_empty());
}

#[test]
fn an_explicit_action_overrides_the_status() {
    let running = CRUN_CREATED.replace("created", "running");
    let error = plan_of(&running, None).unwrap_err();
    assert!(
        error.to_string().contains("netd hook oci attach"),
        "{error}"
    );
    assert!(matches!(
        plan_of(&running, Some(Action::Attach)).unwrap(),
        Plan::Attach { pid: 4711, .. }
    ));
    assert_eq!(
        plan_of(&running, Some(Action::Detach)).unwrap(),
        detach("hk1")
    );
}

#[test]
fn a_state_of_the_spec_before_1_0() {
    let error = plan_of(OLD, None).unwrap_err().to_string();
    assert!(error.contains("io.netd.zone"), "{error}");
    let gone = OLD.replace(r#""pid":4711,"#, "");
    assert_eq!(plan_of(&gone, None).unwrap(), detach("hk1"));
}

#[test]
fn annotations_missing_in_the_state_are_taken_from_the_bundle() {
    let bundle = tempfile::tempdir().unwrap();
    let config = r#"{"ociVersion":"1.0.2","annotations":{"io.netd.zone":"lab"}}"#;
    std::fs::write(bundle.path().join("config.json"), config).unwrap();
    let state = OLD.replace("/nowhere/at/all", bundle.path().to_str().unwrap());
    let Plan::Attach { zones, .. } = plan_of(&state, None).unwrap() else {
        panic!();
    };
    assert_eq!(zones, ["lab".parse().unwrap()]);
}

#[test]
fn what_is_wrong_is_named() {
    for (annotations, words) in [
        (r#"{}"#, "io.netd.zone"),
        (r#"null"#, "io.netd.zone"),
        (r#"{"io.netd.zone":"DMZ"}"#, "io.netd.zone"),
        (
            r#"{"io.netd.zone":"z","io.netd.name":"a b"}"#,
            "io.netd.name",
        ),
        (
            r#"{"io.netd.zone":"z","io.netd.labels":"tier"}"#,
            "KEY=VALUE",
        ),
        (
            r#"{"io.netd.zone":"z","io.netd.labels":"a=1,a=2"}"#,
            "twice",
        ),
        (
            r#"{"io.netd.zone":"z","io.netd.bandwidth":"10mbps"}"#,
            "io.netd.bandwidth",
        ),
        (
            r#"{"io.netd.zone":"z","io.netd.publish":"80"}"#,
            "io.netd.publish",
        ),
        (
            r#"{"io.netd.zone":"z","io.netd.ip":"10.0.0.1/24"}"#,
            "io.netd.ip",
        ),
        (r#"{"io.netd.zone":"z","io.netd.mac":"x"}"#, "io.netd.mac"),
        (
            r#"{"io.netd.zone":"z","io.netd.configure":"auto"}"#,
            "static, dhcp, none",
        ),
        (
            r#"{"io.netd.zone":"z","io.netd.ifname":"a/b"}"#,
            "io.netd.ifname",
        ),
    ] {
        let error = crate::error::chain(&annotated(annotations).unwrap_err());
        assert!(error.contains(words), "{annotations}: {error}");
        assert!(error.contains("container c1"), "{annotations}: {error}");
    }
}

#[test]
fn an_id_that_is_no_name_is_refused() {
    let state = RUNC_CREATING.replace("hk1", "../etc");
    let error = plan_of(&state, None).unwrap_err().to_string();
    assert!(error.contains("io.netd.name"), "{error}");
}

#[test]
fn no_process_no_attach() {
    for pid in ["0", "-1", "99999999999", "null"] {
        let state = RUNC_CREATING.replace("22334", pid);
        let error = plan_of(&state, None).unwrap_err();
        assert!(matches!(error, Error::NoPid { .. }), "{pid}: {error}");
    }
}

#[test]
fn garbage_and_floods_are_refused() {
    for garbage in [
        "",
        "{",
        "[]",
        "{}",
        "null",
        r#"{"id":7}"#,
        "\0",
        r#"{"id":"a"} x"#,
    ] {
        let error = plan_of(garbage, None).unwrap_err();
        assert!(matches!(error, Error::NotState(_)), "{garbage}: {error}");
    }
    let flood = std::io::repeat(b' ');
    assert!(matches!(plan(flood, None), Err(Error::StateTooBig)));
}
