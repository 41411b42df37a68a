//! Root file systems that tools of the OCI made: layouts of skopeo and umoci, what a container engine exports, a bundle.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::boot::netd;
use super::run::root;
use crate::net::netns::Ran;
use crate::world::World;

/// Runs a script of tools that are not netd's, in the story's folder; `$TREE` is a busybox root.
fn tools(world: &World, script: &str) -> String {
    let tree = world.dir.join("root");
    if !tree.exists() {
        root(&world.dir);
    }
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-ec", script])
        .current_dir(&world.dir)
        .env("TREE", &tree)
        .env("TMPDIR", &world.dir)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{script}: {said}");
    String::from_utf8(ran.stdout).unwrap()
}

/// An image of two layers: the second takes a file and a folder away, and has a folder anew.
const TWO_LAYERS: &str = "umoci init --layout layout; umoci new --image layout:box; umoci unpack --image layout:box made; \
    cp -a $TREE/. made/rootfs/; mkdir -p made/rootfs/data/old; echo 1 >made/rootfs/data/old/file; echo 1 >made/rootfs/data/gone; \
    echo 1 >made/rootfs/data/kept; umoci repack --image layout:box made >/dev/null; rm -r made; umoci unpack --image layout:box made; \
    rm -r made/rootfs/data/old made/rootfs/data/gone; echo 2 >made/rootfs/data/new; chown 33:33 made/rootfs/data/new; \
    umoci repack --image layout:box made >/dev/null; rm -r made; umoci config --image layout:box --config.cmd /bin/true;";

fn run_in(world: &World, name: &str, options: &[&str], script: &str) -> Ran {
    let words = [
        &["run", "-q", "-M", name],
        options,
        &["--", "/bin/sh", "-c", script],
    ];
    netd(world, &words.concat())
}

pub fn skopeo_and_umoci_make_images_of_netds() {
    let world = World::new("layouts");
    world.zone("web").create();
    tools(
        &world,
        &format!(
            "{TWO_LAYERS} skopeo copy -q oci:layout:box oci-archive:box.oci.tar:v1; \
             skopeo copy -q --dest-compress-format zstd oci:layout:box oci:zstd:box; umoci tag --image layout:box other"
        ),
    );
    let file = |name: &str| world.dir.join(name).to_str().unwrap().to_owned();
    let layout = file("layout");
    // which one?
    let several = netd(&world, &["import-oci", &layout, "box"]);
    assert!(
        several.code == 1 && several.stderr.contains("other"),
        "{several}"
    );
    let made = netd(&world, &["import-oci", &format!("{layout}:box"), "--json"]).json();
    assert_eq!(made["name"], "box");
    netd(
        &world,
        &[
            "import-oci",
            &format!("{}:box", file("zstd")),
            "zst",
            "--read-only",
        ],
    )
    .ok();
    netd(&world, &["import-oci", &file("box.oci.tar"), "packed"]).ok();
    netd(&world, &["import-oci", &format!("{layout}:box")]).fails(1);
    netd(&world, &["import-oci", &format!("{layout}:box"), "--force"]).ok();
    for name in ["box", "zst", "packed"] {
        let options = ["-U", "--read-only", "--network-zone=web"];
        let script = "cat /data/kept /data/new; ls /data; ip -4 -o address show dev host0 | wc -l; ls -n /data/new | cut -c 1-10";
        let told = run_in(&world, name, &options, script).ok();
        assert_eq!(told, "1\n2\nkept\nnew\n1\n-rw-r--r--\n", "{name}");
    }
    let owner = world.folder("state").join("machines/box/data/new");
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(owner).unwrap()),
        33
    );
    // a layer that somebody changed on the way
    let blob = "cd layout/blobs/sha256; big=$(ls -S | head -n 1); printf x | dd of=$big bs=1 seek=100 conv=notrunc status=none";
    tools(&world, blob);
    let refused = netd(&world, &["import-oci", &format!("{layout}:box"), "changed"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("digest"),
        "{refused}"
    );
    netd(&world, &["import-oci", &file("root"), "none"]).fails(1);
    let left = fs::read_dir(world.folder("state").join("machines")).unwrap();
    let mut left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["box", "packed", "zst"]);
    // or nobody could clear it away
    netd(&world, &["read-only", "zst", "no"]).ok();
}

pub fn what_docker_exports_is_a_root() {
    let world = World::new("layouts-export");
    // with all that such an archive has: devices, links of both kinds, attributes, another user's files, set-user-id programs
    let odd = "mkdir -p $TREE/odd; cd $TREE/odd; mknod null c 1 3; mknod disk b 8 0; mkfifo pipe; echo x >one; ln one two; ln -s /etc/passwd link; \
        ln -s ../../../../etc/shadow out; setfattr -n user.note -v kept one 2>/dev/null || true; cp ../bin/busybox su; chmod 4755 su; chown 33:33 one; cd - >/dev/null;";
    let engine = "p() { podman --root $PWD/store --runroot $PWD/run --tmpdir $PWD/tmp --storage-driver vfs --events-backend none \"$@\"; }; \
        tar -C $TREE -cf root.tar .; p import -q root.tar local/box >/dev/null; id=$(p create --network none --cgroups disabled local/box /bin/true); \
        p export -o exported.tar $id; p rm -f $id >/dev/null;";
    tools(&world, &format!("{odd} {engine} test -s exported.tar"));
    let pipe = format!(
        "{} --state-dir {} --runtime-dir {} --config-dir {} import-tar - web <exported.tar 2>&1",
        crate::world::netd_binary().display(),
        world.folder("state").display(),
        world.folder("runtime").display(),
        world.folder("config").display()
    );
    let told = tools(&world, &pipe);
    assert!(told.contains("2 device nodes were left out"), "{told}");
    let script = "cd /odd; test ! -e null && test ! -e disk && test -p pipe && test one -ef two && cat link >/dev/null && ls -l su | cut -c 1-10; \
        ls -ln one | tr -s ' ' | cut -d ' ' -f 3; cat /srv/index.html; test ! -e out && echo inside";
    let told = run_in(&world, "web", &["-U", "--private-network"], script).ok();
    assert_eq!(told, "-rwsr-xr-x\n33\nserved from inside\ninside\n");
}

pub fn the_bundle_of_an_image_runs() {
    let world = World::new("layouts-bundle");
    world.zone("web").create();
    tools(
        &world,
        &format!(
            "{TWO_LAYERS} umoci config --image layout:box --config.cmd /bin/sh --config.cmd -c --config.cmd 'echo $A; cat /data/kept; exit 7' \
             --config.env A=b; umoci unpack --image layout:box bundle"
        ),
    );
    let bundle = world.dir.join("bundle");
    let option = format!("--oci-bundle={}", bundle.display());
    let ran = netd(
        &world,
        &["run", "-q", "--network-zone=web", "--console=pipe", &option],
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (7, "b\n1\n"), "{ran}");
    assert!(!Path::new(&bundle.join("rootfs/data/gone")).exists());
}
