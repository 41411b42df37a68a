//! What `--json` prints, held to docs/schema: the keywords of JSON Schema that are used there, and no others.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Commands and their schemas. A command is told by its first words.
const SCHEMAS: &[(&str, &str)] = &[
    ("zone create", "zone"),
    ("zone show", "zone"),
    ("zone set", "zone"),
    ("zone list", "zone-list"),
    ("zone delete", "zone-delete"),
    ("attach", "attach"),
    ("detach", "detach"),
    ("list", "list"),
    ("status NAME", "status-container"),
    ("status", "status"),
    ("show", "show"),
    ("start", "start"),
    ("reboot", "start"),
    ("kill", "kill"),
    ("stop", "stop"),
    ("copy-to", "copy"),
    ("copy-from", "copy"),
    ("bind", "bind"),
    ("images", "images"),
    ("clone", "image"),
    ("rename", "image"),
    ("read-only", "image"),
    ("import-tar", "image"),
    ("import-raw", "image"),
    ("import-oci", "image"),
    ("pull-tar", "image"),
    ("pull-raw", "image"),
    ("export-tar", "image"),
    ("export-raw", "image"),
    ("remove", "remove"),
    ("list-transfers", "list-transfers"),
    ("cancel-transfer", "cancel-transfer"),
    ("enable", "enable"),
    ("disable", "enable"),
    ("reload", "reload"),
    ("policy check", "policy-check"),
    ("policy show", "policy-show"),
    ("policy log", "decision"),
    ("policy learn --forget", "policy-learn-forget"),
    ("policy learn", "policy-learn"),
    ("policy diff", "policy-diff"),
    ("policy apply", "policy-apply"),
    ("policy confirm", "policy-confirm"),
    ("policy rollback", "policy-rollback"),
    ("explain", "explain"),
    ("lease list", "lease-list"),
];

/// Commands that print what somebody else writes, or nothing.
const WITHOUT: &[&str] = &[
    "daemon",
    "run",
    "exec",
    "shell",
    "login",
    "hook",
    "completions",
    "man",
    "help",
];

/// The schema of a command by its words; `None` where it has none.
pub fn of(words: &[&str]) -> Option<&'static str> {
    let plain: Vec<&str> = words
        .iter()
        .copied()
        .filter(|w| !w.starts_with('-'))
        .collect();
    let told = match plain.as_slice() {
        ["status", _, ..] => "status NAME".to_owned(),
        ["policy", "learn", ..] if words.contains(&"--forget") => "policy learn --forget".into(),
        ["zone" | "policy" | "lease", second, ..] => format!("{} {second}", plain[0]),
        [first, ..] => (*first).to_owned(),
        [] => return None,
    };
    let found = SCHEMAS.iter().find(|(command, _)| *command == told);
    found.map(|(_, schema)| *schema)
}

/// Whether something is said about this command here, or about commands that begin with it.
pub fn is_known(command: &str) -> bool {
    let begins = format!("{command} ");
    WITHOUT.contains(&command)
        || SCHEMAS
            .iter()
            .any(|(known, _)| *known == command || known.starts_with(&begins))
}

/// Holds a document to its schema.
///
/// # Panics
/// It does not keep to it; tells where.
pub fn hold(schema: &str, document: &Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
    let text = fs::read_to_string(folder.join(format!("{schema}.json"))).unwrap();
    let root: Value = serde_json::from_str(&text).unwrap();
    if let Err(why) = check(&root, &root, document, "") {
        panic!("docs/schema/{schema}.json: {why}\n{document:#}");
    }
}

/// Descriptions, and what is looked at together with its neighbour.
const NOTED: &[&str] = &[
    "$schema",
    "title",
    "description",
    "examples",
    "default",
    "$defs",
    "pattern",
];

fn check(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let Some(schema) = schema.as_object() else {
        return match schema {
            Value::Bool(true) => Ok(()),
            _ => Err(format!("{place}: must not be there")),
        };
    };
    for (keyword, told) in schema {
        let wrong = || Err(format!("{place}: {value} is not of {keyword} {told}"));
        match keyword.as_str() {
            "$ref" => {
                let path = told.as_str().and_then(|path| path.strip_prefix('#'));
                let target = path.and_then(|path| root.pointer(path));
                let target = target.ok_or_else(|| format!("{told} leads nowhere"))?;
                check(root, target, value, place)?;
            }
            "type" => {
                let one = |name: &Value| match name.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    Some("number") => value.is_number(),
                    Some("boolean") => value.is_boolean(),
                    Some("null") => value.is_null(),
                    _ => false,
                };
                let fits = told.as_array().map_or(one(told), |all| all.iter().any(one));
                if !fits {
                    return wrong();
                }
            }
            "enum" if !told.as_array().is_some_and(|all| all.contains(value)) => return wrong(),
            "const" if told != value => return wrong(),
            "required" => {
                let names = told
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                for name in names {
                    if value.is_object() && value.get(name).is_none() {
                        return Err(format!("{place}: has no {name}"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in told.as_object().into_iter().flatten() {
                    if let Some(found) = value.get(name) {
                        check(root, inner, found, &format!("{place}.{name}"))?;
                    }
                }
                // none that the schema does not name, unless it says so
                let names = value.as_object().into_iter().flatten();
                for (name, _) in names.filter(|(name, _)| told.get(name).is_none()) {
                    if !schema.contains_key("additionalProperties") && !schema.contains_key("$ref")
                    {
                        return Err(format!("{place}: {name} is not in the schema"));
                    }
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties");
                for (name, found) in value.as_object().into_iter().flatten() {
                    if known.is_none_or(|known| known.get(name).is_none()) {
                        check(root, told, found, &format!("{place}.{name}"))?;
                    }
                }
            }
            "items" => {
                for (n, found) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, told, found, &format!("{place}[{n}]"))?;
                }
            }
            "anyOf" => {
                let ways = told.as_array().into_iter().flatten();
                if !ways
                    .into_iter()
                    .any(|way| check(root, way, value, place).is_ok())
                {
                    return wrong();
                }
            }
            "minItems"
                if value
                    .as_array()
                    .is_some_and(|all| (all.len() as u64) < told.as_u64().unwrap_or(0)) =>
            {
                return wrong();
            }
            "maxItems"
                if value
                    .as_array()
                    .is_some_and(|all| all.len() as u64 > told.as_u64().unwrap_or(0)) =>
            {
                return wrong();
            }
            "minimum" if value.as_i64() < told.as_i64() => return wrong(),
            "maximum" if value.as_i64() > told.as_i64() => return wrong(),
            "enum" | "const" | "minItems" | "maxItems" | "minimum" | "maximum" => {}
            noted if NOTED.contains(&noted) => {}
            other => {
                return Err(format!(
                    "{place}: {other} is a keyword that is not looked at"
                ));
            }
        }
    }
    Ok(())
}
