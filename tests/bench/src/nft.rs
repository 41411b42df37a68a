//! One table with one set, and its elements: the least that an attach tells a firewall.
//! Layouts: `linux/netfilter/nf_tables.h`.

use std::net::Ipv4Addr;

use libc::{NLM_F_CREATE, NLM_F_EXCL};

use crate::error::Result;
use crate::wire::{Batch, Socket};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
/// `NFNL_MSG_BATCH_BEGIN` and its end.
const BEGIN: u16 = 16;
const END: u16 = 17;
/// `NFPROTO_INET`.
const INET: u8 = 1;
const TABLE: &str = "floor";
const SET: &str = "own";

/// struct nfgenmsg of a transaction's marks: any family, version 0, for nf_tables.
const MARK: [u8; 4] = [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8];

/// The set, and the warm socket that fills it.
pub(crate) struct Set {
    socket: Socket,
}

impl Set {
    /// Makes the table and the set in the calling thread's network namespace.
    pub(crate) fn create() -> Result<Self> {
        let mut socket = Socket::netfilter()?;
        let batch = begin()
            .message(NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, |b| {
                b.raw(&[INET, 0, 0, 0]);
                b.text(1, TABLE);
            })
            .message(NEW_SET, NLM_F_CREATE | NLM_F_EXCL, |b| {
                b.raw(&[INET, 0, 0, 0]);
                b.text(1, TABLE);
                b.text(2, SET);
                b.network_number(3, 0); // flags
                b.network_number(4, 7); // key type, told to user space only: ipv4_addr
                b.network_number(5, 4); // key length
                b.network_number(10, 1); // id within the transaction
            });
        socket.send("make the floor's nft set", end(batch))?;
        Ok(Self { socket })
    }

    /// Adds an address.
    pub(crate) fn add(&mut self, address: Ipv4Addr) -> Result<()> {
        let batch = element(NEW_ELEMENT, NLM_F_CREATE | NLM_F_EXCL, address);
        self.socket.send("add an nft element", end(batch))
    }

    /// Removes an address.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) -> Result<()> {
        let batch = element(DELETE_ELEMENT, 0, address);
        self.socket.send("remove an nft element", end(batch))
    }
}

fn begin() -> Batch {
    Batch::default().message(BEGIN, 0, |b| b.raw(&MARK))
}

/// The end mark is never acknowledged: the message before it is.
fn end(batch: Batch) -> Batch {
    batch.acknowledged().message(END, 0, |b| b.raw(&MARK))
}

fn element(kind: u16, flags: i32, address: Ipv4Addr) -> Batch {
    begin().message(kind, flags, |b| {
        b.raw(&[INET, 0, 0, 0]);
        b.text(1, TABLE);
        b.text(2, SET);
        // list of elements → element → key → value
        b.nest(3, |b| {
            b.nest(1, |b| {
                b.nest(1, |b| b.attr(1, &address.octets()));
            });
        });
    })
}
