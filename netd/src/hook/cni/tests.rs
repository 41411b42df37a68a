#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::ffi::OsString;

use serde_json::{Value, json};

use super::call::{Call, Variables, Verb};
use super::failure::{Code, Failure};
use super::network::Network;
use super::result::{self, Expected, Version};
use super::wishes::{self, Wishes};
use super::{called_as_plugin, serve};
use crate::api::{Container, Limit};
use crate::cli::Context;
use crate::dirs::Dirs;

fn context() -> Context {
    Context {
        dirs: Dirs {
            config: "/nowhere/config".into(),
            state: "/nowhere/state".into(),
            runtime: "/nowhere/runtime".into(),
        },
        json: false,
        autostart: false,
    }
}

/// The environment of a call, with these variables set or (empty) missing.
fn environment(verb: &str, change: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
    let mut all: HashMap<String, OsString> = HashMap::new();
    let usual = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "8f9b6a2f"),
        ("CNI_NETNS", "/run/netns/web"),
        ("CNI_IFNAME", "eth0"),
    ];
    for (name, value) in usual.iter().chain(change) {
        all.insert((*name).to_owned(), (*value).into());
    }
    move |name| all.get(name).filter(|value| !value.is_empty()).cloned()
}

fn network(more: Value) -> Value {
    let mut network =
        json!({ "cniVersion": "1.1.0", "name": "net", "type": "netd", "zone": "dmz" });
    for (key, value) in more.as_object().unwrap() {
        network[key] = value.clone();
    }
    network
}

fn wishes_of(more: Value, args: &str) -> Result<Wishes, Failure> {
    let variables = environment("ADD", &[("CNI_ARGS", args)]);
    let call = Call::read(&variables, true)?;
    let network = Network::parse(network(more).to_string().as_bytes())?.named()?;
    wishes::read(&call, &network)
}

/// What goes wrong before any daemon is asked.
fn failure(variables: &Variables<'_>, input: &str) -> Failure {
    let mut version = Version::NEWEST;
    serve(&context(), variables, input.as_bytes(), &mut version).unwrap_err()
}

fn with_runtime(key: &str, value: Value) -> Value {
    json!({ "runtimeConfig": { key: value } })
}

#[test]
fn version_is_answered_whatever_was_said() {
    for (input, version) in [
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion":"9.9.9"}"#, "9.9.9"),
        ("", "1.1.0"),
    ] {
        let variables = environment("VERSION", &[("CNI_CONTAINERID", ""), ("CNI_IFNAME", "")]);
        let mut spoken = Version::NEWEST;
        let said = serve(&context(), &variables, input.as_bytes(), &mut spoken).unwrap();
        let expected = json!({ "cniVersion": version, "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] });
        assert_eq!(said.unwrap(), expected);
    }
}

#[test]
fn variables_that_are_missing_or_wrong_are_named() {
    let good = network(json!({})).to_string();
    for (verb, change, words) in [
        ("", ("CNI_ARGS", ""), "CNI_COMMAND"),
        ("PLUG", ("CNI_ARGS", ""), "PLUG"),
        ("ADD", ("CNI_CONTAINERID", ""), "CNI_CONTAINERID"),
        ("ADD", ("CNI_CONTAINERID", "../up"), "CNI_CONTAINERID"),
        ("ADD", ("CNI_NETNS", ""), "CNI_NETNS"),
        ("ADD", ("CNI_NETNS", "/dev/null"), "CNI_NETNS"),
        ("ADD", ("CNI_NETNS", "/proc/self/ns/net"), "CNI_NETNS"),
        ("ADD", ("CNI_IFNAME", ""), "CNI_IFNAME"),
        (
            "ADD",
            ("CNI_IFNAME", "a-name-too-long-for-it"),
            "CNI_IFNAME",
        ),
        ("ADD", ("CNI_IFNAME", "a/b"), "CNI_IFNAME"),
        ("ADD", ("CNI_ARGS", "novalue"), "CNI_ARGS"),
        ("ADD", ("CNI_ARGS", "FOO=bar"), "CNI_ARGS"),
        ("ADD", ("CNI_ARGS", "K8S_POD_NAME=a b"), "CNI_ARGS"),
        ("DEL", ("CNI_CONTAINERID", ""), "CNI_CONTAINERID"),
    ] {
        let failure = failure(&environment(verb, &[change]), &good);
        assert_eq!(
            failure.code,
            Code::Environment,
            "{verb} {change:?} {failure:?}"
        );
        assert!(
            failure.message.contains(words),
            "{verb} {change:?} {failure:?}"
        );
    }
    let none = environment("ADD", &[("CNI_CONTAINERID", ""), ("CNI_IFNAME", "")]);
    let failure = failure(&none, &good);
    assert!(
        failure.message.contains("[CNI_CONTAINERID,CNI_IFNAME]"),
        "{failure:?}"
    );
}

#[test]
fn configurations_that_cannot_be() {
    let previous = json!({ "prevResult": { "interfaces": [] } });
    for (verb, input, code, words) in [
        ("ADD", "{", Code::Decode, "does not hold"),
        ("ADD", "[]", Code::Decode, "does not hold"),
        ("ADD", r#"{"name":"net"}"#, Code::Version, "incompatible"),
        (
            "ADD",
            r#"{"cniVersion":"0.3.0"}"#,
            Code::Version,
            "incompatible",
        ),
        (
            "ADD",
            r#"{"cniVersion":"1.0.0"}"#,
            Code::Config,
            "network name",
        ),
        (
            "ADD",
            r#"{"cniVersion":"1.0.0","name":"a/b"}"#,
            Code::Config,
            "a/b",
        ),
        (
            "ADD",
            r#"{"cniVersion":"1.0.0","name":"net"}"#,
            Code::Config,
            "zone",
        ),
        (
            "ADD",
            &network(json!({ "zone": "DMZ" })).to_string(),
            Code::Config,
            "DMZ",
        ),
        (
            "ADD",
            &network(json!({ "lables": { "a": "b" } })).to_string(),
            Code::Unsupported,
            r#"lables: {"a":"b"}"#,
        ),
        (
            "ADD",
            &network(json!({ "ipam": { "type": "host-local" } })).to_string(),
            Code::Unsupported,
            "host-local",
        ),
        (
            "ADD",
            &network(json!({ "type": "netd-policy" })).to_string(),
            Code::Config,
            "netd-policy",
        ),
        (
            "ADD",
            &network(json!({ "ipMasq": false })).to_string(),
            Code::Unsupported,
            "ipMasq: false",
        ),
        (
            "ADD",
            &network(json!({ "publish": ["80"] })).to_string(),
            Code::Config,
            "publish",
        ),
        (
            "ADD",
            &network(json!({ "runtimeDir": "run" })).to_string(),
            Code::Config,
            "runtimeDir",
        ),
        (
            "CHECK",
            r#"{"cniVersion":"0.3.1","name":"net"}"#,
            Code::Version,
            "CHECK",
        ),
        (
            "GC",
            r#"{"cniVersion":"1.0.0","name":"net"}"#,
            Code::Version,
            "GC",
        ),
        (
            "STATUS",
            r#"{"cniVersion":"0.4.0","name":"net"}"#,
            Code::Version,
            "STATUS",
        ),
        (
            "CHECK",
            &network(json!({})).to_string(),
            Code::Config,
            "prevResult",
        ),
        (
            "CHECK",
            &network(previous).to_string(),
            Code::Config,
            "eth0",
        ),
        (
            "GC",
            &network(json!({})).to_string(),
            Code::Config,
            "valid-attachments",
        ),
    ] {
        let failure = failure(&environment(verb, &[]), input);
        assert_eq!(failure.code, code, "{verb} {input} {failure:?}");
        assert!(
            failure.message.contains(words),
            "{verb} {input} {failure:?}"
        );
    }
}

#[test]
fn errors_have_the_shape_of_the_specification() {
    let failure = Failure::new(Code::Config, "short").details("long");
    let document = failure.document(Version::V0_4_0);
    assert_eq!(
        document,
        json!({ "cniVersion": "0.4.0", "code": 7, "msg": "short", "details": "long" })
    );
}

#[test]
fn without_a_daemon_status_says_so_and_the_rest_may_be_tried_again() {
    let network = network(json!({ "cni.dev/valid-attachments": null })).to_string();
    for (verb, code) in [
        ("STATUS", Code::Unavailable),
        ("DEL", Code::Later),
        ("GC", Code::Later),
    ] {
        let failure = failure(&environment(verb, &[]), &network);
        assert_eq!(failure.code, code, "{verb} {failure:?}");
    }
}

#[test]
fn a_container_is_called_by_its_pod_or_its_id() {
    let name = |more, args| wishes_of(more, args).unwrap().container.to_string();
    let pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;OTHER=x";
    assert_eq!(name(json!({}), ""), "8f9b6a2f");
    assert_eq!(name(json!({}), pod), "web-0");
    assert_eq!(name(json!({ "namespaces": true }), pod), "web-0.shop");
    assert_eq!(
        name(json!({ "namespaces": true }), "K8S_POD_NAME=web"),
        "web"
    );
}

#[test]
fn labels_come_from_configuration_runtime_and_pod_and_none_overrules_another() {
    let args =
        |key: &str, value: &str| json!({ "cni": { "labels": [{ "key": key, "value": value }] } });
    let more = json!({ "labels": { "tier": "front" }, "args": args("app", "shop") });
    let request = wishes_of(more, "K8S_POD_NAME=a;K8S_POD_NAMESPACE=blue")
        .unwrap()
        .request("key".into());
    assert_eq!(request.labels["tier"], "front");
    assert_eq!(request.labels["app"], "shop");
    assert_eq!(request.labels["io.kubernetes.pod.namespace"], "blue");
    for (key, value) in [("tier", "back"), ("io.kubernetes.pod.namespace", "red")] {
        let more = json!({ "labels": { "tier": "front" }, "args": args(key, value) });
        let failure = wishes_of(more, "K8S_POD_NAMESPACE=blue").unwrap_err();
        assert_eq!(failure.code, Code::Config, "{failure:?}");
    }
}

#[test]
fn every_capability_becomes_a_wish() {
    let request = wishes_of(
        json!({
            "publish": ["9000:90"],
            "runtimeConfig": {
                "portMappings": [
                    { "hostPort": 8081, "containerPort": 81, "protocol": "tcp" },
                    { "hostPort": 8080, "containerPort": 80 },
                    { "hostPort": 8083, "containerPort": 80 },
                    { "hostPort": 53, "containerPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1" },
                    { "hostPort": 7, "containerPort": 7, "protocol": "tcp", "hostIP": "0.0.0.0" },
                    { "hostPort": 7, "containerPort": 7, "protocol": "tcp", "hostIP": "::" },
                    { "hostPort": 8, "containerPort": 8, "protocol": "tcp", "hostIP": "::1" },
                ],
                "ips": ["10.89.0.7/24", "fd00::7"],
                "mac": "02:00:00:00:00:07",
                "aliases": ["b", "a", "b"],
                "ipRanges": [
                    [{ "subnet": "10.89.0.0/24", "rangeStart": "10.89.0.40", "rangeEnd": "10.89.0.50" }],
                    [{ "subnet": "fd00::/120" }],
                ],
                "bandwidth": { "ingressRate": 20_000_000, "ingressBurst": 2_147_483_647u32, "egressRate": 1_000_000 },
            },
        }),
        "IP=10.89.0.9;MAC=02:00:00:00:00:09",
    )
    .unwrap()
    .request("key".into());
    let limit = |direction: &str, rate, burst| Limit {
        direction: direction.into(),
        rate,
        burst,
    };
    assert_eq!(
        request.bandwidth,
        [
            limit("ingress", 20_000_000, Some(268_435_455)),
            limit("egress", 1_000_000, None)
        ]
    );
    let mut publish = request.publish.clone();
    publish.sort();
    assert_eq!(
        publish,
        [
            "127.0.0.1:53:53/udp",
            "7:7",
            "7:7",
            "8080-8081:80",
            "8083:80",
            "9000:90",
            "[::1]:8:8"
        ]
        .iter()
        .map(|text| crate::publish::text(&crate::publish::parse(text).unwrap()))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    assert_eq!(request.addresses, ["10.89.0.7", "fd00::7"]);
    assert_eq!(request.mac.as_deref(), Some("02:00:00:00:00:07"));
    assert_eq!(request.aliases, ["a", "b"]);
    assert_eq!(request.ranges, ["10.89.0.40-10.89.0.50", "fd00::-fd00::ff"]);
    assert_eq!(request.owner.as_deref(), Some("key"));
    assert_eq!(request.ifname.as_deref(), Some("eth0"));
}

#[test]
fn the_older_ways_to_ask_count_where_the_newer_are_silent() {
    let asked = |more, args| wishes_of(more, args).unwrap().request("key".into());
    let request = asked(json!({}), "IP=10.89.0.9/24;MAC=02:00:00:00:00:09");
    assert_eq!(request.addresses, ["10.89.0.9"]);
    assert_eq!(request.mac.as_deref(), Some("02:00:00:00:00:09"));
    let request = asked(
        json!({ "args": { "cni": { "ips": ["10.89.0.8"] } } }),
        "IP=10.89.0.9",
    );
    assert_eq!(request.addresses, ["10.89.0.8"]);
    let podman = with_runtime("aliases", json!({ "net": ["x"], "other": ["y"] }));
    assert_eq!(asked(podman, "").aliases, ["x"]);
}

#[test]
fn what_netd_cannot_do_is_refused() {
    for (more, code) in [
        (
            with_runtime("bandwidth", json!({ "ingressRate": 999 })),
            Code::Config,
        ),
        (
            with_runtime("bandwidth", json!({ "egressBurst": 80_000 })),
            Code::Config,
        ),
        (
            with_runtime("bandwidth", json!({ "egressRate": -1 })),
            Code::Config,
        ),
        (
            with_runtime(
                "bandwidth",
                json!({ "egressRate": 1_000_000, "unshapedSubnets": ["10.0.0.0/8"] }),
            ),
            Code::Unsupported,
        ),
        (with_runtime("bandwidth", json!(7)), Code::Config),
        (
            with_runtime("infinibandGUID", json!("c2:11")),
            Code::Unsupported,
        ),
        (
            with_runtime(
                "portMappings",
                json!([{ "hostPort": 1, "containerPort": 1, "protocol": "sctp" }]),
            ),
            Code::Unsupported,
        ),
        (
            with_runtime(
                "portMappings",
                json!([{ "hostPort": 0, "containerPort": 1 }]),
            ),
            Code::Config,
        ),
        (
            with_runtime(
                "portMappings",
                json!([{ "hostPort": 70000, "containerPort": 1 }]),
            ),
            Code::Config,
        ),
        (
            with_runtime(
                "portMappings",
                json!([{ "hostPort": 1, "containerPort": 1, "hostIP": "x" }]),
            ),
            Code::Config,
        ),
        (with_runtime("ips", json!(["10.89.0"])), Code::Config),
        (with_runtime("mac", json!("no")), Code::Config),
        (
            with_runtime(
                "ipRanges",
                json!([[{ "subnet": "10.89.0.0/24" }], [{ "subnet": "10.90.0.0/24" }]]),
            ),
            Code::Unsupported,
        ),
        (
            with_runtime(
                "ipRanges",
                json!([[{ "subnet": "10.89.0.0/24", "gateway": "10.89.0.254" }]]),
            ),
            Code::Unsupported,
        ),
        (
            with_runtime(
                "ipRanges",
                json!([[{ "subnet": "10.89.0.0/24", "rangeEnd": "10.90.0.1" }]]),
            ),
            Code::Config,
        ),
    ] {
        let failure = wishes_of(more.clone(), "").unwrap_err();
        assert_eq!(failure.code, code, "{more} {failure:?}");
    }
}

fn attached() -> Container {
    Container {
        container: "web".into(),
        zone: "dmz".into(),
        ifname: "eth0".into(),
        host_ifname: "vb-web".into(),
        mac: "02:00:00:00:00:07".into(),
        addresses: vec!["10.89.0.7/24".into(), "fd00::7/128".into()],
        gateways: vec!["10.89.0.1".into(), "fd00::1".into()],
        dns: vec!["10.89.0.1".into()],
        domain: "dmz.internal".into(),
        mtu: 1400,
        labels: HashMap::new(),
        published: Vec::new(),
        bandwidth: Vec::new(),
        state: "attached".into(),
        networks: Vec::new(),
    }
}

fn result_in(version: Version, more: Value) -> Value {
    let variables = environment("ADD", &[]);
    let call = Call::read(&variables, true).unwrap();
    let wishes = wishes_of(more, "").unwrap();
    Value::Object(result::added(&attached(), &call, &wishes, version).unwrap())
}

#[test]
fn results_have_the_shape_of_their_version() {
    for version in Version::ALL {
        let result = result_in(version, json!({}));
        assert_eq!(result["cniVersion"], version.as_str());
        let ours = &result["interfaces"][2];
        assert_eq!(ours["name"], "eth0");
        assert_eq!(ours["mac"], "02:00:00:00:00:07");
        assert_eq!(ours["sandbox"], "/run/netns/web");
        assert_eq!(result["interfaces"][0]["name"], "vz-dmz");
        assert_eq!(result["interfaces"][1]["name"], "vb-web");
        assert_eq!(result["interfaces"][1]["mac"], "42:00:00:00:00:07");
        assert!(result["interfaces"][1].get("sandbox").is_none());
        assert_eq!(ours.get("mtu").is_some(), version == Version::V1_1_0);
        let ip = &result["ips"][0];
        assert_eq!(ip["address"], "10.89.0.7/24");
        assert_eq!(ip["gateway"], "10.89.0.1");
        assert_eq!(ip["interface"], 2);
        let old = version < Version::V1_0_0;
        assert_eq!(
            ip.get("version").and_then(Value::as_str),
            old.then_some("4")
        );
        assert_eq!(result["ips"][1]["gateway"], "fd00::1");
        assert_eq!(
            result["routes"][0],
            json!({ "dst": "0.0.0.0/0", "gw": "10.89.0.1" })
        );
        let six = result["routes"][1]["gw"].as_str().unwrap();
        assert!(six.starts_with("fe80::"), "{six}");
        let dns = json!({ "nameservers": ["10.89.0.1"], "domain": "dmz.internal", "search": ["dmz.internal"] });
        assert_eq!(result["dns"], dns);
    }
}

#[test]
fn the_runtimes_resolvers_take_the_place_of_netds() {
    let asked =
        json!({ "servers": ["192.0.2.53"], "searches": ["a.example"], "options": ["ndots:5"] });
    let result = result_in(Version::V1_0_0, with_runtime("dns", asked));
    assert_eq!(
        result["dns"],
        json!({ "nameservers": ["192.0.2.53"], "domain": "dmz.internal", "search": ["a.example"], "options": ["ndots:5"] })
    );
}

#[test]
fn a_result_before_ours_is_kept() {
    let own = result_in(Version::V1_0_0, json!({}))
        .as_object()
        .unwrap()
        .clone();
    let previous = json!({ "interfaces": [{ "name": "x0" }], "ips": [{ "address": "192.0.2.9/24", "interface": 0 }] });
    let all = result::after(previous.as_object(), own);
    assert_eq!(all["interfaces"].as_array().unwrap().len(), 4);
    assert_eq!(all["ips"][0]["address"], "192.0.2.9/24");
    assert_eq!(all["ips"][1]["interface"], 3);
    assert_eq!(all["interfaces"][3]["name"], "eth0");
}

#[test]
fn a_check_heeds_what_others_changed() {
    let variables = environment("CHECK", &[]);
    let call = Call::read(&variables, true).unwrap();
    let mut previous = result_in(Version::V1_0_0, json!({}));
    let expected = |previous: &Value| Expected::read(previous.as_object().unwrap(), &call);
    let all = expected(&previous).unwrap();
    for subject in [
        "address 10.89.0.7/24",
        "route ::/0",
        "route 0.0.0.0/0",
        "rules",
        "interface eth0",
    ] {
        assert!(all.concerns(subject), "{subject}");
    }
    // a plugin after us took the default route and gave another address
    previous["routes"] = json!([]);
    previous["ips"][1]["address"] = json!("fd00::8/128");
    let changed = expected(&previous).unwrap();
    assert!(!changed.concerns("route 0.0.0.0/0"));
    assert!(!changed.concerns("address fd00::7/128"));
    assert!(changed.concerns("address fd00::8/128"));
    previous["interfaces"][2]["sandbox"] = json!("/run/netns/other");
    assert_eq!(expected(&previous).unwrap_err().code, Code::Config);
}

#[test]
fn a_plugin_is_told_by_its_variable_and_the_lack_of_arguments() {
    let add = OsString::from("ADD");
    assert!(called_as_plugin(1, Some(&add)));
    assert!(!called_as_plugin(2, Some(&add)));
    assert!(!called_as_plugin(1, None));
    assert!(!called_as_plugin(1, Some(&OsString::new())));
}

#[test]
fn commands_are_told_apart() {
    for (word, verb) in [("ADD", Verb::Add), ("DEL", Verb::Del), ("GC", Verb::Gc)] {
        assert_eq!(Verb::read(&environment(word, &[])).unwrap(), verb);
    }
}
