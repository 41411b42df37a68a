//! Names of images.

use std::fmt;
use std::str::FromStr;

use crate::error::ImageError;

/// The name of an image, which is also the machine's and part of a file name: `[A-Za-z0-9_-][A-Za-z0-9._-]*`, 64 at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName(String);

impl ImageName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let good = !text.is_empty()
            && text.len() <= 64
            && !text.starts_with(['.', '-'])
            && text.chars().all(fits);
        match good {
            true => Ok(Self(text.to_owned())),
            false => Err(ImageError::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name that a file or the end of an address suggests: without `.tar`, `.raw`, and what compresses them.
pub fn suggested(file: &str) -> Option<ImageName> {
    let base = file
        .split(['?', '#'])
        .next()?
        .trim_end_matches('/')
        .rsplit('/')
        .next()?;
    let mut base = base;
    for suffix in [".gz", ".xz", ".zst", ".bz2"] {
        base = base.strip_suffix(suffix).unwrap_or(base);
    }
    for suffix in [
        ".tar", ".tgz", ".txz", ".tbz2", ".tzst", ".raw", ".img", ".qcow2",
    ] {
        base = base.strip_suffix(suffix).unwrap_or(base);
    }
    base.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_cannot_lead_anywhere() {
        assert!("alpine-3.20_x".parse::<ImageName>().is_ok());
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a/b",
            "a b",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn files_and_addresses_suggest_names() {
        let name = |text| suggested(text).map(|n| n.to_string());
        assert_eq!(
            name("/srv/alpine-minirootfs.tar.gz").unwrap(),
            "alpine-minirootfs"
        );
        assert_eq!(name("https://example.org/x/web.raw.xz?a=b").unwrap(), "web");
        assert_eq!(
            name("https://example.org/"),
            Some("example.org".parse::<ImageName>().unwrap().to_string())
        );
        assert_eq!(name(".tar"), None);
    }
}
