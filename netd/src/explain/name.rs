//! Questions about a name of the world: `dns:www.example.org` is whatever the gateway's resolver tells the one who asks.

use std::net::IpAddr;

use firewall::explain;
use firewall::model::{Endpoint, World};
use firewall::policy::PolicySet;
use firewall::sets::Family;
use zone::PortName;

use crate::api;

/// A name, as somebody is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    name: String,
    container: PortName,
}

/// The address that is asked about in the place of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stands {
    pub(super) address: IpAddr,
    /// The resolver has said so; else it only might.
    told: bool,
}

impl Name {
    /// The name that is meant by the end of a question, if one is.
    pub(super) fn new(text: &str, from: &Endpoint) -> Option<Result<Self, String>> {
        let name = text.strip_prefix("dns:")?;
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.starts_with("*.") || name.parse::<dns::Pattern>().is_err() {
            return Some(Err(format!("{text:?} is no name of the world")));
        }
        let Endpoint::Container(container) = from else {
            return Some(Err(format!(
                "{text:?} is what the resolver tells a container: ask from one"
            )));
        };
        Some(Ok(Self {
            name,
            container: container.clone(),
        }))
    }

    /// What stands for it in each family. Where the resolver has not told the container of it lately, or another address
    /// only, that is some address of the world which it is taken to have told.
    pub(super) fn stands(&self, world: &mut World, policies: &PolicySet) -> Vec<(Family, Stands)> {
        let resolved = world.resolved.entry(self.container.clone()).or_default();
        let known: Vec<(Family, Stands)> = resolved
            .iter()
            .filter(|(_, names)| names.contains_key(self.name.as_str()))
            .map(|(address, _)| {
                let stands = Stands {
                    address: *address,
                    told: true,
                };
                (Family::of(*address), stands)
            })
            .collect();
        let mut of = Vec::new();
        for family in Family::ALL {
            of.extend(known.iter().find(|(f, _)| *f == family).cloned());
        }
        if !of.is_empty() {
            return of;
        }
        for family in Family::ALL {
            let Some(address) = explain::stand_in(world, policies, family) else {
                continue;
            };
            let resolved = world.resolved.entry(self.container.clone()).or_default();
            let names = resolved.entry(address).or_default();
            names.insert(self.name.as_str().into(), u64::MAX);
            let stands = Stands {
                address,
                told: false,
            };
            of.push((family, stands));
        }
        of
    }

    /// Tells in an answer what the address is.
    pub(super) fn tell(&self, stands: &Stands, answer: &mut api::Answer) {
        let address = stands.address.to_string();
        let Self { name, container } = self;
        let text = match stands.told {
            true => format!("{container} was told by the resolver: {name} -> {address}"),
            false => format!(
                "{container} was not told of {name} lately; whatever the resolver will say: {name} -> {address}"
            ),
        };
        let step = api::Step {
            kind: "name".to_owned(),
            text,
            from: name.clone(),
            to: address.clone(),
        };
        answer.steps.insert(0, step);
        for fix in &mut answer.fix {
            let named = format!("\"dns:{name}\"");
            fix.text = fix.text.replace(&format!("\"{address}\""), &named);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::shop;
    use super::super::{Asked, Known, explain};
    use super::*;

    fn ask(policy: &str, told: &[&str], to: &str) -> Result<api::Explanation, api::Error> {
        let (mut world, policies) = shop(policy);
        let resolved = told.iter().map(|address| {
            let names = [("www.example.org".into(), 100)].into();
            (address.parse().unwrap(), names)
        });
        let web: PortName = "web".parse().unwrap();
        world.resolved.insert(web, resolved.collect());
        let asked = Asked {
            from: "web",
            to,
            traffic: Some("tcp/443"),
            family: None,
            at: None,
        };
        let known = Known {
            foreign: None,
            ways: None,
            user_loopback: false,
            folder: "policies".into(),
            taken: Default::default(),
        };
        explain(world, &policies, &asked, &known)
    }

    const RULE: &str = "[[egress]]\nto = [\"dns:*.example.org\"]\nports = [\"tcp/443\"]\n";

    #[test]
    fn what_the_resolver_told_is_asked_about() {
        let said = ask(RULE, &["198.51.100.7"], "dns:WWW.example.org.").unwrap();
        assert_eq!((said.verdict.as_str(), said.families.len()), ("allow", 1));
        assert_eq!(said.reasons[0].line, Some(1));
        let step = &said.steps[0];
        assert_eq!(
            (step.kind.as_str(), step.from.as_str(), step.to.as_str()),
            ("name", "www.example.org", "198.51.100.7")
        );
        assert!(step.text.contains("was told"), "{}", step.text);
    }

    #[test]
    fn what_it_was_not_told_is_what_it_would_be() {
        let said = ask(RULE, &[], "dns:www.example.org").unwrap();
        assert_eq!((said.verdict.as_str(), said.families.len()), ("allow", 2));
        assert!(said.steps[0].text.contains("was not told"));
        // The stand-in is no address that a rule names.
        let net = "[[egress]]\nto = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n";
        let said = ask(net, &[], "dns:www.example.org").unwrap();
        assert_eq!(said.verdict, "deny");
        assert!(!said.steps[0].to.starts_with("203.0.113."));
        let wanted = "to = [\"dns:www.example.org\"]\n";
        assert!(said.fix[0].text.contains(wanted), "{}", said.fix[0].text);
        assert_eq!(ask(RULE, &[], "dns:example.org").unwrap().verdict, "deny");
    }

    #[test]
    fn what_is_no_name_or_nobodys_is_refused() {
        for bad in ["dns:", "dns:.", "dns:*.example.org", "dns:a..b"] {
            let error = ask(RULE, &[], bad).unwrap_err();
            assert!(
                matches!(error, api::Error::Invalid { .. }),
                "{bad}: {error:?}"
            );
        }
        let from = Name::new("dns:www.example.org", &Endpoint::Host);
        assert!(from.unwrap().is_err());
        assert_eq!(Name::new("www.example.org", &Endpoint::Host), None);
    }
}
