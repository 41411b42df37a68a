//! Images from the web: fetched, resumed where it broke off, verified, and only then unpacked.
//!
//! ```text
//!   URL ──▶ HOME/.download-HASH (kept for a later try) ──sha256──▶ SHA256SUMS ──signature──▶ keyring
//!                                                          └─▶ image
//! ```

mod verify;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archive::Cancel;
use crate::error::ImageError;

pub use verify::{KEYRINGS, Verify};

/// How long a server may take to be reached, and to begin its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sums and signatures are not longer than that.
const SMALL: u64 = 4 << 20;

/// Told of progress: bytes so far, and of how many, where the server says.
pub type Watch<'a> = &'a dyn Fn(u64, Option<u64>);

/// What is fetched.
pub struct Pull<'a> {
    /// `http://` or `https://`.
    pub url: &'a str,
    /// How far its maker is to be believed.
    pub verify: Verify,
    /// Further keyrings beside [`KEYRINGS`].
    pub keyrings: &'a [PathBuf],
    /// Where it is kept until it is whole.
    pub folder: &'a Path,
}

/// A fetched and verified file. Dropping it removes it.
pub struct Fetched {
    path: PathBuf,
    file: File,
}

impl Fetched {
    /// Its content, from the begin.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(note_of(&self.path));
    }
}

/// What is known of a partial file: it goes on only if the server still has the same.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
struct Note {
    /// ETag or Last-Modified, as If-Range wants them (RFC 9110, 13.1.5).
    version: Option<String>,
}

impl Pull<'_> {
    /// Fetches and verifies.
    ///
    /// # Errors
    /// [`ImageError::Url`] where it cannot be had (a later try goes on from there), [`ImageError::Verify`] where it is not what was
    /// signed for, [`ImageError::Cancelled`]: then nothing is kept.
    pub fn fetch(&self, cancel: &Cancel, watch: Watch<'_>) -> Result<Fetched, ImageError> {
        let agent = agent(self.url)?;
        // before the long part: a verification that cannot be done is no reason to fetch anything
        let sum = self.verify.expected(&agent, self.url, self.keyrings)?;
        let path = self.folder.join(format!(
            ".download-{}",
            &hex(&Sha256::digest(self.url))[..32]
        ));
        let file = open(&path)?;
        let fetched = self.download(&agent, file, &path, cancel, watch);
        let mut file = match fetched {
            Err(ImageError::Cancelled) => {
                let _ = fs::remove_file(&path);
                let _ = fs::remove_file(note_of(&path));
                return Err(ImageError::Cancelled);
            }
            fetched => fetched?,
        };
        let read = || ImageError::file::<io::Error>("read", &path);
        file.seek(SeekFrom::Start(0)).map_err(read())?;
        if let Some(sum) = sum {
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 256 << 10];
            loop {
                match file.read(&mut buffer).map_err(read())? {
                    0 => break,
                    n => hash.update(&buffer[..n]),
                }
            }
            let found = hex(&hash.finalize());
            if found != sum {
                let _ = fs::remove_file(&path);
                let _ = fs::remove_file(note_of(&path));
                return Err(ImageError::Verify {
                    what: self.url.to_owned(),
                    reason: format!("its SHA256 is {found}, and should be {sum}"),
                });
            }
            file.seek(SeekFrom::Start(0)).map_err(read())?;
        }
        Ok(Fetched { path, file })
    }

    fn download(
        &self,
        agent: &ureq::Agent,
        mut file: File,
        path: &Path,
        cancel: &Cancel,
        watch: Watch<'_>,
    ) -> Result<File, ImageError> {
        let write = || ImageError::file::<io::Error>("write", path);
        let note: Note = fs::read(note_of(path))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let mut have = file.metadata().map_err(write())?.len();
        let mut request = agent.get(self.url);
        match &note.version {
            Some(version) if have > 0 => {
                request = request
                    .header("Range", format!("bytes={have}-"))
                    .header("If-Range", version);
            }
            _ => have = 0,
        }
        let response = request.call().map_err(|e| url_error(self.url, &e))?;
        match response.status().as_u16() {
            206 if have > 0 && begins_at(&response, have) => {}
            200 => have = 0,
            // what we have is more than there is
            416 if have > 0 => {
                file.set_len(0).map_err(write())?;
                let _ = fs::remove_file(note_of(path));
                return self.download(agent, file, path, cancel, watch);
            }
            other => {
                return Err(ImageError::Url {
                    url: self.url.to_owned(),
                    reason: format!("the server answers {other}"),
                });
            }
        }
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        // a weak validator does not promise the same bytes
        let version = header("etag")
            .filter(|tag| !tag.starts_with("W/"))
            .or(header("last-modified"));
        let note = Note {
            version: version.map(str::to_owned),
        };
        let length = header("content-length").and_then(|text| text.parse::<u64>().ok());
        let total = length.map(|length| have + length);
        fs::write(note_of(path), serde_json::to_vec(&note).unwrap_or_default()).map_err(write())?;
        file.set_len(have).map_err(write())?;
        file.seek(SeekFrom::Start(have)).map_err(write())?;
        let mut body = response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        let mut buffer = vec![0; 64 << 10];
        loop {
            watch(have, total);
            if cancel.is_cancelled() {
                return Err(ImageError::Cancelled);
            }
            let n = body.read(&mut buffer).map_err(|e| ImageError::Url {
                url: self.url.to_owned(),
                reason: format!(
                    "it broke off after {have} bytes ({e}); the next try goes on from there"
                ),
            })?;
            if n == 0 {
                break;
            }
            file.write_all(&buffer[..n]).map_err(write())?;
            have += n as u64;
        }
        match total {
            Some(total) if have < total => Err(ImageError::Url {
                url: self.url.to_owned(),
                reason: format!(
                    "it broke off after {have} of {total} bytes; the next try goes on from there"
                ),
            }),
            _ => Ok(file),
        }
    }
}

/// Whether a partial answer goes on where our part ends: `bytes N-…`.
fn begins_at<B>(response: &ureq::http::Response<B>, at: u64) -> bool {
    let range = response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    range.is_some_and(|range| {
        range
            .strip_prefix("bytes ")
            .is_some_and(|rest| rest.starts_with(&format!("{at}-")))
    })
}

fn note_of(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Opens a partial file, and keeps others from writing to it.
fn open(path: &Path) -> Result<File, ImageError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(ImageError::file("make", folder))?;
    }
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let file = options.open(path).map_err(ImageError::file("open", path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| ImageError::Busy("of this address is being fetched already, so it".into()))?;
    Ok(file)
}

/// One that trusts whom the system trusts; from https it is not led back to http.
fn agent(url: &str) -> Result<ureq::Agent, ImageError> {
    let secure = url.starts_with("https://");
    if !secure && !url.starts_with("http://") {
        return Err(ImageError::Url {
            url: url.to_owned(),
            reason: "neither http:// nor https://".into(),
        });
    }
    let mut config = ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .https_only(secure)
        .http_status_as_error(false)
        .user_agent(concat!("netd/", env!("CARGO_PKG_VERSION")));
    if secure {
        let found = rustls_native_certs::load_native_certs();
        let roots: Vec<_> = found
            .certs
            .iter()
            .map(|cert| ureq::tls::Certificate::from_der(cert).to_owned())
            .collect();
        if roots.is_empty() {
            return Err(ImageError::Url {
                url: url.to_owned(),
                reason:
                    "no certificates are installed to know anybody by (package ca-certificates)"
                        .into(),
            });
        }
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(ureq::tls::RootCerts::Specific(Arc::new(roots)))
            .build();
        config = config.tls_config(tls);
    }
    Ok(config.build().new_agent())
}

/// A small file beside an image; `None` where there is none.
fn small(agent: &ureq::Agent, url: &str) -> Result<Option<Vec<u8>>, ImageError> {
    let response = agent.get(url).call().map_err(|e| url_error(url, &e))?;
    match response.status().as_u16() {
        200 => {
            let body = response
                .into_body()
                .into_with_config()
                .limit(SMALL)
                .read_to_vec();
            body.map(Some).map_err(|e| url_error(url, &e))
        }
        404 | 403 | 410 => Ok(None),
        other => Err(ImageError::Url {
            url: url.to_owned(),
            reason: format!("the server answers {other}"),
        }),
    }
}

fn url_error(url: &str, error: &ureq::Error) -> ImageError {
    ImageError::Url {
        url: url.to_owned(),
        reason: error.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
