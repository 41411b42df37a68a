//! What cannot be meant is found before anything is touched.

use super::{PrivateUsers, Settings, Volatile, mounts, names};
use crate::error::SpawnError;
use crate::seccomp;
use crate::spec;

impl Settings {
    /// Finds what cannot be meant, before anything is touched.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] names the option, its value and what is wrong with it.
    pub fn check(&self) -> Result<(), SpawnError> {
        self.check_command()?;
        if let Some(name) = &self.hostname
            && !names::is_hostname(name)
        {
            return Err(SpawnError::setting(
                "--hostname=",
                name,
                "is not a host name: up to 64 letters, digits, '-' and '.'",
            ));
        }
        if let Some(dir) = &self.chdir {
            mounts::absolute("--chdir=", &dir.to_string_lossy(), dir)?;
        }
        for path in &self.inaccessible {
            mounts::absolute("--inaccessible=", &path.to_string_lossy(), path)?;
        }
        for (key, value) in &self.labels {
            if key.is_empty() || key.contains(['=', ',']) || value.contains(',') {
                return Err(SpawnError::setting(
                    "--label=",
                    &format!("{key}={value}"),
                    "is not KEY=VALUE without commas",
                ));
            }
        }
        if let Some(score) = self.oom_score_adjust
            && !(-1000..=1000).contains(&score)
        {
            return Err(SpawnError::setting(
                "--oom-score-adjust=",
                &score.to_string(),
                "is not between -1000 and 1000",
            ));
        }
        if !(self.calls_allowed.is_empty() && self.calls_refused.is_empty()) {
            seccomp::Calls::of(self)?;
        }
        let missing = self.privileges.ambient.without(spec::capabilities(self));
        if !missing.is_empty() {
            return Err(SpawnError::setting(
                "--ambient-capability=",
                &missing.names().join(","),
                "is not among the container's capabilities: give --capability= too",
            ));
        }
        if self.no_root {
            return crate::bare::check(self);
        }
        self.check_root()?;
        self.check_boot()
    }

    fn check_command(&self) -> Result<(), SpawnError> {
        let nul = |what, text: &str| match text.contains('\0') {
            true => Err(SpawnError::setting(what, text, "contains a NUL byte")),
            false => Ok(()),
        };
        match self.command.first() {
            None if self.boot => {}
            None => return Err(SpawnError::setting("the command", "", "is missing")),
            Some(word) if word.is_empty() => {
                return Err(SpawnError::setting("the command", "", "is empty"));
            }
            Some(_) => {}
        }
        for word in &self.command {
            nul("the command", word)?;
        }
        for (key, value) in &self.env {
            nul("--setenv=", key)?;
            nul("--setenv=", value)?;
            if key.is_empty() || key.contains('=') {
                return Err(SpawnError::setting(
                    "--setenv=",
                    key,
                    "is not the name of a variable",
                ));
            }
        }
        Ok(())
    }

    /// What needs a root of its own, and what of it goes not together.
    fn check_root(&self) -> Result<(), SpawnError> {
        let own = self.directory.is_some();
        let refuse =
            |what, value: &str, reason: &str| Err(SpawnError::setting(what, value, reason));
        let needs = "needs a root of its own, by --directory=";
        if !own && self.volatile != Volatile::No {
            return refuse("--volatile=", "", needs);
        }
        if !own && self.ephemeral {
            return refuse("--ephemeral", "", needs);
        }
        if !own && self.boot {
            return refuse("--boot", "", needs);
        }
        if self.ephemeral && self.volatile != Volatile::No {
            return refuse(
                "--ephemeral",
                "",
                "goes not with --volatile=: both keep nothing, each in its way",
            );
        }
        if let Some(user) = self.bind_users.first()
            && !matches!(
                self.private_users,
                PrivateUsers::Pick | PrivateUsers::Fixed { .. }
            )
        {
            return refuse(
                "--bind-user=",
                user,
                "needs users of the container's own: -U",
            );
        }
        if let PrivateUsers::Fixed { size, .. } = self.private_users
            && !self.bind_users.is_empty()
            && size < 65536
        {
            return refuse("--bind-user=", "", "needs a range of 65,536 ids");
        }
        Ok(())
    }

    fn check_boot(&self) -> Result<(), SpawnError> {
        let refuse =
            |what, value: &str, reason: &str| Err(SpawnError::setting(what, value, reason));
        if !self.boot {
            return Ok(());
        }
        if self.as_pid2 {
            return refuse("--boot", "", "goes not with --as-pid2: the init is pid 1");
        }
        if self.user.is_some() {
            return refuse("--boot", "", "goes not with --user=: the init is root");
        }
        if self.chdir.is_some() {
            return refuse("--boot", "", "goes not with --chdir=");
        }
        if !self.privileges.ambient.is_empty() {
            return refuse("--ambient-capability=", "", "goes not with --boot");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::settings::MachineName;

    #[test]
    fn what_cannot_be_meant_is_found_before_anything_is_touched() {
        let name: MachineName = "web".parse().unwrap();
        let good = Settings::new(name, "/run/x", ["true"]);
        assert!(good.check().is_ok());
        let bad = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(bad(|s| s.command.clear()).contains("command"));
        assert!(bad(|s| s.command.push("a\0b".into())).contains("NUL"));
        assert!(bad(|s| s.env.push(("A=B".into(), String::new()))).contains("--setenv="));
        assert!(bad(|s| s.hostname = Some("a b".into())).contains("--hostname="));
        assert!(bad(|s| s.chdir = Some("tmp".into())).contains("--chdir="));
        assert!(bad(|s| s.inaccessible = vec!["x".into()]).contains("--inaccessible="));
        assert!(bad(|s| s.oom_score_adjust = Some(1001)).contains("--oom-score-adjust="));
        assert!(bad(|s| s.calls_allowed = vec!["fly".into()]).contains("\"fly\""));
        assert!(
            bad(|s| s.privileges.ambient = "CAP_SYS_TIME".parse().unwrap())
                .contains("CAP_SYS_TIME")
        );
        assert!(bad(|s| s.volatile = Volatile::Yes).contains("--volatile="));
        assert!(bad(|s| s.ephemeral = true).contains("--ephemeral"));
        assert!(bad(|s| s.boot = true).contains("--boot"));
        assert!(bad(|s| s.bind_users = vec!["web".into()]).contains("-U"));
        assert!(
            bad(|s| {
                s.labels.insert("a".into(), "b,c".into());
            })
            .contains("--label=")
        );
        let boots = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            settings.directory = Some("/srv".into());
            settings.boot = true;
            settings.command.clear();
            change(&mut settings);
            settings.check().map_err(|e| e.to_string())
        };
        assert_eq!(boots(|_| {}), Ok(()));
        assert!(
            boots(|s| s.as_pid2 = true)
                .unwrap_err()
                .contains("--as-pid2")
        );
        assert!(
            boots(|s| s.user = Some("web".parse().unwrap()))
                .unwrap_err()
                .contains("--user=")
        );
    }
}
