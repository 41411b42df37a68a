//! What is wrong with a file, and where: `FILE:LINE:COLUMN: error: …` and the line with a caret.
//!
//! A `Source` knows the text while it is read, a [`Diagnostic`] keeps only the one line it is about,
//! so that it can be shown and sent long after the text is gone.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be put in force.
    Error,
    /// The file can be put in force, and probably says something else than it was meant to.
    Warning,
}

/// A place in a file, counted from 1. Columns count characters, not bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as it was named by the caller.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Of warnings that have one: the name under which docs/policies.md explains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lint: Option<&'static str>,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line it is about (a part of it, where it is very long), and the bytes of it that are meant.
    #[serde(skip)]
    excerpt: (String, Range<usize>),
}

impl Diagnostic {
    /// An error that somebody else found in `text`. Line and column count from 1.
    pub fn error_at(
        file: &str,
        text: &str,
        (line, column): (usize, usize),
        message: String,
        help: Option<String>,
    ) -> Self {
        let before = text.split_inclusive('\n').take(line.saturating_sub(1));
        let start: usize = before.map(str::len).sum();
        let rest = text[start..].lines().next().unwrap_or_default();
        let within: usize = rest
            .chars()
            .take(column.saturating_sub(1))
            .map(char::len_utf8)
            .sum();
        let source = Source::new(file, text);
        source.diagnose(
            Severity::Error,
            start + within..start + within,
            message,
            help,
        )
    }

    /// `FILE:LINE:COLUMN: error: MESSAGE`, and `[LINT]` where it has a name.
    pub fn headline(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let lint = self.lint.map(|lint| format!(" [{lint}]"));
        format!(
            "{}:{}:{}: {severity}: {}{}",
            self.file,
            self.line,
            self.column,
            self.message,
            lint.unwrap_or_default()
        )
    }

    /// The headline, the line with a caret, and the help. Without a trailing newline.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let (line, span) = &self.excerpt;
        let snippet = Snippet::source(line.as_str())
            .line_start(self.line as usize)
            .annotation(AnnotationKind::Primary.span(span.clone()));
        let mut group = Group::with_level(level).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        format!("{}\n{}", self.headline(), renderer.render(&[group]))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// All of them, one below the other, each with its line and a caret.
    pub fn render(&self, colour: bool) -> String {
        let rendered: Vec<String> = self.0.iter().map(|d| d.render(colour)).collect();
        rendered.join("\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Longest excerpt of a line, in bytes, that is kept on each side of what is meant.
const EXCERPT: usize = 120;

/// More errors than this are only counted, and more warnings too: a file of garbage must not become
/// megabytes of messages.
const MOST: usize = 100;

/// A text that is being read, and what was found wrong with it so far.
pub(crate) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// Byte offset of the begin of every line.
    lines: Vec<usize>,
    /// The place that was asked for last: most of the next ones are near it, and a line may be long.
    last: Cell<(usize, Position)>,
    found: Vec<(usize, Diagnostic)>,
    uncounted: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self {
            file,
            text,
            lines,
            last: Cell::new((0, Position { line: 1, column: 1 })),
            found: Vec::new(),
            uncounted: 0,
        }
    }

    /// Whether more errors would only be counted: what remains need not be looked at.
    pub(crate) fn is_full(&self) -> bool {
        self.count(Severity::Error) >= MOST
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        let same = self.found.iter().filter(|(_, d)| d.severity == severity);
        same.count()
    }

    /// Line and column of a byte offset.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = self.boundary(offset);
        let line = self.lines.partition_point(|&start| start <= offset) - 1;
        let start = self.lines[line];
        let (last, at) = self.last.get();
        let chars = |from: usize, to: usize| self.text[from..to].chars().count();
        let before = at.column as usize - 1;
        let column = if last < start || at.line as usize != line + 1 {
            chars(start, offset)
        } else if last <= offset {
            before + chars(last, offset)
        } else if offset - start < last - offset {
            chars(start, offset)
        } else {
            before - chars(offset, last)
        };
        let count = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        let position = Position {
            line: count(line),
            column: count(column),
        };
        self.last.set((offset, position));
        position
    }

    pub(crate) fn error(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        self.add(Severity::Error, span, message, help);
    }

    pub(crate) fn warning(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        self.add(Severity::Warning, span, message, help);
    }

    /// A warning with a name.
    pub(crate) fn lint(
        &mut self,
        lint: &'static str,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        let known = self.found.len();
        self.warning(span, message, help);
        if let Some((_, added)) = self.found.get_mut(known) {
            added.lint = Some(lint);
        }
    }

    /// The lines that have an error already.
    pub(crate) fn lines_with_errors(&self) -> Vec<u32> {
        self.found.iter().map(|(_, d)| d.line).collect()
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        // warnings never keep an error out: the file would be taken
        if self.count(severity) >= MOST {
            self.uncounted += 1;
            return;
        }
        let start = span.start;
        let diagnostic = self.diagnose(severity, span, message, help);
        self.found.push((start, diagnostic));
    }

    fn diagnose(
        &self,
        severity: Severity,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let at = self.position(span.start);
        Diagnostic {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            severity,
            message,
            lint: None,
            help,
            excerpt: self.excerpt(span, at),
        }
    }

    /// The line of `span`, or so much around the span as a person wants to see.
    fn excerpt(&self, span: Range<usize>, at: Position) -> (String, Range<usize>) {
        let start = self.boundary(span.start);
        let line_start = self.lines[at.line as usize - 1];
        let line_end = self.text[start..]
            .find(['\r', '\n'])
            .map_or(self.text.len(), |length| start + length);
        let end = self.boundary(span.end).clamp(start, line_end);
        let from = self.boundary(line_start.max(start.saturating_sub(EXCERPT)));
        let to = self.boundary(line_end.min(start + EXCERPT)).max(from);
        let end = end.min(to);
        // an empty span would have no caret: give it the next character, or a space at the end
        let mut text = self.text[from..to].to_owned();
        let mut end = end - from;
        let start = start - from;
        if end <= start {
            match text[start..].chars().next() {
                Some(next) => end = start + next.len_utf8(),
                None => {
                    text.push(' ');
                    end = start + 1;
                }
            }
        }
        (text, start..end)
    }

    /// The nearest begin of a character at or before `offset`.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// The warnings, if there was no error; else everything.
    pub(crate) fn finish(mut self) -> Result<Diagnostics, Diagnostics> {
        if self.uncounted > 0 {
            let rest = self.uncounted;
            self.uncounted = 0;
            if let Some((_, last)) = self.found.last_mut() {
                let note = format!("{rest} more are not shown");
                last.help = Some(match last.help.take() {
                    Some(help) => format!("{help} ({note})"),
                    None => note,
                });
            }
        }
        self.found.sort_by_key(|(offset, _)| *offset);
        let failed = self
            .found
            .iter()
            .any(|(_, d)| d.severity == Severity::Error);
        let all = Diagnostics(self.found.into_iter().map(|(_, d)| d).collect());
        if failed { Err(all) } else { Ok(all) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(text: &str, span: Range<usize>) -> Diagnostic {
        let mut source = Source::new("web.toml", text);
        source.error(span, "wrong".into(), Some("right it".into()));
        source.finish().unwrap_err().0.remove(0)
    }

    #[test]
    fn a_diagnostic_begins_with_file_line_and_column_and_shows_a_caret() {
        // `ä` is two bytes and one column
        let shown = one("mode = 1\nports = 'ä', 7\n", 23..24).to_string();
        let expected = "\
web.toml:2:14: error: wrong
  |
2 | ports = 'ä', 7
  |              ^
  |
  = help: right it";
        let trimmed: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected);
    }

    #[test]
    fn every_offset_of_any_text_can_be_shown() {
        for text in [
            "",
            "a",
            "ä",
            "a\nb",
            "a\r\nbö\r\n",
            "\n\n",
            &"ö".repeat(500),
        ] {
            for start in 0..=text.len() + 2 {
                for end in start..=(start + 3).min(text.len() + 3) {
                    let shown = one(text, start..end).to_string();
                    assert!(shown.contains('^'), "{text:?} {start}..{end}: {shown}");
                }
            }
        }
    }

    #[test]
    fn places_are_the_same_in_whatever_order_they_are_asked_for() {
        let text = "aö\nbüü-c\n\n  ä=1, ö=2, ü=3\nx";
        let alone: Vec<Position> = (0..=text.len())
            .map(|offset| Source::new("f", text).position(offset))
            .collect();
        let source = Source::new("f", text);
        for step in [1, 2, 5, 7, 11, 13] {
            for n in 0..=text.len() {
                let offset = n * step % (text.len() + 1);
                assert_eq!(source.position(offset), alone[offset], "{offset}");
            }
        }
    }

    #[test]
    fn an_error_that_somebody_else_found_is_shown_at_its_place() {
        let text = "one\n  tä = 7\n";
        let found = Diagnostic::error_at("z.toml", text, (2, 6), "wrong".into(), None);
        assert_eq!((found.line, found.column), (2, 6));
        assert!(found.to_string().contains("2 |   tä = 7"), "{found}");
        for place in [(0, 0), (1, 9), (7, 3)] {
            let found = Diagnostic::error_at("z.toml", text, place, "wrong".into(), None);
            assert!(found.to_string().contains('^'), "{found}");
        }
    }

    #[test]
    fn a_very_long_line_is_cut() {
        let text = format!("x = '{}'", "ö".repeat(100_000));
        assert!(one(&text, 100_001..100_003).to_string().len() < 2000);
    }

    #[test]
    fn too_many_errors_are_counted() {
        let mut source = Source::new("web.toml", "");
        for _ in 0..1000 {
            source.error(0..0, "wrong".into(), None);
        }
        let all = source.finish().unwrap_err();
        assert_eq!(all.0.len(), MOST);
        assert!(all.to_string().contains("900 more are not shown"));
    }

    #[test]
    fn an_error_after_many_warnings_is_an_error() {
        let mut source = Source::new("web.toml", "");
        for _ in 0..1000 {
            source.warning(0..0, "odd".into(), None);
        }
        source.error(0..0, "wrong".into(), None);
        assert_eq!(source.finish().unwrap_err().0.len(), MOST + 1);
    }
}
