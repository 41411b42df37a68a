//! Which 65,536 user ids a container with private users gets, by the rules of systemd-nspawn's `--private-users=pick`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::SpawnError;
use crate::plan::UidRange;
use crate::settings::{Ownership, PrivateUsers, Settings};
use crate::user;

/// Ranges that are picked from begin here … (systemd's "container UIDs", UIDS-GIDS.md)
const FIRST: u32 = 0x0008_0000;
/// … and end here.
const LAST: u32 = 0x6FFF_0000;

/// The range for a container, given where those of other containers begin.
///
/// # Errors
/// [`SpawnError::NoUidRange`] after many tries, [`SpawnError::Directory`] where the root cannot be looked at.
pub(crate) fn choose(settings: &Settings, taken: &[u32]) -> Result<Option<UidRange>, SpawnError> {
    if !settings.private_users.is_private() {
        return Ok(None);
    }
    let root = settings.directory.as_deref().unwrap_or(Path::new("/"));
    let owner = std::fs::metadata(root)
        .map_err(|source| SpawnError::Directory {
            path: root.to_owned(),
            source,
        })?
        .uid();
    let used = |base: u32| {
        taken.contains(&base)
            || user::host_uses(base)
            // another program's claim, systemd-nspawn(1)
            || Path::new(&format!("/run/systemd/nspawn-uid/{base}")).exists()
    };
    let (base, size) = match settings.private_users {
        PrivateUsers::No => return Ok(None),
        PrivateUsers::Pick => (pick(settings.name.as_str(), owner, used)?, UidRange::SIZE),
        PrivateUsers::Fixed { base, size } => (base, size),
        PrivateUsers::Identity => (0, UidRange::SIZE),
    };
    let belongs = (base..base.saturating_add(size)).contains(&owner);
    Ok(Some(UidRange {
        base,
        size,
        idmap: match settings.ownership {
            Ownership::Auto => !belongs,
            Ownership::Map => !(belongs && base > 0),
            Ownership::Off | Ownership::Chown => false,
        },
    }))
}

/// Where the range begins.
fn pick(name: &str, owner: u32, used: impl Fn(u32) -> bool) -> Result<u32, SpawnError> {
    if owner != 0 && owner.is_multiple_of(UidRange::SIZE) {
        // the files were shifted on disk: that is the range, whoever else runs from the same directory
        return Ok(owner);
    }
    let count = (LAST - FIRST) / UidRange::SIZE + 1;
    // from the name, so that a container usually keeps its range
    let start = fnv(name) % count;
    (0..count.min(1000))
        .map(|step| FIRST + (start + step) % count * UidRange::SIZE)
        .find(|base| !used(*base))
        .ok_or(SpawnError::NoUidRange)
}

/// FNV-1a, 32 bits.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_keeps_its_range_unless_that_is_taken() {
        let free = pick("web", 0, |_| false).unwrap();
        assert_eq!(pick("web", 0, |_| false).unwrap(), free);
        assert!((FIRST..=LAST).contains(&free) && free & 0xffff == 0);
        let next = pick("web", 0, |base| base == free).unwrap();
        assert_ne!(next, free);
        assert!(matches!(
            pick("web", 0, |_| true),
            Err(SpawnError::NoUidRange)
        ));
    }

    #[test]
    fn files_that_were_shifted_on_disk_name_the_range() {
        assert_eq!(pick("web", 0x000b_0000, |_| true).unwrap(), 0x000b_0000);
        assert_ne!(pick("web", 1000, |_| false).unwrap(), 1000);
    }

    #[test]
    fn the_last_range_wraps_to_the_first() {
        let last = pick("x", 0, |base| base != LAST);
        assert!(last.is_ok_and(|base| base == LAST) || (LAST - FIRST) / UidRange::SIZE > 1000);
    }

    #[test]
    fn files_are_mapped_unless_they_belong_to_the_range() {
        let dir = tempfile::tempdir().unwrap();
        let owner = std::fs::metadata(dir.path()).unwrap().uid();
        let chosen = |users: &str, ownership: &str| {
            let mut settings = Settings::new("web".parse().unwrap(), "/run", ["true"]);
            settings.directory = Some(dir.path().to_owned());
            settings.private_users = users.parse().unwrap();
            settings.ownership = ownership.parse().unwrap();
            let range = choose(&settings, &[]).unwrap();
            range.map(|r| (r.base, r.size, r.idmap))
        };
        assert_eq!(chosen("no", "auto"), None);
        assert_eq!(
            chosen("1000000:1000", "auto"),
            Some((1_000_000, 1000, true))
        );
        assert_eq!(chosen("1000000", "off"), Some((1_000_000, 65536, false)));
        assert_eq!(chosen("1000000", "chown"), Some((1_000_000, 65536, false)));
        assert_eq!(
            chosen(&format!("{owner}:5"), "auto"),
            Some((owner, 5, false))
        );
        assert_eq!(chosen("identity", "off"), Some((0, 65536, false)));
        assert!(chosen("pick", "map").unwrap().2);
    }
}
