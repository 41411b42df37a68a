//! The control socket speaks varlink to clients that know nothing of netd.

use std::os::unix::fs::PermissionsExt;

use varlink::{Connection, MethodCall, OrgVarlinkServiceInterface};

use crate::world::World;

type Call = MethodCall<serde_json::Value, serde_json::Value, varlink::Error>;

pub fn a_foreign_client_finds_its_way() {
    let world = World::new("varlink");
    let socket = world.folder("runtime").join("netd.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the socket is for root alone");

    let connection = Connection::with_address(&format!("unix:{}", socket.display())).unwrap();
    let mut service = varlink::OrgVarlinkServiceClient::new(connection.clone());
    let info = service.get_info().unwrap();
    assert!(
        info.interfaces.iter().any(|name| name == "io.netd.Control"),
        "{info:?}"
    );
    assert!(
        !info.version.is_empty() && !info.product.is_empty(),
        "{info:?}"
    );
    let described = service
        .get_interface_description("io.netd.Control")
        .unwrap();
    let described = described.description.unwrap();
    for method in [
        "ZoneCreate",
        "ZoneSet",
        "ZoneDelete",
        "ZoneList",
        "ZoneShow",
        "Attach",
        "Detach",
        "List",
        "Show",
        "Status",
        "Reload",
        "PolicyShow",
        "Explain",
        "LeaseList",
    ] {
        assert!(
            described.contains(&format!("method {method}(")),
            "{method} is not described:\n{described}"
        );
    }
    // Another implementation's parser takes it.
    varlink_parser::IDL::try_from(described.as_str())
        .unwrap_or_else(|error| panic!("{error}\n{described}"));

    let call = |method: &'static str, parameters: serde_json::Value| {
        Call::new(connection.clone(), method, parameters).call()
    };
    let made = call(
        "io.netd.Control.ZoneCreate",
        serde_json::json!({ "name": "web", "settings": {} }),
    )
    .unwrap();
    assert_eq!(
        (made["zone"]["bridge"].as_str(), made["created"].as_bool()),
        (Some("vz-web"), Some(true)),
        "{made}"
    );
    let listed = call("io.netd.Control.ZoneList", serde_json::json!({})).unwrap();
    assert_eq!(listed["zones"][0]["name"], "web", "{listed}");
    let status = call("io.netd.Control.Status", serde_json::json!({})).unwrap();
    assert_eq!(
        status["status"]["zones"],
        serde_json::json!(["web"]),
        "{status}"
    );

    let error = call(
        "io.netd.Control.ZoneShow",
        serde_json::json!({ "name": "none" }),
    )
    .unwrap_err();
    assert!(
        format!("{error:?}").contains("io.netd.Control.NoSuchZone"),
        "{error:?}"
    );
    let error = call("io.netd.Control.NoSuchMethod", serde_json::json!({})).unwrap_err();
    assert!(format!("{error:?}").contains("MethodNotFound"), "{error:?}");
    assert!(
        service
            .get_interface_description("io.example.nothing")
            .is_err()
    );
}
