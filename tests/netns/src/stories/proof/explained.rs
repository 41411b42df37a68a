//! `netd explain`, thousands of times: over one connection to the control socket, many questions ahead of
//! their answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use firewall::model::{Endpoint, Flow};
use firewall::sets::Family;
use serde_json::{Value, json};

use super::draw::question::said;

/// Questions that are sent before the first answer is read: what the socket's buffers hold for certain.
const AHEAD: usize = 32;

/// What the daemon says of each flow: whether it is allowed, and why.
pub fn explained(socket: &Path, flows: &[Flow]) -> Vec<(bool, Value)> {
    if flows.is_empty() {
        return Vec::new();
    }
    let mut stream = UnixStream::connect(socket)
        .unwrap_or_else(|error| panic!("connect to {}: {error}", socket.display()));
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut all = Vec::with_capacity(flows.len());
    for chunk in flows.chunks(AHEAD) {
        let mut calls = Vec::new();
        for flow in chunk {
            serde_json::to_writer(&mut calls, &call(flow)).unwrap();
            calls.push(0);
        }
        stream.write_all(&calls).unwrap();
        for flow in chunk {
            let mut answer = Vec::new();
            answers.read_until(0, &mut answer).unwrap();
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&answer)));
            let explanation = &answer["parameters"]["explanation"];
            let allowed = match explanation["verdict"].as_str() {
                Some("allow") => true,
                Some("deny") => false,
                _ => panic!("explain {flow:?}: {answer}"),
            };
            all.push((allowed, explanation["reasons"].clone()));
        }
    }
    all
}

fn call(flow: &Flow) -> Value {
    let family = match flow.family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    json!({
        "method": "io.netd.Control.Explain",
        "parameters": {
            "from": end(&flow.from),
            "to": end(&flow.to),
            "traffic": said(flow.traffic),
            "family": family,
        }
    })
}

/// An end of a flow as `netd explain` takes it.
pub fn end(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Container(name) => name.to_string(),
        Endpoint::Host => "host".to_owned(),
        Endpoint::World => "world".to_owned(),
        Endpoint::Address(address) => address.to_string(),
    }
}
