//! What a file probably does not mean as it stands: warnings, never errors.
//!
//! ```text
//! texts, groups ─► read ─► Subjects ─┬─► shadow   what other rules make superfluous
//!        Surroundings (zones, who    ├─► wide     what means more than it looks
//!        is attached, host) ─────────┼─► reach    what can never match
//!                                    └─► names    whom nobody is called like
//! ```
//!
//! A lint knows only what it is given: where the surroundings are not known it says nothing. Little is
//! told while a file is read (`reading`), the rest only when somebody asks ([`check`]): it compares
//! rules with one another, which the way into force has no time for.

mod cover;
mod names;
mod reach;
mod reading;
mod shadow;
mod surroundings;
mod wide;

use std::ops::Range;

use super::place::Places;
use super::read;
use super::{Groups, PolicyFile};
use crate::diagnostics::Diagnostics;

pub(super) use reading::{once, ports, twice};
pub use surroundings::{Attached, Surroundings, ZoneFacts};

/// An entry is there twice.
pub(super) const TWICE: &str = "twice";
/// Something matches in one family only.
pub(super) const ONE_FAMILY: &str = "one-family";
/// A group has nobody in it.
pub(super) const EMPTY_GROUP: &str = "empty-group";
/// A limit that limits nothing.
pub(super) const POINTLESS: &str = "pointless";
/// A rule lets nothing through, as denies cover it.
const SHADOWED: &str = "shadowed";
/// A rule says nothing that another one does not say.
const COVERED: &str = "covered";
/// A direction has denies and nothing else.
const DENIES_ONLY: &str = "denies-only";
/// Something can never match.
const UNREACHABLE: &str = "unreachable";
/// Something means more than it looks.
const WIDE: &str = "wide";
/// A name that nobody has.
const UNKNOWN_NAME: &str = "unknown-name";

/// Names of all lints, in the order of docs/policies.md.
pub const NAMES: [&str; 10] = [
    SHADOWED,
    COVERED,
    UNREACHABLE,
    WIDE,
    ONE_FAMILY,
    UNKNOWN_NAME,
    DENIES_ONLY,
    EMPTY_GROUP,
    POINTLESS,
    TWICE,
];

/// A file without errors.
struct Subject<'a> {
    file: &'a PolicyFile,
    places: &'a Places,
}

/// A warning on its way to its place.
struct Finding {
    lint: &'static str,
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

impl Finding {
    fn new(
        lint: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            lint,
            span: span.clone(),
            message: message.into(),
            help: Some(help.into()),
        }
    }
}

/// Everything that is to be said about policy files that are in force together: for each, in their
/// order, its errors, or what it probably does not mean as it stands. A file is the name that messages
/// use, and its text.
pub fn check(
    files: &[(String, String)],
    groups: &Groups,
    around: &Surroundings,
) -> Vec<Diagnostics> {
    let mut read: Vec<_> = files
        .iter()
        .map(|(file, text)| read::read(file, text, groups))
        .collect();
    let good = |one: &&Result<read::Read<'_>, Diagnostics>| {
        one.as_ref().is_ok_and(|one| !one.source.has_errors())
    };
    let subjects: Vec<Subject<'_>> = read
        .iter()
        .filter(good)
        .flatten()
        .map(|one| Subject {
            file: &one.file,
            places: &one.places,
        })
        .collect();
    let mut found = subjects.iter().enumerate().map(|(place, subject)| {
        let mut out = Vec::new();
        shadow::find(&subjects, place, around, &mut out);
        wide::find(subject, around, &mut out);
        reach::find(subject, around, &mut out);
        names::find(subject, around, &mut out);
        out
    });
    let found: Vec<Option<Vec<Finding>>> = read
        .iter()
        .map(|one| good(&one).then(|| found.next()).flatten())
        .collect();
    let told = read.drain(..).zip(found).map(|(one, found)| match one {
        Err(wrong) => wrong,
        Ok(mut one) => {
            for finding in found.into_iter().flatten() {
                let Finding {
                    lint,
                    span,
                    message,
                    help,
                } = finding;
                one.source.lint(lint, span, message, help);
            }
            one.source.finish().unwrap_or_else(|wrong| wrong)
        }
    });
    told.collect()
}
