//! What a container's resolv.conf(5) says, and how it gets into a container that somebody else started.
//!
//! ```text
//! netd run: a file that is shown (crate::run) · ip netns: /etc/netns (daemon) · attach by process, hooks: [`process`]
//!                                                                     └─► a process of its own: [`inside`]
//! ```

mod inside;
mod mark;
mod process;

use std::fmt::Display;

pub(crate) use inside::{FillArgs, fill};
pub(crate) use process::{Left, Process, Wish, give};

/// What a person is told where a container's file is not as it was to be.
pub(crate) fn warning(why: &Left) -> String {
    format!(
        "no resolvers in the container's /etc/resolv.conf: {}",
        crate::error::chain(why)
    )
}

/// Programs look at this many resolvers (`MAXNS`, resolv.conf(5)), and musl takes no more either.
const MOST: usize = 3;

/// What one zone contributes.
pub(crate) struct Part<'a, S> {
    /// Searched for names of one label, where there is one.
    pub(crate) domain: &'a str,
    /// In order of preference.
    pub(crate) servers: &'a [S],
}

/// Resolvers and search domains of a container's zones, in their order, as resolv.conf(5) has them. `of` is told in the
/// first line.
///
/// Each zone's first resolver comes before anybody's second, so that of two zones with two families both are asked.
pub(crate) fn text<S: Display>(of: &str, parts: &[Part<'_, S>]) -> String {
    format!("# {of}, by netd\n{}", rest(parts))
}

/// The same without the first line.
fn rest<S: Display>(parts: &[Part<'_, S>]) -> String {
    let mut text = String::new();
    let mut domains: Vec<&str> = Vec::new();
    for part in parts {
        if !part.domain.is_empty() && !domains.contains(&part.domain) {
            domains.push(part.domain);
        }
    }
    if !domains.is_empty() {
        text.push_str(&format!("search {}\n", domains.join(" ")));
    }
    let rounds = parts.iter().map(|part| part.servers.len()).max();
    let mut servers: Vec<String> = Vec::new();
    for round in 0..rounds.unwrap_or_default() {
        for part in parts {
            let server = part.servers.get(round).map(S::to_string);
            servers.extend(server.filter(|server| !servers.contains(server)));
        }
    }
    // One zone's own list is somebody's own choice.
    if parts.len() > 1 {
        servers.truncate(MOST);
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
            text("zone dmz", &[part("dmz.internal", &servers)]),
            "# zone dmz, by netd\nsearch dmz.internal\nnameserver 10.89.0.1\nnameserver fd00::1\n"
        );
        assert_eq!(
            text("zone dmz", &[part("", &servers[..1])]),
            "# zone dmz, by netd\nnameserver 10.89.0.1\n"
        );
    }

    fn part<'a>(domain: &'a str, servers: &'a [&'a str]) -> Part<'a, &'a str> {
        Part { domain, servers }
    }

    #[test]
    fn of_several_zones_each_has_a_resolver_and_a_domain() {
        let (a, b) = (["10.89.0.1", "fd00::1"], ["10.89.1.1", "fd01::1"]);
        let parts = [part("a.internal", &a), part("b.internal", &b)];
        assert_eq!(
            text("container web", &parts),
            "# container web, by netd\nsearch a.internal b.internal\n\
             nameserver 10.89.0.1\nnameserver 10.89.1.1\nnameserver fd00::1\n"
        );
        // the same domain, and the same resolver for both
        let parts = [part("x", &a[..1]), part("x", &a[..1])];
        assert_eq!(
            text("container web", &parts),
            "# container web, by netd\nsearch x\nnameserver 10.89.0.1\n"
        );
    }
}
