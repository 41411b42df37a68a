//! Who the command runs as: the container's own /etc/passwd and /etc/group, read without leaving its root.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::error::SpawnError;
use crate::settings::UserName;

/// A resolved user of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id, as inside.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// Login name, where there is one.
    pub name: Option<String>,
    /// Home directory, where it is known.
    pub home: Option<PathBuf>,
}

impl User {
    /// User 0 without asking anybody.
    pub fn root() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            name: Some("root".to_owned()),
            home: Some(PathBuf::from("/root")),
        }
    }
}

/// One line of /etc/passwd, passwd(5).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        Some(Account {
            name: fields.first()?,
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5)?,
        })
    })
}

/// One line of /etc/group, group(5).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        Some(Group {
            name: fields.first()?,
            gid: fields.get(2)?.parse().ok()?,
            members: fields.get(3).map_or(Vec::new(), |m| m.split(',').collect()),
        })
    })
}

/// Resolves `wanted` against the text of the two files (empty where the file is missing).
///
/// # Errors
/// [`SpawnError::User`] where a name is in neither. A number need not exist.
pub(crate) fn resolve(wanted: &UserName, passwd: &str, group: &str) -> Result<User, SpawnError> {
    let missing = |reason: String| SpawnError::User {
        user: wanted.to_string(),
        reason,
    };
    match wanted {
        UserName::Id(uid, gid) => {
            let account = accounts(passwd).find(|a| a.uid == *uid);
            Ok(User {
                uid: *uid,
                gid: gid.unwrap_or_else(|| account.as_ref().map_or(0, |a| a.gid)),
                groups: match (gid, &account) {
                    (None, Some(a)) => memberships(a.name, group),
                    _ => Vec::new(),
                },
                name: account.as_ref().map(|a| a.name.to_owned()),
                home: account.map(|a| PathBuf::from(a.home)),
            })
        }
        UserName::Name(name, in_group) => {
            let account = accounts(passwd)
                .find(|a| a.name == name)
                .ok_or_else(|| missing(format!("no {name:?} in the container's /etc/passwd")))?;
            let gid = match in_group {
                None => account.gid,
                Some(wanted) => {
                    groups(group)
                        .find(|g| g.name == wanted)
                        .ok_or_else(|| {
                            missing(format!("no {wanted:?} in the container's /etc/group"))
                        })?
                        .gid
                }
            };
            Ok(User {
                uid: account.uid,
                gid,
                groups: memberships(name, group),
                name: Some(name.clone()),
                home: Some(PathBuf::from(account.home)),
            })
        }
    }
}

fn memberships(name: &str, group: &str) -> Vec<u32> {
    let mut gids: Vec<_> = groups(group)
        .filter(|g| g.members.contains(&name))
        .map(|g| g.gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

/// Reads a file below `root` as the container would find it: symbolic links cannot lead out.
pub(crate) fn read_inside(root: &Path, file: &str) -> std::io::Result<String> {
    let dir = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let fd = rustix::fs::openat2(
        &dir,
        file,
        // NONBLOCK: a FIFO in that place must not hold us up
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    let mut text = Vec::new();
    File::from(fd).take(16 << 20).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Looks `wanted` up in the files below `root`.
///
/// # Errors
/// As [`resolve`]; a missing file counts as empty.
pub(crate) fn look_up(wanted: Option<&UserName>, root: &Path) -> Result<User, SpawnError> {
    let Some(wanted) = wanted else {
        return Ok(User::root());
    };
    let read = |file| read_inside(root, file).unwrap_or_default();
    resolve(wanted, &read("etc/passwd"), &read("etc/group"))
}

/// Whether any account or group of the host has an id in the 65,536 from `base` on.
pub(crate) fn host_uses(base: u32) -> bool {
    let used = |id: u32| (base..base.saturating_add(65536)).contains(&id);
    let read = |file| {
        let fd = rustix::fs::openat(CWD, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut text = String::new();
        if let Ok(fd) = fd {
            let _ = File::from(fd).read_to_string(&mut text);
        }
        text
    };
    accounts(&read("/etc/passwd")).any(|a| used(a.uid))
        || groups(&read("/etc/group")).any(|g| used(g.gid))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nbroken\nweb:x:33:34:Web,,,:/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:4:db,web\ntls:x:9:web\n";

    fn resolved(text: &str) -> Result<User, String> {
        resolve(&text.parse().unwrap(), PASSWD, GROUP).map_err(|e| e.to_string())
    }

    #[test]
    fn names_bring_their_groups() {
        let web = resolved("web").unwrap();
        assert_eq!((web.uid, web.gid, web.groups), (33, 34, vec![4, 9]));
        assert_eq!(web.home.unwrap(), Path::new("/srv"));
        assert_eq!(resolved("web:tls").unwrap().gid, 9);
    }

    #[test]
    fn numbers_need_not_exist() {
        let nobody = resolved("77").unwrap();
        assert_eq!((nobody.uid, nobody.gid, nobody.name), (77, 0, None));
        assert_eq!(resolved("33").unwrap().gid, 34);
        let web = resolved("33:5").unwrap();
        assert_eq!((web.gid, web.groups.len()), (5, 0));
    }

    #[test]
    fn a_missing_name_is_named() {
        assert_eq!(
            resolved("db").unwrap_err(),
            "user \"db\": no \"db\" in the container's /etc/passwd"
        );
        assert!(resolved("web:db").unwrap_err().contains("/etc/group"));
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("real"), "inside").unwrap();
        std::os::unix::fs::symlink("/../../real", dir.path().join("etc/passwd")).unwrap();
        assert_eq!(read_inside(dir.path(), "etc/passwd").unwrap(), "inside");
    }
}
