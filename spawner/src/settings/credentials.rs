//! `--load-credential=`, `--set-credential=`: small secrets for the command, systemd.exec(5), CREDENTIALS.

use std::fmt;
use std::path::Path;

use crate::error::SpawnError;

/// CREDENTIALS_TOTAL_SIZE_MAX of systemd: of all together.
const MOST: usize = 1 << 20;

/// A file in `$CREDENTIALS_DIRECTORY`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub id: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl fmt::Debug for Credential {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, {} bytes)", self.id, self.content.len())
    }
}

impl Credential {
    /// `--set-credential=ID:VALUE`; the value may have C escapes.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a name that is no file name, or an escape that is none. The value is not told.
    pub fn set(text: &str) -> Result<Self, SpawnError> {
        const WHAT: &str = "--set-credential=";
        let (id, value) = split(WHAT, text)?;
        let content = unescape(value).ok_or_else(|| {
            SpawnError::setting(WHAT, id, "has an escape that is none (\\n, \\x00, \\\\)")
        })?;
        Ok(Self {
            id: id.to_owned(),
            content,
        })
    }

    /// `--load-credential=ID:PATH`; the file is read now. A PATH that is no absolute path is a credential of netd's own.
    ///
    /// # Errors
    /// [`SpawnError::Setting`] for a name that is no file name, or a file that cannot be read.
    pub fn load(text: &str) -> Result<Self, SpawnError> {
        const WHAT: &str = "--load-credential=";
        let (id, path) = split(WHAT, text)?;
        let bad = |reason: String| SpawnError::setting(WHAT, text, reason);
        let path = match Path::new(path).is_absolute() {
            true => path.into(),
            false => {
                let own = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    bad("has a path that is not absolute, and there are no credentials here to pass on".into())
                })?;
                Path::new(&own).join(path)
            }
        };
        let read = std::fs::metadata(&path).and_then(|meta| match meta.len() > MOST as u64 {
            true => Err(std::io::ErrorKind::FileTooLarge.into()),
            false => std::fs::read(&path),
        });
        let content = read.map_err(|e| bad(format!("cannot be read: {e}")))?;
        Ok(Self {
            id: id.to_owned(),
            content,
        })
    }
}

fn split<'a>(what: &'static str, text: &'a str) -> Result<(&'a str, &'a str), SpawnError> {
    let (id, rest) = text
        .split_once(':')
        .ok_or_else(|| SpawnError::setting(what, text, "is not ID:VALUE or ID:PATH"))?;
    // credential_name_valid of systemd: a file name
    let fits = !id.is_empty() && id.len() <= 255 && id != "." && id != "..";
    match fits && !id.contains(['/', ':']) && !id.chars().any(char::is_control) {
        true => Ok((id, rest)),
        false => Err(SpawnError::setting(what, id, "is no name of a credential")),
    }
}

/// C escapes: `\n`, `\x0a`, `\012` and their like.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let [escape, tail @ ..] = rest else {
            return None;
        };
        rest = tail;
        let number = |digits: &[u8], radix| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, radix).ok()
        };
        out.push(match escape {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b's' => b' ',
            b't' => b'\t',
            b'v' => 11,
            b'\\' | b'"' | b'\'' => *escape,
            b'x' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                number(digits, 16)?
            }
            b'0'..=b'3' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                number(&[*escape, digits[0], digits[1]], 8)?
            }
            _ => return None,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_have_c_escapes() {
        let set = |text: &str| Credential::set(text).ok().map(|c| c.content);
        assert_eq!(set(r"a:b\n\x00\101\\:c"), Some(b"b\n\0A\\:c".to_vec()));
        assert_eq!(set("a:"), Some(Vec::new()));
        for bad in ["a", ":b", "a/b:c", "..:c", r"a:\q", r"a:\x0", r"a:\"] {
            assert_eq!(set(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_message_tells_a_secret() {
        let told = Credential::set(r"a:secret\q").unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
        let shown = format!("{:?}", Credential::set("a:secret").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn files_are_read_when_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), b"\0x").unwrap();
        let text = format!("k:{}", dir.path().join("key").display());
        assert_eq!(Credential::load(&text).unwrap().content, b"\0x");
        let told = Credential::load("k:/no/such/file").unwrap_err().to_string();
        assert!(told.contains("--load-credential="), "{told}");
    }
}
