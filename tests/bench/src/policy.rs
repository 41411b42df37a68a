//! Policy files of given sizes.
//!
//! The mix follows what services have: most rules name a peer and one port, a few a CIDR or a range of ports, one in
//! ten denies. Three rules in fifty are ranges, which the kernel keeps in interval sets.

use std::fmt::Write;

/// The port that measurements connect to; [`ten`] lets it through both ways.
pub(crate) const PORT: u16 = 5201;

/// Ten rules for containers labelled `role=NAME`, among them: [`PORT`] of its own zone, both ways.
pub(crate) fn ten(role: &str) -> String {
    format!(
        r#"applies-to = {{ labels = {{ role = "{role}" }} }}

[[ingress]]
from  = ["zone:bench"]
ports = ["tcp/{PORT}"]

[[ingress]]
from  = ["world"]
ports = ["tcp/443"]

[[ingress]]
from  = ["192.0.2.0/24"]
ports = ["tcp/22"]

[[ingress]]
from  = ["host"]
ports = ["tcp/9100"]

[[ingress]]
from  = ["container:proxy"]
ports = ["tcp/8080"]

[[egress]]
to    = ["zone:bench"]
ports = ["tcp/{PORT}", "tcp/5432"]

[[egress]]
to    = ["world"]
ports = ["tcp/443", "udp/123"]

[[egress]]
to    = ["world"]
ports = ["tcp/8000-8099"]

[[egress]]
to    = ["label:role=metrics"]
ports = ["tcp/9090"]

[[egress]]
action = "deny"
to     = ["198.51.100.7"]
"#
    )
}

/// `count` rules for the container `name`, number `number` of a crowd of so many.
pub(crate) fn many(name: &str, number: u32, crowd: u32, count: u32) -> String {
    let mut text = format!("applies-to = {{ container = \"{name}\" }}\n");
    for rule in 0..count {
        let port = 1024 + (number * 7 + rule * 13) % 60_000;
        let (side, peer) = if rule % 2 == 0 {
            ("egress", "to")
        } else {
            ("ingress", "from")
        };
        let neighbour = (number + rule + 1) % crowd.max(1000);
        let (action, peers, ports) = match rule % 50 {
            7 => (
                "allow",
                format!("10.{}.0.0/16", rule % 200 + 20),
                format!("tcp/{port}"),
            ),
            18 => (
                "allow",
                format!("192.0.2.{}/28", rule % 16 * 16),
                format!("tcp/{port}"),
            ),
            29 => ("allow", "world".into(), format!("tcp/{port}-{}", port + 9)),
            r if r % 10 == 4 => (
                "deny",
                format!("container:n{neighbour}"),
                format!("tcp/{port}"),
            ),
            r if r % 5 == 0 => ("allow", "world".into(), format!("tcp/{port}")),
            r if r % 5 == 1 => ("allow", "zone:bench".into(), format!("udp/{port}")),
            r if r % 5 == 2 => ("allow", "label:role=ten".into(), format!("tcp/{port}")),
            _ => (
                "allow",
                format!("container:n{neighbour}"),
                format!("tcp/{port}"),
            ),
        };
        let _ = write!(
            text,
            "\n[[{side}]]\naction = \"{action}\"\n{peer} = [\"{peers}\"]\nports = [\"{ports}\"]\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_as_many_rules_as_they_say() {
        let rules = |text: &str| text.matches("\n[[").count();
        assert_eq!(rules(&ten("ten")), 10);
        assert_eq!(rules(&many("n1", 1, 1000, 50)), 50);
    }

    #[test]
    fn ports_stay_ports() {
        for number in 0..5000 {
            for line in many("n", number, 5000, 50).lines() {
                let ports = line
                    .strip_prefix("ports = [\"tcp/")
                    .and_then(|l| l.strip_suffix("\"]"));
                for port in ports.into_iter().flat_map(|ports| ports.split('-')) {
                    assert!(port.parse::<u16>().is_ok(), "{line}");
                }
            }
        }
    }
}
