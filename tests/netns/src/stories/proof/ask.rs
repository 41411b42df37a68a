//! One question, three answers: real packets, `netd explain`, and the oracle.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use firewall::model::Traffic;
use firewall::policy::PolicySet;
use firewall::sets::{Action, Family};
use firewall::{explain, oracle};
use serde_json::Value;

use super::draw::question::said;
use super::draw::scene::{Judged, Seen};
use super::draw::{Kind, Question, Scene};
use super::explained::{end, explained};
use super::stage::Stage;
use super::tally::Tally;
use crate::net::ears::Arrival;
use crate::net::netns::Netns;
use crate::net::probe::Reach;
use crate::net::volley::{self, Carried, Hit, Shot};

/// How long silence is listened to.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long an answer is waited for that should have come: a loaded machine may be late.
const MORE_PATIENCE: Duration = Duration::from_millis(1500);
/// How often it is asked for.
const TRIES: usize = 3;

/// A question on which the three do not agree.
#[derive(Debug, Clone)]
pub struct Disagreement {
    /// The question.
    pub question: Question,
    /// What each says.
    pub answers: String,
    /// What sort of disagreement it is: one of another sort is another.
    pub sort: Sort,
}

/// A sort of disagreement: on which path, to whom, by the oracle allowed or not, and whether a new connection is
/// meant or an open one.
pub type Sort = (Kind, String, bool, &'static str);

/// What packets say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Packets {
    /// They arrive where they should, and are answered.
    Pass,
    /// None arrives, and none is answered.
    Stop,
    /// Something else that must never be.
    Wrong(String),
}

/// A question and what is to be said of it.
pub struct Asked {
    pub question: Question,
    pub judged: Judged,
    /// The oracle's answer.
    pub allowed: bool,
}

/// What the oracle says of questions; those that make no sense in the scene are left out.
pub fn foreseen(scene: &Scene, questions: &[Question], lie: Option<Lie>) -> Vec<Asked> {
    let policies = seen_by(lie, &scene.policies);
    let asked = questions.iter().filter_map(|question| {
        let judged = scene.judged(question)?;
        let flow = judged.flow.as_ref();
        let allowed = flow.is_some_and(|flow| oracle::allows(&scene.world, &policies, flow));
        Some(Asked {
            question: question.clone(),
            judged,
            allowed,
        })
    });
    asked.collect()
}

/// What an oracle overlooks that is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Rules that deny.
    NoDenies,
    /// Rules that allow.
    NoAllows,
}

/// The files as the oracle sees them.
fn seen_by(lie: Option<Lie>, policies: &PolicySet) -> PolicySet {
    let mut policies = policies.clone();
    let Some(lie) = lie else {
        return policies;
    };
    let overlooked = match lie {
        Lie::NoDenies => Action::Deny,
        Lie::NoAllows => Action::Allow,
    };
    for file in policies.0.values_mut() {
        let file = Arc::make_mut(file);
        for section in [&mut file.ingress, &mut file.egress].into_iter().flatten() {
            section.rules.retain(|rule| rule.action != overlooked);
        }
    }
    policies
}

/// Asks all questions of all three; tells where they do not agree.
pub fn ask(stage: &mut Stage, questions: &[Question], tally: &mut Tally) -> Vec<Disagreement> {
    let mut asked = foreseen(&stage.scene, questions, stage.lie);
    asked.retain(|asked| {
        !stage.taken.contains(&said(asked.question.traffic)) || asked.judged.server != "host"
    });
    let explained = explain_all(stage, &asked);
    let (mut hits, mut keys) = fire(
        stage,
        &asked.iter().map(|a| &a.question).collect::<Vec<_>>(),
        PATIENCE,
    );
    // A lost packet is no verdict, so what should have passed is asked for again.
    let tries = if asked.len() > 1 { TRIES } else { 1 };
    for _ in 0..tries {
        let late: Vec<usize> = (0..asked.len())
            .filter(|n| {
                asked[*n].allowed
                    && packets(stage, &asked[*n], &hits[*n], &keys[*n]) == Packets::Stop
            })
            .collect();
        // Many of them are no accident.
        if late.is_empty() || late.len() > 200 || stage.keys_left() < late.len() {
            break;
        }
        tally.again += late.len();
        let again: Vec<&Question> = late.iter().map(|n| &asked[*n].question).collect();
        let (more, more_keys) = fire(stage, &again, MORE_PATIENCE);
        for ((n, hit), key) in late.into_iter().zip(more).zip(more_keys) {
            hits[n] = hit;
            keys[n].extend(key);
        }
    }
    let mut disagreements = Vec::new();
    for (n, asked) in asked.iter().enumerate() {
        let packets = packets(stage, asked, &hits[n], &keys[n]);
        let (explains, reasons) = &explained[n];
        tally.count(asked, &hits[n].reach);
        let passed = match packets {
            Packets::Pass => Some(true),
            Packets::Stop => Some(false),
            Packets::Wrong(_) => None,
        };
        if passed != Some(asked.allowed) || *explains != asked.allowed {
            disagreements.push(Disagreement {
                question: asked.question.clone(),
                answers: answers(asked, &packets, &hits[n].reach, *explains, reasons),
                sort: (
                    asked.judged.kind,
                    asked.judged.server.clone(),
                    asked.allowed,
                    "new",
                ),
            });
        }
    }
    disagreements
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allow" } else { "deny" }
}

fn answers(
    asked: &Asked,
    packets: &Packets,
    reach: &Reach,
    explains: bool,
    reasons: &Value,
) -> String {
    let Asked {
        question,
        judged,
        allowed,
    } = asked;
    let flow = match &judged.flow {
        None => "a port of the host that leads nowhere".to_owned(),
        Some(flow) => format!(
            "{} → {} {} in {:?}{}",
            end(&flow.from),
            end(&flow.to),
            said(flow.traffic),
            flow.family,
            if flow.published { ", published" } else { "" }
        ),
    };
    let mut text = format!(
        "{} · {question}: {flow}\n  packets: {packets:?} ({reach:?})\n  explain: {}\n  oracle:  {}\n",
        judged.kind.name(),
        word(explains),
        word(*allowed)
    );
    for reason in reasons.as_array().into_iter().flatten() {
        text += &format!(
            "    {} {} {}:{} {}\n",
            reason["direction"], reason["action"], reason["file"], reason["line"], reason["text"]
        );
    }
    text
}

/// What packets say of a question, by what came back and what was heard everywhere.
fn packets(stage: &Stage, asked: &Asked, hit: &Hit, keys: &[u16]) -> Packets {
    let judged = &asked.judged;
    let mut arrivals: Vec<Arrival> = keys
        .iter()
        .flat_map(|key| stage.ears.arrivals(*key))
        .collect();
    if judged.flow.is_none() {
        // The host hears what is sent to its own closed port.
        arrivals.retain(|arrival| arrival.at != "host");
    }
    if asked.question.to == IpAddr::V6(Ipv6Addr::LOCALHOST) {
        // Forwarded in user space: the host hears it, and what the container hears is another packet.
        arrivals.clear();
    }
    if let Some(astray) = arrivals.iter().find(|arrival| arrival.at != judged.server) {
        return Packets::Wrong(format!("heard at {}", astray.at));
    }
    let bare = matches!(asked.question.traffic, Traffic::Proto(_));
    let reach = &hit.reach;
    if reach.passed() || bare && !arrivals.is_empty() {
        let icmp = matches!(asked.question.traffic, Traffic::Icmp(_));
        let who = match arrivals.first() {
            Some(arrival) if icmp || bare => arrival.at.as_str(),
            _ => reach.who(),
        };
        if who != judged.server {
            return Packets::Wrong(format!(
                "answered by {who:?} and not by {:?}",
                judged.server
            ));
        }
        let seen = arrivals
            .iter()
            .map(|arrival| arrival.source)
            .chain(reach.source());
        for seen in seen {
            let right = match judged.seen {
                Seen::As(source) => seen == source,
                Seen::AsHost => stage.scene.is_host(seen),
            };
            if !right {
                return Packets::Wrong(format!("seen as {seen}, and not {:?}", judged.seen));
            }
        }
        return Packets::Pass;
    }
    if let Some(arrival) = arrivals.first() {
        // What should pass may have lost its answer on the way, and is asked for again.
        return if asked.allowed && *reach == Reach::Silent {
            Packets::Stop
        } else {
            Packets::Wrong(format!("heard at {}, and not answered", arrival.at))
        };
    }
    let silent = asked.question.from == "world" && judged.flow.is_some();
    if silent && *reach != Reach::Silent {
        return Packets::Wrong("the world was told that it may not".to_owned());
    }
    Packets::Stop
}

/// What `netd explain` says of each.
fn explain_all(stage: &Stage, asked: &[Asked]) -> Vec<(bool, Value)> {
    let direct = |asked: &&Asked| {
        asked
            .judged
            .flow
            .as_ref()
            .is_some_and(|flow| !flow.published)
    };
    let flows: Vec<_> = asked
        .iter()
        .filter(direct)
        .filter_map(|a| a.judged.flow.clone())
        .collect();
    let socket = stage.world.folder("runtime").join("netd.sock");
    let mut told = explained(&socket, &flows).into_iter();
    let scene = &stage.scene;
    let each = asked.iter().map(|asked| match &asked.judged.flow {
        None => (false, Value::Null),
        // The command is not asked about connections behind a translation: its words are judged here.
        Some(flow) if flow.published => {
            let explanation = explain::explain(&scene.world, &scene.policies, flow);
            let reasons = explanation.reasons.iter().map(|reason| {
                serde_json::json!({ "file": reason.file, "line": reason.line, "text": reason.text })
            });
            (explanation.verdict == Action::Allow, reasons.collect())
        }
        Some(_) => told.next().unwrap(),
    });
    each.collect()
}

/// Fires one probe for each question, from all namespaces at once; the keys are those of the probes.
fn fire(
    stage: &mut Stage,
    questions: &[&Question],
    patience: Duration,
) -> (Vec<Hit>, Vec<Vec<u16>>) {
    let mut volleys: BTreeMap<&str, Vec<(usize, Shot)>> = BTreeMap::new();
    let mut keys = Vec::new();
    for (n, question) in questions.iter().enumerate() {
        let shot = shot(question, stage.key(), false);
        keys.push(vec![shot.key]);
        volleys.entry(&question.from).or_default().push((n, shot));
    }
    let mut hits: Vec<Option<Hit>> = questions.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = volleys
            .into_iter()
            .map(|(from, numbered)| {
                let netns: Netns = stage.netns(from).unwrap().clone();
                scope.spawn(move || {
                    let (numbers, shots): (Vec<usize>, Vec<Shot>) = numbered.into_iter().unzip();
                    numbers
                        .into_iter()
                        .zip(volley::fire(&netns, &shots, patience))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in threads {
            for (n, hit) in thread.join().unwrap() {
                hits[n] = Some(hit);
            }
        }
    });
    (hits.into_iter().flatten().collect(), keys)
}

/// The probe that asks a question.
pub fn shot(question: &Question, key: u16, keep: bool) -> Shot {
    Shot {
        key,
        source: question.source,
        to: question.to,
        carried: match question.traffic {
            Traffic::Port(6, port) => Carried::Tcp(port),
            Traffic::Port(_, port) => Carried::Udp(port),
            Traffic::Icmp(kind) => Carried::Icmp(kind),
            Traffic::Proto(_) => Carried::Bare,
        },
        keep,
    }
}

/// The family in which a question is sent.
pub fn family(question: &Question) -> Family {
    Family::of(question.to)
}
