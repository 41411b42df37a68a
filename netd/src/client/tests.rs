#![allow(clippy::unwrap_used)]

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;

use super::*;
use crate::api::AttachRequest;
use crate::error::{chain, exit};

/// A server that takes one connection and does with it what a test wants.
struct Fake {
    _dir: tempfile::TempDir,
    path: PathBuf,
    thread: JoinHandle<()>,
}

impl Fake {
    fn new(serve: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netd.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        Self {
            _dir: dir,
            path,
            thread,
        }
    }

    /// Answers the first message with these bytes and hangs up.
    fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(move |mut stream| {
            read_message(&stream);
            stream.write_all(&bytes).unwrap();
        })
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    /// Lets the server end, and passes its failed assertions on.
    fn join(self) {
        self.thread.join().unwrap();
    }
}

/// The next message without its NUL, and the descriptors that came with it.
fn read_message(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let (mut message, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0u8; 4096];
        let received = rustix::net::recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut chunk)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .unwrap();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = part {
                fds.extend(passed);
            }
        }
        message.extend_from_slice(&chunk[..received.bytes]);
        if message.last() == Some(&0) || received.bytes == 0 {
            message.pop();
            return (message, fds);
        }
    }
}

fn reply(parameters: Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(&json!({ "parameters": parameters })).unwrap();
    bytes.push(0);
    bytes
}

fn error_reply(error: &str, parameters: Value) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(&json!({ "error": error, "parameters": parameters })).unwrap();
    bytes.push(0);
    bytes
}

fn container(name: &str) -> Value {
    json!({
        "container": name, "zone": "dmz", "ifname": "host0", "host_ifname": "vb-web",
        "mac": "02:00:00:00:00:01", "addresses": ["10.89.0.2/24"], "gateways": ["10.89.0.1"],
        "dns": [], "domain": "dmz", "mtu": 1500, "labels": {}, "published": [], "state": "attached"
    })
}

#[test]
fn a_call_is_varlink_and_its_descriptor_arrives() {
    let fake = Fake::new(|mut stream| {
        let (message, fds) = read_message(&stream);
        let call: Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(call["method"], "io.netd.Control.Attach");
        assert_eq!(call["parameters"]["request"]["container"], "web");
        assert_eq!(call["parameters"]["request"]["netns_fd"], 0);
        assert_eq!(call["parameters"]["request"].get("pid"), None);
        let [fd] = <[OwnedFd; 1]>::try_from(fds).unwrap();
        let passed = std::fs::File::from(fd).metadata().unwrap();
        let null = std::fs::metadata("/dev/null").unwrap();
        assert_eq!((passed.dev(), passed.ino()), (null.dev(), null.ino()));
        let answer = json!({ "container": container("web"), "created": true, "warnings": ["w"] });
        stream.write_all(&reply(answer)).unwrap();
    });
    let request = AttachRequest {
        container: "web".into(),
        zone: "dmz".into(),
        pid: Some(7),
        ..AttachRequest::default()
    };
    let null = std::fs::File::open("/dev/null").unwrap();
    let answer = fake.client().attach(request, null.as_fd()).unwrap();
    assert!(answer.created);
    assert_eq!(answer.container.container, "web");
    assert_eq!(answer.warnings, ["w"]);
    fake.join();
}

#[test]
fn an_answer_may_come_in_pieces_and_be_large() {
    let fake = Fake::new(|mut stream| {
        read_message(&stream);
        let many: Vec<Value> = (0..5000).map(|n| container(&format!("c{n}"))).collect();
        let bytes = reply(json!({ "containers": many }));
        assert!(bytes.len() > 1 << 20);
        let (first, rest) = bytes.split_at(10);
        stream.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(rest).unwrap();
    });
    let containers = fake.client().list().unwrap();
    assert_eq!(containers.len(), 5000);
    assert_eq!(containers[4999].container, "c4999");
    fake.join();
}

#[test]
fn a_large_request_arrives_whole() {
    let fake = Fake::new(|mut stream| {
        let (message, fds) = read_message(&stream);
        assert!(message.len() > 1 << 20);
        assert_eq!(fds.len(), 1);
        serde_json::from_slice::<Value>(&message).unwrap();
        let answer = json!({ "container": container("web"), "created": false, "warnings": [] });
        stream.write_all(&reply(answer)).unwrap();
    });
    let request = AttachRequest {
        container: "web".into(),
        zone: "dmz".into(),
        publish: vec!["8080:80".into(); 200_000],
        ..AttachRequest::default()
    };
    let null = std::fs::File::open("/dev/null").unwrap();
    let answer = fake.client().attach(request, null.as_fd()).unwrap();
    assert!(!answer.created);
    fake.join();
}

#[test]
fn one_connection_serves_several_calls() {
    let fake = Fake::new(|mut stream| {
        let answer = reply(json!({ "zones": [] }));
        read_message(&stream);
        // The second answer comes early, in one piece with the first.
        stream
            .write_all(&[answer.clone(), answer].concat())
            .unwrap();
        read_message(&stream);
    });
    let mut client = fake.client();
    assert_eq!(client.zone_list().unwrap(), []);
    assert_eq!(client.zone_list().unwrap(), []);
    fake.join();
}

#[test]
fn refusals_are_typed_and_have_their_exit_codes() {
    for (error, parameters, code, words) in [
        (
            "io.netd.Control.NoSuchZone",
            json!({"message": "no zone x"}),
            exit::ABSENT,
            "no zone x",
        ),
        (
            "io.netd.Control.NoSuchContainer",
            json!({"message": "no x"}),
            exit::ABSENT,
            "no x",
        ),
        (
            "io.netd.Control.Invalid",
            json!({"message": "bad"}),
            exit::USAGE,
            "bad",
        ),
        (
            "io.netd.Control.Refused",
            json!({"message": "no"}),
            exit::FAILED,
            "no",
        ),
        (
            "io.netd.Control.Refused",
            json!({}),
            exit::FAILED,
            "io.netd.Control.Refused",
        ),
        (
            "io.netd.Control.Later",
            json!({"a": 1}),
            exit::FAILED,
            "io.netd.Control.Later",
        ),
        (
            "io.netd.ControlRefused",
            json!({"message": "x"}),
            exit::FAILED,
            "io.netd.ControlRefused",
        ),
        (
            "org.varlink.service.MethodNotFound",
            json!({"method": "io.netd.Control.ZoneList"}),
            exit::FAILED,
            "ZoneList",
        ),
        (
            "org.varlink.service.InvalidParameter",
            json!({"parameter": "name"}),
            exit::USAGE,
            "name",
        ),
        (
            "org.varlink.service.PermissionDenied",
            Value::Null,
            exit::FAILED,
            "root",
        ),
    ] {
        let fake = Fake::saying(error_reply(error, parameters));
        let failed = fake.client().zone_list().unwrap_err();
        assert_eq!(failed.exit_code(), code, "{error}");
        assert!(chain(&failed).contains(words), "{error}: {failed}");
        fake.join();
    }
}

#[test]
fn garbage_is_called_garbage() {
    for (bytes, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n\0"[..], "HTTP/1.1"),
        (b"\0", "does not speak varlink"),
        (b"{\"parameters\":", "message without end"),
        (b"\xff\xfe\0", "does not speak varlink"),
        (b"[1,2]\0", "does not speak varlink"),
    ] {
        let fake = Fake::saying(bytes);
        let failed = fake.client().zone_list().unwrap_err();
        assert!(matches!(failed, Error::Garbage { .. }), "{failed}");
        assert!(chain(&failed).contains(words), "{failed}");
        assert_eq!(failed.exit_code(), exit::FAILED);
        fake.join();
    }
}

#[test]
fn an_answer_of_another_shape_is_a_mismatch() {
    for answer in [json!({}), json!({ "zones": 7 }), json!({ "zones": [{}] })] {
        let fake = Fake::saying(reply(answer));
        let failed = fake.client().zone_list().unwrap_err();
        assert!(chain(&failed).contains("ZoneList"), "{failed}");
        assert!(matches!(failed, Error::Mismatch { .. }), "{failed}");
        fake.join();
    }
    let fake = Fake::saying(&b"{}\0"[..]);
    let failed = fake.client().zone_list().unwrap_err();
    assert!(matches!(failed, Error::Mismatch { .. }), "{failed}");
    fake.join();
}

#[test]
fn a_daemon_that_dies_is_unreachable() {
    let fake = Fake::new(drop);
    let failed = fake.client().zone_list().unwrap_err();
    assert_eq!(failed.exit_code(), exit::UNREACHABLE, "{failed}");
    fake.join();
    let fake = Fake::saying(&b""[..]);
    let failed = fake.client().zone_list().unwrap_err();
    assert!(matches!(failed, Error::HungUp { .. }), "{failed}");
    fake.join();
}

#[test]
fn a_daemon_that_hangs_is_given_up() {
    let fake = Fake::new(|stream| {
        read_message(&stream);
        // Until the client has gone.
        read_message(&stream);
    });
    let mut client = Client::connect_patiently(&fake.path, Duration::from_millis(50)).unwrap();
    let failed = client.zone_list().unwrap_err();
    assert!(matches!(failed, Error::TimedOut { .. }), "{failed}");
    drop(client);
    fake.join();
}

#[test]
fn nobody_there() {
    let dir = tempfile::tempdir().unwrap();
    let failed = Client::connect(&dir.path().join("netd.sock")).unwrap_err();
    assert_eq!(failed.exit_code(), exit::UNREACHABLE);
    assert!(chain(&failed).contains("No such file"), "{failed}");
    let long = dir.path().join("x".repeat(200));
    let failed = Client::connect(&long).unwrap_err();
    assert_eq!(failed.exit_code(), exit::UNREACHABLE);
}

#[test]
fn without_autostart_it_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = crate::dirs::Dirs {
        config: dir.path().into(),
        state: dir.path().into(),
        runtime: dir.path().into(),
    };
    let failed = autostart::connect(&dirs, false).unwrap_err();
    assert!(failed.to_string().contains("netd daemon"), "{failed}");
    assert_eq!(failed.exit_code(), exit::UNREACHABLE);
    // A socket that a dead daemon left behind is the same.
    drop(UnixListener::bind(dirs.socket()).unwrap());
    let failed = autostart::connect(&dirs, false).unwrap_err();
    assert!(matches!(failed, Error::NoDaemon { .. }), "{failed}");
}

#[test]
fn autostart_is_on_unless_a_clear_no_says_otherwise() {
    for (value, allowed) in [
        (None, true),
        (Some("1"), true),
        (Some(""), true),
        (Some("0"), false),
        (Some("no"), false),
    ] {
        assert_eq!(
            autostart::allowed(value.map(str::as_ref)),
            allowed,
            "{value:?}"
        );
    }
}
