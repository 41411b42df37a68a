//! Numbers of the kernel's netfilter interface: `linux/netfilter/nf_tables.h`, `nfnetlink.h`,
//! `nfnetlink_conntrack.h`, and nft's datatypes (`datatype.h`). Only those in use.

/// nfnetlink subsystem of nf_tables.
pub(super) const SUBSYS_NFTABLES: u16 = 10;
/// nfnetlink subsystem of conntrack.
pub(super) const SUBSYS_CTNETLINK: u16 = 1;

/// Version of nfnetlink's header.
pub(super) const NFNETLINK_V0: u8 = 0;

pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_BRIDGE: u8 = 7;

pub(super) const MSG_BATCH_BEGIN: u16 = 16;
pub(super) const MSG_BATCH_END: u16 = 17;

/// Multicast group of changes to nf_tables.
pub(super) const GROUP_NFTABLES: u32 = 7;

/// Message types of nf_tables.
pub(super) mod msg {
    pub(in super::super) const NEWTABLE: u16 = 0;
    pub(in super::super) const GETTABLE: u16 = 1;
    pub(in super::super) const DELTABLE: u16 = 2;
    pub(in super::super) const NEWCHAIN: u16 = 3;
    pub(in super::super) const GETCHAIN: u16 = 4;
    pub(in super::super) const DELCHAIN: u16 = 5;
    pub(in super::super) const NEWRULE: u16 = 6;
    pub(in super::super) const GETRULE: u16 = 7;
    pub(in super::super) const DELRULE: u16 = 8;
    pub(in super::super) const NEWSET: u16 = 9;
    pub(in super::super) const GETSET: u16 = 10;
    pub(in super::super) const DELSET: u16 = 11;
    pub(in super::super) const NEWSETELEM: u16 = 12;
    pub(in super::super) const GETSETELEM: u16 = 13;
    pub(in super::super) const DELSETELEM: u16 = 14;
    pub(in super::super) const NEWGEN: u16 = 15;
    /// As DELSETELEM, and no error where there is none (Linux 6.3).
    pub(in super::super) const DESTROYSETELEM: u16 = 30;
}

/// Flags of netlink messages.
pub(super) mod flag {
    pub(in super::super) const REQUEST: u16 = 1;
    pub(in super::super) const ACK: u16 = 4;
    pub(in super::super) const DUMP_INTR: u16 = 0x10;
    pub(in super::super) const DUMP: u16 = 0x300;
    pub(in super::super) const REPLACE: u16 = 0x100;
    pub(in super::super) const EXCL: u16 = 0x200;
    pub(in super::super) const CREATE: u16 = 0x400;
    pub(in super::super) const APPEND: u16 = 0x800;
}

pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_OWNER: u16 = 7;
/// The table belongs to the socket that made it: nobody else changes it (Linux 5.12).
pub(super) const TABLE_F_OWNER: u32 = 2;
/// The table outlives its owner, and can be taken over (Linux 6.9).
pub(super) const TABLE_F_PERSIST: u32 = 4;

pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_HOOKNUM: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;

pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_USERDATA: u16 = 7;

pub(super) const LIST_ELEM: u16 = 1;
pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;

pub(super) const SET_TABLE: u16 = 1;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LEN: u16 = 5;
pub(super) const SET_DATA_TYPE: u16 = 6;
pub(super) const SET_DATA_LEN: u16 = 7;
pub(super) const SET_DESC: u16 = 9;
pub(super) const SET_ID: u16 = 10;
pub(super) const SET_USERDATA: u16 = 13;
pub(super) const SET_EXPR: u16 = 17;
pub(super) const SET_DESC_SIZE: u16 = 1;
pub(super) const SET_DESC_CONCAT: u16 = 2;
pub(super) const SET_FIELD_LEN: u16 = 1;

pub(super) const SET_F_INTERVAL: u32 = 0x4;
pub(super) const SET_F_MAP: u32 = 0x8;
pub(super) const SET_F_TIMEOUT: u32 = 0x10;
pub(super) const SET_F_EVAL: u32 = 0x20;
pub(super) const SET_F_CONCAT: u32 = 0x80;

pub(super) const ELEM_LIST_TABLE: u16 = 1;
pub(super) const ELEM_LIST_SET: u16 = 2;
pub(super) const ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const ELEM_KEY: u16 = 1;
pub(super) const ELEM_DATA: u16 = 2;
pub(super) const ELEM_FLAGS: u16 = 3;
pub(super) const ELEM_TIMEOUT: u16 = 4;
pub(super) const ELEM_EXPR: u16 = 7;
pub(super) const ELEM_KEY_END: u16 = 10;
pub(super) const COUNTER_PACKETS: u16 = 2;
pub(super) const ELEM_F_INTERVAL_END: u32 = 1;

pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;
pub(super) const NF_DROP: i32 = 0;
pub(super) const NF_ACCEPT: i32 = 1;
pub(super) const NFT_JUMP: i32 = -3;
pub(super) const NFT_GOTO: i32 = -4;
pub(super) const NFT_RETURN: i32 = -5;

/// The verdict register.
pub(super) const REG_VERDICT: u32 = 0;
/// The first of sixteen registers of 4 bytes.
pub(super) const REG32_00: u32 = 8;

/// Numbers by which nft knows the types of keys. A concatenation holds 6 bits for each field.
pub(super) mod datatype {
    pub(in super::super) const NF_PROTO: u32 = 2;
    pub(in super::super) const INTEGER: u32 = 4;
    pub(in super::super) const IPADDR: u32 = 7;
    pub(in super::super) const IP6ADDR: u32 = 8;
    pub(in super::super) const ETHERADDR: u32 = 9;
    pub(in super::super) const INET_PROTOCOL: u32 = 12;
    pub(in super::super) const INET_SERVICE: u32 = 13;
    pub(in super::super) const MARK: u32 = 19;
    pub(in super::super) const IFINDEX: u32 = 20;
    pub(in super::super) const IFNAME: u32 = 41;
    pub(in super::super) const BITS: u32 = 6;
}

/// Userdata that nft writes beside rules and sets: type, length, value.
pub(super) const UDATA_RULE_COMMENT: u8 = 0;
pub(super) const UDATA_SET_KEYBYTEORDER: u8 = 0;
pub(super) const UDATA_SET_DATABYTEORDER: u8 = 1;
pub(super) const BYTEORDER_HOST: u32 = 1;
pub(super) const BYTEORDER_NETWORK: u32 = 2;
