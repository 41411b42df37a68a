//! Walks the parsed TOML of a policy file and collects every error on the way.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zone::ContainerName;

use super::limits::{Count, MAX_RULES};
use super::place::{Places, RulePlace};
use super::suggest::nearest;
use super::together::Weight;
use super::{AppliesTo, Groups, MAX_BYTES, Mode, PolicyFile, Section};
use crate::diagnostics::{Diagnostics, Source};
use crate::sets::Direction;

pub(super) const FILE_KEYS: [&str; 5] = ["applies-to", "mode", "bandwidth", "ingress", "egress"];
pub(super) const TARGET_KEYS: [&str; 3] = ["container", "zone", "labels"];

pub(super) type Span = Range<usize>;

/// The file's name without folder and `.toml`.
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".toml").unwrap_or(name)
}

/// A file that was read, with what its places are and what was found wrong so far.
pub(super) struct Read<'a> {
    pub(super) file: PolicyFile,
    pub(super) places: Places,
    pub(super) source: Source<'a>,
}

/// See [`PolicyFile::parse_with`].
pub(super) fn file(file: &str, text: &str, groups: &Groups) -> Result<PolicyFile, Diagnostics> {
    let read = read(file, text, groups)?;
    let warnings = read.source.finish()?;
    Ok(PolicyFile {
        warnings,
        weight: Weight::of(read.file.rules()),
        ..read.file
    })
}

/// Reads what can be read of a file.
///
/// # Errors
/// It is too large to be looked at.
pub(super) fn read<'a>(
    file: &'a str,
    text: &'a str,
    groups: &'a Groups,
) -> Result<Read<'a>, Diagnostics> {
    let mut source = Source::new(file, text);
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes; a policy file has at most 1 MiB ({MAX_BYTES} bytes)",
            text.len()
        );
        source.error(
            0..0,
            message,
            Some("split it: the rules of several files that apply to one container add up".into()),
        );
        return Err(source.finish().err().unwrap_or_default());
    }
    let (table, mut reader) = Reader::start(source, text, groups);
    let read = reader.file(file, table.get_ref());
    Ok(Read {
        file: read,
        places: reader.places,
        source: reader.source,
    })
}

/// See [`PolicyFile::parse_bytes`].
pub(super) fn not_text(file: &str, bytes: &[u8], good: usize) -> Diagnostics {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]);
    let mut source = Source::new(file, &text);
    source.error(
        good..good,
        "not a text file: this is not UTF-8".into(),
        None,
    );
    source.finish().err().unwrap_or_default()
}

/// See [`PolicyFile::salvage_applies_to`].
pub(super) fn applies_to(file: &str, text: &str) -> Option<AppliesTo> {
    let text = text.get(..MAX_BYTES.min(text.len())).unwrap_or_default();
    let (table, errors) = DeTable::parse_recoverable(text);
    let table = table.get_ref();
    let none = Groups::default();
    let mut reader = Reader::new(Source::new(file, text), &none);
    let target = reader.applies_to(file, table);
    let told = match table.get("applies-to") {
        // what cannot be read up to its line may have cut it
        Some(value) => {
            let end = reader.source.position(value.span().end).line;
            let line =
                |span: Option<Span>| reader.source.position(span.map_or(0, |s| s.start)).line;
            errors.iter().all(|error| line(error.span()) > end)
        }
        // it may have been lost with what cannot be read, or be misspelt
        None => {
            errors.is_empty()
                && table
                    .keys()
                    .all(|key| FILE_KEYS.contains(&&**key.get_ref()))
        }
    };
    (told && reader.source.lines_with_errors().is_empty()).then_some(target)
}

pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
    pub(super) groups: &'a Groups,
    /// Groups that were used.
    pub(super) used: BTreeSet<String>,
    pub(super) places: Places,
    pub(super) counted: Count,
    /// Lines with syntax errors.
    unreadable: Vec<u32>,
}

impl<'a> Reader<'a> {
    fn new(source: Source<'a>, groups: &'a Groups) -> Self {
        Self {
            source,
            groups,
            used: BTreeSet::new(),
            places: Places::default(),
            counted: Count::default(),
            unreadable: Vec::new(),
        }
    }

    /// The table of a text, and a reader for it that knows what of it cannot be read.
    pub(super) fn start<'t>(
        mut source: Source<'a>,
        text: &'t str,
        groups: &'a Groups,
    ) -> (Spanned<DeTable<'t>>, Self) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut lines = BTreeSet::new();
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            // the others of a line mostly follow from its first
            if lines.insert(source.position(span.start).line) {
                source.error(span, error.message().to_owned(), None);
            }
        }
        // what was left out of a line that cannot be read says nothing about the rest of it
        let unreadable = source.lines_with_errors();
        let reader = Self {
            unreadable,
            ..Self::new(source, groups)
        };
        (table, reader)
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        let line = self.source.position(span.start).line;
        if !self.unreadable.contains(&line) {
            self.source.error(span, message.into(), help);
        }
    }

    pub(super) fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, expected: &str) {
        let message = format!(
            "`{key}` is {expected}, not {}",
            a(value.get_ref().type_str())
        );
        self.error(value.span(), message, None);
    }

    fn file(&mut self, file: &str, table: &DeTable<'_>) -> PolicyFile {
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if !FILE_KEYS.contains(&name) {
                self.unknown_key(key.span(), name, &FILE_KEYS, "a policy file");
            }
        }
        let applies_to = self.applies_to(file, table);
        let mode = table
            .get("mode")
            .map_or(Mode::Enforce, |value| self.mode(value));
        let bandwidth = table
            .get("bandwidth")
            .and_then(|value| self.bandwidth(value));
        let ingress = self.section(table, Direction::Ingress);
        let egress = self.section(table, Direction::Egress);
        self.pieces([ingress.as_ref(), egress.as_ref()]);
        PolicyFile {
            name: stem(file).to_owned(),
            file: file.to_owned(),
            applies_to,
            mode,
            bandwidth,
            ingress,
            egress,
            groups: std::mem::take(&mut self.used),
            warnings: Diagnostics::default(),
            weight: Weight::default(),
        }
    }

    pub(super) fn unknown_key(&mut self, span: Span, key: &str, known: &[&str], place: &str) {
        let help = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("{place} knows {}", known.join(", ")),
        };
        self.error(span, format!("unknown key `{key}` in {place}"), Some(help));
    }

    /// The target that the file names, or the container that its name names.
    fn applies_to(&mut self, file: &str, table: &DeTable<'_>) -> AppliesTo {
        let mut target = AppliesTo::default();
        let Some(value) = table.get("applies-to") else {
            match stem(file).parse::<ContainerName>() {
                Ok(name) => target.container = Some(name),
                Err(error) => self.error(
                    0..0,
                    format!("the file is named like no container: {error}"),
                    Some("rename it to CONTAINER.toml, or say applies-to = { container = \"NAME\" }, { zone = \"NAME\" } or { labels = { KEY = \"VALUE\" } }".into()),
                ),
            }
            return target;
        };
        self.places.target = value.span();
        let DeValue::Table(keys) = value.get_ref() else {
            self.wrong_type(value, "applies-to", "a table such as { zone = \"dmz\" }");
            return target;
        };
        for (key, value) in keys.iter() {
            match &**key.get_ref() {
                "container" => target.container = self.name(value, "container"),
                "zone" => target.zone = self.name(value, "zone"),
                "labels" => self.labels(value, &mut target),
                other => self.unknown_key(key.span(), other, &TARGET_KEYS, "`applies-to`"),
            }
        }
        if keys.is_empty() {
            self.error(
                value.span(),
                "`applies-to` names nobody",
                Some("give container, zone or labels; all that are given must match".into()),
            );
        }
        target
    }

    fn name<T>(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Option<T>
    where
        T: std::str::FromStr<Err = zone::NameError>,
    {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, key, "a string");
            return None;
        };
        text.parse()
            .map_err(|error: zone::NameError| self.error(value.span(), error.to_string(), None))
            .ok()
    }

    fn labels(&mut self, value: &Spanned<DeValue<'_>>, target: &mut AppliesTo) {
        let DeValue::Table(labels) = value.get_ref() else {
            self.wrong_type(value, "labels", "a table such as { tier = \"front\" }");
            return;
        };
        if labels.is_empty() {
            self.error(value.span(), "`labels` names no label", None);
        }
        for (key, value) in labels.iter() {
            match value.get_ref().as_str() {
                Some(text) => {
                    let key: &str = key.get_ref();
                    target.labels.insert(key.to_owned(), text.to_owned());
                }
                None => self.wrong_type(value, key.get_ref(), "a string"),
            }
        }
    }

    fn mode(&mut self, value: &Spanned<DeValue<'_>>) -> Mode {
        match value.get_ref().as_str() {
            Some("enforce") => Mode::Enforce,
            Some("audit") => Mode::Audit,
            Some(other) => {
                let near = nearest(other, ["enforce", "audit"]).unwrap_or("enforce");
                let help = format!("did you mean \"{near}\"?");
                self.error(value.span(), format!("unknown mode {other:?}"), Some(help));
                Mode::Enforce
            }
            None => {
                self.wrong_type(value, "mode", "\"enforce\" or \"audit\"");
                Mode::Enforce
            }
        }
    }

    fn section(&mut self, table: &DeTable<'_>, direction: Direction) -> Option<Section> {
        let word = direction.as_str();
        let (key, value) = table.get_key_value(word)?;
        let DeValue::Array(rules) = value.get_ref() else {
            let message = format!(
                "`{word}` is a list of rules, not {}",
                a(value.get_ref().type_str())
            );
            let help = format!(
                "begin each rule with [[{word}]], or write {word} = [] to close the direction"
            );
            self.error(value.span(), message, Some(help));
            return None;
        };
        // the key of `ingress = []`, the header of `[[ingress]]`
        let first = rules
            .first()
            .map_or(key.span(), |rule| rule.span().start..rule.span().end);
        let at = self.source.position(key.span().start.min(first.start));
        let before = self.places.rules();
        if before + rules.len() > MAX_RULES {
            let message = format!(
                "this is rule {} of the file; at most {MAX_RULES} are allowed",
                MAX_RULES + 1
            );
            let span = rules.get(MAX_RULES - before).map(Spanned::span);
            let help = "split it: the rules of several files that apply to one container add up";
            self.error(span.unwrap_or_default(), message, Some(help.into()));
            return None;
        }
        let mut read = Vec::with_capacity(rules.len());
        for rule in rules.iter() {
            if self.source.is_full() {
                break;
            }
            match rule.get_ref() {
                DeValue::Table(keys) => {
                    let mut place = RulePlace::new(rule.span());
                    read.push(self.rule(&mut place, keys, direction));
                    self.places.of_mut(direction).push(place);
                }
                _ => self.wrong_type(rule, word, "a list of rules"),
            }
        }
        self.conditional(direction, &read);
        Some(Section { at, rules: read })
    }
}

/// With its article.
pub(super) fn a(word: &str) -> String {
    match word.bytes().next() {
        Some(b'a' | b'e' | b'i' | b'o' | b'u') => format!("an {word}"),
        _ => format!("a {word}"),
    }
}
