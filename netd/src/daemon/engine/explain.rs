//! Verdicts in words.

use std::net::IpAddr;

use firewall::compile::RuleElements;
use firewall::explain::Way;
use firewall::policy::PolicyFile;
use firewall::sets::Element;
use zone::PortName;

use super::{Engine, no_such_container};
use crate::api;
use crate::daemon::record::Record;

impl Engine {
    /// Whether `from` may open a connection to `to`, and why.
    pub(crate) fn explain(
        &mut self,
        asked: &crate::explain::Asked<'_>,
    ) -> Result<api::Explanation, api::Error> {
        self.follow_clock();
        let mut world = self.firewall.world().clone();
        world.host = self.host_addresses();
        let foreign = match firewall::kernel::foreign::read() {
            Ok(ruleset) => Some(ruleset),
            Err(e) => {
                tracing::warn!(error = %crate::daemon::chain(&e), "cannot read other tables");
                None
            }
        };
        let known = crate::explain::Known {
            foreign,
            ways: Some(&way),
            user_loopback: self.firewall.user_loopback(),
            folder: self.policy_files.folder().display().to_string(),
            taken: self.policy_files.bad.keys().cloned().collect(),
        };
        crate::explain::explain(world, self.firewall.policies(), asked, &known)
    }

    /// The policy in force for a container.
    pub(crate) fn policy_show(
        &mut self,
        container: &str,
        nft: bool,
    ) -> Result<api::PolicyView, api::Error> {
        let records = self.ports.of_container(container);
        let records: Vec<Record> = records.into_iter().cloned().collect();
        let ports = records.iter().map(|record| self.policy_of(record, nft));
        api::PolicyView::joined(ports.collect()).ok_or_else(|| no_such_container(container))
    }

    /// That of one of its ports.
    fn policy_of(&mut self, record: &Record, nft: bool) -> api::PolicyView {
        let name = record.port();
        let hits = self.hits(&name);
        let (world, policies) = (self.firewall.world(), self.firewall.policies());
        let reasons = firewall::explain::policy_of(world, policies, &name);
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
        let rule = |reason: &firewall::explain::Reason| {
            let api::Reason {
                file,
                line,
                column,
                direction,
                action,
                text,
            } = crate::explain::reason(reason);
            let hits = hits.iter().find(|(rule, _)| {
                Some(&rule.file) == reason.file.as_ref()
                    && Some(rule.at.line) == reason.line
                    && Some(rule.at.column) == reason.column
            });
            api::PolicyRule {
                file,
                line,
                column,
                direction,
                action,
                text,
                hits: hits.map(|(_, hits)| i64::try_from(*hits).unwrap_or(i64::MAX)),
            }
        };
        api::PolicyView {
            container: record.container.to_string(),
            zone: record.zone.to_string(),
            files,
            rules: reasons.iter().map(rule).collect(),
            bandwidth: self.policy_limits(record),
            nft: nft.then(|| self.nft_of(record)),
            networks: Vec::new(),
        }
    }

    /// What the rules in force for a container have matched; nothing where the kernel does not tell.
    fn hits(&mut self, container: &PortName) -> Vec<(RuleElements, u64)> {
        let rules = self.firewall.elements_by_rule(container);
        let all: Vec<Element> = rules.iter().flat_map(|r| r.elements.clone()).collect();
        let hits = match self.tables.hits(&all) {
            Ok(hits) => hits,
            Err(e) => {
                tracing::warn!(error = %crate::daemon::chain(&e), "read what rules have matched");
                return Vec::new();
            }
        };
        let mut hits = hits.into_iter();
        let of_rule = |rule: RuleElements| {
            let sum = hits.by_ref().take(rule.elements.len()).sum();
            (rule, sum)
        };
        rules.into_iter().map(of_rule).collect()
    }

    /// The skeleton, and the elements that are about one container.
    fn nft_of(&self, record: &Record) -> String {
        use std::fmt::Write;
        let mut text = firewall::skeleton::text::render();
        let _ = writeln!(text, "\n# elements of {}", record.port());
        for element in self.firewall.elements_of(&record.port()) {
            let _ = writeln!(text, "{}", firewall::skeleton::render_element(&element));
        }
        text
    }
}

/// How the host reaches an address of the world.
fn way(to: IpAddr) -> Option<Way> {
    match firewall::kernel::foreign::way(to) {
        Ok(way) => way,
        Err(e) => {
            tracing::warn!(error = %crate::daemon::chain(&e), "cannot ask for the way to {to}");
            None
        }
    }
}
