//! `netd hook link`: the interfaces of a container of `netd run` that are not of a zone.
//!
//! ```text
//! options ─► text (an annotation) ─► hook: Extra ─► rtnetlink
//! ```
//!
//! An interface that was moved inside comes back when the container is gone. By then its namespace has no process any more, so
//! attach keeps it, by a mount that only the container's monitor and its hooks see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::mount::UnmountFlags;
use spawner::MachineName;
use zone::{ContainerName, Extra, IfName, Links, NameError, Netns};

use super::state::State;
use crate::cli::{self, Context, LinkArgs, Pair};
use crate::error::{Error, chain};
use crate::values::ValueError;

/// The annotation.
pub(crate) const LINKS: &str = "io.netd.links";

/// What the options ask for, as an annotation; none where they ask for nothing.
pub(crate) fn text(name: &MachineName, args: &LinkArgs) -> Result<Option<String>, Error> {
    let mut all = Vec::new();
    if args.network_veth || args.network_bridge.is_some() {
        let container: ContainerName = name
            .as_str()
            .parse()
            .map_err(|e: NameError| Error::Invalid(format!("run: {e}")))?;
        all.push(match &args.network_bridge {
            Some(bridge) => format!("veth:{}:host0:{bridge}", container.host_ifname()),
            None => format!("veth:{}:host0", container.veth_ifname()),
        });
    }
    let pairs = args.network_veth_extra.iter();
    all.extend(pairs.map(|Pair { host, inside }| {
        let inside = inside.as_ref().unwrap_or(host);
        format!("veth:{host}:{inside}")
    }));
    for (kind, pairs) in [
        ("move", &args.network_interface),
        ("macvlan", &args.network_macvlan),
        ("ipvlan", &args.network_ipvlan),
    ] {
        all.extend(pairs.iter().map(|Pair { host, inside }| match inside {
            Some(inside) => format!("{kind}:{host}:{inside}"),
            None => format!("{kind}:{host}"),
        }));
    }
    Ok((!all.is_empty()).then(|| all.join(" ")))
}

/// Reads the annotation.
fn parse(text: &str) -> Result<Vec<Extra>, ValueError> {
    let one = |word: &str| {
        let bad = || ValueError::new(word, "is no interface that netd run asks for");
        let name = |text: &str| text.parse::<IfName>().map_err(|_| bad());
        let prefixed = |prefix: &str, text: &str| {
            let whole: String = format!("{prefix}{text}").chars().take(15).collect();
            name(&whole)
        };
        Ok(match word.split(':').collect::<Vec<_>>().as_slice() {
            ["veth", host, inside] => Extra::Veth {
                host: name(host)?,
                inside: name(inside)?,
                bridge: None,
            },
            ["veth", host, inside, bridge] => Extra::Veth {
                host: name(host)?,
                inside: name(inside)?,
                bridge: Some(name(bridge)?),
            },
            ["move", ifname] => Extra::Moved {
                ifname: name(ifname)?,
                inside: name(ifname)?,
            },
            ["move", ifname, inside] => Extra::Moved {
                ifname: name(ifname)?,
                inside: name(inside)?,
            },
            ["macvlan", of, inside] => Extra::MacVlan {
                of: name(of)?,
                inside: name(inside)?,
            },
            ["ipvlan", of, inside] => Extra::IpVlan {
                of: name(of)?,
                inside: name(inside)?,
            },
            ["macvlan", of] => Extra::MacVlan {
                of: name(of)?,
                inside: prefixed("mv-", of)?,
            },
            ["ipvlan", of] => Extra::IpVlan {
                of: name(of)?,
                inside: prefixed("iv-", of)?,
            },
            _ => return Err(bad()),
        })
    };
    text.split_whitespace().map(one).collect()
}

/// Does what the state on standard input calls for.
pub(crate) fn run(context: &Context, attach: bool) -> Result<ExitCode, Error> {
    let state = State::read(std::io::stdin().lock())?;
    let wished = state.annotations.as_ref().and_then(|all| all.get(LINKS));
    let wished = wished.map_or("", String::as_str);
    let extras = parse(wished).map_err(|e| Error::Invalid(e.to_string()))?;
    let kept = kept_at(context, &state.id)?;
    match attach {
        true => make(&state, &extras, &kept)?,
        false => clear(&extras, &kept),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the namespace of a container is kept.
fn kept_at(context: &Context, id: &str) -> Result<PathBuf, Error> {
    let name: ContainerName = id.parse().map_err(|source| Error::IdAsName {
        id: id.to_owned(),
        source,
    })?;
    Ok(context.dirs.runtime.join("links").join(name.as_str()))
}

fn make(state: &State, extras: &[Extra], kept: &Path) -> Result<(), Error> {
    let pid = state.process().ok_or_else(|| Error::NoPid {
        id: state.id.clone(),
    })?;
    let netns = Netns::from_pid(pid)?;
    if extras.iter().any(|e| matches!(e, Extra::Moved { .. })) {
        let keep = || -> std::io::Result<()> {
            if let Some(folder) = kept.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::File::create(kept)?;
            Ok(rustix::mount::mount_bind(
                format!("/proc/{pid}/ns/net"),
                kept,
            )?)
        };
        keep().map_err(|source| Error::Netns {
            path: kept.to_owned(),
            source,
        })?;
    }
    let mut links = Links::open()?;
    for extra in extras {
        links.add_extra(extra, &netns)?;
    }
    Ok(())
}

/// Goes on past errors: what was made goes with the namespace.
fn clear(extras: &[Extra], kept: &Path) {
    let moved = extras.iter().filter_map(|extra| match extra {
        Extra::Moved { ifname, inside } => Some((ifname, inside)),
        _ => None,
    });
    let mut moved = moved.peekable();
    if moved.peek().is_none() {
        return;
    }
    let back = || -> Result<(), Error> {
        let netns = Netns::from_path(kept)?;
        let mut links = Links::open()?;
        for (ifname, inside) in moved {
            if let Err(e) = links.take_back(ifname, inside, &netns) {
                cli::note(&format!("warning: {}", chain(&Error::from(e))));
            }
        }
        Ok(())
    };
    if let Err(e) = back() {
        cli::note(&format!("warning: {}", chain(&e)));
    }
    let _ = rustix::mount::unmount(kept, UnmountFlags::DETACH);
    let _ = fs::remove_file(kept);
    let _ = kept.parent().map(fs::remove_dir);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_become_interfaces() {
        let words: Vec<String> =
            "netd run --network-bridge=br0 --network-veth-extra=a:b --network-veth-extra=c \
            --network-interface=eth1 --network-interface=eth3:lan --network-macvlan=eth2 --network-macvlan=eth2:mv \
            --network-ipvlan=a-long-name-15c"
                .split_whitespace()
                .map(str::to_owned)
                .collect();
        let args = cli::parse_run_words(&words).unwrap();
        let text = text(&"web".parse().unwrap(), &args.links).unwrap().unwrap();
        let name = |text: &str| text.parse::<IfName>().unwrap();
        let veth = |host: &str, inside: &str, bridge: Option<&str>| Extra::Veth {
            host: name(host),
            inside: name(inside),
            bridge: bridge.map(name),
        };
        let expected = [
            veth("vb-web", "host0", Some("br0")),
            veth("a", "b", None),
            veth("c", "c", None),
            Extra::Moved {
                ifname: name("eth1"),
                inside: name("eth1"),
            },
            Extra::Moved {
                ifname: name("eth3"),
                inside: name("lan"),
            },
            Extra::MacVlan {
                of: name("eth2"),
                inside: name("mv-eth2"),
            },
            Extra::MacVlan {
                of: name("eth2"),
                inside: name("mv"),
            },
            Extra::IpVlan {
                of: name("a-long-name-15c"),
                inside: name("iv-a-long-name-"),
            },
        ];
        assert_eq!(parse(&text).unwrap(), expected);
        for bad in ["veth", "veth:a", "steal:a", "move:a/b", "veth:a:b:c:d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
