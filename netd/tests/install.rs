//! `make install` puts every file where the programs that read it look, and `make uninstall` takes every one away.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `make TARGET` for a place of its own, with the binary that this test was built with.
fn make(target: &str, prefix: &str, dest: &Path) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new("make")
        .arg("-C")
        .arg(top)
        .arg(target)
        .arg(format!("NETD={}", env!("CARGO_BIN_EXE_netd")))
        .arg(format!("PREFIX={prefix}"))
        .arg(format!("DESTDIR={}", dest.display()))
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make {target}: {said}");
}

/// Files and links below a folder, as paths from there.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    fn collect(folder: &Path, top: &Path, all: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), top, all);
            } else {
                all.insert(entry.path().strip_prefix(top).unwrap().to_owned());
            }
        }
    }
    let mut all = BTreeSet::new();
    collect(folder, folder, &mut all);
    all
}

#[test]
fn every_file_is_in_its_place_and_leaves_it() {
    for (prefix, hooks) in [
        ("/usr", "usr/share/containers/oci/hooks.d"),
        ("/usr/local", "etc/containers/oci/hooks.d"),
    ] {
        let dest = tempfile::tempdir().unwrap();
        let dest = dest.path();
        make("install-files", prefix, dest);
        let below = prefix.trim_start_matches('/');
        let text = |path: &str| {
            let path = dest.join(path);
            let text =
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(
                !text.contains('@') || !text.contains("DIR@"),
                "{}: {text}",
                path.display()
            );
            text
        };
        let mode = |path: &str| fs::metadata(dest.join(path)).unwrap().permissions().mode();
        let binary = format!("{prefix}/bin/netd");
        assert_eq!(mode(&binary[1..]) & 0o777, 0o755);

        let hook: serde_json::Value =
            serde_json::from_str(&text(&format!("{hooks}/70-netd.json"))).unwrap();
        assert_eq!(hook["version"], "1.0.0");
        assert_eq!(hook["hook"]["path"], binary.as_str());
        assert_eq!(
            hook["stages"],
            serde_json::json!(["createRuntime", "poststop"])
        );

        let unit = text(&format!("{below}/lib/systemd/system/netd.service"));
        assert!(
            unit.contains(&format!("ExecStart={binary} daemon\n")),
            "{unit}"
        );
        let drop_in = "lib/systemd/system/systemd-nspawn@.service.d/50-netd.conf";
        let drop_in = text(&format!("{below}/{drop_in}"));
        assert!(
            drop_in.contains(&format!("={binary} hook nspawn")),
            "{drop_in}"
        );
        let network = text(&format!("{below}/lib/systemd/network/70-netd.network"));
        assert!(network.contains("Unmanaged=yes"), "{network}");
        let driver = fs::read_link(dest.join(below).join("libexec/netavark/netd")).unwrap();
        assert_eq!(driver, Path::new(&binary));
        assert_eq!(
            fs::read_link(dest.join("opt/cni/bin/netd")).unwrap(),
            Path::new(&binary)
        );
        let example = text(&format!("{below}/share/netd/cni/10-netd.conflist"));
        let example: serde_json::Value = serde_json::from_str(&example).unwrap();
        assert_eq!(example["plugins"][0]["type"], "netd");
        assert_eq!(
            fs::read_link(dest.join("opt/cni/bin/netd-policy")).unwrap(),
            Path::new(&binary)
        );
        let chain = text(&format!("{below}/share/netd/cni/20-netd-policy.conflist"));
        let chain: serde_json::Value = serde_json::from_str(&chain).unwrap();
        assert_eq!(chain["plugins"][2]["type"], "netd-policy");

        let page = text(&format!("{below}/share/man/man8/netd.8"));
        assert!(
            page.contains(".TH netd 8"),
            "{}",
            &page[..page.len().min(300)]
        );
        for (shell, begins) in [
            ("bash-completion/completions/netd", "_netd()"),
            ("zsh/site-functions/_netd", "#compdef netd"),
            ("fish/vendor_completions.d/netd.fish", "# "),
        ] {
            let script = text(&format!("{below}/share/{shell}"));
            assert!(script.starts_with(begins), "{shell}: {}", &script[..80]);
        }
        for schema in ["policy.toml.json", "groups.toml.json"] {
            let schema = text(&format!("{below}/share/netd/schema/{schema}"));
            serde_json::from_str::<serde_json::Value>(&schema).unwrap();
        }
        // Text is for everybody to read.
        for file in files(dest) {
            let path = file.to_str().unwrap();
            let link = dest.join(&file).is_symlink();
            assert!(link || mode(path) & 0o444 == 0o444, "{path}");
        }
        make("uninstall", prefix, dest);
        assert_eq!(files(dest), BTreeSet::new(), "{prefix}: files are left");
    }
}
