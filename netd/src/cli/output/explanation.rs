//! Verdicts as people read them: the verdict, why, what happens on the way, what else is in it, and what would
//! open it.

use super::views::place;
use crate::api::{self, Answer, Explanation, Fix, Obstacle, Reason, Step};

/// `netd explain`
pub(crate) fn explanation(explanation: &Explanation, question: &str) -> String {
    let families = &explanation.families;
    let denied: Vec<&Answer> = families.iter().filter(|f| f.verdict != "allow").collect();
    let differ = !denied.is_empty() && denied.len() < families.len();
    let which = match families.as_slice() {
        [] | [_] => families.first().map(over),
        _ if differ => denied.first().map(|decides| over(decides)),
        _ => Some("IPv4 and IPv6".to_owned()),
    };
    let which = which.map_or_else(String::new, |which| format!(" ({which})"));
    let mut text = format!("{}: {question}{which}\n\n", explanation.verdict);
    let decides = Answer {
        family: denied
            .first()
            .copied()
            .or(families.first())
            .map_or(0, |f| f.family),
        verdict: explanation.verdict.clone(),
        reasons: explanation.reasons.clone(),
        steps: explanation.steps.clone(),
        foreign: explanation.foreign.clone(),
        fix: explanation.fix.clone(),
    };
    body(&mut text, &decides);
    for other in families
        .iter()
        .filter(|other| other.family != decides.family)
    {
        if other.verdict != decides.verdict || !same_places(&other.reasons, &decides.reasons) {
            text.push_str(&format!("\n{} over {}:\n\n", other.verdict, over(other)));
            body(&mut text, other);
        }
    }
    if let Some((_, others)) = explanation.paths.split_first() {
        text.push_str("\nBy other networks:\n");
        for path in others {
            let api::Path { from, to, verdict } = path;
            text.push_str(&format!("  {verdict:<5}  {from} to {to}\n"));
        }
    }
    text
}

fn over(answer: &Answer) -> String {
    format!("IPv{}", answer.family)
}

/// Whether two families are decided by the same rules; the words differ by addresses only.
fn same_places(one: &[Reason], other: &[Reason]) -> bool {
    let key = |r: &Reason| {
        (
            r.file.clone(),
            r.line,
            r.column,
            r.direction.clone(),
            r.action.clone(),
        )
    };
    one.iter().map(key).eq(other.iter().map(key))
}

fn body(text: &mut String, answer: &Answer) {
    for reason in &answer.reasons {
        text.push_str(&format!("  {:<5}  {}\n", reason.action, reason.text));
        if reason.file.is_some() {
            text.push_str(&format!("         {}\n", place(reason)));
        }
    }
    steps(text, &answer.steps);
    foreign(text, &answer.foreign);
    for fix in &answer.fix {
        lines(text, fix);
    }
}

fn steps(text: &mut String, steps: &[Step]) {
    if steps.is_empty() {
        return;
    }
    text.push_str("\nOn the way:\n");
    let width = steps.iter().map(|step| step.kind.len()).max().unwrap_or(0);
    for step in steps {
        text.push_str(&format!("  {:<width$}  {}\n", step.kind, step.text));
    }
}

/// What is certain is among the reasons already.
fn foreign(text: &mut String, foreign: &[Obstacle]) {
    let doubtful: Vec<&Obstacle> = foreign.iter().filter(|f| f.verdict != "drop").collect();
    if doubtful.is_empty() {
        return;
    }
    text.push_str("\nOther tables:\n");
    for obstacle in doubtful {
        text.push_str(&format!(
            "  {:<5}  table {}, chain {}: {}\n",
            obstacle.verdict, obstacle.table, obstacle.chain, obstacle.text
        ));
    }
}

fn lines(text: &mut String, fix: &Fix) {
    let what = if fix.create { "create" } else { "add to" };
    text.push_str(&format!("\nTo allow it, {what} {}:\n\n", fix.file));
    for line in fix.text.lines() {
        text.push_str(format!("  {line}").trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::{golden, reason};
    use super::*;

    const DB: &str = "/etc/netd/policies/db.toml";

    fn denied() -> Answer {
        Answer {
            family: 4,
            verdict: "deny".into(),
            reasons: vec![
                reason(
                    Some(("/etc/netd/policies/web.toml", 5, 1)),
                    "egress",
                    "allow",
                    "egress of web allows to container:db on tcp/5432",
                ),
                reason(
                    Some((DB, 4, 1)),
                    "ingress",
                    "deny",
                    "ingress of db is closed but for what is allowed, and no rule here allows from container web on tcp/5432",
                ),
            ],
            steps: vec![],
            foreign: vec![],
            fix: vec![Fix {
                file: DB.into(),
                create: false,
                text: "[[ingress]]\nfrom = [\"container:web\"]\nports = [\"tcp/5432\"]\n".into(),
            }],
        }
    }

    fn published() -> Answer {
        Answer {
            family: 4,
            verdict: "allow".into(),
            reasons: vec![reason(
                None,
                "ingress",
                "allow",
                "came through a published port, and no file mentions ingress of web: open to world and host",
            )],
            steps: vec![Step {
                kind: "dnat".into(),
                text: "published by web: 192.0.2.1:8080 -> 10.89.0.5:80".into(),
                from: "192.0.2.1:8080".into(),
                to: "10.89.0.5:80".into(),
            }],
            foreign: vec![Obstacle {
                table: "ip filter".into(),
                chain: "FORWARD".into(),
                verdict: "maybe".into(),
                text: "the policy of chain FORWARD is drop, and whether a rule accepts the packet that opens the connection is not known: that depends on the match geoip of iptables".into(),
            }],
            fix: vec![],
        }
    }

    fn of(families: Vec<Answer>) -> Explanation {
        let denied = families.iter().find(|f| f.verdict == "deny");
        let decides = denied.unwrap_or(&families[0]).clone();
        Explanation {
            verdict: decides.verdict,
            reasons: decides.reasons,
            steps: decides.steps,
            foreign: decides.foreign,
            fix: decides.fix,
            families,
            paths: Vec::new(),
        }
    }

    #[test]
    fn a_verdict_its_reasons_and_what_would_help() {
        let six = Answer {
            family: 6,
            ..denied()
        };
        let both = of(vec![denied(), six]);
        golden("explain.txt", &explanation(&both, "web → db tcp/5432"));
    }

    #[test]
    fn translations_and_other_tables() {
        let one = of(vec![published()]);
        golden(
            "explain-published.txt",
            &explanation(&one, "world → host tcp/8080"),
        );
    }

    /// The schema names what is printed, no more and no less.
    #[test]
    #[allow(clippy::unwrap_used)]
    fn the_schema_is_kept() {
        let schema = include_str!("../../../../docs/schema/explain.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let keys = |value: &serde_json::Value| -> std::collections::BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let six = Answer {
            family: 6,
            ..denied()
        };
        let mut said = of(vec![published(), six]);
        let way = |from: &str| crate::api::Path {
            from: from.into(),
            to: "db".into(),
            verdict: "deny".into(),
        };
        said.paths = vec![way("web"), way("web@dmz")];
        let said = serde_json::to_value(said).unwrap();
        assert_eq!(keys(&said), keys(&schema["properties"]));
        let answer = &schema["properties"]["families"]["items"];
        assert_eq!(keys(&said["families"][0]), keys(&answer["properties"]));
        let lists = &schema["$defs"];
        let first = [
            ("reasons", &said["reasons"]),
            ("steps", &said["families"][0]["steps"]),
            ("foreign", &said["families"][0]["foreign"]),
            ("fix", &said["fix"]),
        ];
        for (name, list) in first {
            let items = &lists[name]["items"]["properties"];
            assert_eq!(keys(&list[0]), keys(items), "{name}");
        }
    }

    #[test]
    fn families_that_differ() {
        let six = Answer {
            family: 6,
            ..denied()
        };
        let both = of(vec![published(), six]);
        golden(
            "explain-differ.txt",
            &explanation(&both, "world → host tcp/8080"),
        );
    }
}
