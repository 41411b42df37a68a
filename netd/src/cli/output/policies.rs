//! Steps from one set of policies to another, and what they change.

use super::layout::span;
use super::views::place;
use crate::api::{AppliedState, PolicyChange, PolicyDifference, PolicyStep, Reason};

/// `netd policy apply`, `netd policy rollback`
pub(crate) fn policy_step(step: &PolicyStep) -> String {
    let mut text = String::new();
    for (sign, names) in [
        ("+", &step.added),
        ("~", &step.changed),
        ("-", &step.removed),
    ] {
        for name in names {
            text.push_str(&format!("{sign} {name}.toml\n"));
        }
    }
    if step.groups {
        text.push_str("~ groups.toml (the groups)\n");
    }
    if text.is_empty() {
        text.push_str("no policy file changes\n");
    }
    if let Some(seconds) = step.confirm_within {
        text.push_str(&format!(
            "in force; the files before come back by themselves unless `netd policy confirm` follows within {}\n",
            span(seconds)
        ));
    }
    if let Some(kept) = &step.kept {
        text.push_str(&format!("the files that were replaced are in {kept}\n"));
    }
    text
}

/// The last apply in one line, for `netd status`; `now` in seconds since 1970.
pub(crate) fn applied(applied: &AppliedState, now: i64) -> String {
    let when = format!("{} ago", span(now - applied.at));
    match (applied.state.as_str(), applied.remaining, &applied.kept) {
        ("waiting", Some(remaining), _) => format!(
            "{when}, waits for `netd policy confirm` for another {}, else the files before it come back",
            span(remaining)
        ),
        ("in-force", _, _) => format!("{when}, in force"),
        ("timed-out", _, kept) => format!(
            "{when}, undone: nobody confirmed it in time{}",
            files_in(kept.as_deref())
        ),
        ("rolled-back", _, kept) => format!("{when}, rolled back{}", files_in(kept.as_deref())),
        (other, _, _) => format!("{when}, {other}"),
    }
}

fn files_in(kept: Option<&str>) -> String {
    kept.map_or(String::new(), |kept| format!("; its files are in {kept}"))
}

/// `netd policy diff`: a line for each row.
pub(crate) fn policy_difference(difference: &PolicyDifference) -> String {
    let mut text: String = difference.changes.iter().map(row).collect();
    let more = |n: i64, what: &str| match n {
        0 => String::new(),
        1 => format!("… and 1 more {what}\n"),
        n => format!("… and {n} more {what}s\n"),
    };
    text.push_str(&more(difference.more, "row"));
    for change in &difference.bandwidth {
        let words = |limit: &Option<String>| limit.clone().unwrap_or_else(|| "unlimited".into());
        text.push_str(&format!(
            "{} {} bandwidth {} -> {}\n",
            change.container,
            change.direction,
            words(&change.before),
            words(&change.after)
        ));
    }
    if difference.unexamined > 0 {
        text.push_str(&format!(
            "… and {} pairs of containers that were not looked at: too much changes at once\n",
            difference.unexamined
        ));
    }
    if text.is_empty() {
        text.push_str("nothing changes\n");
    }
    text
}

fn row(change: &PolicyChange) -> String {
    let mut text = format!(
        "{} -> {} {}",
        ends(&change.from),
        ends(&change.to),
        ports(change)
    );
    if let Some(family) = change.family {
        text.push_str(&format!(" over IPv{family}"));
    }
    match change.way.as_deref() {
        Some("published") => text.push_str(" through its published port"),
        Some("direct") => text.push_str(" to its own address"),
        _ => {}
    }
    let outcome = |verdict: &str, limits: &[String]| match limits {
        [] => verdict.to_owned(),
        limits => format!("{verdict} [{}]", limits.join("; ")),
    };
    let before = outcome(&change.before, &change.limits_before);
    let after = outcome(&change.after, &change.limits_after);
    if before == after {
        // the same words, and other hours
        text.push_str(&format!(" {before} at other hours"));
    } else {
        text.push_str(&format!(" {before} -> {after}"));
    }
    let (was, is) = (
        places(&change.because_before),
        places(&change.because_after),
    );
    let because = match (was.is_empty(), is.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!(" ({is})"),
        (false, true) => format!(" (no longer {was})"),
        (false, false) => format!(" ({was} -> {is})"),
    };
    text.push_str(&because);
    text.push('\n');
    text
}

/// Some names, and how many more.
fn ends(ends: &[String]) -> String {
    const MOST: usize = 4;
    let shown = ends.len().min(if ends.len() == MOST + 1 {
        MOST + 1
    } else {
        MOST
    });
    let mut text = ends[..shown].join(", ");
    if ends.len() > shown {
        text.push_str(&format!(" and {} more", ends.len() - shown));
    }
    text
}

fn ports(change: &PolicyChange) -> String {
    match &change.ports {
        Some(ports) => ports.join(", "),
        None if change.except.is_empty() => "everything".to_owned(),
        None => format!("everything but {}", change.except.join(", ")),
    }
}

fn places(reasons: &[Reason]) -> String {
    let mut places: Vec<String> = reasons.iter().map(place).collect();
    places.dedup();
    places.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LimitChange;

    fn change() -> PolicyChange {
        let reason = |file: Option<&str>| Reason {
            file: file.map(str::to_owned),
            line: file.map(|_| 3),
            column: file.map(|_| 1),
            direction: Some("ingress".into()),
            action: "allow".into(),
            text: String::new(),
        };
        PolicyChange {
            from: vec!["web".into()],
            to: vec!["db".into()],
            ports: Some(vec!["tcp/5432".into()]),
            except: vec![],
            family: None,
            way: None,
            before: "deny".into(),
            after: "allow".into(),
            limits_before: vec![],
            limits_after: vec![],
            because_before: vec![reason(None)],
            because_after: vec![reason(Some("new/db.toml"))],
        }
    }

    fn told(changes: Vec<PolicyChange>) -> String {
        policy_difference(&PolicyDifference {
            changes,
            bandwidth: vec![],
            more: 0,
            unexamined: 0,
        })
    }

    #[test]
    fn rows_are_one_line_each() {
        assert_eq!(
            told(vec![change()]),
            "web -> db tcp/5432 deny -> allow (default -> new/db.toml:3:1)\n"
        );
        let many = |n: u32| (0..n).map(|n| format!("c{n}")).collect();
        let limited = PolicyChange {
            from: many(5),
            to: many(1000),
            ports: None,
            except: vec!["tcp/53".into()],
            family: Some(6),
            way: Some("published".into()),
            before: "allow".into(),
            limits_after: vec!["ingress rate 5/second burst 5".into()],
            because_before: vec![],
            ..change()
        };
        assert_eq!(
            told(vec![limited]),
            "c0, c1, c2, c3, c4 -> c0, c1, c2, c3 and 996 more everything but tcp/53 over IPv6 \
             through its published port allow -> allow [ingress rate 5/second burst 5] (new/db.toml:3:1)\n"
        );
        assert_eq!(told(vec![]), "nothing changes\n");
        let too_much = PolicyDifference {
            changes: vec![],
            bandwidth: vec![LimitChange {
                container: "web".into(),
                direction: "egress".into(),
                before: None,
                after: Some("20mbit".into()),
            }],
            more: 2,
            unexamined: 7,
        };
        let text = policy_difference(&too_much);
        assert!(
            text.contains("web egress bandwidth unlimited -> 20mbit\n"),
            "{text}"
        );
        assert!(
            text.contains("2 more rows") && text.contains("7 pairs"),
            "{text}"
        );
    }

    #[test]
    fn steps_and_what_became_of_them() {
        let step = PolicyStep {
            added: vec!["db".into()],
            changed: vec!["web".into()],
            removed: vec!["old".into()],
            confirm_within: Some(60),
            ..PolicyStep::default()
        };
        let text = policy_step(&step);
        assert!(
            text.starts_with("+ db.toml\n~ web.toml\n- old.toml\nin force; "),
            "{text}"
        );
        assert!(
            text.contains("`netd policy confirm` follows within 1min"),
            "{text}"
        );
        assert_eq!(
            policy_step(&PolicyStep::default()),
            "no policy file changes\n"
        );
        let state = AppliedState {
            state: "waiting".into(),
            at: 100,
            remaining: Some(50),
            kept: None,
        };
        let text = applied(&state, 110);
        assert!(
            text.starts_with("10s ago, waits for `netd policy confirm` for another 50s"),
            "{text}"
        );
    }
}
