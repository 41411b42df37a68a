//! `netd attach`, `netd detach`

use std::os::fd::AsFd;
use std::process::ExitCode;

use serde::Serialize;
use zone::{ContainerName, ZoneName};

use super::Context;
use super::args::{AttachArgs, Configure};
use super::output;
use crate::api::{AttachRequest, Container};
use crate::client::Attached;
use crate::error::Error;
use crate::resolv::{self, Wish};
use crate::{netns, networks, values};

impl AttachArgs {
    /// As the control socket has it, but for the zones. The network namespace travels as a descriptor.
    fn request(&self) -> Result<AttachRequest, Error> {
        let labels = values::label_map(&self.label)
            .map_err(|e| Error::Invalid(format!("attach {}: --label: {e}", self.container)))?;
        let bandwidth = self.bandwidth.as_deref().map(values::bandwidth);
        let bandwidth = bandwidth
            .transpose()
            .map_err(|e| Error::Invalid(format!("attach {}: --bandwidth: {e}", self.container)))?;
        Ok(AttachRequest {
            container: self.container.to_string(),
            configure: self.configure.map(|how| how.as_str().to_owned()),
            addresses: self.ip.iter().map(|a| a.to_string()).collect(),
            mac: self.mac.map(|mac| mac.to_string()),
            labels,
            publish: self.publish.clone(),
            bandwidth: bandwidth.unwrap_or_default(),
            netns_name: match self.resolv_conf {
                Some(Wish::Off) => None,
                _ => self.netns.as_deref().and_then(netns::name),
            },
            ..AttachRequest::default()
        })
    }

    /// Whether netd configures the interface, and so tells of resolvers.
    fn is_static(&self) -> bool {
        matches!(self.configure, None | Some(Configure::Static))
    }

    fn wish(&self) -> Result<Wish, Error> {
        let wish = self.resolv_conf.unwrap_or_default();
        let why = match wish {
            Wish::Auto | Wish::Off => return Ok(wish),
            Wish::Replace if self.pid.is_none() => "it needs the container's files: give --pid",
            Wish::Replace if !self.is_static() => {
                "with --configure=dhcp or none somebody inside writes it"
            }
            Wish::Replace => return Ok(wish),
        };
        Err(Error::Invalid(format!(
            "attach {}: --resolv-conf=replace: {why}",
            self.container
        )))
    }
}

pub(super) fn attach(context: &Context, args: AttachArgs) -> Result<ExitCode, Error> {
    let request = args.request()?;
    let wish = args.wish()?;
    // One of the two is there: the command line wants exactly one.
    let netns = match (&args.netns, args.pid) {
        (Some(path), _) => netns::open_path(path),
        (None, Some(pid)) => netns::open_pid(pid),
        (None, None) => Err(Error::Invalid("give --netns PATH or --pid PID".into())),
    }
    .map_err(Error::attaching(args.container.as_str()))?;
    let mut client = context.connect()?;
    let mut answer = networks::attach(
        &mut client,
        &request,
        &args.zone,
        &args.ifname,
        netns.as_fd(),
    )?;
    if let Some(pid) = args.pid.filter(|_| args.is_static()) {
        let process = resolv::Process {
            pid,
            prepared: None,
        };
        let given = resolv::give(&process, netns.as_fd(), &answer.container, wish);
        answer
            .warnings
            .extend(given.err().map(|e| resolv::warning(&e)));
    }
    report(context, &answer)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what an attach came to, warnings on standard error.
fn report(context: &Context, answer: &Attached) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(flatten)]
        container: &'a Container,
        created: bool,
        warnings: &'a [String],
    }
    for warning in &answer.warnings {
        output::note(&format!("warning: {warning}"));
    }
    if context.json {
        output::print_json(&Document {
            container: &answer.container,
            created: answer.created,
            warnings: &answer.warnings,
        })
    } else {
        output::print(&output::attached(answer))
    }
}

pub(super) fn detach(
    context: &Context,
    container: &ContainerName,
    zone: Option<&ZoneName>,
) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        container: &'a ContainerName,
        detached: bool,
    }
    let detached = context.connect()?.detach(container, zone)?;
    if context.json {
        output::print_json(&Document {
            container,
            detached,
        })?;
    } else {
        let how = if detached {
            "detached"
        } else {
            "was not attached"
        };
        output::print(&format!("{container} {how}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
