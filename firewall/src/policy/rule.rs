//! Reads one `[[ingress]]` or `[[egress]]`.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::read::{Reader, Span};
use super::suggest::nearest;
use super::{Peer, Ports, Rate, Rule, Window, lint, peer, ports, rate, window};
use crate::sets::{Action, Direction};

impl Reader<'_> {
    pub(super) fn rule(&mut self, span: Span, keys: &DeTable<'_>, direction: Direction) -> Rule {
        let (who, other) = match direction {
            Direction::Ingress => ("from", "to"),
            Direction::Egress => ("to", "from"),
        };
        let known = [
            who,
            "ports",
            "action",
            "rate",
            "max-connections",
            "log",
            "time",
        ];
        let mut rule = Rule {
            at: self.source.position(span.start),
            action: Action::Allow,
            peers: vec![Peer::Any],
            ports: None,
            rate: None,
            max_connections: None,
            log: false,
            time: None,
        };
        for (key, value) in keys.iter() {
            match &**key.get_ref() {
                name if name == who => rule.peers = self.peers(value, who, direction),
                name if name == other => {
                    let message = format!("[[{}]] has no `{other}`", direction.as_str());
                    let help = format!("did you mean `{who}`?");
                    self.error(key.span(), message, Some(help));
                }
                "ports" => rule.ports = Some(self.ports(value)),
                "action" => rule.action = self.action(value),
                "rate" => rule.rate = self.rate(value),
                "max-connections" => rule.max_connections = self.max_connections(value),
                "log" => rule.log = self.log(value),
                "time" => rule.time = self.time(value),
                name => {
                    let place = format!("[[{}]]", direction.as_str());
                    self.unknown_key(key.span(), name, &known, &place);
                }
            }
        }
        rule
    }

    /// The strings of a list that may not be empty, with their places.
    fn strings<'v>(
        &mut self,
        value: &'v Spanned<DeValue<'_>>,
        key: &str,
        empty: &str,
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
        self.strings_of(items, key)
    }

    fn strings_of<'v>(&mut self, items: &'v DeArray<'_>, key: &str) -> Vec<(Span, &'v str)> {
        let mut strings = Vec::with_capacity(items.len());
        for item in items.iter() {
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
    ) -> Vec<Peer> {
        let help = format!("leave `{key}` out to mean anybody");
        let mut peers: Vec<(Peer, Span)> = Vec::new();
        for (span, text) in self.strings(value, key, &help) {
            match peer::parse(text) {
                Ok(Peer::Dns(_)) if direction == Direction::Ingress => {
                    let message = "`dns:` opens addresses of the world to containers: it has no meaning in `from`";
                    self.error(span, message, None);
                }
                Ok(peer) => {
                    if matches!(peer, Peer::Dns(_)) {
                        self.unsupported(span.clone(), "`dns:`");
                    }
                    peers.push((peer, span));
                }
                Err((message, help)) => self.error(span, message, help),
            }
        }
        lint::once(&mut self.source, peers)
    }

    fn ports(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Ports> {
        let mut entries: Vec<(Ports, Span)> = Vec::new();
        let help = "leave `ports` out to mean every protocol and port";
        for (span, text) in self.strings(value, "ports", help) {
            match ports::parse(text) {
                Ok(entry) => {
                    lint::ports(&mut self.source, entry, &span);
                    entries.push((entry, span));
                }
                Err((message, help)) => self.error(span, message, help),
            }
        }
        lint::once(&mut self.source, entries)
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
