//! Tables and lists of properties, in the manner of networkctl and machinectl.

use comfy_table::{Table, presets};

/// Columns without a frame, two spaces apart, under a header.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `Key: value`, keys aligned at their colons. Further values follow below the first; a key without
/// value is left out.
pub(super) fn properties(rows: &[(&str, Vec<String>)]) -> String {
    let rows = || rows.iter().filter(|(_, values)| !values.is_empty());
    let width = rows().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, values) in rows() {
        let lines = values.iter().flat_map(|value| value.lines());
        for (n, line) in lines.enumerate() {
            let (key, colon) = if n == 0 { (*key, ':') } else { ("", ' ') };
            text.push_str(format!("{key:>width$}{colon} {line}").trim_end());
            text.push('\n');
        }
    }
    text
}

/// `-` for what is not there.
pub(super) fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".into() } else { text }
}

/// A span of time in its two largest units: `3d 4h`, `59min 12s`.
pub(super) fn span(seconds: i64) -> String {
    let units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut left = seconds.max(0);
    let mut parts = Vec::new();
    for (name, size) in units {
        if left >= size && parts.len() < 2 {
            parts.push(format!("{}{name}", left / size));
            left %= size;
        } else if !parts.is_empty() {
            // The unit below the largest is zero: nothing finer follows.
            break;
        }
    }
    if parts.is_empty() {
        "0s".into()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1min"),
            (3552, "59min 12s"),
            (3601, "1h"),
            (90_000, "1d 1h"),
            (86_400 * 400 + 60, "400d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn properties_are_aligned_and_continue_below() {
        let text = properties(&[
            ("Zone", vec!["dmz".into()]),
            ("Nothing at all", vec![]),
            ("Address", vec!["10.0.0.2/24".into(), "fd00::2/128".into()]),
        ]);
        assert_eq!(
            text,
            "   Zone: dmz\nAddress: 10.0.0.2/24\n         fd00::2/128\n"
        );
    }

    #[test]
    fn tables_have_no_trailing_blanks() {
        let text = table(
            &["ZONE", "BRIDGE"],
            vec![vec!["a-long-name".into(), "vz-a".into()]],
        );
        assert_eq!(text, "ZONE         BRIDGE\na-long-name  vz-a\n");
    }
}
