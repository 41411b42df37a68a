//! Whether the files that apply to a container ask for too much together, before they are put in force.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use zone::PortName;

use super::Firewall;
use crate::model::Container;
use crate::policy::together::{TooMuch, too_much};
use crate::policy::{Mode, PolicyFile};

impl Firewall {
    /// Whether the files in force ask for too much for a container, attached or not.
    pub fn too_much_for(&self, container: &Container) -> Option<TooMuch> {
        too_much(&self.applying(container))
    }

    /// Whether `file` would ask for too much, with the others that apply to one of its containers; and for whom. The
    /// others are those in force, but for `edits`, by their keys.
    pub fn too_much_with(
        &self,
        edits: &BTreeMap<String, Option<Arc<PolicyFile>>>,
        file: &PolicyFile,
    ) -> Option<(PortName, TooMuch)> {
        if file.mode != Mode::Enforce {
            return None;
        }
        let replaced: HashSet<_> = edits
            .keys()
            .filter_map(|key| self.policies().0.get(key))
            .map(Arc::as_ptr)
            .collect();
        let came: Vec<_> = edits
            .values()
            .flatten()
            .filter(|file| file.mode == Mode::Enforce)
            .collect();
        // thousands may have the same files
        let mut seen = HashSet::new();
        self.targets(&file.applies_to).into_iter().find_map(|name| {
            let container = self.world.containers.get(&name)?;
            let mut files = self.applying(container);
            files.retain(|file| !replaced.contains(&Arc::as_ptr(file)));
            let came = came
                .iter()
                .filter(|file| file.applies_to.matches(container));
            files.extend(came.map(|file| Arc::clone(file)));
            let pointers: Vec<_> = files.iter().map(Arc::as_ptr).collect();
            if !seen.insert(pointers) {
                return None;
            }
            too_much(&files).map(|much| (name, much))
        })
    }
}
