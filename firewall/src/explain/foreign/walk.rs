//! A packet through one base chain, with three values: which ends are possible.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::expression::{
    Base, Data, Expression, Order, Ruleset, RulesetChain, RulesetRule, RulesetSet, RulesetTable,
    Target, Verdict,
};
use super::load::View;
use super::lookup;
use super::packet::{Journey, Passage, Turn};
use super::value::{Truth, Value};
use super::{Obstacle, xt};

/// How deep chains may call one another (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;
/// Words of four bytes in the registers.
const WORDS: usize = 24;

/// Where a drop is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    chain: String,
    /// The rule: its handle and comment. Absent: the policy of the base chain.
    rule: Option<(u64, Option<String>)>,
}

/// The possible ends of a chain.
#[derive(Debug, Clone, Default)]
struct Ends {
    drops: Vec<Cause>,
    accepts: bool,
    /// The chain may come to its end, or return.
    falls: bool,
    /// What is not known and matters.
    unknown: BTreeSet<String>,
}

impl Ends {
    fn add(&mut self, other: &Ends) {
        for cause in &other.drops {
            if !self.drops.contains(cause) {
                self.drops.push(cause.clone());
            }
        }
        self.accepts |= other.accepts;
        self.unknown.extend(other.unknown.iter().cloned());
    }
}

/// What a rule may lead to, in order; the last is certain if the rule is.
struct Outcome {
    verdicts: Vec<(Truth, Verdict)>,
    unknown: BTreeSet<String>,
}

/// See the [module](self).
pub(super) struct Walk<'a> {
    table: &'a RulesetTable,
    view: View<'a>,
    /// Ends of chains walked already: the packet is the same.
    walked: HashMap<&'a str, Rc<Ends>>,
    ends: Ends,
}

impl<'a> Walk<'a> {
    pub(super) fn of(
        ruleset: &'a Ruleset,
        table: &'a RulesetTable,
        chain: &'a RulesetChain,
        base: &'a Base,
        journey: &'a Journey,
        passage: &'a Passage,
    ) -> Self {
        let rules = ruleset.tables.iter().flat_map(|t| &t.chains);
        let marks_change = rules
            .flat_map(|chain| &chain.rules)
            .flat_map(|rule| &rule.expressions)
            .any(|expression| match expression {
                Expression::SetsMark => true,
                Expression::Module { name, .. } => matches!(name.as_str(), "MARK" | "CONNMARK"),
                _ => false,
            });
        let mut walk = Self {
            table,
            view: View {
                journey,
                passage,
                base,
                marks_change,
            },
            walked: HashMap::new(),
            ends: Ends::default(),
        };
        let sees = journey.packet.meets(table.family)
            && (!base.is_nat || journey.packet.turn == Turn::First);
        if sees {
            let mut ends = (*walk.chain(chain, 0)).clone();
            if ends.falls && base.drops {
                ends.drops.push(Cause {
                    chain: chain.name.clone(),
                    rule: None,
                });
            } else if ends.falls {
                ends.accepts = true;
            }
            walk.ends = ends;
        }
        walk
    }

    /// What is in the way, if something is.
    pub(super) fn obstacle(
        &self,
        table: &RulesetTable,
        chain: &RulesetChain,
        journey: &Journey,
    ) -> Option<Obstacle> {
        let cause = self.ends.drops.first()?;
        let certain = !self.ends.accepts;
        let place = match &cause.rule {
            None => format!("the policy of chain {} is drop", cause.chain),
            Some((handle, comment)) => {
                let comment = comment
                    .as_ref()
                    .map_or_else(String::new, |text| format!(" ({text:?})"));
                format!("rule {handle}{comment} in chain {}", cause.chain)
            }
        };
        let whom = journey.words();
        let text = match (certain, &cause.rule) {
            (true, None) => format!("{place}, and no rule accepts {whom}"),
            (true, Some(_)) => format!("{place} drops {whom}"),
            (false, None) => format!("{place}, and whether a rule accepts {whom} is not known"),
            (false, Some(_)) => format!("{place} may drop {whom}"),
        };
        let text = if certain || self.ends.unknown.is_empty() {
            text
        } else {
            let names: Vec<&str> = self.ends.unknown.iter().map(String::as_str).collect();
            format!("{text}: that depends on {}", names.join(", "))
        };
        Some(Obstacle {
            table: table.title(),
            chain: chain.name.clone(),
            certain,
            text,
        })
    }

    fn chain(&mut self, chain: &'a RulesetChain, depth: usize) -> Rc<Ends> {
        if let Some(ends) = self.walked.get(chain.name.as_str()) {
            return ends.clone();
        }
        let mut ends = Ends::default();
        let mut open = true;
        for rule in &chain.rules {
            let outcome = self.rule(rule);
            for (truth, verdict) in outcome.verdicts {
                let certain = truth == Truth::Yes;
                if !certain {
                    ends.unknown.extend(outcome.unknown.iter().cloned());
                }
                let stops = self.verdict(&verdict, chain, rule, depth, &mut ends);
                if certain && stops {
                    open = false;
                    break;
                }
            }
            if !open {
                break;
            }
        }
        ends.falls |= open;
        let ends = Rc::new(ends);
        self.walked.insert(&chain.name, ends.clone());
        ends
    }

    /// Adds what a verdict leads to; tells whether the chain goes no further when it is certain.
    fn verdict(
        &mut self,
        verdict: &Verdict,
        chain: &'a RulesetChain,
        rule: &RulesetRule,
        depth: usize,
        ends: &mut Ends,
    ) -> bool {
        let cause = || Cause {
            chain: chain.name.clone(),
            rule: Some((rule.handle, rule.comment.clone())),
        };
        match verdict {
            Verdict::Accept => {
                ends.accepts = true;
                true
            }
            Verdict::Drop => {
                ends.drops.push(cause());
                true
            }
            Verdict::Continue => false,
            Verdict::Return => {
                ends.falls = true;
                true
            }
            Verdict::Queue => {
                ends.unknown.insert("a program that it is queued to".into());
                ends.drops.push(cause());
                ends.accepts = true;
                true
            }
            Verdict::Module(name) => {
                ends.unknown
                    .insert(format!("the module {name} of iptables"));
                ends.drops.push(cause());
                ends.accepts = true;
                false
            }
            Verdict::Jump(to) | Verdict::Goto(to) => {
                let target = self.table.chains.iter().find(|c| c.name == *to);
                let called = match target {
                    Some(target) if depth < DEEPEST => self.chain(target, depth + 1),
                    _ => {
                        ends.unknown.insert(format!("chain {to}"));
                        ends.drops.push(cause());
                        ends.accepts = true;
                        return false;
                    }
                };
                ends.add(&called);
                match verdict {
                    Verdict::Goto(_) => {
                        ends.falls |= called.falls;
                        true
                    }
                    _ => !called.falls,
                }
            }
        }
    }

    /// What a rule does with the packet.
    fn rule(&self, rule: &RulesetRule) -> Outcome {
        let mut registers: Vec<Option<Value>> = vec![None; WORDS];
        let mut unknown = BTreeSet::new();
        let mut so_far = Truth::Yes;
        let mut verdicts = Vec::new();
        for expression in &rule.expressions {
            let condition = match expression {
                Expression::Cmp { of, order, with } => {
                    let value = value(&registers, *of, with.len());
                    note(&mut unknown, compare(&value, *order, with), &value.what)
                }
                Expression::Range {
                    of,
                    not,
                    first,
                    last,
                } => {
                    let value = value(&registers, *of, first.len());
                    let within = value.within(first, last);
                    let truth = if *not { within.not() } else { within };
                    note(&mut unknown, truth, &value.what)
                }
                Expression::Lookup { set, of, not, to } => {
                    let Some(set) = self.table.sets.get(set) else {
                        unknown.insert(format!("set {set}"));
                        so_far = so_far.and(Truth::Unknown);
                        continue;
                    };
                    let key = key(&registers, *of, set);
                    let (found, truth) = lookup::find(set, &key);
                    let truth = if *not { truth.not() } else { truth };
                    let name: Vec<&str> = key.iter().map(|(_, v)| v.what.as_str()).collect();
                    note(&mut unknown, truth, &name.join(" . "));
                    match to {
                        None => truth,
                        Some(Target::Register(to)) => {
                            let data = found.iter().filter_map(|(_, e)| match &e.data {
                                Some(Data::Value(bytes)) => Some(bytes.as_slice()),
                                _ => None,
                            });
                            let data: Vec<&[u8]> = data.collect();
                            if !data.is_empty() {
                                put(&mut registers, *to, Value::one_of("a map", data));
                            }
                            truth
                        }
                        Some(Target::Verdict) => {
                            for (hit, element) in &found {
                                if let Some(Data::Verdict(verdict)) = &element.data {
                                    verdicts.push((so_far.and(*hit), verdict.clone()));
                                }
                            }
                            // a verdict ends the rule; without one it does not match
                            break;
                        }
                    }
                }
                Expression::Immediate { to, data } => match (to, data) {
                    (Target::Verdict, Data::Verdict(verdict)) => {
                        verdicts.push((so_far, verdict.clone()));
                        break;
                    }
                    (Target::Register(to), Data::Value(bytes)) => {
                        put(&mut registers, *to, Value::known("a value", bytes));
                        Truth::Yes
                    }
                    _ => Truth::Unknown,
                },
                Expression::Match {
                    name,
                    revision,
                    info,
                } => {
                    let truth = xt::matches(&self.view, name, *revision, info);
                    note(
                        &mut unknown,
                        truth,
                        &format!("the match {name} of iptables"),
                    )
                }
                Expression::Module { name, info } => {
                    verdicts.push((so_far, xt::target(name, info)));
                    break;
                }
                Expression::Ordinarily(holds) => Truth::of(*holds),
                Expression::Reject => {
                    verdicts.push((so_far, Verdict::Drop));
                    break;
                }
                Expression::Nat => {
                    verdicts.push((so_far, Verdict::Accept));
                    break;
                }
                Expression::Queue => {
                    verdicts.push((so_far, Verdict::Queue));
                    break;
                }
                Expression::Nothing | Expression::SetsMark => Truth::Yes,
                Expression::Other(name) => note(&mut unknown, Truth::Unknown, name),
                load => self.load(load, &mut registers),
            };
            so_far = so_far.and(condition);
            if so_far == Truth::No {
                verdicts.clear();
                break;
            }
        }
        verdicts.retain(|(truth, _)| *truth != Truth::No);
        Outcome { verdicts, unknown }
    }

    /// Loads something into a register; a packet that has no such thing does not match.
    fn load(&self, expression: &Expression, registers: &mut [Option<Value>]) -> Truth {
        let (value, to) = match expression {
            Expression::Meta { key, to } => (self.view.meta(*key), *to),
            Expression::Ct { key, direction, to } => (self.view.ct(*key, *direction), *to),
            Expression::Payload {
                base,
                offset,
                len,
                to,
            } => (self.view.payload(*base, *offset, *len), *to),
            Expression::Fib { fib, to } => (self.view.fib(*fib), *to),
            Expression::Unknown { what, to } => (Some(Value::unknown(what, 16)), *to),
            Expression::Bitwise { of, to, mask, xor } => {
                let value = value(registers, *of, mask.len());
                (Some(value.masked(mask, xor)), *to)
            }
            Expression::Byteorder { of, to, size, len } => {
                let value = value(registers, *of, *len);
                (Some(value.turned(*size)), *to)
            }
            _ => return Truth::Unknown,
        };
        match value {
            Some(value) => {
                put(registers, to, value);
                Truth::Yes
            }
            None => Truth::No,
        }
    }
}

fn note(unknown: &mut BTreeSet<String>, truth: Truth, what: &str) -> Truth {
    if truth == Truth::Unknown {
        unknown.insert(what.to_owned());
    }
    truth
}

fn compare(value: &Value, order: Order, with: &[u8]) -> Truth {
    match order {
        Order::Is => value.is(with),
        Order::IsNot => value.is(with).not(),
        Order::Less => value.compares(with, |o| o.is_lt()),
        Order::AtMost => value.compares(with, |o| o.is_le()),
        Order::More => value.compares(with, |o| o.is_gt()),
        Order::AtLeast => value.compares(with, |o| o.is_ge()),
    }
}

fn put(registers: &mut [Option<Value>], at: usize, value: Value) {
    let words = value.len().div_ceil(4).max(1);
    for word in registers.iter_mut().skip(at).take(words) {
        *word = None;
    }
    if let Some(word) = registers.get_mut(at) {
        *word = Some(value);
    }
}

/// What is in a register; nobody knows what was never put there.
fn value(registers: &[Option<Value>], at: usize, len: usize) -> Value {
    let found = registers.get(at).and_then(Clone::clone);
    found.unwrap_or_else(|| Value::unknown("a register", len))
}

/// The fields of a key, each with its offset: as many as the set's keys are long.
fn key(registers: &[Option<Value>], at: usize, set: &RulesetSet) -> Vec<(usize, Value)> {
    let len = set
        .elements
        .iter()
        .filter(|e| !e.catchall)
        .map(|e| e.key.len())
        .max()
        .unwrap_or(0)
        .max(1);
    let mut fields = Vec::new();
    let mut offset = 0;
    while offset < len {
        let value = value(registers, at + offset / 4, 4);
        let padded = value.len().next_multiple_of(4).max(4);
        fields.push((offset, value));
        offset += padded;
    }
    fields
}
