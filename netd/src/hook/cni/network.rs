//! The configuration of a network, as the runtime gives it on standard input.

use serde::Deserialize;
use serde_json::{Map, Value};
use zone::ZoneName;

use super::call::is_identifier;
use super::failure::{Code, Failure};
use super::result::Version;
use crate::cli::Context;
use crate::dirs::Dirs;

/// Keys of the specification, and netd's own. What is not among them is refused: a wish that is misspelt would be a
/// wish that nobody heard.
const KEYS: [&str; 20] = [
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "capabilities",
    "runtimeConfig",
    "args",
    "prevResult",
    "dns",
    "ipam",
    "ipMasq",
    "disableCheck",
    "disableGC",
    "zone",
    "labels",
    "publish",
    "namespaces",
    "configDir",
    "stateDir",
    "runtimeDir",
];

/// A configuration, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    keys: Map<String, Value>,
}

impl Network {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let message = "standard input does not hold a network configuration";
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(keys)) => Ok(Self { keys }),
            Ok(_) => Err(Failure::new(Code::Decode, message).details("it is no object")),
            Err(e) => Err(Failure::new(Code::Decode, message).details(e)),
        }
    }

    /// The version that it is written in, and that is answered in.
    pub(super) fn version(&self) -> Result<Version, Failure> {
        // None was 0.1.0 once: too old.
        let version: String = self.one("cniVersion")?.unwrap_or_else(|| "0.1.0".into());
        Version::parse(&version).ok_or_else(|| {
            let known: Vec<_> = Version::ALL.iter().map(|v| v.as_str()).collect();
            Failure::new(Code::Version, "incompatible CNI versions").details(format!(
                "config is {version:?}, netd supports {}",
                known.join(", ")
            ))
        })
    }

    /// With a name that can be one.
    pub(super) fn named(self) -> Result<Self, Failure> {
        match self.keys.get("name") {
            Some(Value::String(name)) if is_identifier(name) => Ok(self),
            Some(name) => Err(Failure::new(
                Code::Config,
                format!("invalid network name: {name}"),
            )),
            None => Err(Failure::new(Code::Config, "missing network name")),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.keys
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether netd is to put another plugin's container under policy.
    pub(super) fn is_chained(&self) -> Result<bool, Failure> {
        Ok(self.one::<String>("type")?.as_deref() == Some("netd-policy"))
    }

    pub(super) fn zone(&self) -> Result<ZoneName, Failure> {
        let zone: Option<String> = self.one("zone")?;
        let zone = zone.ok_or_else(|| {
            Failure::new(Code::Config, "missing key zone").details(
                "name the zone that containers of this network belong to: \"zone\": \"NAME\"",
            )
        })?;
        zone.parse()
            .map_err(|e| Failure::new(Code::Config, format!("invalid zone: {zone:?}")).details(e))
    }

    /// Refuses keys that nobody would look at.
    pub(super) fn only_known_keys(&self) -> Result<(), Failure> {
        let known = |key: &str| KEYS.contains(&key) || key.starts_with("cni.dev/");
        match self.keys.iter().find(|(key, _)| !known(key)) {
            Some((key, value)) => Err(Failure::unsupported(key, value, "no such key is known")),
            None => Ok(()),
        }
    }

    /// The value of a key; absent and null are the same.
    pub(super) fn one<T: for<'a> Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, Failure> {
        value(&self.keys, key, key)
    }

    /// The object under a key, empty where it is absent.
    pub(super) fn object(&self, key: &str) -> Result<Map<String, Value>, Failure> {
        Ok(self.one(key)?.unwrap_or_default())
    }

    pub(super) fn previous(&self) -> Option<&Map<String, Value>> {
        self.keys.get("prevResult").and_then(Value::as_object)
    }

    /// Ids and interfaces of attachments that are to stay. To be without the list is an error, not an empty list.
    pub(super) fn valid_attachments(&self) -> Result<Vec<(String, String)>, Failure> {
        #[derive(Deserialize)]
        struct Attachment {
            #[serde(rename = "containerID")]
            container: String,
            ifname: String,
        }
        // The second is what libcni wrote before the specification was corrected.
        let names = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let Some(name) = names.into_iter().find(|name| self.keys.contains_key(*name)) else {
            return Err(Failure::new(
                Code::Config,
                "GC needs cni.dev/valid-attachments",
            ));
        };
        let list: Vec<Attachment> = self.one(name)?.unwrap_or_default();
        Ok(list.into_iter().map(|a| (a.container, a.ifname)).collect())
    }

    /// The instance of netd that it is about, where the configuration names another than the surroundings do.
    pub(super) fn instance(&self, context: &Context) -> Result<Context, Failure> {
        let mut dirs = context.dirs.clone();
        let Dirs {
            config,
            state,
            runtime,
        } = &mut dirs;
        for (key, dir) in [
            ("configDir", config),
            ("stateDir", state),
            ("runtimeDir", runtime),
        ] {
            if let Some(path) = self.one::<std::path::PathBuf>(key)? {
                if !path.is_absolute() {
                    let message = format!("{key} {} is no absolute path", path.display());
                    return Err(Failure::new(Code::Config, message));
                }
                *dir = path;
            }
        }
        Ok(Context {
            dirs,
            json: context.json,
            autostart: context.autostart,
        })
    }
}

/// The value of a key of an object, told as `place`; absent and null are the same.
pub(super) fn value<T: for<'a> Deserialize<'a>>(
    object: &Map<String, Value>,
    key: &str,
    place: &str,
) -> Result<Option<T>, Failure> {
    let Some(value) = object.get(key).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    T::deserialize(value)
        .map(Some)
        .map_err(|e| Failure::new(Code::Config, format!("invalid {place}: {value}")).details(e))
}
