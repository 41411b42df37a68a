#![allow(clippy::unwrap_used)]

use super::*;

fn file(trusted: bool, text: &str) -> Found {
    Found {
        path: "/m/web.nspawn".into(),
        text: text.to_owned(),
        trusted,
    }
}

fn read(trusted: bool, text: &str) -> Read {
    file(trusted, text).read().unwrap()
}

fn told(text: &str) -> String {
    file(true, text).read().unwrap_err().to_string()
}

fn run(line: &str) -> RunArgs {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    cli::parse_run_words(&[vec!["netd".into(), "run".into()], words].concat()).unwrap()
}

/// The example of a self-hoster's notes.
pub(crate) const TOR_BROWSER: &str = "\
[Exec]
DropCapability=all
Environment=DISPLAY=:0
Environment=TZ=UTC
Hostname=tor-browser
NoNewPrivileges=true
Parameters=/bin/sh -c \"id -u; pwd\"
PrivateUsers=yes
ProcessTwo=true
ResolvConf=copy-host
Timezone=copy
User=web
WorkingDirectory=/srv
";

#[test]
fn a_file_is_its_command_line() {
    let mut expected = run(
        "--drop-capability=all -E DISPLAY=:0 --setenv=TZ=UTC --hostname=tor-browser --no-new-privileges=true \
         --private-users=yes -a --resolv-conf=copy-host --timezone=copy -u web --chdir=/srv",
    );
    expected.command = ["/bin/sh", "-c", "id -u; pwd"].map(str::to_owned).to_vec();
    let found = read(true, TOR_BROWSER);
    assert_eq!(found.args, expected);
    assert!(found.notices.is_empty());
}

#[test]
fn every_key_of_the_manual_page_is_understood() {
    let text = "[Exec]\nBoot=no\nEphemeral=no\nProcessTwo=no\nParameters=ls -l\nEnvironment=A=b\nUser=web\n\
        WorkingDirectory=/\nCapability=CAP_SYS_TIME\nDropCapability=CAP_KILL\nAmbientCapability=CAP_CHOWN\n\
        NoNewPrivileges=yes\nKillSignal=SIGINT\nMachineID=11111111222233334444555555555555\n\
        PrivateUsers=524288:65536\nNotifyReady=no\nSystemCallFilter=@keyring ~bpf\nLimitNOFILE=5:9\n\
        LimitRTTIME=infinity\nOOMScoreAdjust=-5\nCPUAffinity=0-1\nHostname=h\nResolvConf=off\nTimezone=off\n\
        LinkJournal=no\nSuppressSync=yes\n[Files]\nReadOnly=yes\nVolatile=state\nBind=/a:/b\nBindReadOnly=/c\n\
        BindUser=web\nTemporaryFileSystem=/x:size=1M\nInaccessible=/y\nOverlay=/l:/u:/d\nOverlayReadOnly=/l:/m:/e\n\
        PrivateUsersOwnership=off\n[Network]\nPrivate=yes\nVirtualEthernet=yes\nVirtualEthernetExtra=a:b\n\
        Interface=eth1 eth2\nMACVLAN=eth3\nIPVLAN=eth4\nBridge=br0\nZone=web\nPort=tcp:80:8080\nPort=udp:53\n";
    let args = read(true, text).args;
    assert_eq!(args.command, ["ls", "-l"]);
    assert_eq!(args.links.network_interface.len(), 2);
    assert_eq!(args.port.len(), 2);
    assert_eq!(args.privileges.rlimit.len(), 2);
    assert!(args.read_only && args.private_network && !args.as_pid2);
}

#[test]
fn an_empty_value_takes_back_and_the_last_of_one_wins() {
    let args = read(true, "[Exec]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\nUser=a\nUser=b\nProcessTwo=yes\nProcessTwo=no\n").args;
    assert_eq!(args.setenv.len(), 1);
    assert_eq!(args.user, Some("b".parse().unwrap()));
    assert!(!args.as_pid2);
}

#[test]
fn what_cannot_be_understood_has_a_line() {
    assert_eq!(told("[Exec]\nBoot\n"), "/m/web.nspawn:2: is no KEY=VALUE");
    assert!(told("[Exec]\n\nUsr=a\n").starts_with("/m/web.nspawn:3: Usr= is no key of [Exec]"));
    assert!(told("[Exc]\nUser=a\n").starts_with("/m/web.nspawn:2: [Exc] is no section"));
    assert!(told("[Files]\nBind=/a:b\n").starts_with("/m/web.nspawn:2: Bind=: "));
    let wrong = told("[Exec]\nUser=a\nResolvConf=perhaps\n");
    assert!(
        wrong.starts_with("/m/web.nspawn:3: ResolvConf=: ") && wrong.contains("perhaps"),
        "{wrong}"
    );
    let refused = told("[Exec]\nPivotRoot=/a\n");
    assert!(
        refused.starts_with("/m/web.nspawn:2: PivotRoot=: "),
        "{refused}"
    );
    // one option is not smuggled in by another
    let smuggled =
        told("[Exec]\nUser=a b\nHostname=--bind=/:/x\n[Files]\nBind=\n[Network]\nZone=-x\n");
    assert!(smuggled.contains("web.nspawn:"), "{smuggled}");
    assert_eq!(
        read(true, "[X-Mine]\nAnything=goes\n").args,
        RunArgs::default()
    );
}

#[test]
fn a_file_beside_the_root_loses_what_widens() {
    let text = "[Exec]\nUser=web\nCapability=all\nSystemCallFilter=@mount\nSystemCallFilter=~@chown\nDropCapability=CAP_KILL\n\
        PrivateUsers=no\n[Files]\nBind=/etc:/x\nReadOnly=yes\n[Network]\nZone=web\nPrivate=yes\n";
    let found = read(false, text);
    let expected = run(
        "-u web --system-call-filter=~@chown --drop-capability=CAP_KILL --read-only --private-network",
    );
    assert_eq!(found.args, expected);
    let lines: Vec<&str> = found
        .notices
        .iter()
        .map(|n| n.split(" is left out").next().unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            "/m/web.nspawn:3: Capability=",
            "/m/web.nspawn:4: SystemCallFilter=",
            "/m/web.nspawn:7: PrivateUsers=",
            "/m/web.nspawn:9: Bind=",
            "/m/web.nspawn:12: Zone=",
        ]
    );
    // and what is wrong in it is an error all the same
    assert!(file(false, "[Files]\nBind=x:y\n").read().is_err());
}

#[test]
fn beside_the_root_is_looked_last() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("some-machine-of-a-test");
    assert_eq!(find("some-machine-of-a-test", Some(&root)).unwrap(), None);
    let path = dir.path().join("some-machine-of-a-test.nspawn");
    fs::write(&path, "[Exec]\n").unwrap();
    let found = find("some-machine-of-a-test", Some(&root))
        .unwrap()
        .unwrap();
    assert_eq!((found.path, found.trusted), (path, false));
}
