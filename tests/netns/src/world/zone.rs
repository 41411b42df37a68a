//! Zones, made by `netd zone create`.

use std::sync::Arc;

use serde_json::Value;

use super::Host;
use crate::net::netns::Ran;

/// A zone to be made.
pub struct Builder {
    host: Arc<Host>,
    args: Vec<String>,
}

impl Builder {
    pub(super) fn new(host: Arc<Host>, name: &str) -> Self {
        Self {
            host,
            args: ["zone", "create", name].map(str::to_owned).to_vec(),
        }
    }

    /// Any option of `netd zone create`.
    pub fn option(mut self, flag: &str, value: &str) -> Self {
        self.args.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// What holds where no file speaks: `egress`, `deny` or `allow`.
    pub fn default(self, policy: &str) -> Self {
        self.option("--default", policy)
    }

    /// Without a path to the world.
    pub fn internal(mut self) -> Self {
        self.args.push("--internal".to_owned());
        self
    }

    /// Makes it; returns what `--json` says.
    #[track_caller]
    pub fn create(self) -> Value {
        self.try_create().json()
    }

    /// Asks for it, whatever comes of it.
    pub fn try_create(self) -> Ran {
        self.host
            .netd_args(self.args.iter().map(String::as_str).chain(["--json"]))
    }
}
