//! `netd explain`, thousands of times: over one connection to the control socket, many questions ahead of
//! their answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use firewall::model::Endpoint;
use serde_json::{Value, json};

/// Questions that are sent before the first answer is read: what the socket's buffers hold for certain.
const AHEAD: usize = 32;

/// A question as somebody types it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    pub from: String,
    pub to: String,
    pub traffic: String,
    pub v6: bool,
}

/// What the daemon says of each: whether it is allowed, and why.
pub fn explained(socket: &Path, questions: &[Typed]) -> Vec<(bool, Value)> {
    if questions.is_empty() {
        return Vec::new();
    }
    let mut stream = UnixStream::connect(socket)
        .unwrap_or_else(|error| panic!("connect to {}: {error}", socket.display()));
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut all = Vec::with_capacity(questions.len());
    for chunk in questions.chunks(AHEAD) {
        let mut calls = Vec::new();
        for typed in chunk {
            serde_json::to_writer(&mut calls, &call(typed)).unwrap();
            calls.push(0);
        }
        stream.write_all(&calls).unwrap();
        for typed in chunk {
            let mut answer = Vec::new();
            answers.read_until(0, &mut answer).unwrap();
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&answer)));
            let explanation = &answer["parameters"]["explanation"];
            let allowed = match explanation["verdict"].as_str() {
                Some("allow") => true,
                Some("deny") => false,
                _ => panic!("explain {typed:?}: {answer}"),
            };
            all.push((allowed, explanation["reasons"].clone()));
        }
    }
    all
}

fn call(typed: &Typed) -> Value {
    json!({
        "method": "io.netd.Control.Explain",
        "parameters": {
            "from": typed.from,
            "to": typed.to,
            "traffic": typed.traffic,
            "family": if typed.v6 { 6 } else { 4 },
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
