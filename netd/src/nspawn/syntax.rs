//! The lines of a `.nspawn` file, systemd.syntax(7), and words with quotes.

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) why: String,
}

/// A line, or several that a backslash makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The first one's number, from 1.
    pub(crate) number: usize,
    /// The section that it is in; of the line with the section's name, too.
    pub(crate) section: String,
    /// Key and value; none for comments, empty lines and names of sections.
    pub(crate) assignment: Option<(String, String)>,
    /// As it stands in the file, without the last line break.
    pub(crate) raw: &'a str,
}

/// Takes a text apart. A line that ends in a backslash goes on in the next, comments in between left out.
///
/// # Errors
/// A line that is neither a section's name, nor `KEY=VALUE`, nor a comment; the first such.
pub(crate) fn lines(text: &str) -> Result<Vec<Line<'_>>, Wrong> {
    let comment = |line: &str| line.trim_start().starts_with(['#', ';']);
    let mut all = Vec::new();
    let mut section = String::new();
    let mut at = 0;
    let mut number = 0;
    while at < text.len() {
        let first = number + 1;
        let wrong = |why: &str| Wrong {
            line: first,
            why: why.to_owned(),
        };
        let begin = at;
        let mut take = || -> Option<&str> {
            let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
            let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
            at += (line.len() + 1).min(rest.len());
            number += 1;
            Some(line.strip_suffix('\r').unwrap_or(line))
        };
        let mut whole = take().unwrap_or_default().to_owned();
        if !comment(&whole) {
            while let Some(begun) = whole.strip_suffix('\\') {
                let next =
                    take().ok_or_else(|| wrong("ends in a backslash, and nothing follows"))?;
                whole = match comment(next) {
                    true => format!("{begun}\\"),
                    false => format!("{begun} {next}"),
                };
            }
        }
        let raw = text.get(begin..at).unwrap_or_default();
        let line = whole.trim();
        let mut assignment = None;
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']');
            section = name
                .ok_or_else(|| wrong("a section's name does not end"))?
                .to_owned();
        } else if !line.is_empty() && !comment(line) {
            let pair = line.split_once('=');
            let (key, value) = pair.ok_or_else(|| wrong("is no KEY=VALUE"))?;
            assignment = Some((key.trim().to_owned(), value.trim().to_owned()));
        }
        all.push(Line {
            number: first,
            section: section.clone(),
            assignment,
            raw: raw.strip_suffix('\n').unwrap_or(raw),
        });
    }
    Ok(all)
}

/// Words with blanks in between; quotes of both kinds hold a word together, a backslash takes the meaning off what
/// follows (extract_first_word of systemd, with EXTRACT_UNQUOTE and EXTRACT_CUNESCAPE's commonest part).
///
/// `None`: a quote does not end, or nothing follows a backslash.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', Some('"') | None) => {
                let next = match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    's' => ' ',
                    other => other,
                };
                word.get_or_insert_default().push(next);
            }
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => all.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return None;
    }
    all.extend(word);
    Some(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_know_their_section_and_number() {
        let text = "# a comment\n[Exec]\nBoot = yes\n\nParameters=a \\\n# in between\n  b\n[Files]\nBind=/a\n";
        let all = lines(text).unwrap();
        let told: Vec<_> = all
            .iter()
            .filter_map(|l| Some((l.number, l.section.as_str(), l.assignment.clone()?)))
            .map(|(n, s, (k, v))| format!("{n} {s} {k}={v}"))
            .collect();
        assert_eq!(
            told,
            [
                "3 Exec Boot=yes",
                "5 Exec Parameters=a    b",
                "9 Files Bind=/a"
            ]
        );
        let raw: Vec<_> = all.iter().map(|l| l.raw).collect();
        assert_eq!(raw.join("\n") + "\n", text);
        for (bad, line) in [("[Exec\n", 1), ("[Exec]\nBoot\n", 2), ("\nA=b\\", 2)] {
            assert_eq!(lines(bad).unwrap_err().line, line, "{bad}");
        }
        assert!(lines("").unwrap().is_empty());
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            words(r#"a b "c c" 'd "d' e\ e f"g h"i"#).unwrap(),
            ["a", "b", "c c", "d \"d", "e e", "fg hi"]
        );
        assert_eq!(words(r#"'' x"#).unwrap(), ["", "x"]);
        assert_eq!(words("  ").unwrap(), Vec::<String>::new());
        assert_eq!(words("'a"), None);
        assert_eq!(words("a\\"), None);
    }
}
