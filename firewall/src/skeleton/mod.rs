//! The fixed skeleton of chains: what every packet goes through, as data.
//!
//! ```text
//! prerouting raw ─► nat ─► forward / input / output ─► judge4|6 ─┬─► eg4 (deny, class, allow) ─► refuse
//!  (no zone address       "is it zone traffic?"                  ├─► in4 (deny, class, allow) ─► refuse
//!   from elsewhere)                                              └─► pass (verdict remembered, packet marked)
//! bridge: guard (−350: is the sender who it says it is?)   bridge: forward (no bridge shortcut)
//! ```
//!
//! Policies are elements of the sets of [`crate::sets`]; an attach or an edit never adds a rule, so
//! the number of chains and rules is constant. One description ([`ir`]) is rendered three times: to
//! netlink (the feature `kernel`), to the `nftables` crate's schema ([`json`]), and to text
//! ([`text`]). The goldens under `tests/golden/` hold the text and the JSON; their diff is the
//! review of a change here.
//!
//! A packet is judged by the tuple of its connection, not by its header: the client is the original
//! source, the server the reply source (after destination translation). Both directions of a
//! connection, and errors about it, so get one verdict, and a tightened rule stops both at once.

mod condition;
pub mod element;
mod guard;
mod inet;
pub mod ir;
pub mod json;
mod judge;
mod lane;
mod record;
pub mod text;
mod verdict;

pub use element::element as render_element;
pub use json::render as render_nft_json;
pub use text::render as render_nft_text;

use crate::sets::{Limit, Table};
use ir::{Chain, TableSpec};

/// The name of both tables.
pub const TABLE: &str = "netd";

/// Packet mark of frames that the guard let in from a container's port. The gate in front of a
/// bridge drops what comes without it.
pub const GUARDED: u32 = 0x1000_0000;

/// Packet mark of packets that were accepted on their way to a zone. The gate behind a bridge drops
/// what comes without it; netd's own raw sockets set it with `SO_MARK`.
pub const JUDGED: u32 = 0x2000_0000;

/// Packet mark of what leaves the host by a zone's bridge, set by the gate behind it. The guard's output chain
/// drops it where it would go to a port that is not in its set. (The kernel's own way to know the bridge,
/// `meta obrname`, is missing in many.)
pub const FROM_BRIDGE: u32 = 0x4000_0000;

/// Top byte of conntrack marks in which netd remembers a verdict. Other marks are somebody else's
/// and are left alone: such connections are judged packet by packet.
pub const REMEMBERED: u32 = 0x6e00_0000;

/// The bits of a conntrack mark that hold [`REMEMBERED`]; the others hold the generation.
pub const REMEMBERED_MASK: u32 = 0xff00_0000;

/// Conntrack mark of a connection that was passed and is judged again with each packet: a conditional
/// rule had a part in it, and hours end. It is not counted again as a new one.
pub const COUNTED: u32 = 0x6f00_0000;

/// The bits of a conntrack mark in which [`REMEMBERED`] and [`COUNTED`] are the same: netd has passed
/// the connection before.
pub const PASSED_MASK: u32 = 0xfe00_0000;

/// Where connections of watched containers are told: an nflog group, by new connections that pass and
/// packets that are refused.
pub const LOG_GROUP: u16 = 28_260;

/// Bytes of a packet that are told: network and transport header.
pub const LOG_BYTES: u32 = 128;

/// What is said beside a new connection that passes.
pub const LOG_PASS: &str = "pass";

/// What is said beside a packet that is refused.
pub const LOG_DENY: &str = "deny";

/// The whole skeleton: the two tables with their chains and meters, in the order of installation.
/// (Sets are listed by [`crate::sets::SetId::all`].)
pub fn tables() -> Vec<TableSpec> {
    vec![
        TableSpec {
            table: Table::Inet,
            chains: inet::chains(),
            meters: inet::meters(),
        },
        TableSpec {
            table: Table::Bridge,
            chains: guard::chains(),
            meters: guard::meters(),
        },
    ]
}

/// Leaves out what a kernel cannot take that does not tell rules of bridges (`CONFIG_NFT_BRIDGE_META`). There, daemon and
/// keeper isolate new ports, and the rule is only what makes that need nobody.
pub fn without_bridge_names(tables: &mut [TableSpec]) {
    let chains = tables.iter_mut().flat_map(|table| &mut table.chains);
    for chain in chains {
        chain.rules.retain(|rule| {
            let asks = |load: &ir::Load| *load == ir::Load::Meta(ir::Meta::Ibrname);
            !rule
                .steps
                .iter()
                .any(|step| matches!(step, ir::Step::In(loads, _) if loads.iter().any(asks)))
        });
    }
}

/// Puts the limits in use into the chains that hold them: the only rules that follow from policies.
pub fn set_limits(tables: &mut [TableSpec], limits: &[(u32, Limit)]) -> Vec<Chain> {
    let chains = condition::with_limits(limits);
    for table in tables.iter_mut().filter(|t| t.table == Table::Inet) {
        for chain in &mut table.chains {
            if let Some(new) = chains.iter().find(|new| new.name == chain.name) {
                chain.clone_from(new);
            }
        }
    }
    chains
}

#[cfg(test)]
mod tests;
