//! What happens to a running world: edits, containers that come and go, defaults, a killed daemon.

use super::draw::plan::{Container, File, Plan};
use super::draw::{self, Dice};
use super::stage::Stage;

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file is written, or written anew.
    Edit(File),
    /// A file goes.
    Remove(String),
    /// A container goes.
    Detach(String),
    /// A container comes.
    Attach(Container),
    /// It goes and comes back with other labels.
    Relabel(Container),
    /// A zone gets another default.
    Default(usize, String),
    /// Everything is read again, though nothing changed.
    Reload,
    /// The daemon is killed and started again.
    Kill,
}

/// Events of chance; each is possible after those before it.
pub fn some(dice: &mut Dice, plan: &Plan) -> Vec<Event> {
    let mut plan = plan.clone();
    let count = dice.between(3, 5);
    (0..count)
        .map(|number| {
            let event = one(dice, &plan, number);
            event.on_paper(&mut plan);
            event
        })
        .collect()
}

fn one(dice: &mut Dice, plan: &Plan, number: usize) -> Event {
    let attached = (!plan.containers.is_empty()).then(|| dice.pick(&plan.containers).clone());
    match (dice.below(12), attached) {
        (0..4, _) => {
            let mut file = draw::file(dice, plan, 10 + number);
            // Often one that is there already gets another text.
            if !plan.files.is_empty() && dice.chance(60) {
                let old = dice.pick(&plan.files);
                file.name.clone_from(&old.name);
                file.applies.clone_from(&old.applies);
            }
            Event::Edit(file)
        }
        (4, _) if !plan.files.is_empty() => Event::Remove(dice.pick(&plan.files).name.clone()),
        (5, Some(container)) if plan.containers.len() > 3 => Event::Detach(container.name()),
        (6 | 7, Some(mut container)) => {
            container.labels = draw::labels(dice);
            Event::Relabel(container)
        }
        (8 | 9, _) => {
            let zone = dice.pick(&plan.zones).index;
            let default = (*dice.pick(&["egress", "deny", "allow"])).to_owned();
            Event::Default(zone, default)
        }
        (10, _) => Event::Kill,
        (11, _) => Event::Reload,
        _ => {
            let zone = dice.pick(&plan.zones).index;
            let taken = |index: &usize| plan.containers.iter().any(|one| one.index == *index);
            let index = (0..).find(|index| !taken(index)).unwrap_or(0);
            Event::Attach(Container {
                index,
                zone,
                labels: draw::labels(dice),
                publish: Vec::new(),
            })
        }
    }
}

impl Event {
    /// What it does to the plan.
    pub fn on_paper(&self, plan: &mut Plan) {
        match self {
            Self::Edit(file) => {
                plan.files.retain(|other| other.name != file.name);
                plan.files.push(file.clone());
            }
            Self::Remove(name) => plan.files.retain(|file| file.name != *name),
            Self::Detach(name) => plan.containers.retain(|one| one.name() != *name),
            Self::Attach(container) | Self::Relabel(container) => {
                plan.containers.retain(|one| one.index != container.index);
                plan.containers.push(container.clone());
            }
            Self::Default(index, default) => {
                let zone = plan.zones.iter_mut().find(|zone| zone.index == *index);
                if let Some(zone) = zone {
                    zone.default.clone_from(default);
                }
            }
            Self::Reload | Self::Kill => {}
        }
    }

    /// Makes it happen; returns once it is in force. What its world is too small for does not happen.
    pub fn happen(&self, stage: &mut Stage) {
        match self {
            Self::Edit(file) => stage.edit(&file.name, Some(file)),
            Self::Remove(name) => {
                if stage.plan.files.iter().any(|file| file.name == *name) {
                    stage.edit(name, None);
                }
            }
            Self::Detach(name) => {
                if stage.plan.container(name).is_some() {
                    stage.detach(name);
                }
            }
            Self::Attach(container) => stage.attach(container),
            Self::Relabel(container) => {
                if stage.plan.container(&container.name()).is_some() {
                    stage.detach(&container.name());
                    stage.attach(container);
                }
            }
            Self::Default(index, default) => {
                if let Some(zone) = stage.plan.zone(*index) {
                    let line = format!("zone set {} --default {default}", zone.name());
                    stage.world.netd(&line).ok();
                    self.on_paper(&mut stage.plan);
                }
            }
            Self::Reload => _ = stage.world.netd("reload").ok(),
            Self::Kill => {
                stage.world.kill_netd();
                stage.world.start_netd();
            }
        }
        stage.look();
    }

    /// The container whose link it takes away.
    pub fn unplugs(&self) -> Option<String> {
        match self {
            Self::Detach(name) => Some(name.clone()),
            Self::Relabel(container) | Self::Attach(container) => Some(container.name()),
            _ => None,
        }
    }

    /// What kind of event it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Edit(_) => "files written",
            Self::Remove(_) => "files removed",
            Self::Detach(_) => "detached",
            Self::Attach(_) => "attached",
            Self::Relabel(_) => "labels changed",
            Self::Default(..) => "defaults changed",
            Self::Reload => "reloads",
            Self::Kill => "daemon killed and started",
        }
    }

    /// As somebody would type it.
    pub fn script(&self, plan: &Plan) -> String {
        let attach = |container: &Container| {
            let zone = plan.zone(container.zone);
            let netns = format!("/run/netns/{}", container.name());
            zone.map_or(String::new(), |zone| {
                format!("netd {}", container.command(zone, &netns))
            })
        };
        match self {
            Self::Edit(file) => {
                format!("# policies/{}.toml\n{}", file.name, file.text().trim_end())
            }
            Self::Remove(name) => format!("rm policies/{name}.toml; netd reload"),
            Self::Detach(name) => format!("netd detach {name}"),
            Self::Attach(container) => attach(container),
            Self::Relabel(container) => {
                format!("netd detach {}; {}", container.name(), attach(container))
            }
            Self::Default(index, default) => format!("netd zone set z{index} --default {default}"),
            Self::Reload => "netd reload".to_owned(),
            Self::Kill => "kill -9 the daemon; start it again".to_owned(),
        }
    }
}
