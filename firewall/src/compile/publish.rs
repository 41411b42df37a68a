//! Published ports: destination NAT, and who may come through.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use zone::ContainerName;

use crate::model::{Container, Publish, World};
use crate::sets::{Element, Family, Key, SetId};

/// Whether a container's ports are published at all: never in internal zones.
fn published<'a>(world: &World, container: &'a Container) -> &'a [Publish] {
    match world.zones.get(&container.zone) {
        Some(zone) if !zone.internal => &container.publish,
        _ => &[],
    }
}

/// Host port and container port, one by one.
fn ports(publish: &Publish) -> impl Iterator<Item = (u16, u16)> {
    (publish.first..=publish.last).zip(publish.port..=u16::MAX)
}

/// Families in which a port is published.
fn families(publish: &Publish) -> impl Iterator<Item = Family> {
    let family = publish.address.map(Family::of);
    Family::ALL
        .into_iter()
        .filter(move |f| family.is_none_or(|only| only == *f))
}

/// The address of a container that a published port leads to.
fn target(world: &World, container: &Container, family: Family) -> Option<IpAddr> {
    let mut addresses = world.addresses(container);
    addresses.find(|address| Family::of(*address) == family)
}

/// The translations, appended to `out`.
pub(super) fn translations(world: &World, container: &Container, out: &mut Vec<Element>) {
    let mut taken: BTreeMap<(SetId, Key), ()> = BTreeMap::new();
    for publish in published(world, container) {
        for family in families(publish) {
            let Some(target) = target(world, container, family) else {
                continue;
            };
            let at = publish.address.filter(|address| !address.is_unspecified());
            // the kernel has no destination NAT to ::1: an element would make connections hang that are
            // refused without it
            if at.is_some_and(|address| address.is_ipv6() && address.is_loopback()) {
                continue;
            }
            for (host_port, port) in ports(publish) {
                let (set, key) = match at {
                    None => (SetId::Publish(family), Key::new()),
                    Some(address) => (SetId::PublishAt(family), Key::new().ip(address)),
                };
                let key = key.proto(publish.proto).port(host_port);
                // of two that one container wants for the same port, the first
                if taken.insert((set, key.clone()), ()).is_none() {
                    out.push(Element {
                        set,
                        key,
                        last: None,
                        data: Some(Key::new().ip(target).port(port)),
                        timeout: None,
                    });
                }
            }
        }
    }
}

/// What is open through published ports of a container whose ingress no file mentions.
pub(super) fn open(world: &World, container: &Container, out: &mut Vec<Element>) {
    let begin = out.len();
    for publish in published(world, container) {
        for family in families(publish) {
            let Some(own) = target(world, container, family) else {
                continue;
            };
            for (_, port) in ports(publish) {
                out.push(Element {
                    set: SetId::PublishedOpen(family),
                    key: Key::new().ip(own).proto(publish.proto).port(port),
                    last: None,
                    data: None,
                    timeout: None,
                });
            }
        }
    }
    // several host ports may lead to one port
    out[begin..].sort_unstable();
    out.dedup();
}

/// Who listens on which host port.
#[derive(Debug, Default, Clone)]
pub(super) struct HostPorts(BTreeMap<(u8, u16), BTreeSet<Listener>>);

/// On which host address, and who.
type Listener = (Option<IpAddr>, ContainerName);

impl HostPorts {
    pub(super) fn add(&mut self, container: &Container) {
        for publish in &container.publish {
            for port in publish.first..=publish.last {
                let listeners = self.0.entry((publish.proto, port)).or_default();
                listeners.insert((publish.address, container.name.clone()));
            }
        }
    }

    pub(super) fn remove(&mut self, container: &Container) {
        for publish in &container.publish {
            for port in publish.first..=publish.last {
                let key = (publish.proto, port);
                if let Some(listeners) = self.0.get_mut(&key) {
                    listeners.remove(&(publish.address, container.name.clone()));
                    if listeners.is_empty() {
                        self.0.remove(&key);
                    }
                }
            }
        }
    }

    /// Somebody who listens where `wanted` would.
    pub(super) fn conflict(&self, wanted: &Publish) -> Option<&ContainerName> {
        let meet = |a: Option<IpAddr>, b: Option<IpAddr>| match (a, b) {
            (Some(a), Some(b)) => {
                a == b
                    || Family::of(a) == Family::of(b) && (a.is_unspecified() || b.is_unspecified())
            }
            _ => true,
        };
        (wanted.first..=wanted.last)
            .filter_map(|port| self.0.get(&(wanted.proto, port)))
            .flatten()
            .find(|(address, _)| meet(*address, wanted.address))
            .map(|(_, name)| name)
    }
}
