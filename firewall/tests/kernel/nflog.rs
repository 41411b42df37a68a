//! What the kernel logs is heard, and what it had no room for is counted.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use firewall::kernel::Nflog;
use firewall::kernel::nflog::Heard;
use firewall::model::Traffic;
use firewall::packet::{Carries, Hook};
use firewall::sets::Action;
use firewall::skeleton::LOG_GROUP;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::{bare_host, privileged, sh};

const RULES: &str = "nft -f - <<'X'\n\
    table inet t {\n\
      chain out {\n\
        type filter hook output priority 0;\n\
        udp dport 7 log prefix \"pass\" group 28260 snaplen 128\n\
        udp dport 9 log prefix \"deny\" group 28260 snaplen 128 drop\n\
        icmpv6 type echo-request log prefix \"pass\" group 28260 snaplen 128\n\
      }\n\
      chain in {\n\
        type filter hook input priority 0;\n\
        udp dport 8 log prefix \"pass\" group 28260 snaplen 128\n\
        udp dport 10 log prefix \"who knows\" group 28260 snaplen 128\n\
      }\n\
    }\nX";

/// Hears until so many packets were told of, lost or not.
fn hear(nflog: &mut Nflog, count: u64) -> Heard {
    let mut all = Heard::default();
    while all.packets.len() as u64 + all.lost + all.unread < count {
        let wait = Timespec::try_from(Duration::from_secs(5)).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(nflog.as_fd(), PollFlags::IN)];
        assert_eq!(
            poll(&mut fds, Some(&wait)).unwrap(),
            1,
            "nothing comes: {all:?}"
        );
        let heard = nflog.drain(100).unwrap();
        all.packets.extend(heard.packets);
        all.lost += heard.lost;
        all.unread += heard.unread;
    }
    all
}

#[test]
fn packets_are_heard_with_hook_and_headers() {
    if !privileged() {
        return;
    }
    bare_host();
    sh(RULES);
    let before = SystemTime::now();
    let mut nflog = Nflog::open(LOG_GROUP).unwrap();
    // Another listener is told so, and the first one goes on.
    let second = Nflog::open(LOG_GROUP).unwrap_err();
    assert!(second.to_string().contains("not permitted"), "{second}");
    let socket = UdpSocket::bind("127.0.0.1:5000").unwrap();
    for port in [7, 8, 10] {
        socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
    }
    assert!(socket.send_to(b"x", ("127.0.0.1", 9)).is_err(), "dropped");
    sh("ping -n -c 1 ::1");
    let heard = hear(&mut nflog, 5);
    let told: Vec<_> = heard
        .packets
        .iter()
        .map(|p| (p.verdict, p.hook, p.packet.traffic().unwrap()))
        .collect();
    let udp = |port| Traffic::Port(17, port);
    assert_eq!(
        told,
        [
            (Action::Allow, Hook::Output, udp(7)),
            (Action::Allow, Hook::Input, udp(8)),
            (Action::Deny, Hook::Output, udp(9)),
            (Action::Allow, Hook::Output, Traffic::Icmp(8)),
        ]
    );
    assert_eq!((heard.lost, heard.unread), (0, 1), "one prefix is not ours");
    let first = &heard.packets[0];
    assert_eq!((first.iif, first.oif.is_some()), (None, true));
    assert_eq!(heard.packets[1].iif, first.oif);
    let ports = |source, port| Carries::Ports {
        proto: 17,
        source,
        port,
    };
    assert_eq!(first.packet.carries, ports(5000, 7));
    assert_eq!(first.packet.to.to_string(), "127.0.0.1");
    assert_eq!(heard.packets[3].packet.from.to_string(), "::1");
    for packet in &heard.packets {
        let in_time = |time| time >= before - Duration::from_secs(1) && time <= SystemTime::now();
        assert!(packet.time.is_none_or(in_time), "{packet:?}");
    }
}

#[test]
fn a_flood_loses_records_and_no_packets() {
    const FLOOD: u64 = 100_000;
    if !privileged() {
        return;
    }
    bare_host();
    sh(RULES);
    let mut nflog = Nflog::open(LOG_GROUP).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Nobody listens on the port: every second call may report that. The packets go out all the same.
    for _ in 0..FLOOD {
        let _ = socket.send_to(b"x", ("127.0.0.1", 7));
    }
    // What is lost shows with the next packet that is heard.
    let mut all = Heard::default();
    while all.packets.len() as u64 + all.lost < FLOOD {
        socket.send_to(b"x", ("127.0.0.1", 7)).ok();
        let wait = Timespec::try_from(Duration::from_secs(5)).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(nflog.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&wait)).unwrap(), 1);
        let heard = nflog.drain(usize::MAX).unwrap();
        all.packets.extend(heard.packets);
        all.lost += heard.lost;
    }
    assert!(
        all.lost > 0,
        "the queue held everything: {}",
        all.packets.len()
    );
    println!(
        "measured: {} of {FLOOD} heard, {} lost",
        all.packets.len(),
        all.lost
    );
}
