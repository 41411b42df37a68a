//! The methods of `io.netd.Control`, typed.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};
use zone::{ContainerName, ZoneName};

use super::{Client, Question};
use crate::api::{
    AttachRequest, Container, DaemonStatus, Explanation, Lease, Lesson, PolicyDifference,
    PolicyStep, PolicyTexts, PolicyView, Problem, Zone, ZoneSettings,
};
use crate::error::Error;
use crate::explain::Asked;

/// What a method without parameters is called with.
#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a ZoneName,
}

/// Answer to an attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub(crate) container: Container,
    pub(crate) created: bool,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// Answer to a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// The files that were refused.
    #[serde(default)]
    pub(crate) refused: Vec<Problem>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// Answer to the creation of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ZoneCreated {
    pub(crate) zone: Zone,
    pub(crate) created: bool,
}

/// Answer to a confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confirmed {
    pub(crate) confirmed: bool,
}

#[derive(Serialize)]
struct Policies<'a> {
    policies: &'a PolicyTexts,
}

#[derive(Deserialize)]
struct Step {
    step: PolicyStep,
}

#[derive(Deserialize)]
struct OneZone {
    zone: Zone,
}

impl Client {
    pub(crate) fn zone_create(
        &mut self,
        name: &ZoneName,
        settings: &ZoneSettings,
    ) -> Result<ZoneCreated, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            name: &'a ZoneName,
            settings: &'a ZoneSettings,
        }
        self.call("ZoneCreate", &In { name, settings }, &[])
    }

    pub(crate) fn zone_set(
        &mut self,
        name: &ZoneName,
        settings: &ZoneSettings,
    ) -> Result<Zone, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            name: &'a ZoneName,
            settings: &'a ZoneSettings,
        }
        let out: OneZone = self.call("ZoneSet", &In { name, settings }, &[])?;
        Ok(out.zone)
    }

    /// Whether there was one to delete.
    pub(crate) fn zone_delete(&mut self, name: &ZoneName, force: bool) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            name: &'a ZoneName,
            force: bool,
        }
        #[derive(Deserialize)]
        struct Out {
            deleted: bool,
        }
        let out: Out = self.call("ZoneDelete", &In { name, force }, &[])?;
        Ok(out.deleted)
    }

    pub(crate) fn zone_list(&mut self) -> Result<Vec<Zone>, Error> {
        #[derive(Deserialize)]
        struct Out {
            zones: Vec<Zone>,
        }
        let out: Out = self.call("ZoneList", &Nothing {}, &[])?;
        Ok(out.zones)
    }

    pub(crate) fn zone_show(&mut self, name: &ZoneName) -> Result<Zone, Error> {
        let out: OneZone = self.call("ZoneShow", &Named { name }, &[])?;
        Ok(out.zone)
    }

    /// Attaches the container in the network namespace `netns`, whatever `request` says of one.
    pub(crate) fn attach(
        &mut self,
        request: AttachRequest,
        netns: BorrowedFd<'_>,
    ) -> Result<Attached, Error> {
        let asked = self.begin_attach(request, netns)?;
        self.attached(asked)
    }

    /// The first half of that.
    pub(crate) fn begin_attach(
        &mut self,
        request: AttachRequest,
        netns: BorrowedFd<'_>,
    ) -> Result<Question, Error> {
        #[derive(Serialize)]
        struct In {
            request: AttachRequest,
        }
        let request = AttachRequest {
            netns_fd: Some(0),
            netns: None,
            pid: None,
            ..request
        };
        self.ask("Attach", &In { request }, &[netns])
    }

    /// The second half.
    pub(crate) fn attached(&mut self, asked: Question) -> Result<Attached, Error> {
        self.answer(asked)
    }

    /// Whether it was attached.
    pub(crate) fn detach(
        &mut self,
        container: &ContainerName,
        zone: Option<&ZoneName>,
    ) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            container: &'a ContainerName,
            #[serde(skip_serializing_if = "Option::is_none")]
            zone: Option<&'a ZoneName>,
        }
        #[derive(Deserialize)]
        struct Out {
            detached: bool,
        }
        let out: Out = self.call("Detach", &In { container, zone }, &[])?;
        Ok(out.detached)
    }

    /// Detaches the container that was attached with this owner; whether there was one.
    pub(crate) fn detach_owned(&mut self, owner: &str) -> Result<bool, Error> {
        let asked = self.begin_detach_owned(owner)?;
        self.detached_owned(asked)
    }

    /// The first half of that.
    pub(crate) fn begin_detach_owned(&mut self, owner: &str) -> Result<Question, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            owner: &'a str,
        }
        self.ask("DetachOwned", &In { owner }, &[])
    }

    /// The second half.
    pub(crate) fn detached_owned(&mut self, asked: Question) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Out {
            detached: bool,
        }
        let out: Out = self.answer(asked)?;
        Ok(out.detached)
    }

    /// Detaches the containers of owners that begin with `prefix` and are not in `keep`; their names.
    pub(crate) fn reclaim(&mut self, prefix: &str, keep: &[String]) -> Result<Vec<String>, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            prefix: &'a str,
            keep: &'a [String],
        }
        #[derive(Deserialize)]
        struct Out {
            detached: Vec<String>,
        }
        let out: Out = self.call("Reclaim", &In { prefix, keep }, &[])?;
        Ok(out.detached)
    }

    /// The owner's container, if there is one, and what of it, or of these `addresses` of its interface, the kernel has
    /// not as it should.
    pub(crate) fn check(
        &mut self,
        owner: &str,
        addresses: &[String],
        netns: BorrowedFd<'_>,
    ) -> Result<(Option<Container>, Vec<Problem>), Error> {
        #[derive(Serialize)]
        struct In<'a> {
            owner: &'a str,
            addresses: &'a [String],
        }
        #[derive(Deserialize)]
        struct Out {
            container: Option<Container>,
            #[serde(default)]
            problems: Vec<Problem>,
        }
        let out: Out = self.call("Check", &In { owner, addresses }, &[netns])?;
        Ok((out.container, out.problems))
    }

    /// Why nobody could be attached to a zone now; empty when all is well.
    pub(crate) fn ready(&mut self, zone: &ZoneName) -> Result<Vec<Problem>, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            zone: &'a ZoneName,
        }
        #[derive(Deserialize)]
        struct Out {
            problems: Vec<Problem>,
        }
        let out: Out = self.call("Ready", &In { zone }, &[])?;
        Ok(out.problems)
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Container>, Error> {
        #[derive(Deserialize)]
        struct Out {
            containers: Vec<Container>,
        }
        let out: Out = self.call("List", &Nothing {}, &[])?;
        Ok(out.containers)
    }

    /// A container, what is wrong with it, and what is worth a warning.
    pub(crate) fn show(
        &mut self,
        container: &ContainerName,
    ) -> Result<(Container, Vec<Problem>, Vec<String>), Error> {
        #[derive(Serialize)]
        struct In<'a> {
            container: &'a ContainerName,
        }
        #[derive(Deserialize)]
        struct Out {
            container: Container,
            #[serde(default)]
            problems: Vec<Problem>,
            #[serde(default)]
            warnings: Vec<String>,
        }
        let out: Out = self.call("Show", &In { container }, &[])?;
        Ok((out.container, out.problems, out.warnings))
    }

    pub(crate) fn status(&mut self) -> Result<DaemonStatus, Error> {
        #[derive(Deserialize)]
        struct Out {
            status: DaemonStatus,
        }
        let out: Out = self.call("Status", &Nothing {}, &[])?;
        Ok(out.status)
    }

    /// Reads the files again.
    pub(crate) fn reload(&mut self) -> Result<Reloaded, Error> {
        self.call("Reload", &Nothing {}, &[])
    }

    pub(crate) fn policy_show(
        &mut self,
        container: &ContainerName,
        nft: bool,
    ) -> Result<PolicyView, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            container: &'a ContainerName,
            nft: bool,
        }
        #[derive(Deserialize)]
        struct Out {
            policy: PolicyView,
        }
        let out: Out = self.call("PolicyShow", &In { container, nft }, &[])?;
        Ok(out.policy)
    }

    pub(crate) fn policy_diff(
        &mut self,
        policies: &PolicyTexts,
    ) -> Result<PolicyDifference, Error> {
        #[derive(Deserialize)]
        struct Out {
            difference: PolicyDifference,
        }
        let out: Out = self.call("PolicyDiff", &Policies { policies }, &[])?;
        Ok(out.difference)
    }

    /// `confirm`: seconds in which it has to be confirmed.
    pub(crate) fn policy_apply(
        &mut self,
        policies: &PolicyTexts,
        confirm: Option<u32>,
    ) -> Result<PolicyStep, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            policies: &'a PolicyTexts,
            #[serde(skip_serializing_if = "Option::is_none")]
            confirm: Option<u32>,
        }
        let out: Step = self.call("PolicyApply", &In { policies, confirm }, &[])?;
        Ok(out.step)
    }

    pub(crate) fn policy_confirm(&mut self) -> Result<Confirmed, Error> {
        self.call("PolicyConfirm", &Nothing {}, &[])
    }

    pub(crate) fn policy_rollback(&mut self) -> Result<PolicyStep, Error> {
        let out: Step = self.call("PolicyRollback", &Nothing {}, &[])?;
        Ok(out.step)
    }

    pub(crate) fn explain(&mut self, asked: &Asked<'_>) -> Result<Explanation, Error> {
        #[derive(Deserialize)]
        struct Out {
            explanation: Explanation,
        }
        let out: Out = self.call("Explain", asked, &[])?;
        Ok(out.explanation)
    }

    pub(crate) fn policy_learn(&mut self, container: &ContainerName) -> Result<Lesson, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            container: &'a ContainerName,
        }
        #[derive(Deserialize)]
        struct Out {
            lesson: Lesson,
        }
        let out: Out = self.call("PolicyLearn", &In { container }, &[])?;
        Ok(out.lesson)
    }

    /// Whether there was something to forget.
    pub(crate) fn policy_forget(&mut self, container: &ContainerName) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct In<'a> {
            container: &'a ContainerName,
        }
        #[derive(Deserialize)]
        struct Out {
            forgotten: bool,
        }
        let out: Out = self.call("PolicyForget", &In { container }, &[])?;
        Ok(out.forgotten)
    }

    pub(crate) fn lease_list(&mut self) -> Result<Vec<Lease>, Error> {
        #[derive(Serialize)]
        struct In {
            #[serde(skip_serializing_if = "Option::is_none")]
            from: Option<String>,
        }
        #[derive(Deserialize)]
        struct Out {
            leases: Vec<Lease>,
            #[serde(default)]
            next: Option<String>,
        }
        let (mut leases, mut from) = (Vec::new(), None);
        loop {
            let out: Out = self.call("LeaseList", &In { from }, &[])?;
            leases.extend(out.leases);
            match out.next {
                Some(next) => from = Some(next),
                None => return Ok(leases),
            }
        }
    }
}
