//! Who the command runs as: the container's own /etc/passwd and /etc/group, read without leaving its root.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use serde_json::json;

use crate::error::SpawnError;
use crate::inside;
use crate::plan::Guest;
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
    gecos: &'a str,
    home: &'a str,
    shell: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        Some(Account {
            name: fields.first()?,
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            gecos: fields.get(4)?,
            home: fields.get(5)?,
            shell: fields.get(6).unwrap_or(&"/bin/sh"),
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

/// Looks `wanted` up in the files below `root`.
///
/// # Errors
/// As [`resolve`]; a missing file counts as empty.
pub(crate) fn look_up(
    wanted: Option<&UserName>,
    root: &Path,
    guests: &[Guest],
) -> Result<User, SpawnError> {
    let Some(wanted) = wanted else {
        return Ok(User::root());
    };
    let read = |file: &str| inside::read(root, Path::new(file)).unwrap_or_default();
    let passwd = with_guests(&read("etc/passwd"), guests, passwd_line);
    let group = with_guests(&read("etc/group"), guests, group_line);
    resolve(wanted, &passwd, &group)
}

/// A file with a line for each guest added.
pub(crate) fn with_guests(text: &str, guests: &[Guest], line: fn(&Guest) -> String) -> String {
    let mut all = text.to_owned();
    if !all.is_empty() && !all.ends_with('\n') {
        all.push('\n');
    }
    for guest in guests {
        all.push_str(&line(guest));
    }
    all
}

/// passwd(5); nobody's password.
pub(crate) fn passwd_line(guest: &Guest) -> String {
    let Guest {
        name,
        gecos,
        shell,
        id,
        ..
    } = guest;
    format!("{name}:x:{id}:{id}:{gecos}:{}/{name}:{shell}\n", HOMES)
}

/// group(5)
pub(crate) fn group_line(guest: &Guest) -> String {
    format!("{}:x:{}:\n", guest.name, guest.id)
}

/// Where the homes of guests are, as in a container of systemd-nspawn.
pub(crate) const HOMES: &str = "/run/host/home";
/// The ids inside that are for guests (systemd's "users of the host", UIDS-GIDS.md) …
const GUESTS: std::ops::RangeInclusive<u32> = 60514..=60577;

/// `--bind-user=`: users of the host by name, who must not be known to the container by name or id.
///
/// # Errors
/// [`SpawnError::Setting`] for a name that is unknown here or known there, and for too many.
pub(crate) fn guests(names: &[String], root: &Path) -> Result<Vec<Guest>, SpawnError> {
    let host = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let read = |file: &str| inside::read(root, Path::new(file)).unwrap_or_default();
    resolve_guests(names, &host, &read("etc/passwd"), &read("etc/group"))
}

fn resolve_guests(
    names: &[String],
    host: &str,
    passwd: &str,
    group: &str,
) -> Result<Vec<Guest>, SpawnError> {
    let mut all: Vec<Guest> = Vec::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        let bad = |reason: &str| SpawnError::setting("--bind-user=", name, reason);
        if all.iter().any(|guest| guest.name == *name) {
            continue;
        }
        let account = accounts(host)
            .find(|a| a.name == name)
            .ok_or_else(|| bad("is no user of the host"))?;
        if account.uid == 0 {
            return Err(bad("is root: what is root outside is not shown inside"));
        }
        if accounts(passwd).any(|a| a.name == name) || groups(group).any(|g| g.name == name) {
            return Err(bad("is a user or a group of the container already"));
        }
        let taken = |id: u32| {
            accounts(passwd).any(|a| a.uid == id || a.gid == id)
                || groups(group).any(|g| g.gid == id)
                || all.iter().any(|guest| guest.id == id)
        };
        let id = GUESTS.into_iter().find(|id| !taken(*id));
        if all
            .iter()
            .any(|guest| guest.host_uid == account.uid || guest.host_gid == account.gid)
        {
            return Err(bad("has an id, or a group, that another bound user has"));
        }
        all.push(Guest {
            name: name.clone(),
            gecos: account.gecos.to_owned(),
            shell: account.shell.to_owned(),
            host_uid: account.uid,
            host_gid: account.gid,
            id: id.ok_or_else(|| bad("is one too many: no id is left for it inside"))?,
            home: PathBuf::from(account.home),
        });
    }
    Ok(all)
}

/// The records of a guest for nss-systemd(8), as file names and contents.
pub(crate) fn records(guest: &Guest) -> Vec<(String, Vec<u8>)> {
    let Guest { name, id, .. } = guest;
    let user = json!({
        "userName": name, "uid": id, "gid": id, "realName": guest.gecos, "disposition": "regular",
        "homeDirectory": format!("{HOMES}/{name}"), "shell": guest.shell, "service": "io.systemd.NSpawn",
    });
    let group = json!({
        "groupName": name, "gid": id, "disposition": "regular", "service": "io.systemd.NSpawn",
    });
    let mut files = Vec::new();
    for (record, kind) in [(user, "user"), (group, "group")] {
        for file in [name.clone(), id.to_string()] {
            files.push((format!("{file}.{kind}"), record.to_string().into_bytes()));
        }
    }
    files
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
    fn guests_are_unknown_inside_and_get_ids_of_their_own() {
        let host = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000:Ann,,,:/home/ann:/bin/zsh\nbob:x:1001:1001::/b:/bin/sh\nweb:x:5:5::/:\n";
        let inside = format!("{PASSWD}old:x:60514:1::/:/bin/sh\n");
        let guests = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
            resolve_guests(&names, host, &inside, GROUP).map_err(|e| e.to_string())
        };
        let both = guests(&["ann", "bob", "ann"]).unwrap();
        assert_eq!(
            both.iter().map(|g| g.id).collect::<Vec<_>>(),
            [60515, 60516]
        );
        assert_eq!(both[0].home, Path::new("/home/ann"));
        assert_eq!(
            passwd_line(&both[0]),
            "ann:x:60515:60515:Ann,,,:/run/host/home/ann:/bin/zsh\n"
        );
        assert_eq!(
            with_guests("a", &both[1..], group_line),
            "a\nbob:x:60516:\n"
        );
        for (bad, why) in [("root", "root"), ("web", "already"), ("eve", "no user")] {
            let told = guests(&[bad]).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_missing_name_is_named() {
        assert_eq!(
            resolved("db").unwrap_err(),
            "user \"db\": no \"db\" in the container's /etc/passwd"
        );
        assert!(resolved("web:db").unwrap_err().contains("/etc/group"));
    }
}
