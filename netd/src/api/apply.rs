//! Sets of policy files: what would change, and one step from one set to another.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use super::{LimitChange, Reason};

/// A policy file that is not (yet) one of those in the config dir.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyText {
    /// Its name without `.toml`.
    pub(crate) name: String,
    /// How messages name it.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// A whole set of policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyTexts {
    /// The policy files.
    pub(crate) files: Vec<PolicyText>,
    /// The groups file; without one the groups stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<PolicyText>,
}

/// What became of files in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyStep {
    /// Names of files that were not there before.
    pub(crate) added: Vec<String>,
    /// Names of files that say something else now.
    pub(crate) changed: Vec<String>,
    /// Names of files that are gone.
    pub(crate) removed: Vec<String>,
    /// Whether the groups file comes, goes or says something else.
    pub(crate) groups: bool,
    /// What the files probably do not mean as they stand.
    pub(crate) warnings: Vec<String>,
    /// Seconds in which the step has to be confirmed; absent where it need not be.
    pub(crate) confirm_within: Option<i64>,
    /// Where the files are that were replaced by a rollback.
    pub(crate) kept: Option<String>,
}

/// The last apply, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct AppliedState {
    /// `in-force`; `waiting` for confirmation; `timed-out` or `rolled-back`: the files before it are back.
    pub(crate) state: String,
    /// When it was applied, in seconds since 1970.
    pub(crate) at: i64,
    /// Seconds that are left to confirm it; absent where it does not wait.
    pub(crate) remaining: Option<i64>,
    /// Where the files are that were undone.
    pub(crate) kept: Option<String>,
}

/// Flows of which the same would become otherwise: each of `from` to each of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyChange {
    /// Who opens the connection: containers, `host`, `host at ADDRESS`, `world`, networks; after `but` what is
    /// left out of host or world.
    pub(crate) from: Vec<String>,
    /// To whom: the same, and `dns:NAME`.
    pub(crate) to: Vec<String>,
    /// Protocols and ports as policy files write them; absent: every one but those of `except`.
    pub(crate) ports: Option<Vec<String>>,
    /// What is left out of every protocol and port.
    pub(crate) except: Vec<String>,
    /// 4 or 6; absent: each that both ends have.
    pub(crate) family: Option<i64>,
    /// `direct` or `published`: to the container's own address or through its published port; absent: both.
    pub(crate) way: Option<String>,
    /// `allow` or `deny`.
    pub(crate) before: String,
    /// `allow` or `deny`.
    pub(crate) after: String,
    /// Rates, numbers of connections, hours, log and audit before.
    pub(crate) limits_before: Vec<String>,
    /// Rates, numbers of connections, hours, log and audit after.
    pub(crate) limits_after: Vec<String>,
    /// What decided before and does not any more.
    pub(crate) because_before: Vec<Reason>,
    /// What decides and did not before.
    pub(crate) because_after: Vec<Reason>,
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub(crate) struct PolicyDifference {
    /// Row by row.
    pub(crate) changes: Vec<PolicyChange>,
    /// Limits of bandwidth.
    #[serde(default)]
    pub(crate) bandwidth: Vec<LimitChange>,
    /// How many more rows there are.
    pub(crate) more: i64,
    /// How many pairs were not looked at, because there are too many.
    pub(crate) unexamined: i64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    /// The keys of a document, which the schema must demand, and it must know no others.
    fn held_to(schema: &Value, document: &Value, place: &str) {
        let keys = |value: &Value| -> Vec<String> {
            let mut keys: Vec<String> = match value {
                Value::Object(map) => map.keys().cloned().collect(),
                Value::Array(list) => list
                    .iter()
                    .filter_map(|k| Some(k.as_str()?.to_owned()))
                    .collect(),
                _ => Vec::new(),
            };
            keys.sort();
            keys
        };
        match document {
            Value::Object(map) => {
                assert_eq!(keys(&schema["properties"]), keys(document), "{place}");
                assert_eq!(keys(&schema["required"]), keys(document), "{place}");
                for (key, value) in map {
                    held_to(&schema["properties"][key], value, &format!("{place}.{key}"));
                }
            }
            Value::Array(list) => {
                for value in list {
                    held_to(&schema["items"], value, &format!("{place}[]"));
                }
            }
            _ => {}
        }
    }

    fn schema(name: &str) -> Value {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema");
        let text = std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn documents_are_as_their_schemas_say() {
        let step = serde_json::to_value(PolicyStep::default()).unwrap();
        for name in ["policy-apply", "policy-rollback"] {
            held_to(&schema(name), &step, name);
        }
        let state = AppliedState {
            state: "waiting".into(),
            at: 0,
            remaining: None,
            kept: None,
        };
        let state = serde_json::to_value(state).unwrap();
        held_to(&schema("status")["properties"]["applied"], &state, "status");
        let reason = Reason {
            file: None,
            line: None,
            column: None,
            direction: None,
            action: "allow".into(),
            text: String::new(),
        };
        let change = PolicyChange {
            from: vec![],
            to: vec![],
            ports: None,
            except: vec![],
            family: None,
            way: None,
            before: "allow".into(),
            after: "deny".into(),
            limits_before: vec![],
            limits_after: vec![],
            because_before: vec![reason.clone()],
            because_after: vec![reason],
        };
        let difference = PolicyDifference {
            changes: vec![change],
            bandwidth: vec![LimitChange {
                container: "web".into(),
                direction: "egress".into(),
                before: None,
                after: Some("20mbit".into()),
            }],
            more: 0,
            unexamined: 0,
        };
        let difference = serde_json::to_value(difference).unwrap();
        held_to(&schema("policy-diff"), &difference, "policy-diff");
    }
}
