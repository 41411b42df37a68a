//! How a judgement ends: refused, with or without an answer, or passed and remembered.

use super::ir::*;
use super::{JUDGED, PASSED_MASK, REMEMBERED, REMEMBERED_MASK, record};
use crate::sets::{Family, SetId};

const PRIORITY: Load = Load::Meta(Meta::Priority);

/// Packets a second, and at once, that one sender is told about; the rest is dropped in silence.
const REFUSALS: Bucket = Bucket::a_second(100, 200);

/// Tells containers and the host at once; what comes from elsewhere is dropped in silence.
pub(super) fn refuse() -> Chain {
    let told = |f: Family, side: Option<Step>, name, key| {
        let mut steps = vec![family(f)];
        steps.extend(side);
        steps.push(Step::Meter {
            name,
            key: vec![key],
            bucket: REFUSALS,
        });
        steps.push(goto("answer"));
        Rule {
            steps,
            comment: None,
        }
    };
    let from_zone = || Step::In(vec![Load::Meta(Meta::Iifname)], SetId::Bridges);
    let from_host = || Step::Is(Load::Meta(Meta::Iif), Value::host32(0));
    chain(
        "refuse",
        vec![
            rule([
                Step::Masked(PRIORITY, REMEMBERED_MASK, REMEMBERED),
                Step::NotIn(vec![PRIORITY], SetId::Generation),
                Step::Count,
                Step::Drop,
            ])
            .because(
                "a batch came in between: it may have missed what is in force, and comes again",
            ),
            record::deny(),
            rule([
                Step::IsNot(Load::Meta(Meta::Iif), Value::host32(0)),
                Step::NotIn(vec![Load::Meta(Meta::Iifname)], SetId::Bridges),
                Step::Count,
                Step::Drop,
            ])
            .because("from the world: in silence"),
            told(Family::V4, None, "rate_refuse4", IP_SADDR),
            told(Family::V6, Some(from_zone()), "rate_refuse6", ETHER_SADDR)
                .because("by port: it may have many addresses"),
            told(
                Family::V6,
                Some(from_host()),
                "rate_refuse6_host",
                IP6_SADDR,
            ),
            rule([Step::Count, Step::Drop]).because("told often enough"),
        ],
    )
}

/// The answer of a refusal.
pub(super) fn answer() -> Chain {
    chain(
        "answer",
        vec![
            rule([l4proto(6), Step::Count, Step::Reject(Refusal::TcpReset)]),
            rule([Step::Count, Step::Reject(Refusal::AdminProhibited)]),
        ],
    )
}

/// Both sides pass: the verdict is remembered and the packet marked.
pub(super) fn pass() -> Chain {
    let ct_mark = Load::Ct(Ct::Mark);
    chain(
        "pass",
        vec![
            record::pass(),
            rule([
                Step::Is(ct_mark, Value::host32(0)),
                Step::CtMarkFromPriority,
            ]),
            rule([
                Step::Masked(ct_mark, PASSED_MASK, REMEMBERED),
                Step::CtMarkFromPriority,
            ]),
            rule([Step::Set(Meta::Priority, 0)]),
            rule([Step::Set(Meta::Mark, 0)]),
            rule([
                Step::IsNot(Load::Meta(Meta::Oif), Value::host32(0)),
                Step::Set(Meta::Mark, JUDGED),
            ]),
            rule([Step::Accept]),
        ],
    )
}
