//! The floor as a side.

use crate::container::Container;
use crate::error::Result;
use crate::floor::{self, Floor};
use crate::ns::Netns;
use crate::sides::Side;

/// The floor, v4 only or dual stack.
pub(crate) struct FloorSide {
    floor: Floor,
    name: String,
    prefix: String,
    present: Vec<Container>,
}

impl FloorSide {
    /// v4 only, as the other tools are set up. `prefix` is that of its containers' names.
    pub(crate) fn v4(prefix: &str) -> Result<Self> {
        Ok(Self {
            floor: Floor::create(&format!("host-floor-{prefix}"), false)?,
            name: "floor".into(),
            prefix: prefix.to_owned(),
            present: Vec::new(),
        })
    }

    /// With v6 address and route.
    pub(crate) fn dual_stack(prefix: &str) -> Result<Self> {
        Ok(Self {
            floor: Floor::create(&format!("host-floor-{prefix}"), true)?,
            name: "floor, v4 and v6".into(),
            prefix: prefix.to_owned(),
            present: Vec::new(),
        })
    }

    /// v4 only, with `count` containers attached already.
    pub(crate) fn crowded(prefix: &str, count: u32) -> Result<Self> {
        let mut side = Self::v4(prefix)?;
        side.floor.host().enter()?;
        for number in 0..count {
            let container =
                Container::create(&format!("{prefix}n"), floor::FIRST_OF_CROWD + number)?;
            side.floor.attach_quietly(&container)?;
            side.present.push(container);
        }
        side.name = format!("floor, {count} present");
        Ok(side)
    }
}

impl Side for FloorSide {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn host(&self) -> &Netns {
        self.floor.host()
    }

    fn attach(&mut self, container: &Container) -> Result<()> {
        self.floor.attach(container).map(|_| ())
    }

    fn detach(&mut self, container: &Container) -> Result<()> {
        self.floor.detach(container)
    }
}
