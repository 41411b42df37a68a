//! Files that are wrong, files that change: the last good one stays in force, and nobody starts without one.

use std::fs;
use std::time::{Duration, Instant};

use crate::world::Verdict::{Allow, Deny};
use crate::world::World;

const GOOD: &str = "[[ingress]]\nfrom = [\"container:one\"]\nports = [\"tcp/80\"]\n";
const BAD: &str = "[[ingress]]\nfrom = [\"container:one\"]\nprots = [\"tcp/80\", \"tcp/81\"]\n";

fn open_out(world: &World) {
    world.write_policy("one", "[[egress]]\nto = [\"any\"]\n");
}

pub fn a_bad_file_leaves_the_last_good_one_in_force() {
    let world = World::new("bad-file");
    world.zone("web").default("deny").create();
    let _one = world.container("one").in_zone("web").start();
    let mut two = world.container("two").in_zone("web").start();
    open_out(&world);
    world.policy("two", GOOD);
    let rows = [
        (Allow, "one", "two", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
    ];
    world.verdicts(&rows);

    world.write_policy("two", BAD);
    let said = world.netd("reload").fails(1);
    assert!(said.contains("two.toml:3:1"), "no place named: {said}");
    assert!(
        said.contains("prots") && said.contains("ports"),
        "neither the key nor the remedy: {said}"
    );
    world.verdicts(&rows);
    let status = world.netd("status --json").json();
    assert!(
        status["problems"].to_string().contains("two.toml:3:1"),
        "{status}"
    );

    // It holds over restarts of the daemon and of the container, also after kill -9.
    world.restart_netd();
    world.verdicts(&rows);
    world.kill_netd();
    world.start_netd();
    two.detach();
    two.try_attach().unwrap();
    world.verdicts(&rows);

    world.policy(
        "two",
        "[[ingress]]\nfrom = [\"container:one\"]\nports = [\"tcp/81\"]\n",
    );
    world.verdicts(&[
        (Deny, "one", "two", "tcp/80"),
        (Allow, "one", "two", "tcp/81"),
    ]);
    let status = world.netd("status --json").json();
    assert_eq!(
        status["problems"],
        serde_json::json!([]),
        "mended, but still a problem"
    );
}

pub fn without_a_good_file_an_attach_is_refused() {
    let world = World::new("bad-attach");
    world.zone("web").default("allow").create();
    let _one = world.container("one").in_zone("web").start();
    world.write_policy("two", "[[ingress]\n");
    world.netd("reload").fails(1);
    let refused = world.container("two").in_zone("web").try_start().err();
    let said = refused.expect("no policy, no network").fails(1);
    assert!(said.contains("two.toml:1:"), "no place named: {said}");
    assert_eq!(
        world.own_links().len(),
        2,
        "half of it is left: {:?}",
        world.own_links()
    );
    assert!(!world.netd("list --json").ok().contains("\"two\""));
    // Others are not concerned.
    let _three = world.container("three").in_zone("web").start();
    world.verdicts(&[(Allow, "one", "three", "tcp/80")]);
    world.policy("two", GOOD);
    let _two = world.container("two").in_zone("web").start();
    world.verdicts(&[
        (Allow, "one", "two", "tcp/80"),
        (Deny, "three", "two", "tcp/80"),
    ]);
}

pub fn an_edit_comes_into_force_by_itself() {
    let world = World::new("inotify");
    world.zone("web").default("deny").create();
    let one = world.container("one").in_zone("web").start();
    let two = world.container("two").in_zone("web").start();
    open_out(&world);
    world.netd("reload").ok();
    let until = |expected: bool, what: &str| {
        let started = Instant::now();
        while one.tcp(two.v4(), 80).passed() != expected {
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{what} did not come into force"
            );
        }
        eprintln!("measured: {what} in force after {:?}", started.elapsed());
    };
    let path = world.folder("config/policies").join("two.toml");
    world.write_policy("two", GOOD);
    until(true, "a renamed file");
    fs::write(&path, "ingress = []\n").unwrap();
    until(false, "a written file");
    fs::write(&path, GOOD).unwrap();
    until(true, "a written file");
    fs::remove_file(&path).unwrap();
    until(false, "a removed file");
    // Neither a dotfile nor a file of another kind counts.
    fs::write(world.folder("config/policies").join(".two.toml"), GOOD).unwrap();
    fs::write(world.folder("config/policies").join("two.toml~"), GOOD).unwrap();
    world.netd("reload").ok();
    assert!(!one.tcp(two.v4(), 80).passed());
}

pub fn checking_needs_no_daemon() {
    let world = World::without_daemon("check");
    world.write_policy("good", GOOD);
    world.netd("policy check").ok();
    world.write_policy("bad", BAD);
    let path = world.folder("config/policies").join("bad.toml");
    for line in [
        "policy check".to_owned(),
        format!("policy check {}", path.display()),
    ] {
        let said = world.netd(&line).fails(1);
        assert!(
            said.contains("bad.toml:3:1") && said.contains('^'),
            "no place, or no caret: {said}"
        );
    }
    for (text, place) in [
        ("[[ingress]]\nfrom = [\"10.0.0.0/33\"]\n", "2:9"),
        (
            "[[ingress]]\nfrom = [\"host\"]\nports = [\"tcp/99999\"]\n",
            "3:10",
        ),
        ("[[egress]]\nto = [\"planet:earth\"]\n", "2:7"),
        ("mode = \"perhaps\"\n", "1:8"),
        ("[[egress]]\naction = \"maybe\"\n", "2:10"),
    ] {
        world.write_policy("bad", text);
        let said = world.netd("policy check").fails(1);
        assert!(
            said.contains(&format!("bad.toml:{place}")),
            "{place} not named for {text:?}: {said}"
        );
    }
    assert_eq!(world.own_links(), Vec::<String>::new());
}

/// A file for `two` of `rules` rules that are 2,000 elements each.
fn large(rules: usize) -> String {
    let addresses: Vec<String> = (0..2000)
        .map(|n| format!("\"198.51.{}.{}\"", n / 250 * 2, n % 250 + 1))
        .collect();
    let rule = format!(
        "[[ingress]]\nfrom = [{}]\nports = [\"tcp/90\"]\n",
        addresses.join(",")
    );
    format!(
        "applies-to = {{ container = \"two\" }}\n{}",
        rule.repeat(rules)
    )
}

pub fn files_have_a_ceiling_together() {
    let world = World::new("ceiling");
    world.zone("web").default("deny").create();
    let _one = world.container("one").in_zone("web").start();
    let mut two = world.container("two").in_zone("web").start();
    open_out(&world);
    world.write_policy("two", GOOD);
    world.write_policy("large1", &large(10));
    world.policy("large2", &large(9));
    let rows = [
        (Allow, "one", "two", "tcp/80"),
        (Deny, "one", "two", "tcp/81"),
    ];
    world.verdicts(&rows);

    // Too much beside the others: it is refused like a bad file, and all are named.
    let wider = format!(
        "{}[[ingress]]\nfrom = [\"any\"]\nports = [\"tcp/81\"]\n",
        large(1)
    );
    world.write_policy("wider", &wider);
    let said = world.netd("reload").fails(1);
    for word in [
        "wider.toml:1:1",
        "container two",
        "40000",
        "large1.toml (20000)",
    ] {
        assert!(said.contains(word), "{word} is not told: {said}");
    }
    world.verdicts(&rows);
    // With nobody there the files are fine, and then nobody comes.
    two.detach();
    world.netd("reload").ok();
    assert!(two.try_attach().is_err(), "attached with too much");
    // With room for it, the file is taken.
    world.policy("large1", &large(1));
    two.try_attach().unwrap();
    world.verdicts(&[(Allow, "one", "two", "tcp/81")]);
}

/// Waits until one may reach two on tcp/80, or may not.
fn comes_to(world: &World, rows: &[(crate::world::Verdict, &str, &str, &str)]) {
    let (verdict, from, to, port) = rows[0];
    let code = if verdict == Allow { 0 } else { 10 };
    let begin = Instant::now();
    while world.netd(&format!("explain {from} {to} {port}")).code != code {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{from} → {to} stays as it was"
        );
    }
    world.verdicts(rows);
}

pub fn links_and_folders_count() {
    let world = World::new("file-links");
    world.zone("web").default("deny").create();
    let _one = world.container("one").in_zone("web").start();
    let _two = world.container("two").in_zone("web").start();
    open_out(&world);
    world.policy("two", GOOD);
    let open = [(Allow, "one", "two", "tcp/80")];
    let closed = [(Deny, "one", "two", "tcp/80")];
    world.verdicts(&open);

    // A link in the place of a file, at once; its target, when somebody asks.
    let policies = world.folder("config").join("policies");
    let (file, target) = (policies.join("two.toml"), world.folder("elsewhere"));
    fs::write(&target, "ingress = []\n").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&target, &file).unwrap();
    comes_to(&world, &closed);
    fs::write(&target, GOOD).unwrap();
    world.netd("reload").ok();
    world.verdicts(&open);
    // One that leads nowhere is a bad file.
    fs::remove_file(&target).unwrap();
    let said = world.netd("reload").fails(1);
    assert!(said.contains("two.toml"), "{said}");
    world.verdicts(&open);
    fs::remove_file(&file).unwrap();
    world.policy("two", GOOD);

    // Another folder in the place of the folder.
    let other = policies.with_file_name("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("one.toml"), "[[egress]]\n").unwrap();
    fs::rename(&policies, policies.with_file_name("old")).unwrap();
    let said = world.netd("reload").fails(1);
    assert!(said.contains("policies"), "{said}");
    world.verdicts(&open);
    fs::rename(&other, &policies).unwrap();
    comes_to(&world, &closed);
    fs::write(policies.join("two.toml"), GOOD).unwrap();
    comes_to(&world, &open);
    let status = world.netd("status --json").json();
    assert_eq!(status["problems"], serde_json::json!([]));
}

pub fn zone_files_that_cannot_be_followed_are_told() {
    let world = World::new("zone-follow");
    world
        .zone("web")
        .option("--subnet4", "10.77.0.0/24")
        .create();
    let one = world.container("one").in_zone("web").start();
    let zones = world.folder("config").join("zones");
    fs::write(zones.join("web.toml"), "subnet4 = \"10.78.0.0/24\"\n").unwrap();
    fs::write(zones.join("lab.toml"), "subnet4 = \"10.77.0.0/25\"\n").unwrap();
    fs::write(zones.join("Lab.toml"), "").unwrap();
    // also when they were read before somebody asks
    for _ in 0..2 {
        let said = world.netd("reload").fails(1);
        for part in ["web.toml", "(one)", "lab.toml", "overlaps", "Lab.toml"] {
            assert!(said.contains(part), "{part} is not told: {said}");
        }
    }
    fs::remove_file(zones.join("lab.toml")).unwrap();
    fs::remove_file(zones.join("Lab.toml")).unwrap();
    one.stop();
    world.netd("reload").ok();
    let zone = world.netd("zone show web --json").json();
    assert_eq!(zone["subnet4"], "10.78.0.0/24");
    // served there as it was before
    let one = world.container("one").in_zone("web").start();
    let status = world.netd("status --json").json();
    assert_eq!(status["problems"], serde_json::json!([]));
    assert!(one.ping(one.gateway4()).passed());
}
