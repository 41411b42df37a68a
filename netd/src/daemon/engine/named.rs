//! Resolvers for what `ip netns exec` starts in a container's namespace: see [`Named`](crate::daemon::named::Named).

use std::net::IpAddr;

use zone::{Configure, ContainerName};

use super::Engine;
use super::request::Request;
use crate::daemon::named::NetnsName;
use crate::daemon::record::Record;
use crate::resolv::{self, Part};

impl Engine {
    /// Makes the file, where the namespace has a name and its inside is configured from here. What cannot be made is a
    /// warning: the network is there.
    pub(super) fn serve_named(&self, request: &Request, record: &Record) -> Option<String> {
        let netns = request.netns_name.as_ref()?;
        if record.configure != Configure::Static {
            return None;
        }
        self.write_named(&record.container, netns)
    }

    /// With the resolvers of all zones that the container is in.
    fn write_named(&self, container: &ContainerName, netns: &NetnsName) -> Option<String> {
        let records = self.ports.of_container(container.as_str());
        let zones: Vec<(&zone::Zone, Vec<IpAddr>)> = records
            .into_iter()
            .filter(|record| record.configure == Configure::Static)
            .filter_map(|record| self.zones.get(&record.zone))
            .map(|state| (&state.zone, self.resolvers(&state.zone)))
            .collect();
        if zones.iter().all(|(_, servers)| servers.is_empty()) {
            return None;
        }
        let parts: Vec<Part<'_, IpAddr>> = zones
            .iter()
            .map(|(zone, servers)| Part {
                domain: &zone.domain,
                servers,
            })
            .collect();
        let names: Vec<&str> = zones.iter().map(|(zone, _)| zone.name.as_str()).collect();
        let of = format!("container {container}, zone {}", names.join(", "));
        let made = self
            .named
            .write(container, netns, &resolv::text(&of, &parts));
        made.err()
            .map(|e| format!("no resolv.conf under /etc/netns for `ip netns exec`: {e}"))
    }

    /// Takes the file away, or what it said of a zone that the container is in no more.
    pub(super) fn unserve_named(&self, container: &ContainerName) {
        let attached = !self.ports.of_container(container.as_str()).is_empty();
        let made_for = match attached {
            true => self.named.made_for(container),
            false => None,
        };
        if let Err(e) = self.named.remove(container) {
            tracing::error!(container = %container, error = %e, "remove its resolv.conf under /etc/netns");
        }
        let failed = made_for.and_then(|netns| self.write_named(container, &netns));
        if let Some(failed) = failed {
            tracing::warn!(container = %container, "{failed}");
        }
    }

    /// Takes away the files of containers that ended while no daemon ran.
    pub(super) fn sweep_named(&self) {
        let attached = |name: &ContainerName| !self.ports.of_container(name.as_str()).is_empty();
        if let Err(e) = self.named.sweep(attached) {
            tracing::error!(error = %e, "remove what is left under /etc/netns");
        }
    }
}
