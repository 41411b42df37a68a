//! Connections and flows that are open while things happen: what the new policy denies must be dead, both ways;
//! what it allowed and allows must live.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use firewall::model::Traffic;
use firewall::oracle;
use rustix::net::{RecvFlags, SendFlags};

use super::ask::{Disagreement, foreseen, shot};
use super::draw::{Kind, Question};
use super::stage::Stage;
use super::tally::Tally;
use crate::net::packet::{self, Heard};
use crate::net::volley;

/// How long the dead are listened to.
const SILENCE: Duration = Duration::from_millis(300);
/// How long the living are waited for: a lost segment is sent again after a fraction of a second.
const PATIENCE: Duration = Duration::from_millis(2500);

struct Flow {
    question: Question,
    server: String,
    kind: Kind,
    key: u16,
    socket: OwnedFd,
}

/// Open connections and flows.
#[derive(Default)]
pub struct Flows {
    flows: Vec<Flow>,
    number: u32,
}

/// What an event means to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ends,
    Lives,
    /// Its link was taken away, or its door leads elsewhere now.
    Open,
}

impl Flows {
    /// Opens a flow for each question that may be: TCP and UDP, direct or published.
    pub fn open(stage: &mut Stage, questions: &[Question], most: usize) -> Self {
        let ported = |question: &&Question| {
            matches!(question.traffic, Traffic::Port(..))
                && question.to != IpAddr::V6(Ipv6Addr::LOCALHOST)
        };
        let questions: Vec<Question> = questions.iter().filter(ported).cloned().collect();
        let asked = foreseen(&stage.scene, &questions, None);
        let asked = asked.into_iter().filter(|asked| asked.allowed);
        // What neither comes from a container nor goes to one is nobody's to end.
        let asked = asked.filter(|asked| {
            stage.scene.container(&asked.question.from).is_some()
                || stage.scene.container(&asked.judged.server).is_some()
        });
        let mut flows = Self::default();
        let asked: Vec<_> = asked.take(most).collect();
        for asked in asked {
            let key = stage.key();
            let Some(netns) = stage.netns(&asked.question.from) else {
                continue;
            };
            let shot = shot(&asked.question, key, true);
            let hits = volley::fire(netns, &[shot], Duration::from_secs(1));
            let socket = hits.into_iter().find_map(|hit| hit.socket);
            flows.flows.extend(socket.map(|socket| Flow {
                question: asked.question,
                server: asked.judged.server,
                kind: asked.judged.kind,
                key,
                socket,
            }));
        }
        flows
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Takes the flows of another.
    pub fn more(&mut self, other: Self) {
        self.flows.extend(other.flows);
    }

    /// Sends both ways on every flow, and holds what comes to the policy as it is now.
    pub fn check(
        &mut self,
        stage: &Stage,
        unplugged: Option<&str>,
        tally: &mut Tally,
    ) -> Vec<Disagreement> {
        self.number += 1;
        let number = self.number;
        let fates: Vec<Fate> = self
            .flows
            .iter()
            .map(|flow| fate(stage, flow, unplugged))
            .collect();
        for flow in &self.flows {
            // That it fails is an answer, too.
            let _ = rustix::net::send(
                &flow.socket,
                &packet::beat(flow.key, number),
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            );
        }
        std::thread::sleep(Duration::from_millis(20));
        stage.ears.push(number);
        let (mut echoed, mut pushed) = (BTreeSet::new(), BTreeSet::new());
        let began = Instant::now();
        loop {
            for flow in &self.flows {
                for heard in hear(&flow.socket) {
                    match heard {
                        Heard::Echo(n) if n == number => _ = echoed.insert(flow.key),
                        Heard::Push(n) if n == number => _ = pushed.insert(flow.key),
                        _ => {}
                    }
                }
            }
            let mut living = self
                .flows
                .iter()
                .zip(&fates)
                .filter(|(_, fate)| **fate == Fate::Lives);
            let all =
                living.all(|(flow, _)| echoed.contains(&flow.key) && pushed.contains(&flow.key));
            if began.elapsed() > SILENCE && (all || began.elapsed() > PATIENCE) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let beaten: BTreeSet<u16> = stage.ears.beats(number).into_iter().collect();
        let mut wrong = Vec::new();
        for (flow, fate) in self.flows.iter().zip(&fates) {
            let there = beaten.contains(&flow.key);
            let back = pushed.contains(&flow.key) || echoed.contains(&flow.key);
            let right = match fate {
                Fate::Ends => !there && !back,
                Fate::Lives => there && pushed.contains(&flow.key) && echoed.contains(&flow.key),
                Fate::Open => true,
            };
            match fate {
                Fate::Ends if right => tally.ended += 1,
                Fate::Lives if right => tally.spared += 1,
                _ => {}
            }
            if !right {
                wrong.push(Disagreement {
                    question: flow.question.clone(),
                    sort: (flow.kind, flow.server.clone(), *fate == Fate::Lives, "open"),
                    answers: format!(
                        "open flow · {} at {}: by the oracle it {}; client to server {}, server to client {}\n",
                        flow.question,
                        flow.server,
                        if *fate == Fate::Ends { "ends" } else { "lives" },
                        if there { "passes" } else { "is stopped" },
                        if back { "passes" } else { "is stopped" },
                    ),
                });
            }
        }
        let mut fates = fates.iter();
        self.flows.retain(|_| fates.next() == Some(&Fate::Lives));
        wrong
    }
}

fn fate(stage: &Stage, flow: &Flow, unplugged: Option<&str>) -> Fate {
    let scene = &stage.scene;
    let gone = |name: &str| !matches!(name, "host" | "world") && scene.container(name).is_none();
    if gone(&flow.question.from) || gone(&flow.server) {
        return Fate::Ends;
    }
    let Some(judged) = scene.judged(&flow.question) else {
        return Fate::Ends;
    };
    if judged.server != flow.server || judged.flow.is_none() {
        return Fate::Open;
    }
    let allowed = judged
        .flow
        .is_some_and(|flow| oracle::allows(&scene.world, &scene.policies, &flow));
    let touched = [
        Some(flow.question.from.as_str()),
        Some(flow.server.as_str()),
    ];
    match allowed {
        false => Fate::Ends,
        true if unplugged.is_some() && touched.contains(&unplugged) => Fate::Open,
        true => Fate::Lives,
    }
}

fn hear(socket: &OwnedFd) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok((length, _)) = rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
        if length == 0 {
            break;
        }
        heard.extend(packet::said(&buffer[..length]));
    }
    heard
}
