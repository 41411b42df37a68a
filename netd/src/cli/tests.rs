#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::args::{AttachArgs, ExplainArgs, ZoneCommand, ZoneDefault};
use super::*;

fn parse_words(line: &str) -> Result<Invocation, clap::Error> {
    parse(line.split(' ').map(OsString::from))
}

fn command(line: &str) -> Command {
    match parse_words(line) {
        Ok(invocation) => invocation.command,
        Err(e) => panic!("{line}: {e}"),
    }
}

fn attach_args(line: &str) -> AttachArgs {
    match command(line) {
        Command::Attach(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    use clap::CommandFactory;
    Invocation::command().debug_assert();
}

#[test]
fn zone_create_with_everything() {
    let Command::Zone(ZoneCommand::Create { name, options }) = command(
        "netd zone create dmz --subnet4 10.1.2.0/24 --subnet6 none --internal --uplink eth0 \
         --default deny --mtu 1400 --domain dmz.test --pool 10.1.2.9-10.1.2.99 --dns 9.9.9.9 --dns fd00::1 \
         --upstream 192.0.2.53 --upstream [::1]:5300 --upstream-domain Corp.example=10.0.0.53,10.0.0.54:5353"
            .replace("         ", "")
            .as_str(),
    ) else {
        panic!();
    };
    assert_eq!(name.as_str(), "dmz");
    assert_eq!(options.subnet4.as_deref(), Some("10.1.2.0/24"));
    assert_eq!(options.subnet6.as_deref(), Some("none"));
    assert_eq!(options.internal, Some(true));
    assert_eq!(options.default, Some(ZoneDefault::Deny));
    assert_eq!(options.mtu, Some(1400));
    assert_eq!(options.pool.as_deref(), Some("10.1.2.9-10.1.2.99"));
    assert_eq!(options.dns.len(), 2);
    assert_eq!(options.upstream, ["192.0.2.53", "[::1]:5300"]);
    let domain = &options.upstream_domains[0];
    assert_eq!(domain.domain, "corp.example");
    assert_eq!(domain.servers, ["10.0.0.53", "10.0.0.54:5353"]);
}

#[test]
fn what_was_not_given_is_absent() {
    let Command::Zone(ZoneCommand::Set { options, .. }) =
        command("netd zone set dmz --internal=false")
    else {
        panic!();
    };
    assert_eq!(options.internal, Some(false));
    assert_eq!(options.default, None);
    assert_eq!(options.subnet4, None);
    // The option's value is not taken from the next word.
    assert!(parse_words("netd zone create --internal dmz").is_ok());
}

#[test]
fn the_short_grammar_reads_as_the_whole_one_does() {
    for line in [
        "netd attach web --zone dmz --pid 7 --label a=b --json",
        "netd attach web --json --config-dir /c --zone dmz --netns /run/netns/n",
        "netd detach web --zone dmz --runtime-dir=/r",
        "netd hook oci",
        "netd hook oci attach",
        "netd hook cni --state-dir /s",
        "netd hook netavark setup /run/netns/n",
        "netd hook nspawn exec m -- systemd-nspawn --json -h",
        "netd run -D /srv/web -qM web --network-zone=dmz --json -- ls --json -h",
        "netd run -bU ls -h",
        "netd exec -u www web ls --json -h",
        "netd exec web -- -h",
        "netd shell a@web --pipe -- sh -c x",
        "netd door 7",
        "netd reload --json",
        "netd list --runtime-dir /r",
        "netd status",
        "netd status web",
        "netd stop web --time 3",
        "netd daemon --background --json-logs --config-dir=/c",
        "netd keep",
    ] {
        let words: Vec<std::ffi::OsString> = line.split(' ').map(Into::into).collect();
        let quick = quick::parse(&words).unwrap();
        assert_eq!(quick, Invocation::try_parse_from(&words).unwrap(), "{line}");
    }
    for line in [
        "netd policy confirm",
        "netd --json list",
        "netd run --help",
        "netd run -h ls",
        "netd run --no-such",
        "netd exec -h",
        "netd exec web --help",
        "netd reload now",
        "netd status --help",
        "netd attach --help",
        "netd hook oci -h",
        "netd attach web",
        "netd hook",
        "netd help attach",
        "netd attach help",
    ] {
        let words: Vec<std::ffi::OsString> = line.split(' ').map(Into::into).collect();
        assert!(quick::parse(&words).is_none(), "{line}");
    }
}

#[test]
fn attach_with_everything() {
    let args = attach_args(
        "netd attach web --zone dmz --pid 7 --ifname eth0 --configure dhcp --ip 10.89.0.7 --ip fd00::7 \
--mac 02:00:00:00:00:07 --label tier=front --publish [::1]:8080:80 --publish 53:53/udp --bandwidth ingress=1gbit,egress=20mbit",
    );
    assert_eq!(args.pid, Some(7));
    assert_eq!(args.ifname[0].as_str(), "eth0");
    assert_eq!(args.configure, Some(Configure::Dhcp));
    assert_eq!(args.ip.len(), 2);
    assert_eq!(args.mac.unwrap().to_string(), "02:00:00:00:00:07");
    assert_eq!(args.label[0].key, "tier");
    assert_eq!(args.publish, ["[::1]:8080:80", "53:53/udp"]);
    assert_eq!(
        args.bandwidth.as_deref(),
        Some("ingress=1gbit,egress=20mbit")
    );
    let args =
        attach_args("netd attach web --zone dmz --zone lan --pid 7 --ifname eth0 --ifname eth1");
    let zones: Vec<&str> = args.zone.iter().map(|zone| zone.as_str()).collect();
    assert_eq!((zones, args.ifname.len()), (vec!["dmz", "lan"], 2));
    let args = attach_args("netd attach web --zone dmz --netns web");
    assert_eq!(args.netns, Some(PathBuf::from("web")));
}

#[test]
fn options_may_stand_anywhere_and_directories_too() {
    let one = parse_words("netd --json --runtime-dir /r list").unwrap();
    let other = parse_words("netd list --runtime-dir=/r --json").unwrap();
    assert_eq!(one, other);
    assert!(one.json);
    assert_eq!(one.dirs.runtime, PathBuf::from("/r"));
    assert_eq!(one.dirs.config, PathBuf::from("/etc/netd"));
    assert_eq!(one.dirs.state, PathBuf::from("/var/lib/netd"));
}

#[test]
fn explain() {
    let expected = ExplainArgs {
        from: "world".into(),
        to: "web".into(),
        traffic: Some("tcp/80".into()),
        ipv4: false,
        ipv6: true,
        at: None,
        files: Some(PathBuf::from("/c")),
        located: vec!["web=dmz,tier=front".parse().unwrap()],
    };
    assert_eq!(
        command("netd explain world web tcp/80 -6 --files /c --in web=dmz,tier=front"),
        Command::Explain(expected)
    );
    assert!(parse_words("netd explain web 10.0.0.1").is_ok());
}

#[test]
fn run_takes_options_before_the_command_only() {
    let run = |line: &str| match command(line) {
        Command::Run(args) => *args,
        other => panic!("{other:?}"),
    };
    let args = run("netd run -D /x --network-zone=dmz ls -l --json -D y");
    assert_eq!(args.command, ["ls", "-l", "--json", "-D", "y"]);
    assert_eq!(args.directory, Some(PathBuf::from("/x")));
    let args = run("netd run -U -- -odd --help");
    assert_eq!(args.command, ["-odd", "--help"]);
    assert!(args.pick_users);
    assert!(run("netd run").command.is_empty());
    // A misspelt option is not the command.
    assert!(parse_words("netd run --direktory /x ls").is_err());
    assert!(!parse_words("netd run ls --json").unwrap().json);
}

#[test]
fn wrong_usage_is_exit_code_2_and_names_what_is_wrong() {
    for (line, words) in [
        ("netd", "Usage"),
        ("netd frobnicate", "frobnicate"),
        ("netd flows", "flows"),
        ("netd zone create DMZ", "lower-case"),
        ("netd zone create a --subnet4 10.0.0.1/24", "10.0.0.0/24"),
        ("netd zone create a --subnet6 fd00::1", "none"),
        ("netd zone create a --default open", "egress"),
        ("netd zone create a --mtu 10", "68"),
        ("netd zone create a --pool 10.0.0.9-10.0.0.1", "ends before"),
        ("netd attach web --zone dmz", "--netns"),
        ("netd attach web --zone dmz --netns a --pid 1", "--pid"),
        ("netd attach web --netns a", "--zone"),
        ("netd attach web --zone dmz --pid 0", "process id"),
        ("netd attach web --zone dmz --pid -1", "--pid"),
        ("netd attach we/b --zone dmz --pid 1", "we/b"),
        (
            "netd attach web --zone dmz --pid 1 --ip 10.0.0.1/24",
            "prefix",
        ),
        ("netd attach web --zone dmz --pid 1 --mac xx", "hex digits"),
        ("netd attach web --zone dmz --pid 1 --label x", "KEY=VALUE"),
        (
            "netd attach web --zone dmz --pid 1 --bandwidth 10mbps",
            "ambiguous",
        ),
        (
            "netd attach web --zone dmz --pid 1 --publish 80",
            "HOSTPORT",
        ),
        (
            "netd attach web --zone dmz --pid 1 --configure auto",
            "dhcp",
        ),
        ("netd attach web --zone dmz --pid 1 --ifname a/b", "a/b"),
        ("netd explain web", "<TO>"),
        ("netd explain web db tcp/80 -4 -6", "-6"),
        ("netd explain web db --in web=dmz", "--files"),
        ("netd explain web db --files /c --in web", "NAME=ZONE"),
        ("netd explain web db --at noon", "Sat 22:00"),
        ("netd run --pivot-root=/a", "--directory="),
        ("netd run -Z a", "SELinux"),
        ("netd run --capability=CAP_FLY", "capabilities(7)"),
        ("netd run --capability=help", "CAP_SYS_TTY_CONFIG"),
        ("netd run --rlimit=FLY=1", "setrlimit(2)"),
        ("netd run --oom-score-adjust=1001", "1000"),
        ("netd run --cpu-affinity=x", "0,2-3"),
        ("netd run --uuid=x", "UUID"),
        ("netd run --kill-signal=SIGFLY", "signal(7)"),
        ("netd run --settings=some", "trusted"),
        ("netd run --timezone=some", "symlink"),
        ("netd run --volatile=some", "overlay"),
        ("netd run --overlay=/a", "fewer than two"),
        ("netd run --set-credential=a", "ID:VALUE"),
        ("netd run --private-users-ownership=x", "chown"),
        ("netd run --network-macvlan=a/b", "a/b"),
        ("netd run --network-zone=a -p http ls", "HOSTPORT"),
        ("netd run --bind=a:b ls", "not absolute"),
        ("netd run --chdir=a ls", "absolute"),
        ("netd run -u a/b ls", "a/b"),
        ("netd run --private-users=100:x ls", "pick"),
        ("netd policy diff", "<PATH>"),
        ("netd policy apply", "<PATH>"),
        ("netd policy apply a.toml --confirm 0", "1..=604800"),
        ("netd policy confirm now", "now"),
        ("netd stop", "<CONTAINER>"),
        ("netd hook oci start", "start"),
    ] {
        let error = parse_words(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        let text = error.render().to_string();
        assert!(text.contains(words), "{line}: {text}");
    }
}

#[test]
fn commands_that_do_not_exist_are_not_listed() {
    let help = parse_words("netd --help").unwrap_err().to_string();
    for there in [
        "daemon", "zone", "attach", "run", "explain", "lease", "hook", "exec", "shell", "images",
    ] {
        assert!(help.contains(&format!("\n  {there} ")), "{there}: {help}");
    }
    for absent in ["keep", "door", "flows", "graph", "doctor", "learn"] {
        assert!(
            !help.contains(&format!("\n  {absent} ")),
            "{absent}: {help}"
        );
    }
}

#[test]
fn the_name_it_is_called_by_is_a_door() {
    let expected = Command::Hook(HookCommand::Oci { action: None });
    assert_eq!(command("/usr/libexec/oci/hooks.d/netd-oci-hook"), expected);
    assert_eq!(command("netd hook oci"), expected);
    let expected = Command::Hook(HookCommand::Oci {
        action: Some(HookAction::Detach),
    });
    assert_eq!(command("netd-oci-hook detach"), expected);
    assert_eq!(command("netd-oci-hook detach --runtime-dir /r"), expected);
    let expected = Command::Hook(HookCommand::Cni);
    assert_eq!(command("/opt/cni/bin/netd-cni"), expected);
    assert_eq!(command("netd hook cni"), expected);
    assert_eq!(command("/opt/netd-0.1 list"), Command::List);
}

#[test]
fn hidden_commands_still_work() {
    assert_eq!(command("netd --runtime-dir /r keep"), Command::Keep);
    let Command::Daemon(options) = command("netd daemon --background --runtime-dir /r") else {
        panic!();
    };
    assert!(options.background && !options.json_logs);
}
