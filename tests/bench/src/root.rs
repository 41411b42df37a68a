//! A root file system of busybox and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{During, Result};
use crate::sides::{empty_folder, find, need, run};

/// Makes one at `root`, with the libraries that busybox asks for.
pub(crate) fn busybox(root: &Path) -> Result<PathBuf> {
    let busybox = need("busybox")?;
    empty_folder(root)?;
    for folder in [
        "bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr", "var", "root",
    ] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).during(|| format!("create {}", folder.display()))?;
    }
    copy(&busybox, &root.join("bin/busybox"))?;
    for applet in ["sh", "true", "ip", "wget", "httpd", "udhcpc"] {
        let link = root.join("bin").join(applet);
        symlink("busybox", &link).during(|| format!("create {}", link.display()))?;
    }
    for (file, text) in [
        ("etc/os-release", "ID=busybox\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        let file = root.join(file);
        fs::write(&file, text).during(|| format!("write {}", file.display()))?;
    }
    for library in libraries(&busybox)? {
        let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
        copy(&library, &inside)?;
    }
    Ok(root.to_owned())
}

/// The files that ldd(1) names; none for a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let Some(ldd) = find("ldd") else {
        return Ok(Vec::new());
    };
    // ldd fails for a static program: nothing to copy then.
    let said = run(Command::new(ldd).arg(program), b"").unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let files = said.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(files.map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).during(|| format!("create {}", folder.display()))?;
    }
    fs::copy(from, to)
        .map(|_| ())
        .during(|| format!("copy {} to {}", from.display(), to.display()))
}
