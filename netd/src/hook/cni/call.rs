//! What a runtime says by variables: the command, and which container it is about.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use zone::IfName;

use super::DOOR;
use super::failure::{Code, Failure};
use super::result::Version;

/// The environment.
pub(super) type Variables<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    pub(super) fn read(variables: &Variables<'_>) -> Result<Self, Failure> {
        match text(variables, "CNI_COMMAND")?.as_str() {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            other => Err(invalid("CNI_COMMAND", other)
                .details("it is none of ADD, DEL, CHECK, GC, STATUS, VERSION")),
        }
    }

    /// Whether that version of the specification has it.
    pub(super) fn known_in(self, version: Version) -> Result<(), Failure> {
        let (name, since) = match self {
            Self::Add | Self::Del | Self::Version => return Ok(()),
            Self::Check => ("CHECK", Version::V0_4_0),
            Self::Gc => ("GC", Version::V1_1_0),
            Self::Status => ("STATUS", Version::V1_1_0),
        };
        if version >= since {
            return Ok(());
        }
        let message = format!(
            "version {} of the configuration does not allow {name}, {} and later do",
            version.as_str(),
            since.as_str()
        );
        Err(Failure::new(Code::Version, message))
    }
}

/// The attachment that a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The runtime's id of the container.
    pub(super) container: String,
    /// Empty where it was not given and is not needed.
    pub(super) netns: PathBuf,
    pub(super) ifname: IfName,
    /// CNI_ARGS.
    pub(super) args: BTreeMap<String, String>,
}

impl Call {
    /// Reads and checks the variables of ADD, DEL and CHECK.
    pub(super) fn read(variables: &Variables<'_>, needs_netns: bool) -> Result<Self, Failure> {
        let container = text(variables, "CNI_CONTAINERID");
        let ifname = text(variables, "CNI_IFNAME");
        let netns = variables("CNI_NETNS").filter(|path| !path.is_empty());
        let mut missing = Vec::new();
        for (name, is_missing) in [
            ("CNI_CONTAINERID", container.is_err()),
            ("CNI_NETNS", netns.is_none() && needs_netns),
            ("CNI_IFNAME", ifname.is_err()),
        ] {
            if is_missing {
                missing.push(name);
            }
        }
        if missing.len() > 1 {
            return Err(required(&missing.join(",")));
        }
        let container = container?;
        if !is_identifier(&container) {
            return Err(invalid("CNI_CONTAINERID", &container).details(
                "it holds letters, digits, '_', '.' and '-', and begins with one of the former two",
            ));
        }
        let ifname = ifname?;
        let ifname = ifname
            .parse()
            .map_err(|e| invalid("CNI_IFNAME", &ifname).details(e))?;
        if netns.is_none() && needs_netns {
            return Err(required("CNI_NETNS"));
        }
        let args = match variables("CNI_ARGS") {
            Some(args) => pairs(&args.to_string_lossy())?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            container,
            netns: netns.map(PathBuf::from).unwrap_or_default(),
            ifname,
            args,
        })
    }

    /// By what the daemon knows this attachment.
    pub(super) fn owner(&self, network: &str) -> String {
        owner(network, &self.container, self.ifname.as_str())
    }
}

/// By what the daemon knows an attachment. None of the parts may hold a slash.
pub(super) fn owner(network: &str, container: &str, ifname: &str) -> String {
    format!("{DOOR}/{network}/{container}/{ifname}")
}

/// Whether the specification lets this be a container's id or a network's name.
pub(super) fn is_identifier(text: &str) -> bool {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    first && text.bytes().all(plain)
}

/// `KEY=VALUE;KEY=VALUE`
fn pairs(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut pairs = BTreeMap::new();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(invalid("CNI_ARGS", text).details(format!("{pair:?} is not KEY=VALUE")));
        };
        pairs.insert(key.to_owned(), value.to_owned());
    }
    Ok(pairs)
}

fn text(variables: &Variables<'_>, name: &'static str) -> Result<String, Failure> {
    let value = variables(name).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| required(name))?;
    value
        .into_string()
        .map_err(|value| invalid(name, &value.to_string_lossy()).details("it is not UTF-8"))
}

fn required(names: &str) -> Failure {
    Failure::new(
        Code::Environment,
        format!("required env variables [{names}] missing"),
    )
}

/// A variable whose value cannot be.
pub(super) fn invalid(name: &str, value: &str) -> Failure {
    Failure::new(
        Code::Environment,
        format!("invalid env variable {name}: {value:?}"),
    )
}
