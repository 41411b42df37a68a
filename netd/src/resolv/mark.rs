//! How a file that netd wrote is known again: its first line has a checksum of the others.

use sha2::{Digest, Sha256};

const BEGIN: &str = "# ";
const MIDDLE: &str = ", by netd until somebody edits it: ";

/// The text under a first line that tells whose it is and vouches for the rest.
pub(super) fn marked(of: &str, rest: &str) -> String {
    format!("{BEGIN}{of}{MIDDLE}{}\n{rest}", sum(rest))
}

/// Whether a file is as netd wrote it.
pub(super) fn is_ours(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let Some((first, rest)) = text.split_once('\n') else {
        return false;
    };
    let told = first
        .strip_prefix(BEGIN)
        .and_then(|line| line.rsplit_once(MIDDLE));
    told.is_some_and(|(_, told)| told == sum(rest))
}

/// Enough of SHA-256 to notice an edit; it keeps no secret.
fn sum(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_file_is_somebody_elses() {
        let text = marked("container web", "nameserver 10.89.0.1\n");
        assert!(is_ours(text.as_bytes()));
        assert!(!is_ours(text.replace("10.89", "10.88").as_bytes()));
        assert!(!is_ours(format!("{text}options ndots:2\n").as_bytes()));
        assert!(!is_ours(b"nameserver 10.89.0.1\n"));
        assert!(!is_ours(b""));
        assert!(!is_ours(b"# \xff\n"));
    }
}
