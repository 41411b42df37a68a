//! What a container's resolv.conf(5) says.

use std::fmt::Display;

/// Resolvers and search domain of a zone, as resolv.conf(5) has them. `of` is told in the first line.
pub(crate) fn text<S: Display>(of: &str, domain: &str, servers: &[S]) -> String {
    let mut text = format!("# {of}, by netd\n");
    if !domain.is_empty() {
        text.push_str(&format!("search {domain}\n"));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_searched_where_there_is_one() {
        let servers = ["10.89.0.1", "fd00::1"];
        assert_eq!(
            text("zone dmz", "dmz.internal", &servers),
            "# zone dmz, by netd\nsearch dmz.internal\nnameserver 10.89.0.1\nnameserver fd00::1\n"
        );
        assert_eq!(
            text("zone dmz", "", &servers[..1]),
            "# zone dmz, by netd\nnameserver 10.89.0.1\n"
        );
    }
}
