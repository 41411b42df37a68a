//! The capability bandwidth: `ingressRate`, `egressRate` in bits a second, `ingressBurst`, `egressBurst` in bits, as the
//! conventions of CNI have them. `ingress` is what comes to the container.

use firewall::bandwidth::{LEAST, LEAST_BURST, MOST, MOST_BURST};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::failure::{Code, Failure};
use super::network::value;
use crate::api::Limit;

const PLACE: &str = "runtimeConfig.bandwidth";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
    /// Of the bandwidth plugin: networks that are not limited, or the only ones that are.
    unshaped_subnets: Option<Vec<Value>>,
    shaped_subnets: Option<Vec<Value>>,
}

/// Reads the limits; a rate of 0 is none, a burst of 0 the one that suits the rate.
pub(super) fn read(runtime: &Map<String, Value>) -> Result<Vec<Limit>, Failure> {
    let given: Option<Given> = value(runtime, "bandwidth", PLACE)?;
    let given = given.unwrap_or_default();
    for subnets in [&given.unshaped_subnets, &given.shaped_subnets] {
        if subnets.as_ref().is_some_and(|list| !list.is_empty()) {
            let why = "netd limits all that a container sends and receives, and not by network";
            return Err(Failure::unsupported(PLACE, &runtime["bandwidth"], why));
        }
    }
    let mut limits = Vec::new();
    for (direction, rate, burst) in [
        ("ingress", given.ingress_rate, given.ingress_burst),
        ("egress", given.egress_rate, given.egress_burst),
    ] {
        if rate == 0 && burst == 0 {
            continue;
        }
        if !(LEAST..=MOST).contains(&rate) {
            let message = format!("invalid {PLACE}.{direction}Rate: {rate}");
            let details = format!("from {LEAST} to {MOST} bits a second can be kept");
            return Err(Failure::new(Code::Config, message).details(details));
        }
        // Kubernetes says "as much as fits into the field"
        let bytes = (burst / 8).clamp(LEAST_BURST, MOST_BURST);
        limits.push(Limit {
            direction: direction.to_owned(),
            rate: i64::try_from(rate).unwrap_or(i64::MAX),
            burst: (burst > 0).then(|| i64::try_from(bytes).unwrap_or(i64::MAX)),
        });
    }
    Ok(limits)
}
