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
                self.links.undo_forwarding(&forwarding).map_err(failed)?;
            }
            if let Err(e) = std::fs::remove_file(self.dirs.forwarding())
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(error = %e, "remove the record of forwarding");
            }
            return self.set_opened(&[]);
        }
        let before = self.forwarding.take().unwrap_or_default();
        let forwarding = self.links.forwarding(&bridges, &before).map_err(failed)?;
        let opened = forwarding.opened();
        if forwarding != before {
            self.keep_forwarding(&forwarding);
        }
        self.forwarding = Some(forwarding);
        self.set_opened(&opened)
    }

    fn set_opened(&mut self, opened: &[IfName]) -> Result<(), api::Error> {
        self.tables
            .set_opened(opened)
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
