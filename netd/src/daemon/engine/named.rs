//! Resolvers for what `ip netns exec` starts in a container's namespace: see [`Named`](crate::daemon::named::Named).

use zone::{Configure, ContainerName};

use super::Engine;
use super::request::Request;
use crate::daemon::record::Record;
use crate::resolv;

impl Engine {
    /// Makes the file, where the namespace has a name and its inside is configured from here. What cannot be made is a
    /// warning: the network is there.
    pub(super) fn serve_named(&self, request: &Request, record: &Record) -> Option<String> {
        let netns = request.netns_name.as_ref()?;
        let zone = &self.zones.get(&record.zone)?.zone;
        let servers = self.resolvers(zone);
        if record.configure != Configure::Static || servers.is_empty() {
            return None;
        }
        let of = format!("container {}, zone {}", record.container, record.zone);
        let text = resolv::text(&of, &zone.domain, &servers);
        let made = self.named.write(&record.container, netns, &text);
        made.err()
            .map(|e| format!("no resolv.conf under /etc/netns for `ip netns exec`: {e}"))
    }

    /// Takes the file away.
    pub(super) fn unserve_named(&self, container: &ContainerName) {
        if let Err(e) = self.named.remove(container) {
            tracing::error!(container = %container, error = %e, "remove its resolv.conf under /etc/netns");
        }
    }

    /// Takes away the files of containers that ended while no daemon ran.
    pub(super) fn sweep_named(&self) {
        let attached = |name: &ContainerName| self.ports.get(name).is_some();
        if let Err(e) = self.named.sweep(attached) {
            tracing::error!(error = %e, "remove what is left under /etc/netns");
        }
    }
}
