//! A container's state, as runtimes tell hooks of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::Error;

/// The largest state that is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// A container's state as every version of the runtime spec has it. `status` and `annotations` are
/// there since 1.0; before, `bundle` was `bundlePath`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct State {
    pub(super) id: String,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) pid: Option<i64>,
    #[serde(default, alias = "bundlePath")]
    pub(super) bundle: Option<PathBuf>,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// crun tells where the root is, runc does not.
    #[serde(default)]
    pub(super) root: Option<PathBuf>,
}

impl State {
    /// Reads it to the end of `input`.
    pub(super) fn read(input: impl Read) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        input
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::ReadState)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::StateTooBig);
        }
        serde_json::from_slice(&bytes).map_err(Error::NotState)
    }

    /// A process of the container; none where the runtime says none, or 0.
    pub(super) fn process(&self) -> Option<i32> {
        let pid = self.pid.and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|&pid| pid > 0)
    }
}
