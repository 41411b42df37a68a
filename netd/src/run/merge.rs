//! Two sets of options, one of which wins: the command line's and a file's.

use crate::cli::RunArgs;

/// What `first` says, and of what it says nothing about, what `second` says. What belongs together is taken whole from one
/// side, by the groups of systemd-nspawn (`SettingsMask` of src/nspawn/nspawn-settings.h): who gives a `--bind=` takes back all
/// mounts of the other side.
pub(super) fn merge(first: RunArgs, second: RunArgs) -> RunArgs {
    let default = RunArgs::default();
    let mut all = first;
    let other = second;
    macro_rules! groups {
        ($([$($($field:ident).+),+])*) => {$(
            if $(all.$($field).+ == default.$($field).+)&&+ {
                $(all.$($field).+ = other.$($field).+;)+
            }
        )*};
    }
    groups! {
        [directory, image] [no_root] [machine] [quiet] [label] [bandwidth] [configure]
        [private_network, network_zone, links]
        [port]
        [resolv_conf]
        [pick_users, private_users, files.private_users_ownership, files.private_users_chown]
        [user]
        [read_only]
        [bind, bind_ro, tmpfs, files.overlay, files.overlay_ro, files.inaccessible]
        [files.volatile] [files.ephemeral] [files.template] [files.bind_user]
        [files.load_credential, files.set_credential]
        [setenv] [hostname] [chdir]
        [as_pid2, integration.boot, command]
        [console, pipe]
        [privileges.capability, privileges.drop_capability, privileges.ambient_capability]
        [privileges.bounding]
        [privileges.no_new_privileges] [privileges.system_call_filter]
        [privileges.rlimit] [privileges.oom_score_adjust] [privileges.cpu_affinity] [privileges.personality]
        [privileges.property] [privileges.slice] [privileges.keep_unit] [privileges.register]
        [integration.kill_signal] [integration.uuid] [integration.suppress_sync] [integration.notify_ready]
        [integration.timezone]
        [integration.link_journal, integration.try_guest_journal]
        [integration.settings] [integration.oci_bundle] [integration.no_pager]
        [refused]
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli;

    fn run(line: &str) -> RunArgs {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        cli::parse_run_words(&[vec!["netd".into(), "run".into()], words].concat()).unwrap()
    }

    #[test]
    fn groups_are_taken_whole() {
        let line = run("--bind=/a --network-zone=web -U -E A=1 ls");
        let file = run(
            "--bind=/b --tmpfs=/c --private-network -p 80 --private-users=5:6 -E B=2 -u web -a --hostname=h id",
        );
        let merged = merge(line.clone(), file.clone());
        assert_eq!(
            merged,
            run("--bind=/a --network-zone=web -p 80 -U -E A=1 -u web --hostname=h ls")
        );
        let merged = merge(file, line);
        let expected = "--bind=/b --tmpfs=/c --private-network -p 80 --private-users=5:6 -E B=2 -u web -a --hostname=h id";
        assert_eq!(merged, run(expected));
    }

    #[test]
    fn no_option_is_forgotten() {
        // a value for every option that is not refused: what is given on one side only is there afterwards
        let all = "-D /r -M m -q --label=a=b --configure=dhcp --private-network --network-zone=z -n --network-bridge=b \
            --network-interface=i --network-macvlan=i --network-ipvlan=i --network-veth-extra=a:b \
            --network-namespace-path=/n -p 80 --resolv-conf=off -U --private-users-ownership=off -u w --read-only --bind=/a \
            --bind-ro=/b --tmpfs=/c --overlay=/a:/b --overlay-ro=/a:/b --inaccessible=/i --volatile --ephemeral --template=/t \
            --bind-user=w --set-credential=a:b -E A=1 --hostname=h --chdir=/ -a -b --console=pipe --capability=all \
            --drop-capability=all --ambient-capability=all --no-new-privileges=1 --system-call-filter=x --rlimit=CORE=1 \
            --oom-score-adjust=1 --cpu-affinity=0 --personality=x86-64 --property=A=1 --slice=s --keep-unit --register=no \
            --kill-signal=9 --uuid=11111111222233334444555555555555 --suppress-sync=1 --notify-ready=no --timezone=off \
            --link-journal=no --settings=no --no-pager cmd";
        let given = run(all);
        assert_eq!(merge(given.clone(), RunArgs::default()), given);
        assert_eq!(merge(RunArgs::default(), given.clone()), given);
        let other = run("-j --private-users=no -P --private-users-chown");
        assert_eq!(merge(RunArgs::default(), other.clone()), other);
        let other = run("--no-root --name=x --network-zone=a");
        assert_eq!(merge(RunArgs::default(), other.clone()), other);
    }
}
