//! Forwarding is switched on for zones and the interfaces they reach the world through, and switched
//! back when the last zone ends.

use zone::{Forwarding, IfName};

use super::{Engine, refused};
use crate::api;
use crate::daemon::chain;

impl Engine {
    /// Makes forwarding agree with the zones there are.
    pub(super) fn forward(&mut self) -> Result<(), api::Error> {
        let bridges: Vec<IfName> = self.zones.values().map(|z| z.zone.bridge.clone()).collect();
        let failed = |e: zone::LinkError| refused(format!("forwarding: {}", chain(&e)));
        if bridges.is_empty() {
            if let Some(forwarding) = self.forwarding.take() {
                for e in forwarding.undo() {
                    tracing::warn!(error = %chain(&e), "switch forwarding back");
                }
            }
            if let Err(e) = std::fs::remove_file(self.dirs.forwarding())
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(error = %e, "remove the record of forwarding");
            }
            return self.set_opened(&Forwarding::default());
        }
        let plan = self.links.plan_forwarding(&bridges).map_err(failed)?;
        let mut record = self.forwarding.take().unwrap_or_default();
        if !plan.is_empty() {
            record.merge(plan.clone());
            // On record before anything changes: a daemon that is killed here can still undo it.
            self.keep_forwarding(&record);
        }
        // What is opened is closed for others' traffic before it is open.
        let closed = self.set_opened(&record);
        self.forwarding = Some(record);
        closed?;
        plan.apply().map_err(failed)
    }

    fn set_opened(&mut self, forwarding: &Forwarding) -> Result<(), api::Error> {
        self.tables
            .set_opened(&forwarding.opened4, &forwarding.opened6)
            .map_err(|e| refused(format!("forwarding: {}", chain(&e))))
    }

    fn keep_forwarding(&self, forwarding: &Forwarding) {
        let path = self.dirs.forwarding();
        let written = serde_json::to_vec(forwarding)
            .map_err(std::io::Error::from)
            .and_then(|bytes| std::fs::write(&path, bytes));
        if let Err(e) = written {
            tracing::warn!(file = %path.display(), error = %e, "record what forwarding was");
        }
    }
}
