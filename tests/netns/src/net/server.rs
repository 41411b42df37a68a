//! What runs inside a container: a process that answers on the asked ports, v4 and v6, telling who it is and
//! whom it sees: `NAME PEER\n`, then it echoes.
//!
//! It is this same binary, started again with `--serve NAME tcp/80 udp/53…`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};

use super::netns::Netns;

/// A running server process; dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts one in a namespace; returns once all its ports are open.
    pub fn start(netns: &Netns, name: &str, ports: &[String]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--serve", name])
            .args(ports)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = netns.enter(|| command.spawn()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "the server of {name} did not come up");
        Self { child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // The first process of the private host reaps orphans, and may be faster.
        let _ = self.child.wait();
    }
}

/// The server process itself. Answers until it is killed.
pub fn serve(name: &str, ports: impl Iterator<Item = String>) -> ExitCode {
    for port in ports {
        let (proto, number) = port.split_once('/').unwrap();
        let name = name.to_owned();
        // Linux makes a socket on [::] take IPv4 too.
        let address = (Ipv6Addr::UNSPECIFIED, number.parse::<u16>().unwrap());
        match proto {
            "tcp" => {
                let listener = TcpListener::bind(address).unwrap();
                std::thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        let name = name.clone();
                        std::thread::spawn(move || tcp(&name, stream));
                    }
                });
            }
            "udp" => {
                let socket = UdpSocket::bind(address).unwrap();
                std::thread::spawn(move || udp(&name, &socket));
            }
            other => panic!("no such protocol: {other}"),
        }
    }
    let mut out = std::io::stdout();
    out.write_all(b"ready\n").unwrap();
    out.flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn tcp(name: &str, mut stream: TcpStream) -> Option<()> {
    let peer = stream.peer_addr().ok()?.ip().to_canonical();
    stream
        .write_all(format!("{name} {peer}\n").as_bytes())
        .ok()?;
    let mut buffer = [0; 2048];
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        stream.write_all(&buffer[..read]).ok()?;
    }
}

fn udp(name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        // An error here is an ICMP answer to an earlier reply: not ours to care for.
        let Ok((read, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let mut answer = format!("{name} {}\n", from.ip().to_canonical()).into_bytes();
        answer.extend_from_slice(&buffer[..read]);
        let _ = socket.send_to(&answer, from);
    }
}
