//! The sockets of DNS: UDP and TCP on the gateways of each zone, and towards upstream.
//!
//! ```text
//! containers ── udp.rs ──┐                  ┌── upstream.rs ── resolvers of the host, of a zone, of a domain
//!               tcp.rs ──┴─► engine.query ──┤
//!                            (engine/names) └── timer: servers that do not answer
//! resolv.rs: which resolvers the host has
//! ```
//!
//! Each socket is bound to a gateway's address and to its bridge, so nobody outside the zone is heard, and answers come
//! from the address that was asked.

mod resolv;
mod tcp;
mod udp;
mod upstream;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use dns::{Message, Opens, Outcome, Progress, Reply, Transport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use zone::{IfName, ZoneName};

use super::engine::{Engine, ZoneEvent};
use super::sys::Datagrams;

pub(crate) use resolv::Watch as ResolvWatch;

/// Bytes of queries that wait for the resolver, as the kernel counts: some hundreds.
const BACKLOG: usize = 1024 * 1024;

/// The way back to a client.
#[derive(Debug, Clone)]
pub(crate) enum Back {
    /// A datagram from the socket that was asked.
    Udp(Rc<UdpSocket>, SocketAddr),
    /// The connection's queue.
    Tcp(mpsc::UnboundedSender<Vec<u8>>),
}

/// What all tasks of the resolver share.
pub(super) struct Context {
    engine: Rc<RefCell<Engine>>,
    /// The tasks that ask upstream, by question.
    asking: RefCell<HashMap<u64, Vec<AbortHandle>>>,
    /// Room that all sockets share, each in its turn.
    datagrams: RefCell<Datagrams>,
    /// Told when a deadline may have become earlier.
    asked: Notify,
}

/// Whoever serves the zones, with the sockets that are open.
pub(super) struct Service {
    context: Rc<Context>,
    changes: mpsc::UnboundedReceiver<ZoneEvent>,
    served: HashMap<ZoneName, (Place, JoinSet<()>)>,
}

impl Service {
    /// Listens in the zones that are up already, so that a daemon that is ready answers. Within a `LocalSet`.
    pub(super) async fn start(
        engine: Rc<RefCell<Engine>>,
        changes: mpsc::UnboundedReceiver<ZoneEvent>,
    ) -> Self {
        let context = Rc::new(Context {
            engine,
            asking: RefCell::default(),
            datagrams: RefCell::new(Datagrams::new()),
            asked: Notify::new(),
        });
        resolv::read(&context);
        let mut service = Self {
            context,
            changes,
            served: HashMap::new(),
        };
        while let Ok(change) = service.changes.try_recv() {
            service.follow(change).await;
        }
        service
    }

    /// Serves all zones: follows them, the time, and the host's resolvers.
    pub(super) async fn run(mut self) {
        tokio::task::spawn_local(upstream::keep_time(self.context.clone()));
        tokio::task::spawn_local(resolv::follow(self.context.clone()));
        while let Some(change) = self.changes.recv().await {
            self.follow(change).await;
        }
    }

    async fn follow(&mut self, change: ZoneEvent) {
        match change {
            ZoneEvent::Up {
                zone,
                bridge,
                ifindex,
            } => {
                let gateways = self.context.engine.borrow().gateways_of(&zone);
                let place = Place {
                    bridge,
                    ifindex,
                    gateways,
                };
                let same = |(at, tasks): &(Place, JoinSet<()>)| *at == place && !tasks.is_empty();
                if self.served.get(&zone).is_some_and(same) {
                    return;
                }
                // The old sockets first, and wholly: they may be bound to the same addresses.
                if let Some((_, mut tasks)) = self.served.remove(&zone) {
                    tasks.shutdown().await;
                }
                let tasks = listen(&self.context, &zone, &place);
                self.served.insert(zone, (place, tasks));
            }
            ZoneEvent::Down { zone } => {
                self.served.remove(&zone);
            }
        }
    }
}

/// Where a zone is served. A bridge that was made again has another index.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    bridge: IfName,
    ifindex: u32,
    gateways: Vec<IpAddr>,
}

/// Opens the sockets of a zone. What cannot be opened is a problem of the zone; the others serve.
fn listen(context: &Rc<Context>, zone: &ZoneName, place: &Place) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut wrong = None;
    for gateway in &place.gateways {
        let at = SocketAddr::new(*gateway, dns::PORT);
        match udp_socket(&place.bridge, at) {
            Ok(socket) => {
                tasks.spawn_local(udp::serve(context.clone(), zone.clone(), Rc::new(socket)));
            }
            Err(e) => wrong = Some(format!("udp {at}: {e}")),
        }
        match tcp_socket(&place.bridge, at) {
            Ok(socket) => {
                tasks.spawn_local(tcp::serve(context.clone(), zone.clone(), socket));
            }
            Err(e) => wrong = Some(format!("tcp {at}: {e}")),
        }
    }
    let subject = format!("DNS in zone {zone}");
    let message = wrong.map(|wrong| {
        format!(
            "{subject}: {wrong} (is another DNS server bound to port 53 of every interface? Make it listen where it is \
             needed, or set `dns` for the zone)"
        )
    });
    if let Some(message) = &message {
        tracing::error!("{message}");
    }
    context.engine.borrow_mut().problem(subject, message);
    tasks
}

fn bound(bridge: &IfName, at: SocketAddr, kind: SocketType) -> std::io::Result<OwnedFd> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    super::sys::bind_to_device(socket.as_fd(), bridge.as_str())?;
    // The address may be on its way still, or be put back in a moment.
    super::sys::bind_to_any_address(socket.as_fd(), at.is_ipv6())?;
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}

fn udp_socket(bridge: &IfName, at: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = bound(bridge, at, SocketType::DGRAM)?;
    // Bursts of a whole zone. What is more is dropped, and asked again.
    sockopt::set_socket_recv_buffer_size_force(&socket, BACKLOG)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

fn tcp_socket(bridge: &IfName, at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = bound(bridge, at, SocketType::STREAM)?;
    rustix::net::listen(&socket, 128)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

/// What became of a query.
#[derive(Debug)]
enum Heard {
    /// This is the answer; what it opens must be in force before it leaves.
    Answered(Message),
    /// It will be.
    Later,
    /// There is none.
    Never,
}

impl Context {
    /// A query came.
    fn query(
        self: &Rc<Self>,
        zone: &ZoneName,
        from: IpAddr,
        over: Transport,
        back: &Back,
        query: &[u8],
    ) -> Heard {
        let client = dns::Client {
            zone: zone.as_str(),
            address: from,
            over,
        };
        let outcome = self.engine.borrow_mut().query(client, back, query);
        match outcome {
            Outcome::Answer(message) => Heard::Answered(message),
            Outcome::Ask(query) => {
                upstream::ask(self, query);
                Heard::Later
            }
            Outcome::Wait => Heard::Later,
            Outcome::Ignore(silence) => {
                tracing::debug!(zone = %zone, from = %from, reason = %silence, "DNS message not answered");
                Heard::Never
            }
        }
    }

    /// Something became of a question. True when it is answered.
    fn progress(self: &Rc<Self>, progress: Progress<Back>) -> bool {
        match progress {
            Progress::Listen => false,
            Progress::Ask(query) => {
                upstream::ask(self, query);
                false
            }
            Progress::Done { flight, replies } => {
                let opens: Vec<Opens> = replies
                    .iter()
                    .filter_map(|reply| reply.message.opens.clone())
                    .collect();
                self.open(&opens);
                for Reply { to, message } in replies {
                    self.send(&to, message);
                }
                // The task that calls this may be among them; it ends where it waits next.
                let tasks = self.asking.borrow_mut().remove(&flight);
                for task in tasks.into_iter().flatten() {
                    task.abort();
                }
                true
            }
        }
    }

    /// Puts in force what answers open.
    fn open(&self, opens: &[Opens]) {
        if !opens.is_empty() {
            self.engine.borrow_mut().open_names(opens);
            // It ends, perhaps before anything else is due.
            self.asked.notify_one();
        }
    }

    /// Sends an answer to somebody who waited.
    fn send(&self, back: &Back, message: Message) {
        match back {
            // A full queue of the link drops it, as the link would; the client asks again.
            Back::Udp(socket, peer) => {
                if let Err(e) = socket.try_send_to(&message.bytes, *peer) {
                    tracing::debug!(to = %peer, error = %e, "send a DNS answer");
                }
            }
            // The connection may be gone.
            Back::Tcp(queue) => drop(queue.send(message.bytes)),
        }
    }
}
