//! A shell script of seven `ip` and one `nft`.

use std::process::Command;

use crate::container::{Container, GATEWAY4, PREFIX4};
use crate::error::Result;
use crate::ns::Netns;
use crate::sides::{Side, line, need, run};

const ATTACH: &str = r#"set -e
ip link add "vb-$1" type veth peer name host0 netns "$1" address "$3"
ip link set "vb-$1" master br0
ip link set "vb-$1" up
ip -n "$1" link set lo up
ip -n "$1" link set host0 up
ip -n "$1" addr add "$2/$4" dev host0
ip -n "$1" route add default via "$5"
nft add element inet t own "{ $2 }"
"#;

const DETACH: &str = r#"set -e
nft delete element inet t own "{ $2 }"
ip link delete "vb-$1"
"#;

/// The script and its host.
pub(crate) struct Shell {
    host: Netns,
}

impl Shell {
    /// Makes the host and its bridge.
    pub(crate) fn create() -> Result<Self> {
        need("ip")?;
        need("nft")?;
        let host = Netns::create("host-shell")?;
        host.on(|| {
            line("ip link add br0 type bridge")?;
            line(&format!("ip addr add {GATEWAY4}/{PREFIX4} dev br0"))?;
            line("ip link set br0 up")?;
            line("nft add table inet t")?;
            run(
                Command::new("nft").args(["add", "set", "inet", "t", "own", "{ type ipv4_addr; }"]),
                b"",
            )
        })?;
        Ok(Self { host })
    }

    fn script(&self, script: &str, container: &Container) -> Result<()> {
        let mac = container.mac().map(|byte| format!("{byte:02x}")).join(":");
        let address = container.address4().to_string();
        let prefix = PREFIX4.to_string();
        let gateway = GATEWAY4.to_string();
        let words = ["sh", &container.name, &address, &mac, &prefix, &gateway];
        run(Command::new("sh").arg("-c").arg(script).args(words), b"").map(|_| ())
    }
}

impl Side for Shell {
    fn name(&self) -> String {
        "shell script, 7 ip + 1 nft".into()
    }

    fn prefix(&self) -> &str {
        "s"
    }

    fn host(&self) -> &Netns {
        &self.host
    }

    fn attach(&mut self, container: &Container) -> Result<()> {
        self.script(ATTACH, container)
    }

    fn detach(&mut self, container: &Container) -> Result<()> {
        self.script(DETACH, container)
    }
}
