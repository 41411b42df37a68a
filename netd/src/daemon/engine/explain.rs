//! Verdicts in words.

use std::net::IpAddr;

use firewall::model::{Endpoint, Flow, Traffic};
use firewall::policy::PolicyFile;
use firewall::sets::Family;

use super::{Engine, invalid, no_such_container};
use crate::api;
use crate::daemon::record::Record;

impl Engine {
    /// Whether `from` may open a connection to `to`, and why.
    pub(crate) fn explain(
        &mut self,
        from: &str,
        to: &str,
        traffic: Option<&str>,
        family: Option<i64>,
    ) -> Result<api::Explanation, api::Error> {
        let from = self.endpoint(from)?;
        let to = self.endpoint(to)?;
        let traffic = match traffic {
            None => Traffic::Port(6, 80),
            Some(text) => {
                firewall::explain::traffic(text).map_err(|e| invalid(format!("explain: {e}")))?
            }
        };
        let family = match family {
            Some(4) => Family::V4,
            Some(6) => Family::V6,
            Some(other) => {
                return Err(invalid(format!(
                    "explain: family {other} is neither 4 nor 6"
                )));
            }
            None => self.family_of(&from, &to),
        };
        let flow = Flow {
            from,
            to,
            traffic,
            family,
            published: false,
        };
        self.follow_clock();
        let mut world = self.firewall.world().clone();
        world.host = self.host_addresses();
        let explanation = firewall::explain::explain(&world, self.firewall.policies(), &flow);
        Ok(super::view::explanation(&explanation))
    }

    /// The policy in force for a container.
    pub(crate) fn policy_show(
        &self,
        container: &str,
        nft: bool,
    ) -> Result<api::PolicyView, api::Error> {
        let record = self.record(container)?;
        let (world, policies) = (self.firewall.world(), self.firewall.policies());
        let rules = firewall::explain::policy_of(world, policies, &record.container);
        let model = super::attach::model_of(record);
        let applies = |(_, file): &(&String, &std::sync::Arc<_>)| {
            let file: &PolicyFile = file;
            file.applies_to.matches(&model)
        };
        let files = policies
            .0
            .iter()
            .filter(applies)
            .map(|(path, _)| path.clone())
            .collect();
        Ok(api::PolicyView {
            container: record.container.to_string(),
            zone: record.zone.to_string(),
            files,
            rules: rules.iter().map(super::view::reason).collect(),
            nft: nft.then(|| self.nft_of(record)),
        })
    }

    /// The skeleton, and the elements that are about one container.
    fn nft_of(&self, record: &Record) -> String {
        use std::fmt::Write;
        let mut text = firewall::skeleton::text::render();
        let _ = writeln!(text, "\n# elements of {}", record.container);
        for element in self.firewall.elements_of(&record.container) {
            let _ = writeln!(text, "{}", firewall::skeleton::render_element(&element));
        }
        text
    }

    fn endpoint(&self, text: &str) -> Result<Endpoint, api::Error> {
        if self.ports.contains_key(text) {
            let name = text.parse().map_err(|e| invalid(format!("explain: {e}")))?;
            return Ok(Endpoint::Container(name));
        }
        match text {
            "host" => Ok(Endpoint::Host),
            "world" => Ok(Endpoint::World),
            _ => match text.parse::<IpAddr>() {
                Ok(address) => Ok(Endpoint::Address(address)),
                Err(_) => Err(no_such_container(text)),
            },
        }
    }

    /// The family of an address that is named, else one that both sides have; v4 first.
    fn family_of(&self, from: &Endpoint, to: &Endpoint) -> Family {
        for side in [from, to] {
            if let Endpoint::Address(address) = side {
                return Family::of(*address);
            }
        }
        let has_v4 = |side: &Endpoint| match side {
            Endpoint::Container(name) => self
                .ports
                .get(name)
                .is_none_or(|r| r.ips().iter().any(IpAddr::is_ipv4)),
            _ => true,
        };
        if has_v4(from) && has_v4(to) {
            Family::V4
        } else {
            Family::V6
        }
    }
}
