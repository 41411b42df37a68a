//! Reads one `[[ingress]]` or `[[egress]]`.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use std::collections::BTreeSet;

use super::limits::{MAX_PEERS, MAX_PORTS};
use super::place::RulePlace;
use super::read::{Reader, Span};
use super::suggest::nearest;
use super::{Peer, Ports, Rate, Rule, Window, lint, peer, ports, rate, window};
use crate::sets::{Action, Direction};

/// Keys of a rule beside `from` or `to`.
pub(super) const KEYS: [&str; 6] = ["ports", "action", "rate", "max-connections", "log", "time"];

impl Reader<'_> {
    pub(super) fn rule(
        &mut self,
        place: &mut RulePlace,
        keys: &DeTable<'_>,
        direction: Direction,
    ) -> Rule {
        let (who, other) = match direction {
            Direction::Ingress => ("from", "to"),
            Direction::Egress => ("to", "from"),
        };
        let mut rule = Rule {
            at: self.source.position(place.span.start),
            action: Action::Allow,
            peers: vec![Peer::Any],
            written: None,
            ports: None,
            rate: None,
            max_connections: None,
            log: false,
            time: None,
        };
        for (key, value) in keys.iter() {
            match &**key.get_ref() {
                name if name == who => self.peers(value, who, direction, &mut rule, place),
                name if name == other => {
                    let message = format!("[[{}]] has no `{other}`", direction.as_str());
                    let help = format!("did you mean `{who}`?");
                    self.error(key.span(), message, Some(help));
                }
                "ports" => {
                    rule.ports = Some(self.ports(value, place));
                }
                "action" => rule.action = self.action(value),
                "rate" => {
                    rule.rate = self.rate(value);
                    place.rate = Some(key.span());
                }
                "max-connections" => {
                    rule.max_connections = self.max_connections(value);
                    place.max_connections = Some(key.span());
                }
                "log" => rule.log = self.log(value),
                "time" => rule.time = self.time(value),
                name => {
                    let known: Vec<&str> = [who].into_iter().chain(KEYS).collect();
                    let place = format!("[[{}]]", direction.as_str());
                    self.unknown_key(key.span(), name, &known, &place);
                }
            }
        }
        self.limits(&rule, place);
        self.count(&rule, place.span.clone());
        rule
    }

    /// Limits that have no meaning where they stand.
    fn limits(&mut self, rule: &Rule, place: &RulePlace) {
        let given = [
            (&place.rate, "rate"),
            (&place.max_connections, "max-connections"),
        ];
        for (span, key) in given {
            if let Some(span) = span
                && rule.action == Action::Deny
            {
                let message = format!(
                    "`{key}` has no meaning in a rule that denies: a deny closes, and nothing of it passes"
                );
                let help =
                    format!("to let so many through, write `{key}` into the rule that allows them");
                self.error(span.clone(), message, Some(help));
            }
        }
        let dns = |(peers, _): &&(Vec<Peer>, Span)| peers.iter().any(|p| matches!(p, Peer::Dns(_)));
        if rule.action == Action::Deny
            && let Some((_, span)) = place.peers.iter().find(dns)
        {
            let message = "`dns:` opens what a name resolves to: it cannot close anything, since who knows the address \
                           needs no name";
            let help = "deny addresses or networks";
            self.error(span.clone(), message, Some(help.into()));
        }
        let icmp = |ports: &Ports| matches!(ports, Ports::Icmp(_) | Ports::EveryIcmp);
        if let (Some(span), Some(ports)) = (&place.max_connections, &rule.ports)
            && !ports.is_empty()
            && ports.iter().all(icmp)
        {
            let message = "`max-connections` counts for little here: ICMP has no connections, only a message and its answer";
            let help = "write `rate` to limit how often messages come";
            self.source.lint(
                lint::POINTLESS,
                span.clone(),
                message.into(),
                Some(help.into()),
            );
        }
    }

    /// The strings of a list that may not be empty, with their places.
    fn strings<'v>(
        &mut self,
        value: &'v Spanned<DeValue<'_>>,
        key: &str,
        empty: &str,
        most: usize,
    ) -> Vec<(Span, &'v str)> {
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(value, key, "a list of strings");
            return Vec::new();
        };
        if items.is_empty() {
            self.error(
                value.span(),
                format!("`{key}` is empty"),
                Some(empty.to_owned()),
            );
        }
        if items.len() > most {
            self.too_many_entries(value.span(), key, items.len(), most);
            return Vec::new();
        }
        self.strings_of(items, key)
    }

    pub(super) fn strings_of<'v>(
        &mut self,
        items: &'v DeArray<'_>,
        key: &str,
    ) -> Vec<(Span, &'v str)> {
        let mut strings = Vec::with_capacity(items.len());
        for item in items.iter() {
            if self.source.is_full() {
                break;
            }
            match item.get_ref().as_str() {
                Some(text) => strings.push((item.span(), text)),
                None => self.wrong_type(item, key, "a list of strings"),
            }
        }
        strings
    }

    fn peers(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        direction: Direction,
        rule: &mut Rule,
        place: &mut RulePlace,
    ) {
        let help = format!("leave `{key}` out to mean anybody");
        let mut written: Vec<String> = Vec::new();
        let mut has_groups = false;
        for (span, text) in self.strings(value, key, &help, MAX_PEERS) {
            if self.source.is_full() {
                break;
            }
            let found = match text.strip_prefix('@') {
                Some(name) => {
                    has_groups = true;
                    self.group(name, span.clone())
                }
                None => self.peer(text, span.clone()).map(|peer| vec![peer]),
            };
            let Some(found) = found else { continue };
            if direction == Direction::Ingress
                && let Some(name) = found.iter().find(|p| matches!(p, Peer::Dns(_)))
            {
                let by = if text.starts_with('@') {
                    format!(" (`{text}` has {name})")
                } else {
                    String::new()
                };
                let message = format!(
                    "`dns:` opens addresses of the world to containers: it has no meaning in `from`{by}"
                );
                self.error(span.clone(), message, None);
            }
            let shown = match found.as_slice() {
                [peer] if !text.starts_with('@') => peer.to_string(),
                _ => text.to_owned(),
            };
            place.peers.push((found, span));
            written.push(shown);
        }
        let mut said = BTreeSet::new();
        for (text, (_, span)) in written.iter().zip(&place.peers) {
            if !said.insert(text) {
                lint::twice(&mut self.source, span.clone(), text);
            }
        }
        let mut seen = BTreeSet::new();
        let all = place.peers.iter().flat_map(|(peers, _)| peers);
        rule.peers = all.filter(|peer| seen.insert(*peer)).cloned().collect();
        if rule.peers.len() > MAX_PEERS {
            self.too_many_entries(value.span(), key, rule.peers.len(), MAX_PEERS);
        }
        if has_groups {
            rule.written = Some(written.join(", ").into());
        }
    }

    fn peer(&mut self, text: &str, span: Span) -> Option<Peer> {
        match peer::parse(text) {
            Ok(peer) => Some(peer),
            Err((message, help)) => {
                self.error(span, message, help);
                None
            }
        }
    }

    /// The peers of a group.
    fn group(&mut self, name: &str, span: Span) -> Option<Vec<Peer>> {
        // also where there is none (yet): the file is to be read again when groups change
        self.used.insert(name.to_owned());
        if let Some(group) = self.groups.get(name) {
            return Some(group.peers.to_vec());
        }
        let (message, help) = self.groups.unknown(name);
        self.error(span, message, help);
        None
    }

    fn ports(&mut self, value: &Spanned<DeValue<'_>>, place: &mut RulePlace) -> Vec<Ports> {
        let mut entries: Vec<(Ports, Span)> = Vec::new();
        let help = "leave `ports` out to mean every protocol and port";
        for (span, text) in self.strings(value, "ports", help, MAX_PORTS) {
            match ports::parse(text) {
                Ok(entry) => {
                    lint::ports(&mut self.source, entry, &span);
                    entries.push((entry, span));
                }
                Err((message, help)) => self.error(span, message, help),
            }
        }
        let kept = lint::once(&mut self.source, &entries);
        place.ports = entries;
        kept
    }

    fn action(&mut self, value: &Spanned<DeValue<'_>>) -> Action {
        match value.get_ref().as_str() {
            Some("allow") => return Action::Allow,
            Some("deny") => return Action::Deny,
            Some(other) => {
                let help = match nearest(other, ["allow", "deny"]) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "write \"allow\" or \"deny\"".into(),
                };
                self.error(
                    value.span(),
                    format!("unknown action {other:?}"),
                    Some(help),
                );
            }
            None => self.wrong_type(value, "action", "\"allow\" or \"deny\""),
        }
        // the file is refused; as an allow it gives rise to no warning
        Action::Allow
    }

    fn rate(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Rate> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, "rate", "a string such as \"50/second burst 100\"");
            return None;
        };
        match rate::parse(text) {
            Ok(rate) => Some(rate),
            Err((message, help)) => {
                self.error(value.span(), message, Some(help));
                None
            }
        }
    }

    fn max_connections(&mut self, value: &Spanned<DeValue<'_>>) -> Option<u32> {
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok())
            .filter(|&n| n > 0);
        match number {
            Some(_) => {}
            None if value.get_ref().is_integer() => {
                let message = "`max-connections` is not from 1 to 4294967295";
                self.error(value.span(), message, None);
            }
            None => self.wrong_type(value, "max-connections", "a number"),
        }
        number
    }

    fn time(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Window> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, "time", "a string such as \"Mon-Fri 08:00-18:00\"");
            return None;
        };
        match window::parse(text) {
            Ok(window) => Some(window),
            Err((message, help)) => {
                self.error(value.span(), message, Some(help));
                None
            }
        }
    }

    fn log(&mut self, value: &Spanned<DeValue<'_>>) -> bool {
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(value, "log", "true or false");
            false
        })
    }
}
