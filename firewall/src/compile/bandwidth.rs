//! What is no element: how much containers may send and receive.

use super::Firewall;
use crate::bandwidth::{Bandwidth, of_files};
use crate::model::Container;

impl Firewall {
    /// How much a container may send and receive, by the files in force. Costs what its files cost.
    pub fn bandwidth(&self, container: &Container) -> Bandwidth {
        let files = self.files.applying(&self.policies, container);
        of_files(files.iter().map(|file| &**file))
    }
}
