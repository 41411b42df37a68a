#![allow(clippy::unwrap_used)]

use super::*;

fn settings(text: &str) -> Result<Settings, FileError> {
    Settings::parse("/etc/systemd/nspawn/web.nspawn".into(), text)
}

fn planned(text: &str) -> Result<Plan, String> {
    let settings = settings(text).map_err(|e| e.to_string())?;
    plan(Some(&settings)).map_err(|e| crate::error::chain(&e))
}

#[test]
fn what_is_said_of_the_network_is_taken_out_and_the_rest_stays_as_it_was() {
    let text = "# ours\n[Exec]\nBoot=no\nParameters=a \\\n# between\n  b\n[Network]\nZone=dmz\nPort=tcp:80\\\n:81\n\n[Files]\nBind=/srv\n";
    let settings = settings(text).unwrap();
    assert_eq!(
        settings.without_network,
        "# ours\n[Exec]\nBoot=no\nParameters=a \\\n# between\n  b\n[Files]\nBind=/srv\n"
    );
    assert_eq!(settings.network.zone.as_deref(), Some("dmz"));
    assert_eq!(settings.network.ports, ["tcp:80 :81"]);
}

#[test]
fn a_zone_is_named_by_itself_or_by_its_bridge() {
    let attach = |place, publish: &[&str]| {
        Ok(Plan::Attach {
            place,
            publish: publish.iter().map(|&p| p.to_owned()).collect(),
        })
    };
    let dmz = || Place::Zone("dmz".parse().unwrap());
    assert_eq!(planned("[Network]\nZone=dmz\n"), attach(dmz(), &[]));
    assert_eq!(
        planned(
            "[Network]\nPrivate=yes\nVirtualEthernet=yes\nZone=dmz\nPort=8080:80\nPort=udp:53\n"
        ),
        attach(dmz(), &["8080:80", "53:53/udp"])
    );
    assert_eq!(
        planned("[Network]\nBridge=vz-dmz\n"),
        attach(Place::Bridge("vz-dmz".into()), &[])
    );
    assert_eq!(
        planned("[Network]\nZone=no\nZone=dmz\n"),
        attach(dmz(), &[])
    );
    for none in [
        "",
        "[Exec]\nBoot=yes\n",
        "[Network]\nPrivate=yes\n",
        "[Network]\nBridge=br0\n",
        "[Network]\nZone=dmz\nZone=\n",
    ] {
        assert_eq!(planned(none), Ok(Plan::Leave), "{none:?}");
    }
    assert_eq!(plan(None).unwrap(), Plan::Leave);
}

#[test]
fn what_is_unclear_stops_the_machine() {
    for (text, part) in [
        (
            "[Network]\nZone=dmz\nBridge=vz-lan\n",
            "both Zone= and Bridge=",
        ),
        ("[Network]\nZone=dmz\nPrivate=no\n", "Private=no and a zone"),
        (
            "[Network]\nZone=dmz\nMACVLAN=eth0\n",
            "MACVLAN= beside a zone",
        ),
        (
            "[Network]\nZone=dmz\nInterface=eth1\n",
            "Interface= beside a zone",
        ),
        ("[Network]\nZone=D_M_Z\n", "\"D_M_Z\""),
        ("[Network]\nZone=dmz\nPort=eighty\n", "eighty"),
        (
            "[Network]\nZone=dmz\nPrivate=perhaps\n",
            "web.nspawn:3: is neither yes nor no",
        ),
        ("[Network]\nZone dmz\n", "web.nspawn:2: is no KEY=VALUE"),
        (
            "[Network]\nZones=dmz\n",
            "web.nspawn:2: is no key of [Network]",
        ),
        (
            "[Network\nZone=dmz\n",
            "web.nspawn:1: a section's name does not end",
        ),
        ("[Network]\nZone=dmz\\", "web.nspawn:2: ends in a backslash"),
    ] {
        let error = planned(text).unwrap_err();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}
