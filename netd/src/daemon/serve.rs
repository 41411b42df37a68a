//! The life of the daemon: lock, engine, sockets, READY, events, end.

use std::cell::RefCell;
use std::error::Error;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use firewall::kernel::TableMonitor;
use tokio::io::unix::{AsyncFd, AsyncFdReadyMutGuard};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Duration, MissedTickBehavior, interval};

use super::engine::{Engine, StartError, ZoneEvents, clock::next_minute};
use super::{DaemonArgs, adopt, chain, control, dhcp, dns, keep, listen, sys};
use crate::daemon::dirs::Dirs;

/// How often leases expire, gates are looked at and, where the tables are not ours alone, the ruleset is compared.
const TICK: Duration = Duration::from_secs(5);

/// How long links of containers that were detached are waited for when the daemon stops.
const REAPING: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
pub(super) fn serve(args: &DaemonArgs) -> Result<(), Box<dyn Error>> {
    let dirs = &args.dirs;
    for dir in [&dirs.config, &dirs.state, &dirs.runtime] {
        std::fs::create_dir_all(dir).map_err(|source| StartError::Dir {
            path: dir.clone(),
            source,
        })?;
    }
    let _lock = lock(dirs)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, live(dirs))
}

async fn live(dirs: &Dirs) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Monitors first: what happens while the engine starts must not be missed.
    let mut links = sys::readable(zone::Monitor::open()?)?;
    let (zone_events, zone_changes) = mpsc::unbounded_channel();
    let (dns_events, dns_changes) = mpsc::unbounded_channel();
    let events = ZoneEvents(vec![zone_events, dns_events]);
    let (engine, mut reaped) = Engine::start(dirs.clone(), events)?;
    let mut tables = engine.table_monitor()?.map(sys::readable).transpose()?;
    let keeper = keep::start(dirs, engine.tables_socket());
    if let Err(e) = &keeper {
        tracing::error!(error = %e, "the keeper does not start: if this daemon is killed, others can change the ruleset");
    }
    if !engine.knows_bridges() {
        tracing::info!(
            "the kernel does not tell rules of bridges (CONFIG_NFT_BRIDGE_META): two ports that are plugged in at once are apart as soon as daemon or keeper sees them"
        );
    }
    let engine = Rc::new(RefCell::new(engine));
    let mut files = sys::readable(engine.borrow().edit_news()?)?;
    let names = dns::Service::start(engine.clone(), dns_changes).await;
    let control = control::listen(dirs)?;
    tokio::task::spawn_local(names.run());
    tokio::task::spawn_local(dhcp::serve_zones(engine.clone(), zone_changes));
    // What the daemon before left is told again in one file.
    if engine.borrow().can_fold() {
        tokio::task::spawn_local(dhcp::fold_leases(engine.clone()));
    }
    tokio::task::spawn_local(adopt::listen(engine.clone()));
    tokio::task::spawn_local(follow_apply(engine.clone()));
    tokio::task::spawn_local(listen::listen(engine.clone()));
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ready();
    sys::give_back();
    let mut rest = sys::Rest::default();
    tracing::info!(socket = %dirs.socket().display(), "ready");
    // a task of its own: a call on the socket does not ask all of the others below
    let mut serving = tokio::task::spawn_local(control::serve(control, engine.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&engine),
            ended = &mut serving => ended??,
            guard = files.readable_mut() => {
                guard?.clear_ready();
                match engine.borrow_mut().files_changed() {
                    Ok(false) => {}
                    Ok(true) => tracing::info!("reloaded: files were edited"),
                    Err(e) => tracing::error!("{}", control::message(&e)),
                }
            }
            guard = links.readable_mut() => {
                let mut guard = guard?;
                let events = guard.get_inner_mut().drain()?;
                guard.clear_ready();
                drop(guard);
                engine.borrow_mut().links_changed(events);
            }
            guard = news(&mut tables) => {
                let mut guard = guard?;
                let foreign = guard.get_inner_mut().drain();
                guard.clear_ready();
                drop(guard);
                match foreign {
                    Ok(false) => {}
                    Ok(true) => engine.borrow_mut().check_tables(),
                    Err(e) => {
                        tracing::warn!(error = %chain(&e), "watch the tables");
                        engine.borrow_mut().check_tables();
                    }
                }
            }
            Some(names) = reaped.recv() => engine.borrow_mut().links_reaped(&names),
            // asks for the time only where somebody waits for it
            () = async { tokio::time::sleep(next_minute()).await }, if engine.borrow().has_hours() => {
                engine.borrow_mut().follow_clock();
            }
            _ = tick.tick() => {
                if engine.borrow().wants_fold() {
                    tokio::task::spawn_local(dhcp::fold_leases(engine.clone()));
                }
                let mut engine = engine.borrow_mut();
                engine.follow_clock();
                engine.follow_apply();
                engine.expire_leases();
                engine.follow_six();
                engine.check_gates();
                engine.check_settings();
                engine.check_bandwidth();
                engine.check_doors();
                engine.forget_notes();
                engine.meet_again();
                engine.tidy_numbers();
                if !engine.tables_owned() {
                    engine.check_tables();
                }
                if rest.begins() {
                    sys::give_back();
                }
            }
        }
    }
    tracing::info!("stopping; what is attached stays as it is");
    engine.borrow_mut().after_answers();
    // a link that is only closed must not outlive the rules
    let reaping = async {
        let busy = || engine.borrow().is_reaping();
        while busy() {
            let Some(names) = reaped.recv().await else {
                break;
            };
            engine.borrow_mut().links_reaped(&names);
        }
    };
    let reaped = tokio::time::timeout(REAPING, reaping).await;
    let mut engine = engine.borrow_mut();
    if engine.is_idle() && reaped.is_ok() {
        engine.remove_tables();
        if let Err(e) = firewall::kernel::keeper::dismiss(&dirs.keeper_socket()) {
            tracing::warn!(error = %chain(&e), "dismiss the keeper");
        }
    }
    let _ = std::fs::remove_file(dirs.socket());
    Ok(())
}

/// Waits for news of the tables; forever where nobody can change them but us.
async fn news(
    tables: &mut Option<AsyncFd<TableMonitor>>,
) -> std::io::Result<AsyncFdReadyMutGuard<'_, TableMonitor>> {
    match tables {
        Some(tables) => tables.readable_mut().await,
        None => std::future::pending().await,
    }
}

/// Undoes an apply that nobody confirms, in time.
async fn follow_apply(engine: Rc<RefCell<Engine>>) {
    let news = engine.borrow().apply_news.clone();
    loop {
        let due = engine.borrow().apply_due();
        let notified = news.notified();
        match due {
            None => notified.await,
            Some(due) => tokio::select! {
                () = notified => {}
                () = tokio::time::sleep_until(due) => engine.borrow_mut().follow_apply(),
            },
        }
    }
}

fn reload(engine: &RefCell<Engine>) {
    match engine.borrow_mut().reload_all() {
        Ok(refused) => tracing::info!(refused = refused.len(), "reloaded: SIGHUP"),
        Err(e) => tracing::error!("{}", control::message(&e)),
    }
}

/// One daemon for one runtime directory. The lock ends with the process, however it ends.
fn lock(dirs: &Dirs) -> Result<OwnedFd, StartError> {
    let path = dirs.lock();
    let failed = |source: std::io::Error| StartError::Dir {
        path: path.clone(),
        source,
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::Running {
            path: dirs.runtime.clone(),
        }),
        Err(e) => Err(failed(e.into())),
    }
}

fn ready() {
    if let Err(e) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(error = %e, "nobody to notify");
    }
}
