//! Whether a file is its maker's: by SHA256SUMS, and a signature of that.
//!
//! Sums are looked for as `IMAGE.sha256`, then as `SHA256SUMS` beside the image; their signature, detached, under the same name with
//! `.gpg` or `.asc`. gpgv(1) checks it, which trusts the keyrings it is given and nobody else.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::small;
use crate::error::ImageError;

/// Where keys of makers of images are, as systemd has them.
pub const KEYRINGS: [&str; 4] = [
    "/etc/systemd/import-pubring.gpg",
    "/usr/lib/systemd/import-pubring.gpg",
    "/etc/systemd/import-pubring.pgp",
    "/usr/lib/systemd/import-pubring.pgp",
];

/// How far a server is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Whatever it says.
    No,
    /// That the file is the one of its sums: whole, that is, not genuine.
    Checksum,
    /// That the sums are signed by a key of a keyring.
    Signature,
}

impl Verify {
    /// The SHA256 that the file must have, in hexadecimal.
    pub(super) fn expected(
        self,
        agent: &ureq::Agent,
        url: &str,
        keyrings: &[PathBuf],
    ) -> Result<Option<String>, ImageError> {
        if self == Self::No {
            return Ok(None);
        }
        let plain = url.split(['?', '#']).next().unwrap_or(url);
        let (folder, file) = plain.rsplit_once('/').unwrap_or(("", plain));
        let refuse = |reason: String| ImageError::Verify {
            what: url.to_owned(),
            reason,
        };
        let places = [format!("{plain}.sha256"), format!("{folder}/SHA256SUMS")];
        for place in &places {
            let Some(sums) = small(agent, place)? else {
                continue;
            };
            let text = String::from_utf8_lossy(&sums);
            let Some(sum) = find(&text, file) else {
                continue;
            };
            if self == Self::Signature {
                let signature = match small(agent, &format!("{place}.gpg"))? {
                    Some(signature) => Some(signature),
                    None => small(agent, &format!("{place}.asc"))?,
                };
                let signature = signature.ok_or_else(|| {
                    refuse(format!(
                        "{place} has no signature beside it (--verify=checksum does without)"
                    ))
                })?;
                signed(&sums, &signature, keyrings).map_err(refuse)?;
            }
            return Ok(Some(sum));
        }
        Err(refuse(format!(
            "neither {} nor {} tells its sum (--verify=no does without)",
            places[0], places[1]
        )))
    }
}

/// The sum of a file among lines of sha256sum(1): `SUM  NAME` or `SUM *NAME`; a lone sum is that of the one file.
fn find(text: &str, file: &str) -> Option<String> {
    let good = |sum: &str| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit());
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    if let (Some(only), None) = (lines.next(), lines.next())
        && good(only.trim())
    {
        return Some(only.trim().to_ascii_lowercase());
    }
    text.lines().find_map(|line| {
        let (sum, name) = line.trim_end().split_once([' ', '\t'])?;
        let name = name.trim_start_matches([' ', '*']);
        let name = name.strip_prefix("./").unwrap_or(name);
        (good(sum) && name == file).then(|| sum.to_ascii_lowercase())
    })
}

/// Whether one of the keyrings' keys signed `text`.
fn signed(text: &[u8], signature: &[u8], keyrings: &[PathBuf]) -> Result<(), String> {
    let known = KEYRINGS
        .iter()
        .map(PathBuf::from)
        .chain(keyrings.iter().cloned());
    let known: Vec<PathBuf> = known.filter(|keyring| keyring.is_file()).collect();
    if known.is_empty() {
        let where_to = "--keyring=FILE names one";
        return Err(format!(
            "there is no keyring to check its signature by, such as {}; {where_to}",
            KEYRINGS[0]
        ));
    }
    let file = |bytes: &[u8]| -> std::io::Result<std::fs::File> {
        let memory = rustix::fs::memfd_create("gpgv", rustix::fs::MemfdFlags::empty())?;
        let mut file = std::fs::File::from(memory);
        file.write_all(bytes)?;
        Ok(file)
    };
    let (text, signature) = file(text)
        .and_then(|text| Ok((text, file(signature)?)))
        .map_err(|e| e.to_string())?;
    let path = |file: &std::fs::File| {
        PathBuf::from(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(file)
        ))
    };
    let mut gpgv = Command::new("gpgv");
    for keyring in &known {
        // without a slash it would be looked for in the caller's home
        gpgv.arg("--keyring").arg(absolute(keyring));
    }
    let ran = gpgv
        .arg(path(&signature))
        .arg(path(&text))
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output();
    match ran {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err("there is no gpgv program to check its signature with (package gpgv; --verify=checksum does without)".into())
        }
        Err(e) => Err(format!("run gpgv: {e}")),
        Ok(ran) if ran.status.success() => Ok(()),
        Ok(ran) => {
            let said = String::from_utf8_lossy(&ran.stderr);
            let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
            Err(format!("the signature of its sums is not good: {last}"))
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sums_are_found_by_the_whole_name() {
        let (one, other) = ("a".repeat(64), "B".repeat(64));
        let text = format!("{one}  my-web.tar\n{other} *./web.tar\nnonsense\n");
        assert_eq!(find(&text, "web.tar").unwrap(), "b".repeat(64));
        assert_eq!(find(&text, "eb.tar"), None);
        assert_eq!(find(&format!("{one}\n"), "anything").unwrap(), one);
        assert_eq!(find("short  web.tar\n", "web.tar"), None);
    }

    #[test]
    fn a_signature_counts_only_if_a_keyring_knows_who_made_it() {
        let home = tempfile::Builder::new().prefix("gpg").tempdir().unwrap();
        let gpg = |args: &[&str]| {
            let mut gpg = Command::new("gpg");
            gpg.args([
                "--homedir",
                home.path().to_str().unwrap(),
                "--batch",
                "--quiet",
                "--passphrase",
                "",
            ]);
            gpg.args(args).output().unwrap()
        };
        let file = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let made = gpg(&["--quick-gen-key", "maker@example.org", "ed25519", "sign"]);
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        std::fs::write(file("sums"), "text").unwrap();
        assert!(
            gpg(&[
                "--output",
                &file("sums.gpg"),
                "--detach-sign",
                &file("sums")
            ])
            .status
            .success()
        );
        assert!(
            gpg(&["--output", &file("keys.gpg"), "--export"])
                .status
                .success()
        );
        let signature = std::fs::read(file("sums.gpg")).unwrap();
        let keys = [PathBuf::from(file("keys.gpg"))];
        signed(b"text", &signature, &keys).unwrap();
        assert!(
            signed(b"other", &signature, &keys)
                .unwrap_err()
                .contains("not good")
        );
        assert!(signed(b"text", b"no signature", &keys).is_err());
        std::fs::write(file("none.gpg"), "").unwrap();
        assert!(signed(b"text", &signature, &[PathBuf::from(file("none.gpg"))]).is_err());
        let _ = Command::new("gpgconf")
            .args(["--homedir", home.path().to_str().unwrap(), "--kill", "all"])
            .output();
    }
}
