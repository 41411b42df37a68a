//! `netd hook machined`: has systemd-machined(8) know a container of `netd run`, so that machinectl(1) lists it.
//!
//! The container stands by then, in its unit and attached, and its command waits. machined finds the unit by the leader's cgroup.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::state::State;
use crate::cli::{self, Context};
use crate::error::{Error, chain};

const SERVICE: &str = "org.freedesktop.machine1";
const OBJECT: &str = "/org/freedesktop/machine1";
const INTERFACE: &str = "org.freedesktop.machine1.Manager";

/// There where somebody answers on the system's bus.
const BUS: &str = "/run/dbus/system_bus_socket";
/// There where systemd-machined is installed: the bus starts it when it is asked for.
const ACTIVATION: &str = "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service";

/// Whether a systemd that we can be known to has a machined. In a pid namespace of our own our numbers would mean nothing to it.
pub(crate) fn is_there() -> bool {
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    first.trim() == "systemd" && Path::new(BUS).exists() && Path::new(ACTIVATION).exists()
}

/// Does what the state on standard input calls for. Unless `must`, what goes wrong is a word and no failure.
pub(crate) fn run(
    context: &Context,
    attach: bool,
    root: Option<&Path>,
    must: bool,
) -> Result<ExitCode, Error> {
    let state = State::read(std::io::stdin().lock())?;
    let done = match attach {
        true => register(context, &state, root),
        false => call("UnregisterMachine", &state.id, &(state.id.as_str(),)),
    };
    match done {
        Err(e) if attach && must => Err(e),
        // one that has ended machined may have dropped by itself
        Err(_) if !attach => Ok(ExitCode::SUCCESS),
        Err(e) => {
            cli::note(&format!(
                "warning: {}: machinectl does not show it",
                chain(&e)
            ));
            Ok(ExitCode::SUCCESS)
        }
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn register(context: &Context, state: &State, root: Option<&Path>) -> Result<(), Error> {
    let root = root.map_or(String::new(), |root| root.display().to_string());
    // none: machined asks for no number of its own
    let uuid: Vec<u8> = Vec::new();
    let leader = state.process().unwrap_or_default().unsigned_abs();
    let interfaces = interfaces(context, &state.id);
    let about = (
        state.id.as_str(),
        uuid,
        "netd",
        "container",
        leader,
        root.as_str(),
        interfaces,
    );
    call("RegisterMachineWithNetwork", &state.id, &about)
}

/// The host's ends of a container's networks, by their numbers.
fn interfaces(context: &Context, name: &str) -> Vec<i32> {
    let Ok(name) = name.parse() else {
        return Vec::new();
    };
    let shown = context.connect().and_then(|mut client| client.show(&name));
    let Ok((container, _, _)) = shown else {
        return Vec::new();
    };
    let number = |ifname: &str| {
        let text = fs::read_to_string(format!("/sys/class/net/{ifname}/ifindex")).ok()?;
        text.trim().parse().ok()
    };
    let ports = container.ports();
    ports
        .iter()
        .filter_map(|port| number(&port.host_ifname))
        .collect()
}

fn call<B>(method: &'static str, name: &str, body: &B) -> Result<(), Error>
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    let fail = |source: zbus::Error| Error::Machined {
        name: name.to_owned(),
        source: Box::new(source),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(async {
        let bus = zbus::Connection::system().await.map_err(fail)?;
        bus.call_method(Some(SERVICE), OBJECT, Some(INTERFACE), method, body)
            .await
            .map_err(fail)?;
        Ok(())
    })
}
