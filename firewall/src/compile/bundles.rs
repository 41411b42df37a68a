//! What the same files say is said once: networks and lists of ports, for all containers that have these files.
//!
//! Ranges are the dear elements: each transaction that touches a set of ranges makes the kernel walk all of it. So a
//! container has none of its own. Its exact elements lead to a number, and what stands under the number belongs to
//! the *bundle*, the files that apply to it:
//!
//! ```text
//! own          ─► number ─► networks       (Nets: one for each direction and action)
//! own . group  ─► number ─► list of ports  (GroupList)
//! own . peer   ─► number ─► list of ports  (PeerList)
//! ```
//!
//! What stands under a number never changes. An edit that changes it takes another number: the ranges stand
//! before anything leads to them, and go when nothing does any more. The number follows from what stands under
//! it, so that the same files have the same numbers whatever happened before.
//!
//! A bundle outlasts its last container, until one of its files changes or too many are idle: a container that comes
//! again, or another one like it, adds no range.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use zone::PortName;

use super::index::FileKey;
use super::ranges::Interval;
use crate::sets::{Action, Direction, Element, Family, Key, SetId, Shape};

/// Bundles without containers that are kept.
const IDLE: usize = 1024;

/// Numbers are above every number of a step on the way of a packet.
const BASE: u32 = 0x8000_0000;

/// The keys of the files that apply to a container, in their order.
pub(super) type Files = Arc<[FileKey]>;

/// Which rules: of a direction, family and action.
pub(super) type Side = (Direction, Family, Action);

/// A list of protocols and ports that stands under a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PortList {
    pub(super) side: Side,
    /// The rules that it is made of, by [`super::collect::rule_id`]; sorted.
    pub(super) rules: Vec<u64>,
    /// Sorted and disjoint.
    pub(super) ports: Vec<Interval>,
}

impl PortList {
    /// Its elements under a number.
    pub(super) fn elements(&self, number: u32, out: &mut Vec<Element>) {
        let (direction, family, action) = self.side;
        let set = SetId::Rule(direction, family, action, Shape::Ports);
        out.extend(
            self.ports
                .iter()
                .map(|&interval| ports(set, Key::new().mark(number), interval)),
        );
    }
}

/// Protocols and ports as a range of a line, behind `key`. It may begin in one protocol and end in another: to the
/// kernel both are one number.
pub(super) fn ports(set: SetId, key: Key, (first, last): Interval) -> Element {
    let key = |at: u32| {
        let [_, proto, high, low] = at.to_be_bytes();
        key.clone()
            .proto(proto)
            .port(u16::from_be_bytes([high, low]))
    };
    Element::range(set, key(first), key(last))
}

/// Networks under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: u32,
    /// Of their elements.
    hash: u64,
}

/// What stands under a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    /// Networks, by a hash of their elements.
    Nets(Side, u64),
    List(PortList),
}

/// Numbers in use.
#[derive(Debug, Default, Clone)]
struct Numbers {
    held: BTreeMap<u32, (Files, What)>,
    /// The lists of each bundle.
    lists: BTreeMap<Files, BTreeSet<u32>>,
    /// Lists that were given a number, and are in no changes yet.
    fresh: Vec<u32>,
}

impl Numbers {
    /// The number of something, whether or not it is held.
    fn of(&self, files: &Files, what: &What) -> u32 {
        let mut hasher = DefaultHasher::new();
        (files, what).hash(&mut hasher);
        let bytes = hasher.finish().to_le_bytes();
        let mut number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) | BASE;
        let another = |number| {
            let held: Option<&(Files, What)> = self.held.get(&number);
            held.is_some_and(|(its, other)| (its, other) != (files, what))
        };
        while another(number) {
            number = number.wrapping_add(1) | BASE;
        }
        number
    }
}

/// A bundle's numbers of networks; those of its lists are with [`Numbers`].
#[derive(Debug, Default, Clone)]
struct Bundle {
    members: usize,
    nets: BTreeMap<Side, Numbered>,
}

/// The bundles that containers have, or had.
#[derive(Debug, Default, Clone)]
pub(super) struct Bundles {
    held: BTreeMap<Files, Bundle>,
    of: BTreeMap<PortName, Files>,
    by_file: BTreeMap<FileKey, BTreeSet<Files>>,
    /// Those without containers, the longest so first; some may have containers again.
    idle: VecDeque<Files>,
    numbers: RefCell<Numbers>,
}

impl Bundles {
    /// The files of an attached container.
    pub(super) fn files_of(&self, name: &PortName) -> Option<&Files> {
        self.of.get(name)
    }

    /// The numbers of a bundle's networks.
    pub(super) fn nets(&self, files: &Files) -> BTreeMap<Side, Numbered> {
        let bundle = self.held.get(files);
        bundle.map(|bundle| bundle.nets.clone()).unwrap_or_default()
    }

    /// What stands under a number.
    pub(super) fn words(&self, number: u32) -> Option<String> {
        let numbers = self.numbers.borrow();
        let (files, what) = numbers.held.get(&number)?;
        let what = match what {
            What::Nets(..) => "networks".to_owned(),
            What::List(list) => {
                let ports = list.ports.iter().map(|(first, last)| {
                    let end = |at: &u32| (at >> 16, at & 0xffff);
                    let ((proto, first), (other, last)) = (end(first), end(last));
                    match proto == other {
                        true => format!("{proto}/{first}-{last}"),
                        false => format!("{proto}/{first}-{other}/{last}"),
                    }
                });
                ports.collect::<Vec<_>>().join(",")
            }
        };
        Some(format!("{what} of {}", files.join(" and ")))
    }

    /// All that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Files> {
        self.held.keys()
    }

    /// Those with one of these files.
    pub(super) fn with<'a>(&self, keys: impl Iterator<Item = &'a str>) -> BTreeSet<Files> {
        let bundles = keys.filter_map(|key| self.by_file.get(key));
        bundles.flatten().cloned().collect()
    }

    /// A container has these files from now on. Whether there was no such bundle before, and its networks are to
    /// be told by [`Bundles::tell`].
    pub(super) fn join(&mut self, name: &PortName, files: &Files) -> bool {
        self.of.insert(name.clone(), files.clone());
        let is_new = !self.held.contains_key(files);
        self.held.entry(files.clone()).or_default().members += 1;
        if is_new {
            for file in files.iter() {
                let bundles = self.by_file.entry(file.clone()).or_default();
                bundles.insert(files.clone());
            }
        }
        is_new
    }

    /// A container goes, or gets other files.
    pub(super) fn leave(&mut self, name: &PortName) {
        let Some(files) = self.of.remove(name) else {
            return;
        };
        if let Some(bundle) = self.held.get_mut(&files) {
            bundle.members -= 1;
            if bundle.members == 0 {
                self.idle.push_back(files);
            }
        }
    }

    /// Bundles without containers that are too many.
    pub(super) fn surplus(&mut self) -> Vec<Files> {
        let mut surplus = Vec::new();
        while self.idle.len() > IDLE {
            let Some(files) = self.idle.pop_front() else {
                break;
            };
            // it may have containers again, or be idle once more since
            if self.is_idle(&files) && !self.idle.contains(&files) {
                surplus.push(files);
            }
        }
        surplus
    }

    /// Whether nobody has it.
    fn is_idle(&self, files: &Files) -> bool {
        self.held
            .get(files)
            .is_none_or(|bundle| bundle.members == 0)
    }

    /// The number for networks of these elements, which stand under the number 0.
    pub(super) fn number(&self, files: &Files, side: Side, elements: &[Element]) -> Numbered {
        let mut hasher = DefaultHasher::new();
        elements.hash(&mut hasher);
        let hash = hasher.finish();
        let number = self.numbers.borrow().of(files, &What::Nets(side, hash));
        Numbered { number, hash }
    }

    /// Says what numbers a bundle's networks have.
    pub(super) fn tell(&mut self, files: &Files, nets: BTreeMap<Side, Numbered>) {
        let numbers = self.numbers.get_mut();
        let Some(bundle) = self.held.get_mut(files) else {
            return;
        };
        for old in bundle.nets.values() {
            numbers.held.remove(&old.number);
        }
        for (side, Numbered { number, hash }) in &nets {
            let what = What::Nets(*side, *hash);
            numbers.held.insert(*number, (files.clone(), what));
        }
        bundle.nets = nets;
    }

    /// The number of a list. `keep`: it is in use from now on; what is new is told by [`Bundles::fresh`].
    pub(super) fn list(&self, files: &Files, list: PortList, keep: bool) -> u32 {
        let mut numbers = self.numbers.borrow_mut();
        let what = What::List(list);
        let number = numbers.of(files, &what);
        if keep {
            numbers
                .held
                .entry(number)
                .or_insert_with(|| (files.clone(), what));
            let lists = numbers.lists.entry(files.clone()).or_default();
            if lists.insert(number) {
                numbers.fresh.push(number);
            }
        }
        number
    }

    /// The lists of a bundle, with their numbers.
    pub(super) fn lists(&self, files: &Files) -> Vec<(u32, PortList)> {
        let numbers = self.numbers.borrow();
        let of = |number: &u32| match numbers.held.get(number) {
            Some((_, What::List(list))) => Some((*number, list.clone())),
            _ => None,
        };
        let lists = numbers.lists.get(files).into_iter().flatten();
        lists.filter_map(of).collect()
    }

    /// Begins to collect a bundle's lists anew; the former ones keep their numbers until [`Bundles::forget`].
    pub(super) fn renew(&mut self, files: &Files) {
        self.numbers.get_mut().lists.remove(files);
    }

    /// Numbers that nothing leads to any more.
    pub(super) fn forget(&mut self, went: impl IntoIterator<Item = u32>) {
        let numbers = self.numbers.get_mut();
        for number in went {
            numbers.held.remove(&number);
        }
    }

    /// Elements of lists that are new since this was asked last, but for those of some bundles.
    pub(super) fn fresh(&mut self, but: &BTreeSet<Files>) -> Vec<Element> {
        let numbers = self.numbers.get_mut();
        let mut out = Vec::new();
        for number in std::mem::take(&mut numbers.fresh) {
            match numbers.held.get(&number) {
                Some((files, What::List(list))) if !but.contains(files) => {
                    list.elements(number, &mut out)
                }
                _ => {}
            }
        }
        out
    }

    /// Nothing is new: all elements are told at once.
    pub(super) fn nothing_fresh(&self) {
        self.numbers.borrow_mut().fresh.clear();
    }

    /// A bundle ends.
    pub(super) fn end(&mut self, files: &Files) {
        let numbers = self.numbers.get_mut();
        let nets = self.held.remove(files).map(|bundle| bundle.nets);
        let nets = nets.unwrap_or_default().into_values();
        let lists = numbers.lists.remove(files).unwrap_or_default();
        for number in nets.map(|nets| nets.number).chain(lists) {
            numbers.held.remove(&number);
        }
        for file in files.iter() {
            if let Some(bundles) = self.by_file.get_mut(file) {
                bundles.remove(files);
                if bundles.is_empty() {
                    self.by_file.remove(file);
                }
            }
        }
        self.idle.retain(|idle| idle != files);
    }
}
