//! Groups of peers shared between files: one edit changes all that use them, a bad one changes nothing.

use std::fs;
use std::time::{Duration, Instant};

use crate::world::Verdict::{Allow, Deny};
use crate::world::World;

const FROM_OFFICE: &str = "[[ingress]]\nfrom = [\"@office\"]\nports = [\"tcp/80\"]\n";

fn write_groups(world: &World, text: &str) {
    let folder = world.folder("config");
    fs::write(folder.join(".groups.toml.new"), text).unwrap();
    fs::rename(folder.join(".groups.toml.new"), folder.join("groups.toml")).unwrap();
}

fn open_out(world: &World, names: &[&str]) {
    for name in names {
        world.write_policy(name, "[[egress]]\nto = [\"any\"]\n");
    }
}

pub fn one_edit_changes_every_file_that_uses_them() {
    let world = World::new("groups");
    world.zone("web").default("deny").create();
    let one = world.container("one").in_zone("web").start();
    let _two = world.container("two").in_zone("web").start();
    let three = world.container("three").in_zone("web").start();
    let _four = world.container("four").in_zone("web").start();
    open_out(&world, &["one", "two"]);
    write_groups(
        &world,
        "staff = [\"@office\"]\noffice = [\"container:one\"]\n",
    );
    world.write_policy("three", FROM_OFFICE);
    world.policy("four", &FROM_OFFICE.replace("office", "staff"));
    world.verdicts(&[
        (Allow, "one", "three", "tcp/80"),
        (Allow, "one", "four", "tcp/80"),
        (Deny, "two", "three", "tcp/80"),
        (Deny, "two", "four", "tcp/80"),
    ]);
    let shown = world.netd("policy show three").ok();
    assert!(shown.contains("from @office on tcp/80"), "{shown}");

    // by itself, once its writer is done with it
    write_groups(
        &world,
        "staff = [\"@office\"]\noffice = [\"container:two\"]\n",
    );
    let started = Instant::now();
    while one.tcp(three.v4(), 80).passed() {
        assert!(started.elapsed() < Duration::from_secs(5), "not in force");
    }
    world.verdicts(&[
        (Deny, "one", "three", "tcp/80"),
        (Deny, "one", "four", "tcp/80"),
        (Allow, "two", "three", "tcp/80"),
        (Allow, "two", "four", "tcp/80"),
    ]);
    // an empty group is nobody
    write_groups(&world, "staff = []\noffice = [\"container:two\"]\n");
    world.netd("reload").ok();
    world.verdicts(&[
        (Allow, "two", "three", "tcp/80"),
        (Deny, "two", "four", "tcp/80"),
    ]);
}

pub fn bad_ones_leave_the_last_good_ones_in_force() {
    let world = World::new("bad-groups");
    world.zone("web").default("deny").create();
    let _one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").serves(&["tcp/82"]);
    let mut two = two.start();
    open_out(&world, &["one"]);
    write_groups(&world, "office = [\"container:one\"]\n");
    world.policy("two", FROM_OFFICE);
    let rows = [
        (Allow, "one", "two", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
    ];
    world.verdicts(&rows);
    let holds = |problem: &str| {
        let said = world.netd("reload").fails(1);
        assert!(said.contains(problem), "{problem} not said: {said}");
        let status = world.netd("status --json").json();
        assert!(status["problems"].to_string().contains(problem), "{status}");
        world.verdicts(&rows);
    };
    write_groups(&world, "office = [\"cotainer:one\"]\n");
    holds("groups.toml:1:11");
    world.kill_netd();
    world.start_netd();
    holds("groups.toml:1:11");
    // a new file may use what is in force
    world.write_policy("two", &FROM_OFFICE.replace("80\"", "80\", \"tcp/82\""));
    holds("groups.toml:1:11");
    two.detach();
    two.try_attach().unwrap();
    world.verdicts(&rows);
    world.verdicts(&[(Allow, "one", "two", "tcp/82")]);

    // good in itself, and no longer of use to the policy
    write_groups(&world, "home = [\"container:one\"]\n");
    holds("two.toml:2:9");
    world.restart_netd();
    holds("two.toml:2:9");
    world.verdicts(&[(Allow, "one", "two", "tcp/82")]);
    fs::remove_file(world.folder("config").join("groups.toml")).unwrap();
    holds("two.toml:2:9");

    write_groups(&world, "office = [\"container:three\"]\n");
    world.netd("reload").ok();
    world.verdicts(&[(Deny, "one", "two", "tcp/80")]);
    let status = world.netd("status --json").json();
    assert_eq!(status["problems"], serde_json::json!([]));
}

pub fn without_good_ones_what_uses_them_is_refused() {
    let world = World::without_daemon("no-groups");
    fs::create_dir_all(world.folder("config/policies")).unwrap();
    write_groups(&world, "office = [\"@office\"]\n");
    world.write_policy("two", FROM_OFFICE);
    world.start_netd();
    world.zone("web").default("allow").create();
    let refused = world.container("two").in_zone("web").try_start().err();
    let said = refused.expect("no policy, no network").fails(1);
    assert!(said.contains("two.toml:2:9"), "no place named: {said}");
    assert!(said.contains("groups.toml"), "not why: {said}");
    let said = world.netd("reload").fails(1);
    assert!(said.contains("groups.toml:1:11"), "{said}");
    // others are not concerned
    let _one = world.container("one").in_zone("web").start();
    let _three = world.container("three").in_zone("web").start();
    world.verdicts(&[(Allow, "one", "three", "tcp/80")]);
    write_groups(&world, "office = [\"container:one\"]\n");
    world.netd("reload").ok();
    let _two = world.container("two").in_zone("web").start();
    world.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Deny, "three", "two", "tcp/80"),
    ]);
}

pub fn a_check_asks_the_daemon_who_is_there() {
    let world = World::new("check-names");
    world.zone("web").create();
    let _one = world
        .container("one")
        .in_zone("web")
        .label("tier", "front")
        .start();
    write_groups(&world, "office = [\"container:oen\"]\n");
    world.policy(
        "one",
        "[[ingress]]\nfrom = [\"@office\", \"label:tier=frnt\"]\n\n[[egress]]\nto = [\"zone:wbe\", \"label:tier=front\"]\n",
    );
    let check = |arguments: &str| {
        let document = world
            .netd(&format!("policy check --json {arguments}"))
            .json();
        let all = document["diagnostics"].as_array().unwrap().clone();
        let shown = |d: &serde_json::Value| format!("{}:{} {}", d["line"], d["column"], d["help"]);
        (
            document["files"].as_array().unwrap().len(),
            all.iter().map(shown).collect::<Vec<_>>(),
        )
    };
    let (files, found) = check("");
    assert_eq!(files, 3, "zone, groups and policy");
    let wanted = [
        "2:9 \"did you mean `container:one`?\"",
        "2:20 \"did you mean `label:tier=front`?\"",
        "5:7 \"did you mean `zone:web`?\"",
    ];
    assert_eq!(found, wanted);
    let told = world.netd("policy check").ok();
    assert!(
        told.contains("1 policy, 1 zone and groups.toml checked: no errors, 3 warnings"),
        "{told}"
    );

    // without a daemon there is nobody to ask about containers, and none is started
    world.stop_netd();
    let left = world.netd_processes();
    let (_, found) = check("");
    assert_eq!(found, wanted[2..]);
    assert_eq!(world.netd_processes(), left);
    let other = world.folder("config").join("other");
    fs::write(&other, "").unwrap();
    let said = world
        .netd(&format!("policy check --groups {}", other.display()))
        .fails(1);
    assert!(
        said.contains("one.toml:2:9: error: unknown group `@office`"),
        "{said}"
    );
}
