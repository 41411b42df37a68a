//! `netd hook oci`: the hook of OCI runtimes (runtime-spec, config.md, "POSIX-platform Hooks").
//!
//! ```text
//! state on stdin ─► State ─► decide ─► Plan::Attach { pid, request } │ Plan::Detach { container, zone }
//! ```
//!
//! createRuntime and prestart run in the runtime's namespaces while the container's network namespace
//! exists and its program does not run yet: there it is attached. poststop detaches what was attached for this very
//! id: by then somebody else may have the name.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;
use spawner::{Attach, Pending};
use zone::{ContainerName, IfName, MacAddr, ZoneName};

use super::state::{LARGEST, State};
use crate::api::AttachRequest;
use crate::cli::{self, Context};
use crate::error::{Error, chain};
use crate::resolv::{self, Process, Wish};
use crate::values::{self, Label, ValueError};
use crate::{netns, networks};

const ZONE: &str = "io.netd.zone";
const NAME: &str = "io.netd.name";
const LABELS: &str = "io.netd.labels";
const PUBLISH: &str = "io.netd.publish";
const IP: &str = "io.netd.ip";
const MAC: &str = "io.netd.mac";
const CONFIGURE: &str = "io.netd.configure";
const IFNAME: &str = "io.netd.ifname";
const BANDWIDTH: &str = "io.netd.bandwidth";
const RESOLV_CONF: &str = "io.netd.resolv-conf";

/// What a hook was told to do on the command line, whatever the status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Attach,
    Detach,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    Attach {
        /// A process in the container's network namespace.
        pid: i32,
        /// Whatever the zone.
        request: Box<AttachRequest>,
        /// At least one.
        zones: Vec<ZoneName>,
        /// Interfaces inside, in the order of the zones.
        ifnames: Vec<IfName>,
        /// What becomes of /etc/resolv.conf inside.
        resolv_conf: Wish,
        /// Where the root is prepared, as far as the state or the bundle tells.
        root: Option<PathBuf>,
    },
    Detach {
        /// Whose, see [`owner`].
        owner: String,
    },
}

/// `netd hook oci`: does what the state on standard input calls for.
///
/// Says nothing when all is well: what a hook prints ends up among the container's own words.
pub(crate) fn run(context: &Context, action: Option<Action>) -> Result<ExitCode, Error> {
    carry_out(context, plan(std::io::stdin().lock(), action)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon for it.
fn carry_out(context: &Context, plan: Plan) -> Result<(), Error> {
    match plan {
        Plan::Attach {
            pid,
            request,
            zones,
            ifnames,
            resolv_conf,
            root,
        } => {
            let netns = netns::open_pid(pid).map_err(Error::attaching(&request.container))?;
            let mut client = context.connect()?;
            let answer = networks::attach(&mut client, &request, &zones, &ifnames, netns.as_fd())?;
            let mut warnings = answer.warnings;
            if matches!(request.configure.as_deref(), None | Some("static")) {
                let process = Process {
                    pid,
                    prepared: root,
                };
                let given = resolv::give(&process, netns.as_fd(), &answer.container, resolv_conf);
                warnings.extend(given.err().map(|e| resolv::warning(&e)));
            }
            tell(&warnings);
            if context.json {
                cli::print_json(&answer.container)?;
            }
        }
        Plan::Detach { owner } => {
            context.connect()?.detach_owned(&owner)?;
        }
    }
    Ok(())
}

fn tell(warnings: &[String]) {
    for warning in warnings {
        cli::note(&format!("warning: {warning}"));
    }
}

/// The same for containers of `netd run`: no process is started for it, and nobody waits while the daemon is at it.
/// /etc/resolv.conf is not its business: `--resolv-conf=` says what becomes of that.
#[derive(Debug)]
pub(crate) struct InProcess(Context);

impl InProcess {
    /// With the directories of this call. It starts no daemon: one was there a moment ago, and one that is started among the
    /// container's mounts would stay among them.
    pub(crate) fn new(context: &Context) -> Self {
        Self(Context {
            dirs: context.dirs.clone(),
            json: false,
            autostart: false,
        })
    }

    fn begin(
        &self,
        action: Action,
        state: &serde_json::Value,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<Pending, Error> {
        let plan = plan(state.to_string().as_bytes(), Some(action))?;
        let mut client = self.0.connect()?;
        Ok(match plan {
            Plan::Attach {
                pid,
                request,
                zones,
                ifnames,
                ..
            } => {
                let netns = match netns {
                    Some(netns) => netns.try_clone_to_owned().map_err(|source| Error::Netns {
                        path: format!("/proc/{pid}/ns/net").into(),
                        source,
                    }),
                    None => netns::open_pid(pid),
                };
                let netns = netns.map_err(Error::attaching(&request.container))?;
                let under_way =
                    networks::begin(&mut client, &request, &zones, &ifnames, netns.as_fd())?;
                pending(move || {
                    let answer = under_way.finish(&mut client, netns.as_fd())?;
                    tell(&answer.warnings);
                    Ok(())
                })
            }
            Plan::Detach { owner } => {
                let asked = client.begin_detach_owned(&owner)?;
                pending(move || client.detached_owned(asked).map(drop))
            }
        })
    }
}

fn pending(finish: impl FnOnce() -> Result<(), Error> + 'static) -> Pending {
    Box::new(|| finish().map_err(|e| chain(&e)))
}

impl Attach for InProcess {
    fn attach(&self, state: &serde_json::Value, netns: BorrowedFd<'_>) -> Result<Pending, String> {
        let begun = self.begin(Action::Attach, state, Some(netns));
        begun.map_err(|e| chain(&e))
    }

    fn detach(&self, state: &serde_json::Value) -> Result<Pending, String> {
        let begun = self.begin(Action::Detach, state, None);
        begun.map_err(|e| chain(&e))
    }
}

/// Reads the state and tells what is to be done.
pub(crate) fn plan(input: impl Read, action: Option<Action>) -> Result<Plan, Error> {
    let mut state = State::read(input)?;
    if state.annotations.is_none() || state.root.is_none() {
        let config = config_of_bundle(&state).unwrap_or_default();
        state.annotations = state.annotations.take().or(config.annotations);
        let inside = |root: Root| Some(state.bundle.as_ref()?.join(root.path));
        state.root = state.root.take().or_else(|| config.root.and_then(inside));
    }
    decide(&state, action)
}

/// What counts of a bundle's config.json.
#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    root: Option<Root>,
}

#[derive(Deserialize)]
struct Root {
    /// Absolute, or of the bundle.
    path: PathBuf,
}

/// The bundle's config.json, for runtimes that leave annotations or root out of the state.
fn config_of_bundle(state: &State) -> Option<Config> {
    let file = std::fs::File::open(state.bundle.as_ref()?.join("config.json")).ok()?;
    let mut bytes = Vec::new();
    file.take(16 * LARGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn decide(state: &State, action: Option<Action>) -> Result<Plan, Error> {
    let id = || state.id.clone();
    let pid = state.process();
    let action = match (action, state.status.as_deref()) {
        (Some(action), _) => action,
        (None, Some("creating" | "created")) => Action::Attach,
        (None, Some("stopped")) => Action::Detach,
        // Before 1.0 there was no status: a process is all there is to go by.
        (None, None | Some("")) if pid.is_some() => Action::Attach,
        (None, None | Some("")) => Action::Detach,
        (None, Some(status)) => {
            return Err(Error::Status {
                id: id(),
                status: status.to_owned(),
            });
        }
    };
    let annotations = Annotations {
        id: &state.id,
        map: state.annotations.as_ref(),
    };
    match action {
        Action::Detach => Ok(Plan::Detach {
            owner: owner(&state.id),
        }),
        Action::Attach => {
            let container = annotations.container()?;
            let zones = annotations.names::<ZoneName>(ZONE)?;
            if zones.is_empty() {
                return Err(Error::NoZone { id: id() });
            }
            let pid = pid.ok_or_else(|| Error::NoPid { id: id() })?;
            Ok(Plan::Attach {
                pid,
                request: Box::new(annotations.request(&container)?),
                zones,
                ifnames: annotations.names::<IfName>(IFNAME)?,
                resolv_conf: annotations.resolv_conf()?,
                root: state.root.clone(),
            })
        }
    }
}

/// The key under which the daemon finds what was attached for a runtime's id.
fn owner(id: &str) -> String {
    format!("oci/{id}")
}

/// The annotations of a container, with errors that name container and key.
struct Annotations<'a> {
    id: &'a str,
    map: Option<&'a BTreeMap<String, String>>,
}

impl Annotations<'_> {
    /// The value, unless it is missing or empty.
    fn text(&self, key: &str) -> Option<&str> {
        let value = self.map?.get(key)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// The parts of a value, separated by commas or white space.
    fn parts(&self, key: &str) -> impl Iterator<Item = &str> {
        let text = self.text(key).unwrap_or_default();
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty())
    }

    fn wrong(&self, key: &'static str) -> impl Fn(ValueError) -> Error {
        let id = self.id.to_owned();
        move |source| Error::Annotation {
            id: id.clone(),
            key,
            source,
        }
    }

    fn one<T>(&self, key: &'static str) -> Result<Option<T>, Error>
    where
        T: std::str::FromStr<Err = zone::NameError>,
    {
        let text = self.text(key);
        text.map(|text| self.name(key, text)).transpose()
    }

    /// The names of a list, in its order.
    fn names<T>(&self, key: &'static str) -> Result<Vec<T>, Error>
    where
        T: std::str::FromStr<Err = zone::NameError>,
    {
        let parts = self.parts(key);
        parts.map(|text| self.name(key, text)).collect()
    }

    fn name<T>(&self, key: &'static str, text: &str) -> Result<T, Error>
    where
        T: std::str::FromStr<Err = zone::NameError>,
    {
        text.parse::<T>().map_err(|e| {
            let reason = e.to_string();
            self.wrong(key)(ValueError::new(text, format!("is refused: {reason}")))
        })
    }

    fn container(&self) -> Result<ContainerName, Error> {
        match self.one(NAME)? {
            Some(name) => Ok(name),
            None => self.id.parse().map_err(|source| Error::IdAsName {
                id: self.id.to_owned(),
                source,
            }),
        }
    }

    fn resolv_conf(&self) -> Result<Wish, Error> {
        let word = self.text(RESOLV_CONF).unwrap_or("auto");
        Wish::named(word).ok_or_else(|| {
            let error = ValueError::new(word, "is none of auto, off, replace");
            self.wrong(RESOLV_CONF)(error)
        })
    }

    fn request(&self, container: &ContainerName) -> Result<AttachRequest, Error> {
        let configure = match self.text(CONFIGURE) {
            None | Some("static" | "dhcp" | "none") => self.text(CONFIGURE).map(str::to_owned),
            Some(other) => {
                let error = ValueError::new(other, "is none of static, dhcp, none");
                return Err(self.wrong(CONFIGURE)(error));
            }
        };
        let labels = self
            .parts(LABELS)
            .map(str::parse::<Label>)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|labels| values::label_map(&labels))
            .map_err(self.wrong(LABELS))?;
        let publish = self
            .parts(PUBLISH)
            .map(|text| crate::publish::parse(text).map(|p| crate::publish::text(&p)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(self.wrong(PUBLISH))?;
        let addresses = self
            .parts(IP)
            .map(|text| values::address(text).map(|a| a.to_string()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(self.wrong(IP))?;
        let bandwidth = self.text(BANDWIDTH).map(values::bandwidth).transpose();
        Ok(AttachRequest {
            bandwidth: bandwidth
                .map_err(self.wrong(BANDWIDTH))?
                .unwrap_or_default(),
            container: container.to_string(),
            configure,
            addresses,
            mac: self.one::<MacAddr>(MAC)?.map(|m| m.to_string()),
            labels,
            publish,
            owner: Some(owner(self.id)),
            ..AttachRequest::default()
        })
    }
}

#[cfg(test)]
mod tests;
