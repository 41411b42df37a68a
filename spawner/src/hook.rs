//! Hooks that this crate runs itself: poststop ones, because libcontainer would run them only after a start that went
//! well, and a network must be taken down in any case; and all of a program without a root of its own.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::settings::{Hook, Network};
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

/// The network that the caller's own code sets up, before the command runs.
pub(crate) fn attach(plan: &Plan<'_>, bundle: &std::path::Path, pid: i32) -> Result<(), Failure> {
    let Network::Caller(caller) = &plan.settings.network else {
        return Ok(());
    };
    let state = state(plan, bundle, "created", Some(pid));
    caller.attach(&state).map_err(|how| Failure::Hook {
        reason: format!("the network was not set up, so the command was not run: {how}"),
        stderr: String::new(),
    })
}

/// All that is to be done on the host after the end of a container. Goes on past errors, which it returns.
pub(crate) fn after(plan: &Plan<'_>, bundle: &std::path::Path) -> Vec<String> {
    let state = stopped_state(plan, bundle);
    let mut warnings: Vec<String> = poststop(plan)
        .filter_map(|hook| run("poststop", hook, &state).err())
        .collect();
    if let Network::Caller(caller) = &plan.settings.network {
        warnings.extend(caller.detach(&state).err());
    }
    warnings
}

/// The OCI state of a container that is gone.
fn stopped_state(plan: &Plan<'_>, bundle: &std::path::Path) -> Value {
    state(plan, bundle, "stopped", None)
}

/// The OCI state of a container; `pid` as the host counts.
pub(crate) fn state(
    plan: &Plan<'_>,
    bundle: &std::path::Path,
    status: &str,
    pid: Option<i32>,
) -> Value {
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
