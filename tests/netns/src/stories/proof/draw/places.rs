//! Where everything is: addresses of the host and of the world, and the ports that anybody asks for.
//!
//! Few of each, so that worlds and rules meet often. Service ports are below [`FIRST_KEY`], and so are those
//! that the host publishes: above it are the ports that clients ask from.

use std::net::IpAddr;

/// The host, outside of its zones.
pub const HOST: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];

/// Addresses of the world. Files name networks with the first four in them.
pub const WORLD: [&str; 8] = [
    "198.51.100.7",
    "2001:db8:7::7",
    "198.51.100.8",
    "2001:db8:7::8",
    "192.0.2.2",
    "2001:db8:1::2",
    NOWHERE[0],
    NOWHERE[1],
];

/// Addresses of the world that no file names, but for `0.0.0.0/0` and `::/0`.
pub const NOWHERE: [&str; 2] = ["203.0.113.9", "2001:db8:9::9"];

/// Link-local, answered outside: no part of the world, reached only where a network names it.
pub const METADATA: &str = "169.254.169.254";

/// Smallest port that clients ask from.
pub const FIRST_KEY: u16 = 10_000;

/// Ports that the host publishes, and those beside them.
pub const DOORS: std::ops::Range<u16> = 2000..5000;

/// What rules are about.
pub const PORTS: [&str; 18] = [
    "tcp/80",
    "tcp/80",
    "tcp/79-81",
    "tcp/1-79",
    "tcp/81-65535",
    "tcp/*",
    "tcp/443",
    "tcp/8000-8003",
    "udp/53",
    "udp/1-1000",
    "udp/*",
    "udp/5353-5355",
    "icmp/echo-request",
    "icmp/*",
    "icmp/timestamp-request",
    "proto/253",
    "gre",
    "sctp/80",
];

/// Every port of TCP at which some rule begins or ends, and its neighbours: everybody answers there.
pub const TCP: [u16; 15] = [
    1, 53, 78, 79, 80, 81, 82, 442, 443, 444, 7999, 8000, 8003, 8004, 65535,
];

/// The same of UDP.
pub const UDP: [u16; 11] = [1, 52, 53, 54, 1000, 1001, 5352, 5353, 5355, 5356, 65535];

/// A protocol without ports (RFC 3692: for experiments).
pub const BARE: u8 = 253;

/// Another address of whoever has this one, where it has a prefix.
pub fn another(main: IpAddr) -> Option<IpAddr> {
    match main {
        IpAddr::V6(main) => {
            let prefix = u128::from(main) >> 64 << 64;
            Some(IpAddr::V6((prefix | 0x5a5a << 48 | 9).into()))
        }
        IpAddr::V4(_) => None,
    }
}

/// The address that a text of this file stands for.
pub fn address(text: &str) -> IpAddr {
    match text.parse() {
        Ok(address) => address,
        Err(error) => panic!("{text}: {error}"),
    }
}
