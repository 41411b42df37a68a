//! What is recorded of packets: by rules that log, and by files on trial.

#![allow(clippy::unwrap_used, missing_docs)]

mod pure;

use firewall::model::{DefaultPolicy, Endpoint, Flow, Traffic, World};
use firewall::oracle;
use firewall::packet::{Carries, Hook, Judged, Packet};
use firewall::policy::{Mode, PolicySet, has_ports};
use firewall::sets::{Action, Direction, Family};
use firewall::trial::{Record, Whose, records};
use proptest::prelude::*;
use pure::story::Story;
use pure::worlds::{self, Setting, TRAFFIC};
use pure::{flows, kernel};

/// The packet that opens a flow, and what became of it.
fn judged(world: &World, flow: &Flow, verdict: Action) -> Option<Judged> {
    let packet = flows::packet(world, flow)?;
    let [kind, code] = packet.port.to_be_bytes();
    let carries = match packet.proto {
        proto if has_ports(proto) => Carries::Ports {
            proto,
            source: 50_000,
            port: packet.port,
        },
        1 | 58 => Carries::Icmp { kind, code },
        proto => Carries::Other(proto),
    };
    Some(Judged {
        verdict,
        hook: match packet.hook {
            kernel::Hook::Forward => Hook::Forward,
            kernel::Hook::Input => Hook::Input,
            kernel::Hook::Output => Hook::Output,
        },
        iif: Some(7),
        oif: None,
        time: None,
        packet: Packet {
            from: packet.client,
            to: packet.server,
            carries,
        },
    })
}

fn endpoint(text: &str) -> Endpoint {
    match text {
        "host" => Endpoint::Host,
        "world" => Endpoint::World,
        name => match name.parse() {
            Ok(address) => Endpoint::Address(address),
            Err(_) => Endpoint::Container(name.parse().unwrap()),
        },
    }
}

/// `web egress allow would deny web.toml:3 closed…`
fn shown(record: &Record) -> String {
    let would = record
        .would
        .map_or(String::new(), |would| format!(" would {}", would.as_str()));
    let place = match (&record.file, record.at) {
        (Some(file), Some(at)) => format!("{file}:{}", at.line),
        _ => "default".to_owned(),
    };
    let text = record.text.split_whitespace().next().unwrap();
    format!(
        "{} {} {}{would} {place} {text}",
        record.container,
        record.direction.as_str(),
        record.verdict.as_str()
    )
}

/// What is recorded of tcp/PORT between two in IPv4, when the kernel says `verdict`.
fn of(story: &Story, from: &str, to: &str, port: u16, verdict: Action) -> Vec<String> {
    let flow = Flow {
        from: endpoint(from),
        to: endpoint(to),
        traffic: Traffic::Port(6, port),
        family: Family::V4,
        published: false,
    };
    let (world, policies) = (story.firewall.world(), story.firewall.policies());
    let judged = judged(world, &flow, verdict).unwrap();
    records(world, policies, &judged)
        .iter()
        .map(shown)
        .collect()
}

fn zone(default: DefaultPolicy) -> Story {
    Story::new()
        .zone("dmz", default)
        .container("web", "dmz", "", "8080:80")
        .container("db", "dmz", "", "")
}

const ALLOW: Action = Action::Allow;
const DENY: Action = Action::Deny;

#[test]
fn a_rule_that_logs_is_recorded_when_it_decides() {
    let story = zone(DefaultPolicy::Allow).file(
        "db.toml",
        "[[ingress]]\nfrom = [\"zone:dmz\"]\nports = [\"tcp/5432\"]\nlog = true\n\
         [[ingress]]\nfrom = [\"any\"]\nports = [\"tcp/80\"]\n\
         [[ingress]]\naction = \"deny\"\nfrom = [\"world\"]\nports = [\"tcp/80\"]\nlog = true\n",
    );
    assert_eq!(
        of(&story, "web", "db", 5432, ALLOW),
        ["db ingress allow db.toml:1 allows"]
    );
    // the rule that allows this does not log
    assert_eq!(of(&story, "web", "db", 80, ALLOW), [""; 0]);
    assert_eq!(
        of(&story, "world", "db", 80, DENY),
        ["db ingress deny db.toml:8 denies"]
    );
    // nothing allows it, in a direction in which a rule logs
    assert_eq!(
        of(&story, "web", "db", 22, DENY),
        ["db ingress deny db.toml:1 ingress"]
    );
    // the other direction of the same container has no rule that logs, and nor has the other side
    assert_eq!(of(&story, "db", "web", 22, ALLOW), [""; 0]);
}

#[test]
fn both_sides_record_what_their_rules_say() {
    let story = zone(DefaultPolicy::Allow)
        .file("web.toml", "[[egress]]\nlog = true\n")
        .file("db.toml", "[[ingress]]\nlog = true\n");
    assert_eq!(
        of(&story, "web", "db", 80, ALLOW),
        [
            "web egress allow web.toml:1 allows",
            "db ingress allow db.toml:1 allows"
        ]
    );
    // an allow takes no part in somebody else's refusal
    let story = story.file(
        "no.toml",
        "applies-to = { container = \"db\" }\n[[ingress]]\naction = \"deny\"\n",
    );
    assert_eq!(of(&story, "web", "db", 80, DENY), [""; 0]);
}

#[test]
fn a_file_on_trial_is_recorded_where_it_would_change_the_verdict() {
    let story = zone(DefaultPolicy::Allow).file(
        "web.toml",
        "mode = \"audit\"\ningress = []\n[[egress]]\nto = [\"world\"]\nports = [\"tcp/443\"]\n",
    );
    assert_eq!(of(&story, "web", "world", 443, ALLOW), [""; 0]);
    assert_eq!(
        of(&story, "web", "world", 80, ALLOW),
        ["web egress allow would deny web.toml:3 egress"]
    );
    assert_eq!(
        of(&story, "db", "web", 80, ALLOW),
        ["web ingress allow would deny web.toml:2 ingress"]
    );
    let story = zone(DefaultPolicy::Deny).file(
        "web.toml",
        "mode = \"audit\"\n[[egress]]\nto = [\"world\"]\n",
    );
    assert_eq!(
        of(&story, "web", "world", 80, DENY),
        ["web egress deny would allow web.toml:2 allows"]
    );
    // the other side would refuse it still
    assert_eq!(of(&story, "web", "db", 80, DENY), [""; 0]);
    // both sides on trial: each file has its record
    let story = story
        .file("web.toml", "mode = \"audit\"\n[[egress]]\n")
        .file("db.toml", "mode = \"audit\"\n[[ingress]]\n");
    assert_eq!(
        of(&story, "web", "db", 80, DENY),
        [
            "web egress deny would allow web.toml:2 allows",
            "db ingress deny would allow db.toml:2 allows"
        ]
    );
}

#[test]
fn a_deny_on_trial_wins_and_a_file_in_force_is_not_blamed() {
    let story = zone(DefaultPolicy::Allow)
        .file("web.toml", "[[egress]]\nto = [\"any\"]\n")
        .file(
            "trial.toml",
            "applies-to = { zone = \"dmz\" }\nmode = \"audit\"\n[[egress]]\naction = \"deny\"\nto = [\"world\"]\n",
        );
    assert_eq!(
        of(&story, "web", "world", 80, ALLOW),
        ["web egress allow would deny trial.toml:3 denies"]
    );
    assert_eq!(of(&story, "web", "db", 80, ALLOW), [""; 0]);
}

#[test]
fn what_no_rule_can_change_is_nobodys_trial() {
    let story =
        zone(DefaultPolicy::Deny).file("web.toml", "mode = \"audit\"\negress = []\ningress = []\n");
    // the gateway's resolver is open whatever policy says
    assert_eq!(of(&story, "web", "10.89.0.1", 53, ALLOW), [""; 0]);
    let story = Story::new()
        .internal_zone("vault", DefaultPolicy::Allow)
        .container("web", "vault", "", "")
        .file("web.toml", "mode = \"audit\"\n[[egress]]\n");
    assert_eq!(of(&story, "web", "world", 80, DENY), [""; 0]);
}

#[test]
fn a_verdict_for_which_no_rule_is_the_reason_is_said_to_be_one() {
    let story = zone(DefaultPolicy::Allow)
        .file("web.toml", "[[egress]]\nto = [\"world\"]\nlog = true\n")
        .file("trial.toml", "applies-to = { container = \"web\" }\nmode = \"audit\"\n[[egress]]\naction = \"deny\"\n");
    assert_eq!(
        of(&story, "web", "world", 80, DENY),
        ["web egress deny default no"]
    );
    assert_eq!(
        of(&story, "web", "db", 80, ALLOW),
        ["web egress allow default no"]
    );
}

#[test]
fn who_is_told_by_address_and_a_published_port_by_what_it_leads_to() {
    let story = zone(DefaultPolicy::Egress).file("web.toml", "mode = \"audit\"\ningress = []\n");
    let (world, policies) = (story.firewall.world(), story.firewall.policies());
    let flow = |from: &str, port| Flow {
        from: endpoint(from),
        to: endpoint("web"),
        traffic: Traffic::Port(6, port),
        family: Family::V4,
        published: true,
    };
    let record = |from: &str, port, verdict| {
        let judged = judged(world, &flow(from, port), verdict).unwrap();
        records(world, policies, &judged).pop()
    };
    // open through the published port only: that it passed tells how it came
    let passed = record("world", 80, ALLOW).unwrap();
    assert!(passed.published);
    assert_eq!((passed.would, passed.peer()), (Some(DENY), &passed.from));
    assert_eq!(passed.from.who, Whose::World);
    let (name, zone) = ("web".parse().unwrap(), "dmz".parse().unwrap());
    assert_eq!(passed.to.who, Whose::Container(name, zone));
    let refused = record("world", 80, DENY);
    assert_eq!(
        refused, None,
        "it came to the address itself, and nothing would change"
    );
    assert_eq!(record("host", 80, ALLOW).unwrap().from.who, Whose::Host);
    assert_eq!(record("host", 81, DENY), None);
}

fn put_on_trial(setting: &Setting, trial: &[bool]) -> Setting {
    let files = setting.files.iter().zip(trial.iter().cycle());
    let files = files.map(|(text, trial)| match trial {
        true => format!("mode = \"audit\"\n{text}"),
        false => text.clone(),
    });
    Setting {
        files: files.collect(),
        ..setting.clone()
    }
}

fn with_logs(setting: &Setting) -> Setting {
    let log = |text: &String| {
        text.replace("[[ingress]]\n", "[[ingress]]\nlog = true\n")
            .replace("[[egress]]\n", "[[egress]]\nlog = true\n")
    };
    Setting {
        files: setting.files.iter().map(log).collect(),
        ..setting.clone()
    }
}

fn every_flow(
    mut check: impl FnMut(&Flow) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let endpoints = worlds::endpoints();
    for (n, from) in endpoints.iter().enumerate() {
        for to in &endpoints {
            for family in Family::ALL {
                // each pair with some traffic, all traffic over all pairs
                for traffic in TRAFFIC.iter().skip(n % 3).step_by(3) {
                    for published in [false, true] {
                        let other = |end: &Endpoint| matches!(end, Endpoint::Address(a) if Family::of(*a) != family);
                        if !other(from) && !other(to) {
                            check(&Flow {
                                from: from.clone(),
                                to: to.clone(),
                                traffic: *traffic,
                                family,
                                published,
                            })?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn verdict(allowed: bool) -> Action {
    if allowed { ALLOW } else { DENY }
}

/// The audit records of every flow, held to the oracle asked twice.
fn trial_agrees(setting: &Setting) -> Result<(), TestCaseError> {
    let firewall = setting.firewall();
    let (world, policies) = (firewall.world(), firewall.policies());
    let on_trial = PolicySet(
        policies
            .0
            .iter()
            .map(|(key, file)| {
                let mut file = (**file).clone();
                file.mode = Mode::Enforce;
                (key.clone(), file.into())
            })
            .collect(),
    );
    every_flow(|flow| {
        let allowed = oracle::allows(world, policies, flow);
        let would = oracle::allows(world, &on_trial, flow);
        let Some(judged) = judged(world, flow, verdict(allowed)) else {
            return Ok(());
        };
        let records = records(world, policies, &judged);
        let audit: Vec<&Record> = records.iter().filter(|r| r.would.is_some()).collect();
        // a published flow of a kind that is not published is no flow
        let real = !flow.published || records.iter().all(|r| r.published);
        if real {
            prop_assert_eq!(
                !audit.is_empty(),
                allowed != would,
                "{:?}: {:#?}",
                flow,
                records
            );
        }
        for record in audit {
            prop_assert_eq!(record.verdict, verdict(allowed));
            prop_assert_eq!(record.would, Some(verdict(!allowed)));
            let file = record.file.as_ref().expect("a file decides");
            let blamed = policies.0.values().find(|f| f.file == *file).unwrap();
            prop_assert_eq!(blamed.mode, Mode::Audit, "{:#?}", record);
            let mut ports = world.ports_of(record.container.as_str());
            let container = ports.find(|port| port.zone == record.zone).unwrap();
            prop_assert!(blamed.applies_to.matches(container));
            prop_assert!(blamed.section(record.direction).is_some());
        }
        Ok(())
    })
}

/// What rules record, when all of them log: each verdict of files is recorded, and nothing else is.
fn logs_agree(setting: &Setting) -> Result<(), TestCaseError> {
    let firewall = setting.firewall();
    let (world, policies) = (firewall.world(), firewall.policies());
    every_flow(|flow| {
        let allowed = oracle::allows(world, policies, flow);
        for said in [ALLOW, DENY] {
            let Some(judged) = judged(world, flow, said) else {
                return Ok(());
            };
            for record in records(world, policies, &judged) {
                prop_assert_eq!((record.would, record.verdict), (None, said));
                let mut ports = world.ports_of(record.container.as_str());
                let container = ports.find(|port| port.zone == record.zone).unwrap();
                let end = match record.direction {
                    Direction::Egress => &record.from,
                    Direction::Ingress => &record.to,
                };
                let whose =
                    Whose::Container(container.name.container_name(), container.zone.clone());
                prop_assert_eq!(&end.who, &whose);
                let (Some(file), Some(at)) = (&record.file, record.at) else {
                    continue;
                };
                let file = policies.0.values().find(|f| f.file == *file).unwrap();
                prop_assert!(file.applies_to.matches(container));
                let section = file.section(record.direction).unwrap();
                let rule = section.rules.iter().find(|rule| rule.at == at);
                // an allow that was refused was over its limit
                let limited =
                    rule.is_some_and(|rule| rule.rate.is_some() || rule.max_connections.is_some());
                if limited && allowed && said == DENY {
                    prop_assert!(record.text.contains("over it"), "{:#?}", record);
                    continue;
                }
                // how a packet came to a published port may be unknown
                if !record.published {
                    prop_assert_eq!(said, verdict(allowed), "{:#?}", record);
                }
                let decides = rule.is_some_and(|rule| rule.action == said);
                prop_assert!(
                    decides || (section.at == at && said == DENY),
                    "{:#?}",
                    record
                );
            }
        }
        Ok(())
    })
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::with_cases(cases.unwrap_or(default))
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn records_of_trials_are_what_the_oracle_says_twice(setting in worlds::setting(), trial in prop::collection::vec(any::<bool>(), 4)) {
        trial_agrees(&put_on_trial(&setting, &trial))?;
    }

    #[test]
    fn records_of_rules_name_rules_that_decide(setting in worlds::setting()) {
        logs_agree(&with_logs(&setting))?;
    }

    #[test]
    fn without_logs_and_trials_nothing_is_recorded(setting in worlds::setting()) {
        let firewall = setting.firewall();
        every_flow(|flow| {
            for said in [ALLOW, DENY] {
                if let Some(judged) = judged(firewall.world(), flow, said) {
                    prop_assert_eq!(records(firewall.world(), firewall.policies(), &judged), []);
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn what_is_over_a_limit_is_recorded_with_the_limit() {
    let limited =
        "[[ingress]]\nfrom = [\"any\"]\nrate = \"5/second\"\nmax-connections = 3\nlog = true\n";
    let story = zone(DefaultPolicy::Allow).file("db.toml", limited);
    let over = of(&story, "web", "db", 80, DENY);
    assert_eq!(over, ["db ingress deny db.toml:1 allows"]);
    let (world, policies) = (story.firewall.world(), story.firewall.policies());
    let flow = Flow {
        from: endpoint("web"),
        to: endpoint("db"),
        traffic: Traffic::Port(6, 80),
        family: Family::V6,
        published: false,
    };
    let judged = judged(world, &flow, DENY).unwrap();
    let text = records(world, policies, &judged).pop().unwrap().text;
    assert!(
        text.contains("rate 5/second burst 5 and 3 connections of each source"),
        "{text}"
    );
    assert_eq!(
        of(&story, "web", "db", 80, ALLOW),
        ["db ingress allow db.toml:1 allows"]
    );
    // the other side logs too, but it is not its limit
    let story = story.file("web.toml", "[[egress]]\nlog = true\n");
    assert_eq!(
        of(&story, "web", "db", 80, DENY),
        ["db ingress deny db.toml:1 allows"]
    );
    // another rule allows it without a limit, so it was none
    let story = story.file(
        "more.toml",
        "applies-to = { container = \"db\" }\n[[ingress]]\n",
    );
    assert_eq!(
        of(&story, "web", "db", 80, DENY),
        ["web egress deny default no", "db ingress deny default no"]
    );
}

#[test]
fn names_on_trial_are_known_by_what_the_resolver_said() {
    let mut story = zone(DefaultPolicy::Egress).file(
        "web.toml",
        "mode = \"audit\"\n[[egress]]\nto = [\"dns:*.example.org\"]\nports = [\"tcp/443\"]\n",
    );
    let web: zone::PortName = "web".parse().unwrap();
    let told = [("198.51.100.7".parse().unwrap(), 100)];
    let changes = story.firewall.open(&web, "www.example.org", &told);
    assert!(changes.is_empty(), "it opens nothing");
    assert_eq!(of(&story, "web", "198.51.100.7", 443, ALLOW), [""; 0]);
    for (address, port) in [("198.51.100.7", 80), ("198.51.100.8", 443)] {
        assert_eq!(
            of(&story, "web", address, port, ALLOW),
            ["web egress allow would deny web.toml:2 egress"]
        );
    }
    story.firewall.lapse(200);
    assert_eq!(of(&story, "web", "198.51.100.7", 443, ALLOW).len(), 1);
    // Where nothing is open, what a name would open is told as well.
    let mut story = zone(DefaultPolicy::Deny).file(
        "web.toml",
        "mode = \"audit\"\n[[egress]]\nto = [\"dns:*.example.org\"]\n",
    );
    story.firewall.open(&web, "www.example.org", &told);
    assert_eq!(
        of(&story, "web", "198.51.100.7", 443, DENY),
        ["web egress deny would allow web.toml:2 allows"]
    );
}
