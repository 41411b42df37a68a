//! The name that somebody meant who wrote another one.

/// How many letters must be added, left out, changed or swapped with their neighbour to make one text
/// of the other (optimal string alignment distance), in characters.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The candidate that is nearest to `written`, if it is near enough to be what was meant: at most one
/// mistake for every three letters.
pub(super) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // nothing that long is a misspelt keyword; also bounds the work on hostile input
    if written.len() > 64 {
        return None;
    }
    let written = written.to_ascii_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .map(|candidate| (distance(&written, candidate), candidate))
        .filter(|(mistakes, candidate)| *mistakes <= candidate.len().div_ceil(3))
        .min_by_key(|(mistakes, _)| *mistakes)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let keys = ["from", "ports", "action", "rate", "max-connections", "log"];
        let nearest = |written| nearest(written, keys);
        assert_eq!(nearest("form"), Some("from"));
        assert_eq!(nearest("port"), Some("ports"));
        assert_eq!(nearest("max_connections"), Some("max-connections"));
        assert_eq!(nearest("Action"), Some("action"));
        assert_eq!(nearest("zebra"), None);
        assert_eq!(nearest(&"x".repeat(1 << 20)), None);
    }
}
