//! Hooks that this crate runs itself: poststop ones, because libcontainer would run them only after a start that went
//! well, and a network must be taken down in any case; and all of a program without a root of its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::settings::{Hook, Network, Pending};
use crate::spec;
use crate::wire::Failure;

/// poststop hooks of a container, the network's last: what others set up may still need it.
fn poststop<'a>(plan: &Plan<'a>) -> impl Iterator<Item = &'a Hook> {
    let network = match &plan.settings.network {
        Network::Hook { detach, .. } => detach.as_ref(),
        Network::Host | Network::Private | Network::Namespace(_) | Network::Caller(_) => None,
    };
    plan.settings.hooks.poststop.iter().chain(network)
}

/// createRuntime hooks, the network's first.
pub(crate) fn create_runtime<'a>(plan: &Plan<'a>) -> impl Iterator<Item = &'a Hook> {
    let network = match &plan.settings.network {
        Network::Hook { attach, .. } => Some(attach),
        Network::Host | Network::Private | Network::Namespace(_) | Network::Caller(_) => None,
    };
    network
        .into_iter()
        .chain(&plan.settings.hooks.create_runtime)
}

/// A network that the caller's own code sets up or takes down meanwhile. Dropping it waits for that, so that nothing overtakes it.
#[derive(Default)]
pub(crate) struct UnderWay(Option<Pending>);

impl UnderWay {
    /// Waits until it is done.
    pub(crate) fn wait(mut self) -> Result<(), String> {
        self.0.take().map_or(Ok(()), |pending| pending())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(pending) = self.0.take() {
            let _ = pending();
        }
    }
}

/// Has the caller's own code begin with the network of the namespace of this process (`pid`), which is not the host's.
pub(crate) fn begin_attach(
    plan: &Plan<'_>,
    bundle: &Path,
    pid: i32,
    netns: BorrowedFd<'_>,
) -> Result<UnderWay, Failure> {
    let Network::Caller(caller) = &plan.settings.network else {
        return Ok(UnderWay::default());
    };
    let pending = caller.attach(
        &state_for_caller(plan, bundle, "creating", Some(pid)),
        netns,
    );
    pending
        .map(|pending| UnderWay(Some(pending)))
        .map_err(not_set_up)
}

pub(crate) fn not_set_up(how: String) -> Failure {
    Failure::Hook {
        reason: format!("the network was not set up, so the command was not run: {how}"),
        stderr: String::new(),
    }
}

/// The network that the caller's own code sets up for a process that waits for its command, from begin to end.
pub(crate) fn attach(plan: &Plan<'_>, bundle: &Path, pid: i32) -> Result<(), Failure> {
    if !matches!(plan.settings.network, Network::Caller(_)) {
        return Ok(());
    }
    let open = |whose: &str| File::open(format!("/proc/{whose}/ns/net"));
    let of_its_own = || -> io::Result<File> {
        let (its, ours) = (open(&pid.to_string())?, open("self")?);
        let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        match id(&its)? == id(&ours)? {
            true => Err(io::Error::other("it is the host's")),
            false => Ok(its),
        }
    };
    let netns = of_its_own().map_err(|e| not_set_up(format!("open its network namespace: {e}")))?;
    let under_way = begin_attach(plan, bundle, pid, netns.as_fd())?;
    under_way.wait().map_err(not_set_up)
}

/// All that is to be done on the host after the end of a container. Goes on past errors, which it returns; the caller's own code may
/// not be done yet.
pub(crate) fn after(plan: &Plan<'_>, bundle: &Path) -> (Vec<String>, UnderWay) {
    let state = state(plan, bundle, "stopped", None);
    let mut warnings: Vec<String> = poststop(plan)
        .filter_map(|hook| run("poststop", hook, &state).err())
        .collect();
    let mut under_way = UnderWay::default();
    if let Network::Caller(caller) = &plan.settings.network {
        match caller.detach(&state_for_caller(plan, bundle, "stopped", None)) {
            Ok(pending) => under_way = UnderWay(Some(pending)),
            Err(how) => warnings.push(how),
        }
    }
    (warnings, under_way)
}

/// What the caller's own code is told: the state, and where the root is, so that it need not read that in the bundle.
fn state_for_caller(plan: &Plan<'_>, bundle: &Path, status: &str, pid: Option<i32>) -> Value {
    let mut state = state(plan, bundle, status, pid);
    state["root"] = json!(plan.root);
    state
}

/// The OCI state of a container; `pid` as the host counts.
pub(crate) fn state(plan: &Plan<'_>, bundle: &Path, status: &str, pid: Option<i32>) -> Value {
    let mut state = json!({
        "ociVersion": "1.0.2",
        "id": plan.settings.name.as_str(),
        "status": status,
        "bundle": bundle,
        "annotations": spec::annotations(plan),
    });
    if let Some(pid) = pid {
        state["pid"] = pid.into();
    }
    state
}

/// Runs one hook of a stage. The error is a sentence that names it.
pub(crate) fn run(stage: &str, hook: &Hook, state: &Value) -> Result<(), String> {
    let fail = |what: String| format!("{stage} hook {}: {what}", hook.path.display());
    let mut command = Command::new(&hook.path);
    if let Some((zero, rest)) = hook.args.split_first() {
        command.arg0(zero).args(rest);
    }
    let env = hook.env.iter().filter_map(|pair| pair.split_once('='));
    let mut child = command
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| fail(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // a hook that does not read its state is free to end; what it returns decides
        let _ = stdin.write_all(state.to_string().as_bytes());
    }
    if let Some(limit) = hook.timeout
        && !ends_within(&child, limit).map_err(|e| fail(e.to_string()))?
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(fail(format!("killed after {} s", limit.as_secs_f32())));
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(fail(status.to_string())),
        Err(e) => Err(fail(e.to_string())),
    }
}

fn ends_within(child: &Child, limit: Duration) -> io::Result<bool> {
    let pid = Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).ok();
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, limit.as_ref()))? > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str, timeout: Option<Duration>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["hook".into(), "-c".into(), script.into()],
            env: vec!["KEY=va=lue".into()],
            timeout,
        }
    }

    #[test]
    fn a_hook_gets_its_state_and_its_environment_alone() {
        let script = r#"grep -q '"id":"web"' && [ "$KEY" = va=lue ] && [ -z "$CARGO" ]"#;
        run("poststop", &shell(script, None), &json!({ "id": "web" })).unwrap();
        run("poststop", &shell(script, None), &json!({ "id": "db" })).unwrap_err();
    }

    #[test]
    fn a_hook_that_fails_or_hangs_is_named() {
        let failed = run("poststop", &shell("exit 3", None), &json!({})).unwrap_err();
        assert_eq!(failed, "poststop hook /bin/sh: exit status: 3");
        let slow = shell("exec sleep 60", Some(Duration::from_millis(50)));
        assert_eq!(
            run("poststop", &slow, &json!({})).unwrap_err(),
            "poststop hook /bin/sh: killed after 0.05 s"
        );
    }
}
