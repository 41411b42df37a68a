//! Errors as the specification has them (section 5, "Error").

use serde_json::{Value, json};

use super::result::Version;
use crate::error::{Error, chain};

/// What kind of error it is; 100 and above are netd's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The version of the configuration, or the command in that version, is not known.
    Version = 1,
    /// A key of the configuration that netd does not honour.
    Unsupported = 2,
    /// There is no such attachment.
    Unknown = 3,
    /// A variable is missing or wrong.
    Environment = 4,
    /// Standard input or output.
    Io = 5,
    /// The configuration is no JSON.
    Decode = 6,
    /// The configuration is wrong.
    Config = 7,
    /// The daemon does not answer now.
    Later = 11,
    /// STATUS: nobody can be attached.
    Unavailable = 50,
    /// STATUS: nobody can be attached, and those that are may lack something.
    Limited = 51,
    /// The daemon refused, with its reason.
    Refused = 100,
    /// CHECK: something is missing.
    Broken = 101,
}

/// An error for the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) details: String,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// With more words.
    pub(super) fn details(self, details: impl ToString) -> Self {
        Self {
            details: details.to_string(),
            ..self
        }
    }

    /// A key that is not honoured; the specification wants key and value in the message.
    pub(super) fn unsupported(key: &str, value: &Value, why: &str) -> Self {
        let message = format!("netd does not support {key}: {value}");
        Self::new(Code::Unsupported, message).details(why)
    }

    /// What the daemon, or the way to it, said.
    pub(super) fn of(error: &Error) -> Self {
        let code = match error {
            Error::NoSuchZone(_) | Error::Invalid(_) => Code::Config,
            error if error.exit_code() == crate::error::exit::UNREACHABLE => Code::Later,
            _ => Code::Refused,
        };
        Self::new(code, chain(error))
    }

    /// A network namespace that cannot be opened.
    pub(super) fn netns(error: &Error) -> Self {
        Self::new(Code::Environment, "CNI_NETNS is wrong").details(chain(error))
    }

    /// As the runtime reads it.
    pub(super) fn document(&self, version: Version) -> Value {
        let mut document = json!({
            "cniVersion": version.as_str(),
            "code": self.code as u32,
            "msg": self.message,
        });
        if !self.details.is_empty() {
            document["details"] = json!(self.details);
        }
        document
    }
}
