//! Zones, containers, leases, verdicts and policies as people read them.

use images::{Image, Kind};

use super::layout::{or_dash, properties, span, table};
use crate::api::{
    Container, DaemonStatus, DhcpZone, Ipv6Zone, Lease, Limit, PolicyView, Problem, Reason,
    Resolver, Zone,
};
use crate::cli::machines::{Listed, Transfer};
use crate::client::{Attached, ZoneCreated};

/// `netd zone list`
pub(crate) fn zones(zones: &[Zone]) -> String {
    let subnet = |subnet: &Option<String>| or_dash(subnet.clone().unwrap_or_default());
    let rows = zones.iter().map(|zone| {
        vec![
            zone.name.clone(),
            zone.bridge.clone(),
            subnet(&zone.subnet4),
            subnet(&zone.subnet6),
            zone.default.clone(),
            if zone.internal { "yes" } else { "no" }.to_owned(),
            zone.containers.len().to_string(),
        ]
    });
    table(
        &[
            "ZONE",
            "BRIDGE",
            "SUBNET4",
            "SUBNET6",
            "DEFAULT",
            "INTERNAL",
            "CONTAINERS",
        ],
        rows.collect(),
    )
}

/// `netd zone show`
pub(crate) fn zone(zone: &Zone) -> String {
    let one = |text: &str| vec![text.to_owned()];
    let some = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
    let gateways = [&zone.gateway4, &zone.gateway6];
    let mut domains: Vec<_> = zone.upstream_domains.iter().collect();
    domains.sort();
    let domains = domains
        .into_iter()
        .map(|(domain, servers)| format!("{domain}: {}", servers.join(" ")));
    let upstream = zone.upstream.iter().cloned().chain(domains).collect();
    properties(&[
        ("Zone", one(&zone.name)),
        ("Bridge", one(&zone.bridge)),
        ("IPv4 subnet", some(&zone.subnet4)),
        ("IPv6 subnet", some(&zone.subnet6)),
        ("Gateway", gateways.into_iter().flatten().cloned().collect()),
        ("Pool", some(&zone.pool)),
        ("Default", one(default_in_words(&zone.default))),
        (
            "Internal",
            one(if zone.internal {
                "yes: no path to or from the world"
            } else {
                "no"
            }),
        ),
        ("Uplink", some(&zone.uplink)),
        ("MTU", vec![zone.mtu.to_string()]),
        (
            "Domain",
            some(&Some(zone.domain.clone()).filter(|d| !d.is_empty())),
        ),
        ("DNS", zone.dns.clone()),
        ("Upstream", upstream),
        ("Containers", zone.containers.clone()),
    ])
}

fn default_in_words(default: &str) -> &str {
    match default {
        "egress" => "egress: out to the world, nothing else, nothing in",
        "deny" => "deny: nothing",
        "allow" => "allow: everything but other zones",
        other => other,
    }
}

/// `netd zone create`
pub(crate) fn zone_created(answer: &ZoneCreated) -> String {
    let zone = &answer.zone;
    let subnets: Vec<&str> = [&zone.subnet4, &zone.subnet6]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let how = if answer.created {
        "created"
    } else {
        "was there already"
    };
    format!(
        "zone {} {how}: {} on {}\n",
        zone.name,
        or_dash(subnets.join(", ")),
        zone.bridge
    )
}

/// `netd attach`
pub(crate) fn attached(answer: &Attached) -> String {
    let container = &answer.container;
    let how = if answer.created {
        "attached"
    } else {
        "was attached already"
    };
    let ports = container.ports();
    let lines = ports.iter().map(|port| {
        format!(
            "{} {how}: {} in zone {}, {} inside\n",
            port.container,
            or_dash(port.addresses.join(", ")),
            port.zone,
            port.ifname
        )
    });
    lines.collect()
}

/// `netd list`
pub(crate) fn containers(containers: &[Listed]) -> String {
    let rows = containers
        .iter()
        .flat_map(Listed::rows)
        .map(|row| row.map(or_dash).to_vec());
    table(
        &[
            "MACHINE",
            "CLASS",
            "SERVICE",
            "OS",
            "VERSION",
            "ADDRESSES",
            "ZONE",
            "STATE",
            "PUBLISHED",
            "LABELS",
        ],
        rows.collect(),
    )
}

/// `netd images`
pub(crate) fn images(images: &[Image]) -> String {
    let time = |seconds: Option<u64>| {
        let at = seconds.and_then(|s| chrono::DateTime::from_timestamp(i64::try_from(s).ok()?, 0));
        at.map_or_else(
            || "-".to_owned(),
            |at| {
                at.with_timezone(&chrono::Local)
                    .format("%Y-%m-%d %H:%M:%S")
                    .to_string()
            },
        )
    };
    let rows = images.iter().map(|image| {
        vec![
            image.name.clone(),
            match image.kind {
                Kind::Directory => "directory",
                Kind::Raw => "raw",
            }
            .to_owned(),
            if image.read_only { "ro" } else { "rw" }.to_owned(),
            image.usage.map_or_else(|| "-".to_owned(), bytes),
            time(image.created),
            time(image.modified),
            image.path.display().to_string(),
        ]
    });
    table(
        &["NAME", "TYPE", "RO", "USAGE", "CREATED", "MODIFIED", "PATH"],
        rows.collect(),
    )
}

/// `netd list-transfers`
pub(crate) fn transfers(transfers: &[Transfer]) -> String {
    let rows = transfers.iter().map(|transfer| {
        let share = transfer
            .total
            .filter(|total| *total > 0)
            .map(|total| transfer.done * 100 / total);
        vec![
            transfer.id.to_string(),
            share.map_or_else(|| bytes(transfer.done), |share| format!("{share}%")),
            transfer.verb.clone(),
            transfer.name.clone(),
            transfer.remote.clone(),
        ]
    });
    table(
        &["ID", "PROGRESS", "TYPE", "LOCAL", "REMOTE"],
        rows.collect(),
    )
}

/// A size as people read it.
fn bytes(count: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let (mut size, mut unit) = (count as f64, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count}B"),
        _ => format!("{size:.1}{}", units[unit]),
    }
}

/// A time with its distance from now: `Sun 2026-11-22 11:12:00; 3min 2s ago`.
pub(crate) fn moment(seconds: i64) -> String {
    let now = chrono::Local::now();
    let at =
        chrono::DateTime::from_timestamp(seconds, 0).map(|at| at.with_timezone(&chrono::Local));
    let text = at.map_or_else(
        || seconds.to_string(),
        |at| at.format("%a %Y-%m-%d %H:%M:%S").to_string(),
    );
    format!("{text}; {} ago", span(now.timestamp() - seconds))
}

/// `netd status CONTAINER`; with `machine`, further lines for one that runs, and the tree of its processes.
pub(crate) fn container(
    container: &Container,
    problems: &[Problem],
    warnings: &[String],
    machine: Vec<(&str, Vec<String>)>,
    tree: Vec<String>,
) -> String {
    let ports = container.ports();
    let mut text = String::new();
    let (mut machine, mut tree) = (machine, tree);
    for (n, port) in ports.iter().enumerate() {
        // what is of the container is told once: what runs at the begin, what is wrong at the end
        let last = n + 1 == ports.len();
        let (problems, warnings) = match last {
            true => (problems, warnings),
            false => (&[][..], &[][..]),
        };
        let mut rows = network(port, std::mem::take(&mut machine), problems, warnings);
        if last {
            rows.push(("Processes", std::mem::take(&mut tree)));
        }
        text.push_str(&properties(&rows));
        if !last {
            text.push('\n');
        }
    }
    text
}

fn network<'a>(
    container: &Container,
    machine: Vec<(&'a str, Vec<String>)>,
    problems: &[Problem],
    warnings: &[String],
) -> Vec<(&'a str, Vec<String>)> {
    let one = |text: &str| vec![text.to_owned()];
    let domain: Vec<String> = Some(container.domain.clone())
        .into_iter()
        .filter(|d| !d.is_empty())
        .collect();
    let mut rows = vec![
        ("Container", one(&container.container)),
        ("State", one(&container.state)),
    ];
    rows.extend(machine);
    rows.extend([
        ("Zone", one(&container.zone)),
        (
            "Interface",
            vec![format!(
                "{} inside, {} on the host",
                container.ifname, container.host_ifname
            )],
        ),
        ("MAC", one(&container.mac)),
        ("Address", container.addresses.clone()),
        ("Gateway", container.gateways.clone()),
        ("DNS", container.dns.clone()),
        ("Domain", domain),
        ("MTU", vec![container.mtu.to_string()]),
        ("Labels", labels(container)),
        ("Published", container.published.clone()),
        ("Bandwidth", container.bandwidth.iter().map(limit).collect()),
        ("Problem", problems.iter().map(problem).collect()),
        ("Warning", warnings.to_vec()),
    ]);
    rows
}

/// The same for a container that runs without a zone.
pub(crate) fn machine(name: &str, machine: Vec<(&str, Vec<String>)>, tree: Vec<String>) -> String {
    let mut rows = vec![
        ("Container", vec![name.to_owned()]),
        ("State", vec!["running".to_owned()]),
    ];
    rows.extend(machine);
    rows.push(("Processes", tree));
    properties(&rows)
}

/// `KEY=VALUE`, in the order of keys.
fn labels(container: &Container) -> Vec<String> {
    let mut labels: Vec<String> = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort();
    labels
}

/// `netd status`; `now` in seconds since 1970.
pub(crate) fn status(status: &DaemonStatus, now: i64) -> String {
    let tables = match status.tables.as_str() {
        "owned" => "owned: nobody else can change them",
        "watched" => "watched: put right when somebody changes them",
        other => other,
    };
    properties(&[
        ("Version", vec![status.version.clone()]),
        (
            "Daemon",
            vec![format!(
                "process {}, running for {}",
                status.pid,
                span(status.uptime)
            )],
        ),
        ("Zones", vec![or_dash(status.zones.join(" "))]),
        ("Containers", vec![status.containers.to_string()]),
        ("Policy files", vec![status.policies.to_string()]),
        (
            "Last apply",
            status
                .applied
                .iter()
                .map(|last| super::applied(last, now))
                .collect(),
        ),
        ("Tables", vec![tables.to_owned()]),
        ("Restored", vec![format!("{} times", status.restored)]),
        ("DHCP", status.dhcp.iter().flat_map(dhcp).collect()),
        ("Resolver", resolver(&status.resolver)),
        ("IPv6", status.ipv6.iter().map(ipv6).collect()),
        ("Problem", status.problems.iter().map(problem).collect()),
        ("Warning", status.warnings.clone()),
    ])
}

/// What DHCP did in a zone, and why it was silent.
fn dhcp(zone: &DhcpZone) -> Vec<String> {
    let parts = [
        (zone.offers, "offered"),
        (zone.acks, "acknowledged"),
        (zone.naks, "refused"),
        (zone.heeded, "given back"),
        (zone.silent.iter().map(|s| s.count).sum(), "not answered"),
    ];
    let some = parts.iter().filter(|(count, _)| *count > 0);
    let list: Vec<_> = some
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let pool = zone.pool.map(|all| {
        let used = zone.pool_used.unwrap_or_default();
        format!("; {used} of {all} addresses of the pool in use")
    });
    let head = format!(
        "{} messages in {}{}{}{}",
        zone.received,
        zone.zone,
        if list.is_empty() { "" } else { ": " },
        list.join(", "),
        pool.unwrap_or_default()
    );
    let silent = zone.silent.iter().take(5);
    let silent = silent.map(|s| format!("  {} {}: {}", s.count, s.reason, s.last));
    std::iter::once(head).chain(silent).collect()
}

/// Whom the resolver asks, and what it did in each zone.
fn resolver(resolver: &Resolver) -> Vec<String> {
    let asks = match resolver.upstream.as_slice() {
        [] => "knows no resolver of the host".to_owned(),
        servers => format!("asks {}", servers.join(" ")),
    };
    let zones = resolver.zones.iter().map(|z| {
        let parts = [
            (z.local, "local"),
            (z.cached, "cached"),
            (z.forwarded + z.joined, "forwarded"),
            (z.refused, "refused"),
            (z.failed, "failed"),
            (z.limited, "over the limit"),
            (z.wrong, "wrong"),
        ];
        let some = parts.iter().filter(|(count, _)| *count > 0);
        let list: Vec<_> = some
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let detail = if list.is_empty() {
            String::new()
        } else {
            format!(": {}", list.join(", "))
        };
        format!("{} queries in {}{detail}", z.queries, z.zone)
    });
    std::iter::once(asks).chain(zones).collect()
}

/// `dmz: 12 asked, 9 advertisements, 4 replies; 1 rate-limited`
fn ipv6(zone: &Ipv6Zone) -> String {
    let silent = zone.silent.iter();
    let silent: String = silent
        .map(|silence| format!("; {} not answered: {}", silence.count, silence.reason))
        .collect();
    format!(
        "{}: {} asked, {} advertisements, {} DHCPv6 replies{silent}",
        zone.zone, zone.received, zone.advertisements, zone.replies
    )
}

/// A problem, with its subject where the message does not begin with it.
pub(crate) fn problem(problem: &Problem) -> String {
    if problem.subject.is_empty() || problem.message.contains(&problem.subject) {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.subject, problem.message)
    }
}

/// `netd lease list`; `now` in seconds since 1970.
pub(crate) fn leases(leases: &[Lease], now: i64) -> String {
    let rows = leases.iter().map(|lease| {
        vec![
            lease.container.clone(),
            lease.zone.clone(),
            lease.address.clone(),
            lease.mac.clone(),
            lease.kind.clone(),
            lease.state.clone(),
            match lease.expires {
                None => "-".to_owned(),
                Some(at) if at <= now => format!("{} ago", span(now - at)),
                Some(at) => format!("in {}", span(at - now)),
            },
        ]
    });
    table(
        &[
            "CONTAINER",
            "ZONE",
            "ADDRESS",
            "MAC",
            "KIND",
            "STATE",
            "EXPIRES",
        ],
        rows.collect(),
    )
}

/// `egress 20mbit`
fn limit(limit: &Limit) -> String {
    let rate = firewall::bandwidth::Shape {
        rate: u64::try_from(limit.rate).unwrap_or_default(),
        burst: None,
    };
    format!("{} {rate}", limit.direction)
}

/// `FILE:LINE:COLUMN`, or `default`.
pub(super) fn place(reason: &Reason) -> String {
    place_of(reason.file.as_ref(), [reason.line, reason.column])
}

fn place_of(file: Option<&String>, at: [Option<i64>; 2]) -> String {
    let mut place = match file {
        Some(file) => file.clone(),
        None => return "default".to_owned(),
    };
    for number in at.into_iter().flatten() {
        place.push_str(&format!(":{number}"));
    }
    place
}

/// `netd policy show`
pub(crate) fn policy(view: &PolicyView) -> String {
    let ports: Vec<String> = view.ports().iter().map(policy_of).collect();
    ports.join("\n")
}

fn policy_of(view: &PolicyView) -> String {
    if let Some(nft) = &view.nft {
        return format!("{}\n", nft.trim_end());
    }
    let mut text = properties(&[
        ("Container", vec![view.container.clone()]),
        ("Zone", vec![view.zone.clone()]),
        (
            "Files",
            if view.files.is_empty() {
                vec!["none applies".to_owned()]
            } else {
                view.files.clone()
            },
        ),
    ]);
    let rows: Vec<Vec<String>> = view
        .rules
        .iter()
        .map(|rule| {
            vec![
                or_dash(rule.direction.clone().unwrap_or_default()),
                rule.action.clone(),
                rule.text.clone(),
                rule.hits.map_or("-".to_owned(), |hits| hits.to_string()),
                place_of(rule.file.as_ref(), [rule.line, rule.column]),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &["DIRECTION", "ACTION", "WHAT", "HITS", "FROM"],
            rows,
        ));
    }
    let limits = view.bandwidth.iter().map(|limit| {
        vec![
            limit.direction.clone(),
            limit.text.clone(),
            match &limit.file {
                Some(_) => place_of(limit.file.as_ref(), [limit.line, limit.column]),
                None => "asked for by its runtime".to_owned(),
            },
        ]
    });
    if !view.bandwidth.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &["DIRECTION", "BANDWIDTH", "FROM"],
            limits.collect(),
        ));
    }
    text
}

#[cfg(test)]
pub(super) mod tests;
