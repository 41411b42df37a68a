//! As much of JSON Schema (draft 2020-12) as the two schemas use. A keyword that is not known here fails,
//! so a schema cannot ask for something that is not looked at. (The crate that knows all of them brings
//! some forty others with it, for a test.)

use regex::Regex;
use serde_json::{Map, Value};

/// A schema, with what it refers to.
pub(super) struct Schema(pub(super) Value);

/// What says nothing of values.
const WORDS: [&str; 7] = [
    "$schema",
    "$defs",
    "title",
    "description",
    "examples",
    "default",
    "then",
];

impl Schema {
    pub(super) fn judge(&self, value: &Value) -> Result<(), String> {
        self.judge_by(&self.0, value)
    }

    /// Judges by a part of the schema.
    pub(super) fn judge_by(&self, part: &Value, value: &Value) -> Result<(), String> {
        let keywords = match part {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return Err(format!("{value} is not allowed here")),
            Value::Object(keywords) => keywords,
            other => return Err(format!("{other} is no schema")),
        };
        for (keyword, asked) in keywords {
            if !WORDS.contains(&keyword.as_str()) {
                self.keyword(keyword, asked, keywords, value)?;
            }
        }
        Ok(())
    }

    /// Calls `each` with every part that is a schema of its own.
    pub(super) fn each_part(&self, each: &mut impl FnMut(&Value)) {
        fn walk(value: &Value, each: &mut impl FnMut(&Value)) {
            if value.is_object() {
                each(value);
            }
            match value {
                Value::Object(all) => {
                    let parts = all.iter().filter(|(key, _)| *key != "examples");
                    parts.for_each(|(_, part)| walk(part, each));
                }
                Value::Array(all) => all.iter().for_each(|part| walk(part, each)),
                _ => {}
            }
        }
        walk(&self.0, each);
    }

    fn keyword(
        &self,
        keyword: &str,
        asked: &Value,
        beside: &Map<String, Value>,
        value: &Value,
    ) -> Result<(), String> {
        let wrong = || Err(format!("{value} against {keyword} {asked}"));
        let number = || asked.as_u64().ok_or(format!("{keyword} {asked}"));
        type Compare = fn(&u64, &u64) -> bool;
        let size = |size: usize, bad: Compare| match number() {
            Ok(most) if bad(&(size as u64), &most) => wrong(),
            other => other.map(drop),
        };
        let (more, less): (Compare, Compare) = (u64::gt, u64::lt);
        match (keyword, value) {
            ("type", _) => match (asked.as_str(), value) {
                (Some("object"), Value::Object(_))
                | (Some("array"), Value::Array(_))
                | (Some("string"), Value::String(_))
                | (Some("boolean"), Value::Bool(_)) => Ok(()),
                (Some("integer"), Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(()),
                _ => wrong(),
            },
            ("enum", _) if !asked.as_array().is_some_and(|all| all.contains(value)) => wrong(),
            ("const", _) if asked != value => wrong(),
            ("enum" | "const", _) => Ok(()),
            ("$ref", _) => {
                let path = asked.as_str().and_then(|path| path.strip_prefix('#'));
                let part = path.and_then(|path| self.0.pointer(path));
                self.judge_by(part.ok_or(format!("no part {asked}"))?, value)
            }
            ("anyOf", _) => {
                let any = asked.as_array().into_iter().flatten();
                let judged: Vec<_> = any.map(|part| self.judge_by(part, value)).collect();
                if judged.iter().any(Result::is_ok) {
                    Ok(())
                } else {
                    Err(format!("{value} is none of {judged:?}"))
                }
            }
            ("not", _) if self.judge_by(asked, value).is_ok() => wrong(),
            ("not", _) => Ok(()),
            ("if", _) if self.judge_by(asked, value).is_ok() => {
                self.judge_by(beside.get("then").unwrap_or(&Value::Bool(true)), value)
            }
            ("if", _) => Ok(()),
            ("pattern", Value::String(text)) => {
                let pattern = Regex::new(asked.as_str().unwrap_or_default());
                match pattern.map(|pattern| pattern.is_match(text)) {
                    Ok(true) => Ok(()),
                    _ => wrong(),
                }
            }
            ("minimum", Value::Number(n)) if n.as_i64() < asked.as_i64() => wrong(),
            ("maximum", Value::Number(n)) if n.as_i64() > asked.as_i64() => wrong(),
            ("minItems", Value::Array(all)) => size(all.len(), less),
            ("maxItems", Value::Array(all)) => size(all.len(), more),
            ("minProperties", Value::Object(all)) => size(all.len(), less),
            ("maxProperties", Value::Object(all)) => size(all.len(), more),
            ("items", Value::Array(all)) => {
                all.iter().try_for_each(|item| self.judge_by(asked, item))
            }
            ("required", Value::Object(all)) => {
                let mut names = asked.as_array().into_iter().flatten();
                match names.all(|name| name.as_str().is_some_and(|name| all.contains_key(name))) {
                    true => Ok(()),
                    false => wrong(),
                }
            }
            ("properties", Value::Object(all)) => all.iter().try_for_each(|(key, value)| {
                let part = asked.get(key).unwrap_or(&Value::Bool(true));
                self.judge_by(part, value)
            }),
            ("additionalProperties", Value::Object(all)) => {
                let known = beside.get("properties").and_then(Value::as_object);
                let mut rest = all
                    .iter()
                    .filter(|(key, _)| !known.is_some_and(|known| known.contains_key(*key)));
                rest.try_for_each(|(key, value)| {
                    let judged = self.judge_by(asked, value);
                    judged.map_err(|e| format!("{key}: {e}"))
                })
            }
            ("propertyNames", Value::Object(all)) => {
                let mut names = all.keys().map(|name| Value::String(name.clone()));
                names.try_for_each(|name| self.judge_by(asked, &name))
            }
            // those that are about values of another kind
            (
                "pattern"
                | "minimum"
                | "maximum"
                | "minItems"
                | "maxItems"
                | "minProperties"
                | "maxProperties"
                | "items"
                | "required"
                | "properties"
                | "additionalProperties"
                | "propertyNames",
                _,
            ) => Ok(()),
            _ => Err(format!("the keyword {keyword} is not known here")),
        }
    }
}
