//! [`Step`] and bridge settings → netlink messages.

use std::net::IpAddr;
use std::os::fd::RawFd;

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoData, InfoKind,
    InfoVeth, LinkAttribute, LinkExtentMask, LinkMessage, LinkProtoInfoBridge, Prop,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Route};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

use super::socket::Request;
use super::wire::PortFlags;
use crate::alloc::Zone;
use crate::name::{IfName, MacAddr};
use crate::plan::Step;

/// Index of `lo` in every network namespace (LOOPBACK_IFINDEX, net/core/dev.c).
const LOOPBACK: u32 = 1;
/// The table that everything goes by (linux/rtnetlink.h).
const RT_TABLE_MAIN: u32 = 254;
/// Where rules by source stand inside containers: before the main table's (32766).
const RULES: u32 = 32_000;
/// The table of the host's own addresses (linux/rtnetlink.h).
const RT_TABLE_LOCAL: u32 = 255;
/// Who made a route, as routes say of themselves (`rtm_protocol`): those to prefixes of containers are ours. A number
/// that iproute2's rt_protos and linux/rtnetlink.h leave free.
pub(super) const ROUTES: u8 = 110;
const IFLA_INET_CONF: u16 = 1;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_ALT_IFNAME: u16 = 53;
const NLA_F_NESTED: u16 = 0x8000;

/// Settings of `struct ipv4_devconf` (linux/ip.h) that a netlink message can carry.
pub(super) mod devconf {
    pub(in crate::kernel) const FORWARDING: u16 = 1;
    pub(in crate::kernel) const ACCEPT_REDIRECTS: u16 = 4;
    pub(in crate::kernel) const SEND_REDIRECTS: u16 = 6;
    pub(in crate::kernel) const RP_FILTER: u16 = 8;
    pub(in crate::kernel) const ARP_IGNORE: u16 = 19;
    pub(in crate::kernel) const PROXY_ARP_PVLAN: u16 = 25;
    pub(in crate::kernel) const ROUTE_LOCALNET: u16 = 26;
    pub(in crate::kernel) const DROP_UNICAST_IN_L2_MULTICAST: u16 = 30;
}

/// Frames to reserved multicast addresses (01:80:c2:00:00:0x) are by default not bridged but handed to
/// the host's stack as received on the port, some of them past every netfilter hook of the bridge
/// (`br_handle_frame`). With this mask (all but pause frames, which are dropped) they go the way of every other
/// frame: through the guard, and to no isolated port.
const ALL_RESERVED: u16 = 0xfffd;

/// The host end is a port and nothing else. When somebody deletes a bridge, its ports become ordinary
/// interfaces of the host. So: answer no ARP (8), take no packet whose source is not routed out of
/// this very interface (1, strict: none is), nor any unicast packet in a multicast frame, and
/// forward nothing.
const HOST_END: [(u16, u32); 5] = [
    (devconf::FORWARDING, 0),
    (devconf::RP_FILTER, 1),
    (devconf::ARP_IGNORE, 8),
    (devconf::ACCEPT_REDIRECTS, 0),
    (devconf::DROP_UNICAST_IN_L2_MULTICAST, 1),
];

/// The bridge answers ARP for its whole zone, sends and takes no redirects, and lets ports published
/// on 127.0.0.1 reach it.
const BRIDGE: [(u16, u32); 4] = [
    (devconf::PROXY_ARP_PVLAN, 1),
    (devconf::SEND_REDIRECTS, 0),
    (devconf::ACCEPT_REDIRECTS, 0),
    (devconf::ROUTE_LOCALNET, 1),
];

/// IFLA_BRPORT_* of linux/if_link.h
mod brport {
    pub(super) const LEARNING: u16 = 8;
    pub(super) const UNICAST_FLOOD: u16 = 9;
    pub(super) const FLUSH: u16 = 24;
    pub(super) const GROUP_FWD_MASK: u16 = 31;
    pub(super) const ISOLATED: u16 = 33;
    pub(super) const LOCKED: u16 = 39;
}

fn add(message: Route) -> Request {
    Request {
        message,
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

pub(super) fn put(message: Route) -> Request {
    Request {
        message,
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

fn change(message: Route) -> Request {
    Request { message, flags: 0 }
}

/// IFLA_AF_SPEC with IPv4 settings, and no link-local IPv6 address made by the kernel.
fn protocols(settings: &[(u16, u32)]) -> LinkAttribute {
    let entries: Vec<DefaultNla> = settings
        .iter()
        .map(|(kind, value)| DefaultNla::new(*kind, value.to_ne_bytes().to_vec()))
        .collect();
    let mut bytes = vec![0; entries.as_slice().buffer_len()];
    entries.as_slice().emit(&mut bytes);
    let conf = DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, bytes);
    LinkAttribute::AfSpecUnspec(vec![
        AfSpecUnspec::Inet(vec![AfSpecInet::Other(conf)]),
        AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]),
    ])
}

fn flags(index: u32, up: bool) -> LinkMessage {
    let builder = LinkUnspec::new_with_index(index);
    if up { builder.up() } else { builder.down() }.build()
}

/// What a step is done to. Fields that a step does not need may be zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// Index of the link the step is about, in the socket's namespace.
    pub(super) index: u32,
    /// Index of the bridge.
    pub(super) bridge: u32,
    /// The container's namespace.
    pub(super) netns: RawFd,
}

/// The message that performs a step; none for steps that are no netlink messages.
pub(super) fn step(step: &Step, target: Target) -> Option<Request> {
    let index = target.index;
    Some(match step {
        Step::AddVeth {
            host,
            host_mac,
            inside,
            mac,
            mtu,
            ..
        } => {
            let one_queue = |mut message: LinkMessage| {
                // 1 + 1 queues instead of one for each processor: 100 µs less
                message.attributes.push(LinkAttribute::NumTxQueues(1));
                message.attributes.push(LinkAttribute::NumRxQueues(1));
                message
            };
            let peer = LinkMessageBuilder::<LinkUnspec>::new()
                .name(inside.as_str())
                .address(mac.0.to_vec())
                .mtu(*mtu)
                .setns_by_fd(target.netns);
            let veth = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
                .name(host.as_str())
                .address(host_mac.0.to_vec())
                .mtu(*mtu)
                .controller(target.bridge)
                .set_info_data(InfoData::Veth(InfoVeth::Peer(one_queue(peer.build()))));
            add(Route::NewLink(one_queue(veth.build())))
        }
        Step::DisableIpv6 { .. } => return None,
        Step::GuardPort { .. } => guard_port(index),
        Step::RaiseHostEnd { alias, .. } => raise_host_end(index, alias.as_deref()),
        Step::AddFdb { mac, .. } => fdb(index, *mac),
        Step::AddNeighbour { mac, .. } => neighbour(target.bridge, *mac),
        Step::DeleteNeighbour { mac, .. } => {
            delete_neighbour(target.bridge, mac.link_local().into())
        }
        Step::AddPrefix { mac, prefix, .. } => prefix_route(target.bridge, *mac, *prefix),
        Step::DeletePrefix { mac, prefix, .. } => delete_prefix_route(target.bridge, *mac, *prefix),
        Step::AddAltname { altname, .. } => altname_of(index, altname),
        Step::DeleteLink { host } => delete(host),
        Step::LoopbackUp => change(Route::SetLink(flags(LOOPBACK, true))),
        Step::LinkUp { .. } => change(Route::SetLink(flags(index, true))),
        Step::LinkDown { .. } => change(Route::SetLink(flags(index, false))),
        Step::AddAddress { address, .. } => {
            add(Route::NewAddress(address_message(index, *address)))
        }
        Step::DeleteAddress { address, .. } => {
            change(Route::DelAddress(address_message(index, *address)))
        }
        Step::AddDefaultRoute { gateway, place, .. } => {
            let mut route = match gateway {
                IpAddr::V4(gateway) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                    .gateway(*gateway)
                    .output_interface(index)
                    .build(),
                IpAddr::V6(gateway) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                    .gateway(*gateway)
                    .output_interface(index)
                    .build(),
            };
            if let Some(metric) = metric(gateway, *place) {
                let metric = RouteAttribute::Priority(metric);
                route.attributes.push(metric);
            }
            add(Route::NewRoute(route))
        }
        Step::AddRoute {
            destination,
            gateway,
            table,
            ..
        } => put(Route::NewRoute(route(
            index,
            *destination,
            *gateway,
            *table,
        ))),
        Step::AddRule { source, table } => add(Route::NewRule(rule(*source, *table))),
        Step::DeleteRule { source, table } => change(Route::DelRule(rule(*source, *table))),
    })
}

/// Default routes of further networks come behind the first one's, which has what the kernel gives a route that says
/// nothing: 0, and 1024 for IPv6 (`IP6_RT_PRIO_USER`).
fn metric(gateway: &IpAddr, place: u8) -> Option<u32> {
    let first = if gateway.is_ipv4() { 0 } else { 1024 };
    (place > 0).then(|| first + 100 * u32::from(place))
}

fn route(
    index: u32,
    destination: IpNet,
    gateway: Option<IpAddr>,
    table: Option<u32>,
) -> RouteMessage {
    let table = table.unwrap_or(RT_TABLE_MAIN);
    match destination {
        IpNet::V4(net) => {
            let builder = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .output_interface(index)
                .table_id(table);
            match gateway {
                Some(IpAddr::V4(gateway)) => builder.gateway(gateway).build(),
                _ => builder.scope(RouteScope::Link).build(),
            }
        }
        IpNet::V6(net) => {
            let builder = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .output_interface(index)
                .table_id(table);
            match gateway {
                Some(IpAddr::V6(gateway)) => builder.gateway(gateway).build(),
                _ => builder.build(),
            }
        }
    }
}

fn rule(source: IpNet, table: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match source {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.src_len = source.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.attributes.extend([
        RuleAttribute::Source(source.network()),
        RuleAttribute::Priority(RULES),
        RuleAttribute::Table(table),
    ]);
    message
}

/// Flags of a bridge port. As a message of the bridge family: a third of the time that the same
/// flags take as IFLA_INFO_SLAVE_DATA, which notifies everybody of a changed link.
pub(super) fn guard_port(index: u32) -> Request {
    port(index, PortFlags::GUARDED, ALL_RESERVED)
}

/// As the kernel has ports that nobody set up.
pub(super) fn ordinary_port(index: u32) -> Request {
    let ordinary = PortFlags {
        isolated: false,
        locked: false,
        learning: true,
        flood: true,
    };
    port(index, ordinary, 0)
}

fn port(index: u32, wanted: PortFlags, reserved: u16) -> Request {
    let flag =
        |kind: u16, on: bool| LinkProtoInfoBridge::Other(DefaultNla::new(kind, vec![on.into()]));
    let mut message = LinkUnspec::new_with_index(index).build();
    message.header.interface_family = AddressFamily::Bridge;
    message.attributes.push(LinkAttribute::ProtoInfoBridge(vec![
        flag(brport::ISOLATED, wanted.isolated),
        flag(brport::LOCKED, wanted.locked),
        flag(brport::LEARNING, wanted.learning),
        flag(brport::UNICAST_FLOOD, wanted.flood),
        LinkProtoInfoBridge::Other(DefaultNla::new(
            brport::GROUP_FWD_MASK,
            reserved.to_ne_bytes().to_vec(),
        )),
    ]));
    change(Route::SetLink(message))
}

/// Forgets what a port has taught the FDB; static entries stay.
pub(super) fn flush_port(index: u32) -> Request {
    let mut message = LinkUnspec::new_with_index(index).build();
    message.header.interface_family = AddressFamily::Bridge;
    let flush = LinkProtoInfoBridge::Other(DefaultNla::new(brport::FLUSH, Vec::new()));
    let attribute = LinkAttribute::ProtoInfoBridge(vec![flush]);
    message.attributes.push(attribute);
    change(Route::SetLink(message))
}

/// What [`HOST_END`] says.
pub(super) fn quiet_host_end(index: u32) -> Request {
    let builder = LinkUnspec::new_with_index(index).append_extra_attribute(protocols(&HOST_END));
    change(Route::SetLink(builder.build()))
}

/// The same for one that is new, which comes up with it.
fn raise_host_end(index: u32, alias: Option<&str>) -> Request {
    let builder = LinkUnspec::new_with_index(index).up();
    let mut builder = builder.append_extra_attribute(protocols(&HOST_END));
    if let Some(alias) = alias {
        builder = builder.alias(alias);
    }
    change(Route::SetLink(builder.build()))
}

/// A static entry: it neither ages nor moves to another port. (Not a `permanent` one: those are
/// addresses of the host itself.)
pub(super) fn fdb(index: u32, mac: MacAddr) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    put(Route::NewNeighbour(message))
}

/// A permanent neighbour: it is neither asked for nor counted among those that are (`neigh_alloc`).
pub(super) fn neighbour(index: u32, mac: MacAddr) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.extend([
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(mac.link_local())),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ]);
    put(Route::NewNeighbour(message))
}

/// Replaces what somebody else may have put there.
fn prefix_route(index: u32, mac: MacAddr, prefix: Ipv6Net) -> Request {
    put(Route::NewRoute(prefix_message(index, mac, prefix)))
}

/// Only the one that leads there.
pub(super) fn delete_prefix_route(index: u32, mac: MacAddr, prefix: Ipv6Net) -> Request {
    change(Route::DelRoute(prefix_message(index, mac, prefix)))
}

fn prefix_message(index: u32, mac: MacAddr, prefix: Ipv6Net) -> RouteMessage {
    RouteMessageBuilder::<std::net::Ipv6Addr>::new()
        .destination_prefix(prefix.network(), prefix.prefix_len())
        .gateway(mac.link_local())
        .output_interface(index)
        .protocol(RouteProtocol::Other(ROUTES))
        .build()
}

pub(super) fn delete_neighbour(index: u32, address: IpAddr) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index;
    let (family, address) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address));
    change(Route::DelNeighbour(message))
}

pub(super) fn altname_of(index: u32, altname: &str) -> Request {
    let prop = LinkAttribute::PropList(vec![Prop::AltIfName(altname.to_owned())]);
    let message = LinkUnspec::new_with_index(index).append_extra_attribute(prop);
    add(Route::NewLinkProp(message.build()))
}

pub(super) fn delete(name: &IfName) -> Request {
    let message = LinkUnspec::new_with_name(name.as_str()).build();
    change(Route::DelLink(message))
}

/// Every link of a group, at once.
pub(super) fn delete_group(group: u32) -> Request {
    let message = LinkMessageBuilder::<LinkUnspec>::new().link_group(group);
    change(Route::DelLink(message.build()))
}

/// Into a group.
pub(super) fn regroup(index: u32, group: u32) -> Request {
    let message = LinkUnspec::new_with_index(index).link_group(group);
    change(Route::SetLink(message.build()))
}

/// Down, and into a group.
pub(super) fn close(index: u32, group: u32) -> Request {
    let message = LinkUnspec::new_with_index(index).down().link_group(group);
    change(Route::SetLink(message.build()))
}

pub(super) fn up(index: u32) -> Request {
    change(Route::SetLink(flags(index, true)))
}

pub(super) fn down(index: u32) -> Request {
    change(Route::SetLink(flags(index, false)))
}

pub(super) fn enslave(index: u32, bridge: u32) -> Request {
    let message = LinkUnspec::new_with_index(index).controller(bridge);
    change(Route::SetLink(message.build()))
}

/// A bridge that does not exist yet, down.
pub(super) fn add_bridge(zone: &Zone) -> Request {
    let message = bridge_settings(
        LinkMessageBuilder::<LinkBridge>::new(zone.bridge.as_str()),
        zone,
    );
    add(Route::NewLink(message))
}

/// The settings of [`add_bridge`] for one that exists. STP first and alone: while it is on, the kernel
/// refuses a forward delay of 0.
pub(super) fn set_bridge(index: u32, zone: &Zone) -> [Request; 2] {
    let builder =
        || LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge).index(index);
    let no_stp = builder().stp_state(BridgeStpState::Disabled).build();
    [
        change(Route::NewLink(no_stp)),
        change(Route::NewLink(bridge_settings(builder(), zone))),
    ]
}

fn bridge_settings(builder: LinkMessageBuilder<LinkBridge>, zone: &Zone) -> LinkMessage {
    builder
        .address(zone.mac.0.to_vec())
        .mtu(zone.mtu)
        .stp_state(BridgeStpState::Disabled)
        .forward_delay(0)
        .mcast_snooping(false)
        .build()
}

/// IPv4 settings of a bridge that exists; with IPv6 addresses as given, not as the kernel makes them.
pub(super) fn bridge_protocols(index: u32) -> Request {
    let message = LinkUnspec::new_with_index(index).append_extra_attribute(protocols(&BRIDGE));
    change(Route::SetLink(message.build()))
}

/// What `route_localnet` is for 127.0.0.0/8: replies that conntrack leads back to `::1` are looked for on
/// the interface they come in by (`rt6_need_strict`), and without this route there is no `::1` on the
/// bridge. Packets that say `::1` on the wire are dropped before any route is looked for (`ip6_rcv_core`).
///
/// Each bridge has one, so: not instead of another's. One that is there already is refused (EEXIST).
pub(super) fn localnet6(index: u32) -> Request {
    let message = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
        .destination_prefix(std::net::Ipv6Addr::LOCALHOST, 128)
        .output_interface(index)
        .table_id(RT_TABLE_LOCAL)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .build();
    Request {
        message: Route::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_APPEND,
    }
}

/// Puts an address where it may be already.
pub(super) fn put_address(index: u32, address: IpNet) -> Request {
    put(Route::NewAddress(address_message(index, address)))
}

pub(super) fn delete_address(index: u32, address: IpNet) -> Request {
    change(Route::DelAddress(address_message(index, address)))
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    match address {
        IpNet::V4(net) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => {
            let mut message = AddressMessageBuilder::<std::net::Ipv6Addr>::new()
                .index(index)
                .address(net.addr(), net.prefix_len())
                .build();
            let no_dad = AddressAttribute::Flags(AddressFlags::Nodad);
            message.attributes.push(no_dad);
            message
        }
    }
}

/// Asks for one link.
pub(super) fn get_link(name: &IfName) -> Route {
    let mut message = LinkUnspec::new_with_name(name.as_str()).build();
    message.attributes.push(no_statistics());
    Route::GetLink(message)
}

/// Asks for one link by its alternative name.
pub(super) fn get_link_called(altname: &str) -> Route {
    let mut name = altname.as_bytes().to_vec();
    name.push(0);
    let mut message = LinkMessage::default();
    let name = DefaultNla::new(IFLA_ALT_IFNAME, name);
    message.attributes.push(LinkAttribute::Other(name));
    message.attributes.push(no_statistics());
    Route::GetLink(message)
}

/// Asks for one link by index.
pub(super) fn get_link_at(index: u32) -> Route {
    let mut message = LinkUnspec::new_with_index(index).build();
    message.attributes.push(no_statistics());
    Route::GetLink(message)
}

/// Asks for one link by index in another namespace, which goes by our number for it.
pub(super) fn get_link_in(netns: u32, index: u32) -> Route {
    let mut message = LinkUnspec::new_with_index(index).build();
    let target = DefaultNla::new(IFLA_TARGET_NETNSID, netns.to_ne_bytes().to_vec());
    message.attributes.push(LinkAttribute::Other(target));
    message.attributes.push(no_statistics());
    Route::GetLink(message)
}

/// Asks for all links.
pub(super) fn get_links() -> Route {
    let mut message = LinkMessage::default();
    message.attributes.push(no_statistics());
    Route::GetLink(message)
}

/// Asks for the ports of a bridge.
pub(super) fn get_ports(bridge: u32) -> Route {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Controller(bridge));
    message.attributes.push(no_statistics());
    Route::GetLink(message)
}

fn no_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// Asks for all addresses, or those of one link.
pub(super) fn get_addresses(index: u32) -> Route {
    let mut message = AddressMessage::default();
    message.header.index = index;
    Route::GetAddress(message)
}
