//! What a failed story shows: links, addresses, routes, ruleset, the daemon's log.

use std::fs;

use super::Host;

/// Lines of a long output that are shown.
const HEAD: usize = 150;

/// Tells all about the host and its containers on standard error.
pub fn dump(host: &Host) {
    for command in [
        "ip -d link",
        "ip addr",
        "ip route; ip -6 route",
        "ip rule; ip -6 rule",
        "bridge -d link",
        "nft list ruleset",
        "conntrack -L 2>&1",
    ] {
        section(&format!("host: {command}"), &host.netns.run(command).stdout);
    }
    for (name, place) in host.places.lock().unwrap().iter() {
        let shown = place.netns.run("ip addr; ip route; ip -6 route; ip neigh");
        section(&format!("container {name}"), &shown.stdout);
    }
    section("outside", &host.outside.run("ip addr; ip neigh").stdout);
    let log = fs::read_to_string(host.log_path()).unwrap_or_default();
    let skip = log.lines().count().saturating_sub(HEAD);
    section(
        "the daemon's log",
        &log.lines()
            .skip(skip)
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
}

fn section(title: &str, text: &str) {
    eprintln!("──── {title}");
    for line in text.lines().take(HEAD) {
        eprintln!("{line}");
    }
    let more = text.lines().count().saturating_sub(HEAD);
    if more > 0 {
        eprintln!("… and {more} lines more");
    }
}
