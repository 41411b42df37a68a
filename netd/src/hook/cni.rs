//! `netd hook cni`: a CNI plugin, as the specification has it (versions 0.3.1, 0.4.0, 1.0.0 and 1.1.0).
//!
//! ```text
//! CNI_* variables ─► Call ─┐
//! configuration on stdin ──┴► Network ─► Wishes ─► daemon ─► result or error, JSON on stdout
//! ```
//!
//! An attachment is known to the daemon by the network's name, the container's id and the interface
//! ([`Call::owner`]), so that DEL, CHECK and GC find it whatever its container is called.

mod bandwidth;
mod call;
mod failure;
mod network;
mod policy;
mod result;
mod wishes;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use ipnet::IpNet;
use serde_json::Value;

use crate::api::{self, AttachRequest};
use crate::cli::{self, Context};
use crate::client::Client;
use crate::netns;
use call::{Call, Verb};
use failure::{Code, Failure};
use network::Network;
use result::Version;

/// The largest configuration that is read, in bytes: GC lists every attachment of a network.
const LARGEST: u64 = 16 << 20;

/// Prefix of the keys that the daemon knows attachments by.
const DOOR: &str = "cni";

/// `netd hook cni`: does what CNI_COMMAND says. Errors are JSON on standard output, as the specification wants them.
pub(crate) fn run(context: &Context) -> ExitCode {
    let variable = |name: &str| std::env::var_os(name);
    // What version the runtime speaks, as far as that is known when something fails.
    let mut version = Version::NEWEST;
    let outcome = serve(context, &variable, io::stdin().lock(), &mut version);
    let (said, code) = match outcome {
        Ok(Some(document)) => (document, ExitCode::SUCCESS),
        Ok(None) => return ExitCode::SUCCESS,
        Err(failure) => (failure.document(version), ExitCode::FAILURE),
    };
    match say(&said) {
        Ok(()) => code,
        Err(e) => {
            cli::note(&format!("cannot write to standard output: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn say(document: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush()
}

/// What has to be printed; nothing is fine for most commands.
fn serve(
    context: &Context,
    variable: &call::Variables<'_>,
    input: impl Read,
    version: &mut Version,
) -> Result<Option<Value>, Failure> {
    let verb = Verb::read(variable)?;
    let bytes = read(input)?;
    if verb == Verb::Version {
        return Ok(Some(result::versions(&bytes)));
    }
    let network = Network::parse(&bytes)?;
    *version = network.version()?;
    verb.known_in(*version)?;
    let network = network.named()?;
    let context = &network.instance(context)?;
    match verb {
        Verb::Version => Ok(None),
        Verb::Add if network.is_chained()? => {
            policy::add(context, &Call::read(variable, true)?, &network)
        }
        Verb::Add => add(context, &Call::read(variable, true)?, &network, *version),
        Verb::Del => del(context, &Call::read(variable, false)?, &network),
        Verb::Check => check(context, &Call::read(variable, true)?, &network),
        Verb::Gc => gc(context, &network),
        Verb::Status => status(context, &network),
    }
}

fn read(input: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let failed = |e: io::Error| {
        Failure::new(
            Code::Io,
            "cannot read the configuration from standard input",
        )
        .details(e)
    };
    input
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        let limit = format!("the configuration is larger than {} MiB", LARGEST >> 20);
        return Err(Failure::new(Code::Io, limit));
    }
    Ok(bytes)
}

fn add(
    context: &Context,
    call: &Call,
    network: &Network,
    version: Version,
) -> Result<Option<Value>, Failure> {
    let wishes = wishes::read(call, network)?;
    let netns = netns::open_path(&call.netns).map_err(|e| Failure::netns(&e))?;
    let owner = call.owner(network.name());
    let request = wishes.request(owner.clone());
    let mut client = context.connect().map_err(|e| Failure::of(&e))?;
    attach(&mut client, request, netns.as_fd(), &owner, |attached| {
        let own = result::added(attached, call, &wishes, version)?;
        Ok(result::after(network.previous(), own))
    })
}

/// Attaches, and tells the result. What the runtime does not learn of, it may never delete: that is undone.
fn attach(
    client: &mut Client,
    request: AttachRequest,
    netns: BorrowedFd<'_>,
    owner: &str,
    result: impl FnOnce(&api::Container) -> Result<Value, Failure>,
) -> Result<Option<Value>, Failure> {
    let container = request.container.clone();
    let answer = client.attach(request, netns).map_err(|e| Failure::of(&e))?;
    if !answer.created {
        let message = format!(
            "container {container} has this attachment already: ADD was called twice without a DEL"
        );
        return Err(Failure::new(Code::Refused, message));
    }
    for warning in &answer.warnings {
        cli::note(&format!("warning: {warning}"));
    }
    let told = result(&answer.container).and_then(|result| {
        say(&result).map_err(|e| Failure::new(Code::Io, "cannot write the result").details(e))
    });
    if told.is_err()
        && let Err(e) = client.detach_owned(owner)
    {
        cli::note(&format!("undo ADD of {container}: {e}"));
    }
    told.map(|()| None)
}

fn del(context: &Context, call: &Call, network: &Network) -> Result<Option<Value>, Failure> {
    let owner = call.owner(network.name());
    let mut client = context.connect().map_err(|e| Failure::of(&e))?;
    client.detach_owned(&owner).map_err(|e| Failure::of(&e))?;
    Ok(None)
}

fn check(context: &Context, call: &Call, network: &Network) -> Result<Option<Value>, Failure> {
    let previous = network.previous().ok_or_else(|| {
        Failure::new(
            Code::Config,
            "CHECK needs prevResult, the result of the ADD before",
        )
    })?;
    let expected = result::Expected::read(previous, call)?;
    let netns = netns::open_path(&call.netns).map_err(|e| Failure::netns(&e))?;
    let mut client = context.connect().map_err(|e| Failure::of(&e))?;
    let addresses: Vec<String> = expected.addresses.iter().map(IpNet::to_string).collect();
    let (container, problems) = client
        .check(&call.owner(network.name()), &addresses, netns.as_fd())
        .map_err(|e| Failure::of(&e))?;
    let Some(container) = container else {
        let message = format!(
            "container {} is not attached to network {} by {}",
            call.container,
            network.name(),
            call.ifname
        );
        return Err(Failure::new(Code::Unknown, message));
    };
    let mut wrong: Vec<String> = problems
        .into_iter()
        .filter(|problem| expected.concerns(&problem.subject))
        .map(|problem| problem.message)
        .collect();
    if let Some(mac) = &expected.mac
        && !mac.eq_ignore_ascii_case(&container.mac)
    {
        wrong.push(format!(
            "the hardware address of {} is {}, prevResult has {mac}",
            call.ifname, container.mac
        ));
    }
    if wrong.is_empty() {
        return Ok(None);
    }
    let message = format!(
        "container {} is not as it was attached",
        container.container
    );
    Err(Failure::new(Code::Broken, message).details(wrong.join("; ")))
}

fn gc(context: &Context, network: &Network) -> Result<Option<Value>, Failure> {
    let valid = network.valid_attachments()?;
    let keep: Vec<String> = valid
        .iter()
        .map(|(id, ifname)| call::owner(network.name(), id, ifname))
        .collect();
    let prefix = format!("{DOOR}/{}/", network.name());
    let mut client = context.connect().map_err(|e| Failure::of(&e))?;
    for container in client
        .reclaim(&prefix, &keep)
        .map_err(|e| Failure::of(&e))?
    {
        cli::note(&format!(
            "{container} is no valid attachment any more: detached"
        ));
    }
    Ok(None)
}

fn status(context: &Context, network: &Network) -> Result<Option<Value>, Failure> {
    let zone = network.zone()?;
    let attached = || !result::attached_in(&context.dirs, &zone).is_empty();
    let failed = |e: crate::error::Error| {
        let code = match Failure::of(&e).code {
            // names and leases are the daemon's; what is attached has lost them
            Code::Later if attached() => Code::Limited,
            _ => Code::Unavailable,
        };
        Failure::new(code, "netd cannot attach anybody now").details(crate::error::chain(&e))
    };
    let mut client = context.connect().map_err(failed)?;
    let problems = client.ready(&zone).map_err(failed)?;
    if problems.is_empty() {
        return Ok(None);
    }
    let only_newcomers = |subject: &str| matches!(subject, "addresses" | "state");
    let code = match problems.iter().all(|p| only_newcomers(&p.subject)) {
        true => Code::Unavailable,
        false => Code::Limited,
    };
    let words: Vec<String> = problems.into_iter().map(|p| p.message).collect();
    let message = format!("zone {zone} is not ready");
    Err(Failure::new(code, message).details(words.join("; ")))
}

/// The arguments of a plugin's process: with none, and CNI_COMMAND set, netd is meant as one, whatever its file is
/// called (a plugin is found by the `type` of its configuration).
pub(crate) fn called_as_plugin(arguments: usize, command: Option<&std::ffi::OsStr>) -> bool {
    arguments <= 1 && command.is_some_and(|command| !command.is_empty())
}

#[cfg(test)]
mod tests;
