//! Ears on ports whose machines' hardware addresses are not known: a virtual machine's tap has no other end to ask.
//!
//! The first frame by which the machine asks for an address tells it. The guard drops that frame; the machine asks
//! again. A packet socket on the port hears it before the bridge does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use rustix::net::RecvFlags;
use tokio::task::JoinHandle;
use zone::MacAddr;

use super::engine::Engine;

/// Listens on every silent port, as they come and go.
pub(super) async fn listen(engine: Rc<RefCell<Engine>>) {
    let news = engine.borrow().silent_news();
    let mut ears: HashMap<u32, JoinHandle<()>> = HashMap::new();
    loop {
        let silent = engine.borrow().silent_ports();
        ears.retain(|ifindex, ear| {
            let wanted = silent.contains(ifindex) && !ear.is_finished();
            if !wanted {
                ear.abort();
            }
            wanted
        });
        for ifindex in silent {
            ears.entry(ifindex)
                .or_insert_with(|| tokio::task::spawn_local(hear(engine.clone(), ifindex)));
        }
        news.notified().await;
    }
}

/// Ends with the first frame that tells.
async fn hear(engine: Rc<RefCell<Engine>>, ifindex: u32) {
    let mac = match first(ifindex).await {
        Ok(mac) => mac,
        Err(e) => {
            tracing::warn!(ifindex, error = %e, "listen on a port that was plugged in");
            return;
        }
    };
    // The ear is over once this returns, so that it can be asked for again.
    engine.borrow_mut().heard_stranger(ifindex, mac);
}

async fn first(ifindex: u32) -> std::io::Result<MacAddr> {
    let socket = super::sys::frame_sender()?;
    super::sys::hear_frames(socket.as_fd(), ifindex, &FILTER)?;
    let socket = super::sys::readable(socket)?;
    let mut header = [0u8; 14];
    loop {
        let mut ready = socket.readable().await?;
        match rustix::net::recv(ready.get_inner(), &mut header[..], RecvFlags::empty()) {
            Ok((length, _)) if length == header.len() => {
                let mut mac = [0; 6];
                mac.copy_from_slice(&header[6..12]);
                if MacAddr(mac).is_unicast() {
                    return Ok(MacAddr(mac));
                }
            }
            // down is what it may be for a while
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::NETDOWN) => {}
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(e) => return Err(e.into()),
        }
    }
}

/// DHCP to a server (whole, or the first fragment), DHCPv6 to a server, router solicitations.
const FILTER: [(u16, u8, u8, u32); 19] = {
    const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const LOAD_HALF_AT: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
    const LENGTH: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
    const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const ANY: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    [
        (LOAD_HALF, 0, 0, 12),
        (EQUALS, 0, 7, 0x0800),
        (LOAD_BYTE, 0, 0, 14 + 9),
        (EQUALS, 0, 14, 17),
        (LOAD_HALF, 0, 0, 14 + 6),
        (ANY, 12, 0, 0x1fff), // not the first fragment
        (LENGTH, 0, 0, 14),
        (LOAD_HALF_AT, 0, 0, 14 + 2),
        (EQUALS, 8, 9, 67),
        (EQUALS, 0, 8, 0x86dd),
        (LOAD_BYTE, 0, 0, 14 + 6),
        (EQUALS, 0, 2, 58),
        (LOAD_BYTE, 0, 0, 14 + 40),
        (EQUALS, 3, 4, 133),
        (EQUALS, 0, 3, 17),
        (LOAD_HALF, 0, 0, 14 + 40 + 2),
        (EQUALS, 0, 1, 547),
        (RETURN, 0, 0, 14),
        (RETURN, 0, 0, 0),
    ]
};
