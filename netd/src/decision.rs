//! A line of the decision log, as programs read it: docs/schema/decision.json, docs/decisions.md.
//!
//! The daemon writes them (`daemon/decisions`), `netd policy log` reads them back.

use std::time::SystemTime;

use firewall::model::Traffic;
use firewall::policy::Ports;
use firewall::rfc3339;
use firewall::sets::Family;
use firewall::trial::{self, Record, Whose};
use serde::{Deserialize, Serialize};

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    /// RFC 3339 in UTC, with milliseconds.
    pub(crate) time: String,
    /// Whose rule it is.
    pub(crate) container: String,
    pub(crate) zone: String,
    /// `egress` or `ingress`.
    pub(crate) direction: String,
    /// `allow` or `deny`: what became of the packet.
    pub(crate) verdict: String,
    /// Whether it is the record of a file on trial.
    pub(crate) audit: bool,
    /// What would have become of it with the files on trial in force.
    pub(crate) would: Option<String>,
    /// The file that decides, or would.
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
    /// A sentence for people.
    pub(crate) text: String,
    /// Who opens the connection.
    pub(crate) from: End,
    /// To whom, after address translation.
    pub(crate) to: End,
    /// As `netd explain` takes it: `tcp/5432`.
    pub(crate) traffic: String,
    /// `tcp`, `icmp`, `gre`, or a number.
    pub(crate) protocol: String,
    /// The server's.
    pub(crate) port: Option<u16>,
    /// As IPv4 numbers it, in IPv6 too.
    pub(crate) icmp_type: Option<u8>,
    /// 4 or 6.
    pub(crate) family: u8,
    /// From outside, to a port that the container publishes.
    pub(crate) published: bool,
    /// How many decisions before this one were not recorded.
    pub(crate) lost: u64,
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// `container`, `host`, `world`, or `other`.
    pub(crate) who: String,
    pub(crate) container: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) address: String,
}

impl Decision {
    /// A record of the firewall, made at a time.
    pub(crate) fn new(record: &Record, time: SystemTime, lost: u64) -> Self {
        let traffic = Ports::from(record.traffic).to_string();
        let (port, icmp_type) = match record.traffic {
            Traffic::Port(_, port) => (Some(port), None),
            Traffic::Icmp(kind) => (None, Some(kind)),
            Traffic::Proto(_) => (None, None),
        };
        let protocol = match traffic.split_once('/') {
            Some(("proto", number)) => number,
            Some((name, _)) => name,
            None => &traffic,
        };
        Self {
            time: rfc3339::millis(time),
            container: record.container.to_string(),
            zone: record.zone.to_string(),
            direction: record.direction.as_str().to_owned(),
            verdict: record.verdict.as_str().to_owned(),
            audit: record.would.is_some(),
            would: record.would.map(|would| would.as_str().to_owned()),
            file: record.file.clone(),
            line: record.at.map(|at| at.line),
            column: record.at.map(|at| at.column),
            text: record.text.clone(),
            from: End::new(&record.from),
            to: End::new(&record.to),
            protocol: protocol.to_owned(),
            traffic,
            port,
            icmp_type,
            family: match record.family {
                Family::V4 => 4,
                Family::V6 => 6,
            },
            published: record.published,
            lost,
        }
    }

    /// `FILE:LINE:COLUMN`, if a file decides.
    pub(crate) fn place(&self) -> Option<String> {
        let mut place = self.file.clone()?;
        for number in [self.line, self.column].into_iter().flatten() {
            place.push_str(&format!(":{number}"));
        }
        Some(place)
    }
}

impl End {
    fn new(end: &trial::End) -> Self {
        let (who, container, zone) = match &end.who {
            Whose::Container(name, zone) => ("container", Some(name), Some(zone)),
            Whose::Host => ("host", None, None),
            Whose::World => ("world", None, None),
            Whose::Other => ("other", None, None),
        };
        Self {
            who: who.to_owned(),
            container: container.map(ToString::to_string),
            zone: zone.map(ToString::to_string),
            address: end.address.to_string(),
        }
    }

    /// A name where there is one, and the address.
    pub(crate) fn shown(&self) -> String {
        match (&self.container, self.who.as_str()) {
            (Some(name), _) => format!("{name} ({})", self.address),
            (None, "other") => self.address.clone(),
            (None, who) => format!("{who} ({})", self.address),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use firewall::sets::{Action, Direction};

    use super::*;

    /// web of zone dmz asks db for something.
    pub(crate) fn record(traffic: Traffic, verdict: Action) -> Record {
        let end = |name: &str, address: &str| trial::End {
            who: Whose::Container(name.parse().unwrap(), "dmz".parse().unwrap()),
            address: address.parse().unwrap(),
        };
        Record {
            container: "web".parse().unwrap(),
            zone: "dmz".parse().unwrap(),
            direction: Direction::Egress,
            verdict,
            would: Some(Action::Deny),
            file: Some("policies/web.toml".into()),
            at: Some(firewall::diagnostics::Position { line: 3, column: 1 }),
            text: "denies to container:db on tcp/5432".into(),
            from: end("web", "10.89.0.2"),
            to: end("db", "10.89.0.3"),
            traffic,
            family: Family::V4,
            published: false,
        }
    }

    #[test]
    fn a_line_as_it_is_documented() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_340_000_123);
        let decision = Decision::new(&record(Traffic::Port(6, 5432), Action::Allow), time, 7);
        let line = serde_json::to_string(&decision).unwrap();
        assert_eq!(
            line,
            "{\"time\":\"2026-11-22T09:33:20.123Z\",\"container\":\"web\",\"zone\":\"dmz\",\"direction\":\"egress\",\
             \"verdict\":\"allow\",\"audit\":true,\"would\":\"deny\",\"file\":\"policies/web.toml\",\"line\":3,\"column\":1,\
             \"text\":\"denies to container:db on tcp/5432\",\
             \"from\":{\"who\":\"container\",\"container\":\"web\",\"zone\":\"dmz\",\"address\":\"10.89.0.2\"},\
             \"to\":{\"who\":\"container\",\"container\":\"db\",\"zone\":\"dmz\",\"address\":\"10.89.0.3\"},\
             \"traffic\":\"tcp/5432\",\"protocol\":\"tcp\",\"port\":5432,\"icmp_type\":null,\"family\":4,\"published\":false,\"lost\":7}"
        );
        assert_eq!(serde_json::from_str::<Decision>(&line).unwrap(), decision);
        assert_eq!(decision.place().as_deref(), Some("policies/web.toml:3:1"));
    }

    #[test]
    fn the_schema_has_these_fields_and_no_others() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/schema/decision.json")).unwrap();
        let decision = Decision::new(&record(Traffic::Icmp(8), Action::Deny), UNIX_EPOCH, 0);
        let line = serde_json::to_value(&decision).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&schema["properties"]), keys(&line));
        assert_eq!(
            keys(&schema["properties"]["to"]["properties"]),
            keys(&line["to"])
        );
        assert_eq!(
            schema["required"].as_array().unwrap().len(),
            keys(&line).len()
        );
    }

    #[test]
    fn protocols_by_name() {
        for (traffic, protocol, port, icmp_type) in [
            (Traffic::Port(17, 53), "udp", Some(53), None),
            (Traffic::Icmp(8), "icmp", None, Some(8)),
            (Traffic::Proto(47), "gre", None, None),
            (Traffic::Proto(200), "200", None, None),
        ] {
            let decision = Decision::new(&record(traffic, Action::Deny), UNIX_EPOCH, 0);
            assert_eq!(decision.protocol, protocol);
            assert_eq!((decision.port, decision.icmp_type), (port, icmp_type));
        }
    }
}
