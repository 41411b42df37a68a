//! Which 65,536 user ids a container with private users gets, by the rules of systemd-nspawn's `--private-users=pick`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::SpawnError;
use crate::plan::UidRange;
use crate::settings::Settings;
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
    if !settings.private_users {
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
    pick(settings.name.as_str(), owner, used).map(Some)
}

fn pick(name: &str, owner: u32, used: impl Fn(u32) -> bool) -> Result<UidRange, SpawnError> {
    if owner != 0 && owner.is_multiple_of(UidRange::SIZE) {
        // the files were shifted on disk: that is the range, whoever else runs from the same directory
        return Ok(UidRange {
            base: owner,
            idmap: false,
        });
    }
    let count = (LAST - FIRST) / UidRange::SIZE + 1;
    // from the name, so that a container usually keeps its range
    let start = fnv(name) % count;
    (0..count.min(1000))
        .map(|step| FIRST + (start + step) % count * UidRange::SIZE)
        .find(|base| !used(*base))
        .map(|base| UidRange { base, idmap: true })
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
        assert!(free.idmap && free.base >= FIRST && free.base <= LAST && free.base & 0xffff == 0);
        let next = pick("web", 0, |base| base == free.base).unwrap();
        assert_ne!(next.base, free.base);
        assert!(matches!(
            pick("web", 0, |_| true),
            Err(SpawnError::NoUidRange)
        ));
    }

    #[test]
    fn files_that_were_shifted_on_disk_name_the_range() {
        let range = pick("web", 0x000b_0000, |_| true).unwrap();
        assert_eq!(
            range,
            UidRange {
                base: 0x000b_0000,
                idmap: false
            }
        );
        assert!(pick("web", 1000, |_| false).unwrap().idmap);
    }

    #[test]
    fn the_last_range_wraps_to_the_first() {
        let last = pick("x", 0, |base| base != LAST);
        assert!(last.is_ok_and(|r| r.base == LAST) || (LAST - FIRST) / UidRange::SIZE > 1000);
    }
}
