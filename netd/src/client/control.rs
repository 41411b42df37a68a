//! The methods of `io.netd.Control`, typed.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};
use zone::{ContainerName, ZoneName};

use super::Client;
use crate::api::{
    AttachRequest, Container, DaemonStatus, Explanation, Lease, PolicyView, Problem, Zone,
    ZoneSettings,
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

/// Answer to the creation of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ZoneCreated {
    pub(crate) zone: Zone,
    pub(crate) created: bool,
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
        self.call("Attach", &In { request }, &[netns])
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

    pub(crate) fn list(&mut self) -> Result<Vec<Container>, Error> {
        #[derive(Deserialize)]
        struct Out {
            containers: Vec<Container>,
        }
        let out: Out = self.call("List", &Nothing {}, &[])?;
        Ok(out.containers)
    }

    /// A container and what is wrong with it.
    pub(crate) fn show(
        &mut self,
        container: &ContainerName,
    ) -> Result<(Container, Vec<Problem>), Error> {
        #[derive(Serialize)]
        struct In<'a> {
            container: &'a ContainerName,
        }
        #[derive(Deserialize)]
        struct Out {
            container: Container,
            #[serde(default)]
            problems: Vec<Problem>,
        }
        let out: Out = self.call("Show", &In { container }, &[])?;
        Ok((out.container, out.problems))
    }

    pub(crate) fn status(&mut self) -> Result<DaemonStatus, Error> {
        #[derive(Deserialize)]
        struct Out {
            status: DaemonStatus,
        }
        let out: Out = self.call("Status", &Nothing {}, &[])?;
        Ok(out.status)
    }

    /// The files that were refused.
    pub(crate) fn reload(&mut self) -> Result<Vec<Problem>, Error> {
        #[derive(Deserialize)]
        struct Out {
            #[serde(default)]
            refused: Vec<Problem>,
        }
        let out: Out = self.call("Reload", &Nothing {}, &[])?;
        Ok(out.refused)
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

    pub(crate) fn explain(&mut self, asked: &Asked<'_>) -> Result<Explanation, Error> {
        #[derive(Deserialize)]
        struct Out {
            explanation: Explanation,
        }
        let out: Out = self.call("Explain", asked, &[])?;
        Ok(out.explanation)
    }

    pub(crate) fn lease_list(&mut self) -> Result<Vec<Lease>, Error> {
        #[derive(Deserialize)]
        struct Out {
            leases: Vec<Lease>,
        }
        let out: Out = self.call("LeaseList", &Nothing {}, &[])?;
        Ok(out.leases)
    }
}
