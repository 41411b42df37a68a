//! `groups.toml`: names for lists of peers, which policies use as `"@NAME"`.
//!
//! ```toml
//! office = ["192.0.2.0/24", "2001:db8:7::/48", "container:vpn"]
//! staff  = ["@office", "label:team=ops"]
//! ```
//!
//! Groups are expanded while files are read: what is in force never looks a group up. A file that was
//! read keeps the names of the groups it used, so that it can be read again when they change, and their
//! text as far as it needs it ([`Groups::excerpt`]), so that the last good meaning of a file can be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::limits::{MAX_GROUP_BYTES, MAX_GROUP_PEERS, MAX_GROUPS, MAX_PEERS};
use super::read::{Reader, not_text};
use super::suggest::nearest;
use super::{Peer, lint, peer};
use crate::diagnostics::{Diagnostics, Position, Source};

/// Longest name of a group, in bytes.
pub(super) const MAX_NAME: usize = 64;

/// A name for a list of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Where it is.
    pub at: Position,
    /// Its peers, each once, those of the groups in it included. Empty: nobody.
    pub peers: Arc<[Peer]>,
}

/// Where the groups are from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Origin {
    /// No file was there.
    #[default]
    Nowhere,
    /// The file of this name.
    File(String),
    /// The file of this name, which cannot be read.
    Bad(String),
}

/// The groups of a `groups.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    origin: Origin,
    groups: BTreeMap<String, Group>,
    /// What the file probably does not mean as it stands.
    pub warnings: Diagnostics,
}

impl Groups {
    /// Reads a `groups.toml`. `file` is how messages name it.
    ///
    /// # Errors
    /// All that is wrong with the file, each with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut source = Source::new(file, text);
        if text.len() > MAX_GROUP_BYTES {
            let message = format!(
                "the file has {} bytes; groups.toml has at most 256 KiB ({MAX_GROUP_BYTES} bytes)",
                text.len()
            );
            source.error(0..0, message, None);
            return Err(source.finish().err().unwrap_or_default());
        }
        let none = Groups::default();
        let (table, mut reader) = Reader::start(source, text, &none);
        let groups = Expansion::of(&mut reader, table.get_ref());
        let warnings = reader.source.finish()?;
        Ok(Self {
            origin: Origin::File(file.to_owned()),
            groups,
            warnings,
        })
    }

    /// Reads a `groups.toml` from bytes that may turn out not to be text.
    ///
    /// # Errors
    /// As [`Groups::parse`]; and where the bytes are not UTF-8, the place of the first such byte.
    pub fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(file, text),
            Err(error) => Err(not_text(file, bytes, error.valid_up_to())),
        }
    }

    /// Stands for a file that is bad while no good one is known: every use of a group is an error.
    pub fn unusable(file: &str) -> Self {
        Self {
            origin: Origin::Bad(file.to_owned()),
            ..Self::default()
        }
    }

    /// The group of this name.
    pub fn get(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups
            .iter()
            .map(|(name, group)| (name.as_str(), group))
    }

    /// Names that do not stand for the same peers in both.
    pub fn differing(&self, other: &Groups) -> BTreeSet<String> {
        let peers = |groups: &Groups, name: &str| groups.get(name).map(|g| g.peers.clone());
        let names = self.groups.keys().chain(other.groups.keys());
        names
            .filter(|name| peers(self, name) != peers(other, name))
            .cloned()
            .collect()
    }

    /// These groups as a `groups.toml` of their own, expanded; those that are not there are left out.
    pub fn excerpt(&self, names: &BTreeSet<String>) -> String {
        let mut table = toml::Table::new();
        for name in names {
            if let Some(group) = self.groups.get(name) {
                let peers: toml::value::Array = group
                    .peers
                    .iter()
                    .map(|peer| peer.to_string().into())
                    .collect();
                table.insert(name.clone(), peers.into());
            }
        }
        table.to_string()
    }

    /// What is wrong with a name that no group has, and what to do about it.
    pub(super) fn unknown(&self, name: &str) -> (String, Option<String>) {
        if let Err(wrong) = well_named(name) {
            let near = nearest(name, self.groups.keys().map(String::as_str));
            return (wrong, near.map(|near| format!("did you mean `@{near}`?")));
        }
        match &self.origin {
            Origin::Bad(file) => (
                format!("what `@{name}` stands for is not known: {file} has errors"),
                Some(format!("mend {file}")),
            ),
            Origin::Nowhere => (
                format!("unknown group `@{name}`: there is no groups.toml"),
                Some(format!(
                    "write {name} = [\"192.0.2.0/24\", …] into groups.toml in the config dir"
                )),
            ),
            Origin::File(file) => {
                let names = self.groups.keys().map(String::as_str);
                (
                    format!("unknown group `@{name}`"),
                    suggest(name, names, file),
                )
            }
        }
    }
}

fn suggest<'a>(
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
    file: &str,
) -> Option<String> {
    if let Some(near) = nearest(name, names.clone()) {
        return Some(format!("did you mean `@{near}`?"));
    }
    const SHOWN: usize = 8;
    let known: Vec<String> = names.clone().take(SHOWN).map(|n| format!("@{n}")).collect();
    let more = if names.count() > SHOWN { " …" } else { "" };
    Some(match known.as_slice() {
        [] => format!("{file} has no groups"),
        known => format!("{file} has {}{more}", known.join(", ")),
    })
}

/// Whether a group may be called so: `[a-z0-9][a-z0-9-]*`.
fn well_named(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() {
        Err("the name of a group is missing after the '@'".into())
    } else if name.len() > MAX_NAME {
        Err(format!(
            "the name of a group has {} bytes; at most {MAX_NAME} are allowed",
            name.len()
        ))
    } else if name.starts_with('-') || !name.bytes().all(good) {
        Err(format!(
            "group name {name:?} has something else than a-z, 0-9 and '-', or begins with '-'"
        ))
    } else {
        Ok(())
    }
}

/// An entry of a group, as it was read.
enum Entry {
    Peer(Peer),
    Group(String),
}

/// A group as it was read.
struct Written {
    span: Range<usize>,
    entries: Vec<(Entry, Range<usize>)>,
}

/// Groups on their way to be expanded.
struct Expansion<'r, 'a> {
    reader: &'r mut Reader<'a>,
    written: BTreeMap<String, Written>,
    done: BTreeMap<String, Arc<[Peer]>>,
    /// Those that are being expanded, outermost first.
    open: Vec<String>,
    total: usize,
}

impl<'r, 'a> Expansion<'r, 'a> {
    fn of(reader: &'r mut Reader<'a>, table: &DeTable<'_>) -> BTreeMap<String, Group> {
        let mut all = Self {
            reader,
            written: BTreeMap::new(),
            done: BTreeMap::new(),
            open: Vec::new(),
            total: 0,
        };
        if table.len() > MAX_GROUPS {
            let mut spans: Vec<_> = table.keys().map(Spanned::span).collect();
            spans.sort_by_key(|span| span.start);
            let message = format!(
                "the file has {} groups; groups.toml has at most {MAX_GROUPS}",
                spans.len()
            );
            all.reader.error(spans[MAX_GROUPS].clone(), message, None);
            return BTreeMap::new();
        }
        for (key, value) in table.iter() {
            all.read(key, value);
        }
        let names: Vec<String> = all.written.keys().cloned().collect();
        for name in &names {
            all.expand(name);
        }
        let place = |name: &String| {
            let written = all.written.get(name);
            written.map_or(0, |written| written.span.start)
        };
        let places: Vec<usize> = all.done.keys().map(place).collect();
        let done = std::mem::take(&mut all.done).into_iter().zip(places);
        done.map(|((name, peers), start)| {
            let at = all.reader.source.position(start);
            (name, Group { at, peers })
        })
        .collect()
    }

    /// Reads one `name = [entries]`.
    fn read(&mut self, key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) {
        let name: &str = key.get_ref().as_ref();
        if let Err(wrong) = well_named(name) {
            self.reader.error(key.span(), wrong, None);
            return;
        }
        let mut entries = Vec::new();
        if let DeValue::Array(items) = value.get_ref() {
            if items.len() > MAX_PEERS {
                self.reader
                    .too_many_entries(value.span(), name, items.len(), MAX_PEERS);
                return;
            }
            for (span, text) in self.reader.strings_of(items, name) {
                let read = match text.strip_prefix('@') {
                    Some(other) => Ok(Entry::Group(other.to_owned())),
                    None => peer::parse(text).map(Entry::Peer),
                };
                match read {
                    Ok(entry) => entries.push((entry, span)),
                    Err((message, help)) => self.reader.error(span, message, help),
                }
            }
            if items.is_empty() {
                let message = format!("group `{name}` is empty: `@{name}` means nobody");
                let help = "put somebody into it, or remove it and where it is used";
                let source = &mut self.reader.source;
                source.lint(lint::EMPTY_GROUP, value.span(), message, Some(help.into()));
            }
        } else {
            let help = format!("write {name} = [\"192.0.2.0/24\", \"container:vpn\"]");
            let message = format!(
                "group `{name}` is a list of peers, not {}",
                super::read::a(value.get_ref().type_str())
            );
            self.reader.error(value.span(), message, Some(help));
        }
        let mut seen = BTreeSet::new();
        for (entry, span) in &entries {
            let text = match entry {
                Entry::Peer(peer) => peer.to_string(),
                Entry::Group(other) => format!("@{other}"),
            };
            if !seen.insert(text.clone()) {
                lint::twice(&mut self.reader.source, span.clone(), &text);
            }
        }
        let span = key.span();
        self.written
            .insert(name.to_owned(), Written { span, entries });
    }

    /// Expands a group and those in it. They nest at most as deep as there are groups.
    fn expand(&mut self, name: &str) -> Arc<[Peer]> {
        if let Some(done) = self.done.get(name) {
            return done.clone();
        }
        let Some(written) = self.written.get_mut(name) else {
            return Arc::default();
        };
        let entries = std::mem::take(&mut written.entries);
        let span = written.span.clone();
        self.open.push(name.to_owned());
        let mut seen = BTreeSet::new();
        let mut peers = Vec::new();
        for (entry, span) in entries {
            let found: Arc<[Peer]> = match entry {
                Entry::Peer(peer) => Arc::new([peer]),
                Entry::Group(other) => self.inner(&other, span),
            };
            peers.extend(found.iter().filter(|p| seen.insert((*p).clone())).cloned());
        }
        self.open.pop();
        self.total += peers.len();
        if peers.len() > MAX_PEERS {
            self.reader
                .too_many_entries(span, name, peers.len(), MAX_PEERS);
        } else if self.total > MAX_GROUP_PEERS && self.total - peers.len() <= MAX_GROUP_PEERS {
            let message = format!(
                "with `{name}` all groups together have {} peers, those of groups in them included; at most {MAX_GROUP_PEERS} are allowed",
                self.total
            );
            self.reader.error(span, message, None);
        }
        let peers: Arc<[Peer]> = peers.into();
        self.done.insert(name.to_owned(), peers.clone());
        peers
    }

    /// The peers of a group that stands in another one.
    fn inner(&mut self, name: &str, span: Range<usize>) -> Arc<[Peer]> {
        if let Some(begin) = self.open.iter().position(|open| open == name) {
            let circle = [&self.open[begin..], &[name.to_owned()]].concat();
            let circle: Vec<String> = circle.iter().map(|name| format!("@{name}")).collect();
            let message = format!("group `{name}` is in itself: {}", circle.join(" → "));
            self.reader.error(span, message, None);
            return Arc::default();
        }
        if !self.written.contains_key(name) {
            let (message, help) = match well_named(name) {
                Err(wrong) => (wrong, None),
                Ok(()) => {
                    let names = self.written.keys().map(String::as_str);
                    let help = suggest(name, names, "the file");
                    (format!("unknown group `@{name}`"), help)
                }
            };
            self.reader.error(span, message, help);
            return Arc::default();
        }
        self.expand(name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(groups: &Groups, name: &str) -> String {
        let group = groups.get(name).unwrap();
        super::super::list(&group.peers)
    }

    #[test]
    fn groups_in_groups_are_expanded_and_each_peer_is_there_once() {
        let groups = Groups::parse(
            "groups.toml",
            "staff = [\"@office\", \"label:team=ops\", \"@office\"]\n\
             office = [\"192.0.2.0/24\", \"container:vpn\"]\n\
             all = [\"container:vpn\", \"@staff\", \"@nobody\"]\n\
             nobody = []\n",
        )
        .unwrap();
        assert_eq!(shown(&groups, "office"), "192.0.2.0/24, container:vpn");
        assert_eq!(
            shown(&groups, "staff"),
            "192.0.2.0/24, container:vpn, label:team=ops"
        );
        assert_eq!(
            shown(&groups, "all"),
            "container:vpn, 192.0.2.0/24, label:team=ops"
        );
        assert_eq!(shown(&groups, "nobody"), "");
        let place = groups.get("office").unwrap().at;
        assert_eq!((place.line, place.column), (2, 1));
        let warned: Vec<u32> = groups.warnings.iter().map(|d| d.line).collect();
        assert_eq!(warned, [1, 4], "{}", groups.warnings);
    }

    #[test]
    fn what_differs() {
        let parse = |text| Groups::parse("groups.toml", text).unwrap();
        let old = parse("a = [\"host\"]\nb = [\"@a\"]\nc = [\"world\"]\nd = []\n");
        let new = parse("d = []\na = [\"any\"]\nb = [\"@a\"]\nc = [\"world\"]\ne = []\n");
        let names: Vec<String> = old.differing(&new).into_iter().collect();
        assert_eq!(names, ["a", "b", "e"]);
        assert_eq!(Groups::default().differing(&old).len(), 4);
    }

    #[test]
    fn an_excerpt_means_the_same_and_nothing_else() {
        let text = "a = [\"@b\", \"label:x=\\\"y\\\" z\"]\nb = [\"10.0.0.0/8\"]\nc = [\"@a\"]\n";
        let groups = Groups::parse("groups.toml", text).unwrap();
        let names = BTreeSet::from(["a".to_owned(), "gone".to_owned()]);
        let excerpt = groups.excerpt(&names);
        let again = Groups::parse("groups.toml", &excerpt).unwrap();
        assert_eq!(shown(&again, "a"), shown(&groups, "a"), "{excerpt}");
        assert_eq!(again.iter().count(), 1);
    }

    #[test]
    fn ceilings_name_the_number_that_is_allowed() {
        let list = |n: usize, of: &dyn Fn(usize) -> String| {
            let items: Vec<String> = (0..n).map(|i| format!("{:?}", of(i))).collect();
            format!("[{}]", items.join(","))
        };
        let address = |i: usize| format!("10.0.{}.{}", i / 256, i % 256);
        let wrong = |text: &str| {
            let wrong = Groups::parse("groups.toml", text).unwrap_err();
            assert_eq!(wrong.0.len(), 1, "{wrong}");
            wrong.0[0].headline()
        };
        let full = format!("a = {}\n", list(MAX_PEERS, &address));
        assert!(Groups::parse("groups.toml", &full).is_ok());
        let said = wrong(&format!("a = {}\n", list(MAX_PEERS + 1, &address)));
        assert!(said.contains("1:5") && said.contains("2000"), "{said}");
        let said = wrong(&format!("{full}b = [\"@a\", \"host\"]\n"));
        assert!(said.contains("2:1") && said.contains("2000"), "{said}");
        let many: String = (0..=MAX_GROUPS).map(|i| format!("g{i} = []\n")).collect();
        let said = wrong(&many);
        assert!(said.contains("1001:1") && said.contains("1000"), "{said}");
        let copies: String = (0..25).map(|i| format!("b{i:02} = [\"@a\"]\n")).collect();
        let said = wrong(&format!("{full}{copies}"));
        assert!(said.contains("26:1") && said.contains("50000"), "{said}");
        let said = wrong(&" ".repeat(MAX_GROUP_BYTES + 1));
        assert!(said.contains("1:1") && said.contains("256 KiB"), "{said}");
    }

    #[test]
    fn a_long_chain_of_groups_is_followed() {
        let mut text = String::from("g0 = [\"host\"]\n");
        for n in 1..MAX_GROUPS {
            text += &format!("g{n} = [\"@g{}\"]\n", n - 1);
        }
        let groups = Groups::parse("groups.toml", &text).unwrap();
        assert_eq!(shown(&groups, "g999"), "host");
    }
}
