//! The control socket: varlink interface `io.netd.Control`, served by zlink, for root only.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use zlink::Server;
use zlink::introspect::Type;

use super::dirs::Dirs;
use super::engine::{Engine, container_name};
use super::lenient::{Descriptors, Lenient};
use crate::api::{
    Answer, AppliedState, AttachRequest, Container, DaemonStatus, DhcpSilence, DhcpZone, Error,
    Explanation, Fix, Ipv6Silence, Ipv6Zone, Lease, Lesson, Limit, LimitChange, Network, Obstacle,
    Path, PolicyChange, PolicyDifference, PolicyLimit, PolicyNetwork, PolicyRule, PolicyStep,
    PolicyText, PolicyTexts, PolicyView, Problem, Reason, Resolver, ResolverZone, Step, Zone,
    ZoneSettings,
};

/// How long an attach waits for the name's old link to be deleted.
const NAME_FREE: std::time::Duration = std::time::Duration::from_secs(5);

/// The message of an error, whichever it is.
pub(super) fn message(error: &Error) -> &str {
    match error {
        Error::NoSuchZone { message }
        | Error::NoSuchContainer { message }
        | Error::Invalid { message }
        | Error::Refused { message } => message,
    }
}

/// Binds the socket, mode 0600. A dead daemon's socket is replaced; the lock tells that it is dead.
pub(super) fn listen(dirs: &Dirs) -> std::io::Result<std::os::unix::net::UnixListener> {
    let path = dirs.socket();
    let temporary = dirs.runtime.join(".netd.sock");
    for stale in [&path, &temporary] {
        match std::fs::remove_file(stale) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    // Bound under another name first: nobody must reach it before its mode is right.
    let listener = std::os::unix::net::UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&temporary, &path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the listener ends, which it does not.
pub(super) async fn serve(
    listener: std::os::unix::net::UnixListener,
    engine: Rc<RefCell<Engine>>,
) -> std::io::Result<()> {
    loop {
        let fd = OwnedFd::from(listener.try_clone()?);
        let zlistener =
            zlink::tokio::unix::Listener::try_from(fd).map_err(std::io::Error::other)?;
        let service = Lenient::new(Control {
            engine: engine.clone(),
            descriptors: Vec::new(),
        });
        if let Err(e) = Server::new(zlistener, service).run().await {
            // Accepting failed (too many descriptors, say): go on, after a breath.
            tracing::error!(error = %e, "control socket");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

struct Control {
    engine: Rc<RefCell<Engine>>,
    /// Those that came with the call in hand.
    descriptors: Vec<OwnedFd>,
}

macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Serialize, Deserialize, Type)]
            struct $name { $($field: $ty),* }
        )*
    };
}

replies! {
    ZoneCreated { zone: Zone, created: bool }
    ZoneReply { zone: Zone }
    ZonesReply { zones: Vec<Zone> }
    Deleted { deleted: bool }
    Attached { container: Container, created: bool, warnings: Vec<String> }
    Detached { detached: bool }
    ContainersReply { containers: Vec<Container> }
    ContainerReply { container: Container, problems: Vec<Problem>, warnings: Vec<String> }
    StatusReply { status: DaemonStatus }
    Reloaded { refused: Vec<Problem>, warnings: Vec<String> }
    PolicyReply { policy: PolicyView }
    PolicyDiffReply { difference: PolicyDifference }
    PolicyStepReply { step: PolicyStep }
    PolicyConfirmed { confirmed: bool }
    ExplanationReply { explanation: Explanation }
    LessonReply { lesson: Lesson }
    Forgotten { forgotten: bool }
    Reclaimed { detached: Vec<String> }
    CheckReply { container: Option<Container>, problems: Vec<Problem> }
    ReadyReply { problems: Vec<Problem> }
    LeasesReply { leases: Vec<Lease>, next: Option<String> }
}

#[zlink::service(
    interface = "io.netd.Control",
    types = [ZoneSettings, Zone, AttachRequest, Limit, PolicyLimit, LimitChange, Container, Network, Lease, Problem, DhcpSilence, DhcpZone, ResolverZone, Resolver, DaemonStatus, Ipv6Zone, Ipv6Silence, Reason, Explanation, PolicyRule, PolicyView, PolicyNetwork, PolicyText, PolicyTexts, PolicyStep, AppliedState, PolicyChange, PolicyDifference, Lesson, Step, Obstacle, Fix, Answer, Path],
    vendor = "netd",
    product = "netd",
    version = env!("CARGO_PKG_VERSION"),
    url = "https://github.com/netd-project/netd"
)]
impl Control {
    async fn zone_create(
        &mut self,
        name: String,
        settings: Option<ZoneSettings>,
    ) -> Result<ZoneCreated, Error> {
        let settings = settings.unwrap_or_default();
        let (zone, created) = self.engine.borrow_mut().zone_create(&name, &settings)?;
        Ok(ZoneCreated { zone, created })
    }

    async fn zone_set(&mut self, name: String, settings: ZoneSettings) -> Result<ZoneReply, Error> {
        let zone = self.engine.borrow_mut().zone_set(&name, &settings)?;
        Ok(ZoneReply { zone })
    }

    async fn zone_delete(&mut self, name: String, force: Option<bool>) -> Result<Deleted, Error> {
        let force = force.unwrap_or_default();
        let deleted = self.engine.borrow_mut().zone_delete(&name, force)?;
        Ok(Deleted { deleted })
    }

    async fn zone_list(&self) -> Result<ZonesReply, Error> {
        let zones = self.engine.borrow().zone_list();
        Ok(ZonesReply { zones })
    }

    async fn zone_show(&self, name: String) -> Result<ZoneReply, Error> {
        let zone = self.engine.borrow().zone_show(&name)?;
        Ok(ZoneReply { zone })
    }

    async fn attach(&mut self, request: AttachRequest) -> Result<Attached, Error> {
        let descriptors = std::mem::take(&mut self.descriptors);
        self.old_links_gone(&request.container, descriptors.first())
            .await?;
        let done = self.engine.borrow_mut().attach(request, descriptors)?;
        if done.created {
            // Runs when the answer was written and this task waits for the next call, or with that.
            let engine = self.engine.clone();
            tokio::task::spawn_local(async move { engine.borrow_mut().after_answers() });
        }
        if let Some(flows) = done.flows {
            // It says itself what it could not do.
            let _ = flows.await;
        }
        Ok(Attached {
            container: done.container,
            created: done.created,
            warnings: done.warnings,
        })
    }

    async fn detach(&mut self, container: String, zone: Option<String>) -> Result<Detached, Error> {
        let detached = self
            .engine
            .borrow_mut()
            .detach(&container, zone.as_deref())?;
        Ok(Detached { detached })
    }

    /// Detaches the container that was attached with this owner.
    async fn detach_owned(&mut self, owner: String) -> Result<Detached, Error> {
        let detached = self.engine.borrow_mut().detach_owned(&owner)?;
        Ok(Detached { detached })
    }

    /// Detaches containers of owners that begin so, but for those to be kept.
    async fn reclaim(&mut self, prefix: String, keep: Vec<String>) -> Result<Reclaimed, Error> {
        let detached = self.engine.borrow_mut().reclaim(&prefix, &keep)?;
        Ok(Reclaimed { detached })
    }

    /// Whether the kernel has all that this owner's container should have; its namespace comes along as a descriptor.
    async fn check(
        &mut self,
        owner: String,
        addresses: Option<Vec<String>>,
    ) -> Result<CheckReply, Error> {
        let descriptors = std::mem::take(&mut self.descriptors);
        let found =
            self.engine
                .borrow_mut()
                .check(&owner, &addresses.unwrap_or_default(), descriptors)?;
        let (container, problems) = match found {
            Some((container, problems)) => (Some(container), problems),
            None => (None, Vec::new()),
        };
        Ok(CheckReply {
            container,
            problems,
        })
    }

    /// Why nobody could be attached to a zone now.
    async fn ready(&mut self, zone: String) -> Result<ReadyReply, Error> {
        let problems = self.engine.borrow_mut().readiness(&zone)?;
        Ok(ReadyReply { problems })
    }

    async fn list(&self) -> Result<ContainersReply, Error> {
        let containers = self.engine.borrow().list();
        Ok(ContainersReply { containers })
    }

    async fn show(&self, container: String) -> Result<ContainerReply, Error> {
        let (container, problems, warnings) = self.engine.borrow().show(&container)?;
        Ok(ContainerReply {
            container,
            problems,
            warnings,
        })
    }

    async fn status(&self) -> Result<StatusReply, Error> {
        let status = self.engine.borrow().status();
        Ok(StatusReply { status })
    }

    async fn reload(&mut self) -> Result<Reloaded, Error> {
        let mut engine = self.engine.borrow_mut();
        let refused = engine.reload()?;
        let warnings = engine.warnings();
        Ok(Reloaded { refused, warnings })
    }

    async fn policy_show(
        &self,
        container: String,
        nft: Option<bool>,
    ) -> Result<PolicyReply, Error> {
        let nft = nft.unwrap_or_default();
        let policy = self.engine.borrow_mut().policy_show(&container, nft)?;
        Ok(PolicyReply { policy })
    }

    async fn policy_diff(&mut self, policies: PolicyTexts) -> Result<PolicyDiffReply, Error> {
        let question = self.engine.borrow_mut().policy_diff(&policies)?;
        // seconds, where much changes for many: the others need not wait
        let difference = tokio::task::spawn_blocking(move || question.answer())
            .await
            .map_err(|e| Error::Refused {
                message: format!("diff: {e}"),
            })?;
        Ok(PolicyDiffReply { difference })
    }

    async fn policy_apply(
        &mut self,
        policies: PolicyTexts,
        confirm: Option<i64>,
    ) -> Result<PolicyStepReply, Error> {
        let step = self.engine.borrow_mut().policy_apply(&policies, confirm)?;
        Ok(PolicyStepReply { step })
    }

    async fn policy_confirm(&mut self) -> Result<PolicyConfirmed, Error> {
        self.engine.borrow_mut().policy_confirm()?;
        Ok(PolicyConfirmed { confirmed: true })
    }

    async fn policy_rollback(&mut self) -> Result<PolicyStepReply, Error> {
        let step = self.engine.borrow_mut().policy_rollback()?;
        Ok(PolicyStepReply { step })
    }

    async fn explain(
        &mut self,
        from: String,
        to: String,
        traffic: Option<String>,
        family: Option<i64>,
        at: Option<String>,
    ) -> Result<ExplanationReply, Error> {
        let asked = crate::explain::Asked {
            from: &from,
            to: &to,
            traffic: traffic.as_deref(),
            family,
            at: at.as_deref(),
        };
        let explanation = self.engine.borrow_mut().explain(&asked)?;
        Ok(ExplanationReply { explanation })
    }

    async fn policy_learn(&self, container: String) -> Result<LessonReply, Error> {
        let name = container_name(&container)?;
        let saved = self.engine.borrow().decider.decisions.save(name);
        let saved = saved.await.map_err(|_| busy("learn", &container))?;
        let recorded = saved.map_err(|e| Error::Refused {
            message: format!("policy learn {container}: write what was learned: {e}"),
        })?;
        let lesson = self.engine.borrow().policy_learn(&container, recorded)?;
        Ok(LessonReply { lesson })
    }

    async fn policy_forget(&self, container: String) -> Result<Forgotten, Error> {
        let name = container_name(&container)?;
        let forgotten = self.engine.borrow().decider.decisions.forget(name);
        let forgotten = forgotten.await.map_err(|_| busy("forget", &container))?;
        let forgotten = forgotten.map_err(|e| Error::Refused {
            message: format!("policy learn {container}: forget what was learned: {e}"),
        })?;
        Ok(Forgotten { forgotten })
    }

    /// Some leases, from `from` on, which is the `next` of the answer before.
    async fn lease_list(&self, from: Option<String>) -> Result<LeasesReply, Error> {
        let (leases, next) = self.engine.borrow().leases(from.as_deref());
        Ok(LeasesReply { leases, next })
    }
}

/// More decisions wait to be written than questions are answered meanwhile.
fn busy(what: &str, container: &str) -> Error {
    Error::Refused {
        message: format!(
            "policy {what} {container}: too many decisions are being written; try again"
        ),
    }
}

impl Control {
    /// Waits until the name's old link is deleted, and any other that was in the network namespace.
    async fn old_links_gone(&self, container: &str, netns: Option<&OwnedFd>) -> Result<(), Error> {
        let netns = || {
            let stat = rustix::fs::fstat(netns?).ok()?;
            Some((stat.st_dev, stat.st_ino))
        };
        let waiting = async {
            loop {
                let reaped = self.engine.borrow().reaped.clone();
                let notified = reaped.notified();
                let there = {
                    let engine = self.engine.borrow();
                    engine.is_closing(container) || engine.is_leaving(netns)
                };
                if !there {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(NAME_FREE, waiting)
            .await
            .map_err(|_| Error::Refused {
                message: format!(
                    "attach {container}: its old link is still being deleted; try again"
                ),
            })
    }
}

impl Descriptors for Control {
    const METHODS: &'static [&'static str] = &[
        "io.netd.Control.ZoneCreate",
        "io.netd.Control.ZoneSet",
        "io.netd.Control.ZoneDelete",
        "io.netd.Control.ZoneList",
        "io.netd.Control.ZoneShow",
        "io.netd.Control.Attach",
        "io.netd.Control.Detach",
        "io.netd.Control.DetachOwned",
        "io.netd.Control.Reclaim",
        "io.netd.Control.Check",
        "io.netd.Control.Ready",
        "io.netd.Control.List",
        "io.netd.Control.Show",
        "io.netd.Control.Status",
        "io.netd.Control.Reload",
        "io.netd.Control.PolicyShow",
        "io.netd.Control.PolicyDiff",
        "io.netd.Control.PolicyApply",
        "io.netd.Control.PolicyConfirm",
        "io.netd.Control.PolicyRollback",
        "io.netd.Control.Explain",
        "io.netd.Control.PolicyLearn",
        "io.netd.Control.PolicyForget",
        "io.netd.Control.LeaseList",
    ];

    fn descriptors(&mut self, descriptors: Vec<OwnedFd>) {
        self.descriptors = descriptors;
    }
}
