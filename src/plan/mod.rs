//! The plan of a run: when every activation is alive and where it lies in the arena, where packed
//! weights lie, and what every kernel call is bound to.
//!
//! Everything a run needs to know about memory is settled and checked here; a run allocates
//! nothing. This room knows calls and buffers, no operators.

mod arena;
mod bind;
mod display;

pub use bind::{Bound, bind};

use crate::graph::{Graph, ValueId};
use crate::layout::Layout;
use crate::lower::packed::Packed;
use crate::lower::{Argument, Lowered};
use alexc_codegen::ir::Access;
use std::collections::BTreeMap;

/// Alignment of everything that the planner places, in bytes: a cache line and the widest vector.
pub const ALIGN: usize = 64;

/// An activation of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// A value of the graph.
    Value(ValueId),
    /// Index into [`Lowered::temporaries`].
    Temporary(usize),
}

/// From the first to the last call that mentions an item, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// Index of a call.
    pub first: usize,
    /// Index of a call, not before `first`.
    pub last: usize,
}

impl Lifetime {
    /// True where some call lies in both.
    pub fn overlaps(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// True where the call lies inside.
    pub fn contains(&self, call: usize) -> bool {
        (self.first..=self.last).contains(&call)
    }
}

/// The place of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What lies there.
    pub item: Item,
    /// For people: the value's name, or the node's with `.tmp`.
    pub name: String,
    /// Size, a multiple of [`ALIGN`].
    pub bytes: usize,
    /// Start in the arena, a multiple of [`ALIGN`].
    pub offset_bytes: usize,
    /// When it is alive.
    pub lifetime: Lifetime,
    /// The last call that writes it: after it the item can be read.
    pub made: usize,
}

impl Slot {
    fn end(&self) -> usize {
        self.offset_bytes + self.bytes
    }
}

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The activations that some call mentions, in the order of their first calls.
    pub slots: Vec<Slot>,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Largest sum of the sizes of items alive at one call: no arena can be smaller.
    pub lower_bound_bytes: usize,
    /// Start of each of [`Lowered::packs`] in the packed weights.
    pub weights: Vec<usize>,
    /// Size of the packed weights.
    pub weights_bytes: usize,
    /// Start of each buffer of each call in the thread's scratch; 0 for the other buffers.
    locals: Vec<Vec<usize>>,
    /// Scratch of one thread: the most that one call needs.
    pub local_bytes: usize,
    /// For people: node and kernel of each call.
    calls: Vec<String>,
}

/// Why there is no plan. All but the first mean a mistake in the lowering.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Sizes do not fit in the address space.
    #[error("the net's activations and weights are larger than memory can be addressed")]
    TooLarge,
    /// A call is bound to something that does not exist.
    #[error("internal error: buffer `{buffer}` of {call} is bound to nothing that exists")]
    Unbound {
        /// Node and kernel.
        call: String,
        /// The kernel's name for it.
        buffer: String,
    },
    /// A kernel's buffer reaches past what it is bound to.
    #[error(
        "internal error: buffer `{buffer}` of {call} has {needed} bytes, but is bound to {bytes}"
    )]
    Short {
        /// Node and kernel.
        call: String,
        /// The kernel's name for it.
        buffer: String,
        /// Bytes that the kernel may touch.
        needed: usize,
        /// Bytes there.
        bytes: usize,
    },
    /// The plan is wrong.
    #[error("internal error: the plan is wrong: {0}")]
    Wrong(String),
}

/// Plans a lowered graph; `layouts` has one entry for each of the graph's values. The result has
/// passed [`Plan::verify`].
pub fn plan(graph: &Graph, lowered: &Lowered, layouts: &[Layout]) -> Result<Plan, PlanError> {
    let sizes = Sizes { lowered, layouts };
    let mut found: BTreeMap<Item, Slot> = BTreeMap::new();
    let mut locals = Vec::with_capacity(lowered.calls.len());
    let mut local_bytes = 0;
    for (index, call) in lowered.calls.iter().enumerate() {
        let mut scratch = 0usize;
        let mut starts = Vec::with_capacity(call.arguments.len());
        for (buffer, &argument) in call.kernel.buffers.iter().zip(&call.arguments) {
            let item = match argument {
                Argument::Value(value) => Item::Value(value),
                Argument::Temporary(temporary) => Item::Temporary(temporary),
                Argument::Local => {
                    starts.push(scratch);
                    let bytes = aligned(buffer.len, buffer.dtype.bytes())?;
                    scratch = scratch.checked_add(bytes).ok_or(PlanError::TooLarge)?;
                    continue;
                }
                Argument::Weights(_) | Argument::Input | Argument::Output => {
                    starts.push(0);
                    continue;
                }
            };
            starts.push(0);
            let slot = found.entry(item).or_insert_with(|| Slot {
                item,
                name: match item {
                    Item::Value(value) => graph
                        .values
                        .get(value.index())
                        .map_or_else(String::new, |value| value.name.clone()),
                    Item::Temporary(_) => format!("{}.tmp", call.node),
                },
                bytes: 0,
                offset_bytes: 0,
                lifetime: Lifetime { first: index, last: index },
                made: index,
            });
            slot.lifetime.last = index;
            if buffer.access != Access::Read {
                slot.made = index;
            }
        }
        locals.push(starts);
        local_bytes = local_bytes.max(scratch);
    }

    let mut slots: Vec<Slot> = found.into_values().collect();
    for slot in &mut slots {
        let Some(elements) = sizes.elements(slot.item) else {
            let call = lowered.calls[slot.lifetime.first].label();
            return Err(PlanError::Unbound { call, buffer: slot.name.clone() });
        };
        slot.bytes = aligned(elements, 4)?;
    }
    slots.sort_by_key(|slot| (slot.lifetime.first, slot.item));

    let mut weights = Vec::with_capacity(lowered.packs.len());
    let mut weights_bytes = 0usize;
    for pack in &lowered.packs {
        if pack.bytes() >= LARGE_PACK {
            weights_bytes =
                weights_bytes.checked_next_multiple_of(PAGE).ok_or(PlanError::TooLarge)?;
        }
        weights.push(weights_bytes);
        weights_bytes =
            weights_bytes.checked_add(aligned(pack.bytes(), 1)?).ok_or(PlanError::TooLarge)?;
    }

    let total = slots.iter().try_fold(0usize, |sum, slot| sum.checked_add(slot.bytes));
    total.filter(|&total| total <= isize::MAX as usize).ok_or(PlanError::TooLarge)?;
    let lower_bound_bytes = lower_bound(&slots, lowered.calls.len());
    let arena_bytes = arena::place(&mut slots, lower_bound_bytes);
    let plan = Plan {
        slots,
        arena_bytes,
        lower_bound_bytes,
        weights,
        weights_bytes,
        locals,
        local_bytes,
        calls: lowered.calls.iter().map(crate::lower::Call::label).collect(),
    };
    plan.verify(lowered, layouts)?;
    Ok(plan)
}

/// Large packs begin at a page: processors fetch ahead up to the end of one, and kernels that do not
/// read all rows of a panel have them end there.
const PAGE: usize = 4096;
const LARGE_PACK: usize = 64 * PAGE;

/// Bytes of `elements`, rounded up to [`ALIGN`].
fn aligned(elements: usize, element_bytes: usize) -> Result<usize, PlanError> {
    elements
        .checked_mul(element_bytes)
        .and_then(|bytes| bytes.checked_next_multiple_of(ALIGN))
        .ok_or(PlanError::TooLarge)
}

fn lower_bound(slots: &[Slot], calls: usize) -> usize {
    (0..calls)
        .map(|call| slots.iter().filter(|s| s.lifetime.contains(call)).map(|s| s.bytes).sum())
        .max()
        .unwrap_or(0)
}

/// How large the things are that calls are bound to.
struct Sizes<'a> {
    lowered: &'a Lowered,
    layouts: &'a [Layout],
}

impl Sizes<'_> {
    fn elements(&self, item: Item) -> Option<usize> {
        match item {
            Item::Value(value) => self.layouts.get(value.index()).map(Layout::len),
            Item::Temporary(temporary) => self.lowered.temporaries.get(temporary).copied(),
        }
    }
}

impl Plan {
    /// The place of an item.
    pub fn slot(&self, item: Item) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.item == item)
    }

    /// Start of a value in the arena, for values that some call mentions.
    pub fn value_offset(&self, value: ValueId) -> Option<usize> {
        self.slot(Item::Value(value)).map(|slot| slot.offset_bytes)
    }

    /// Checks the plan against what it was made for: every item that a call mentions has a slot
    /// that is alive then and as large as the kernel needs; no two slots alive at one time
    /// overlap; everything is aligned and inside.
    pub fn verify(&self, lowered: &Lowered, layouts: &[Layout]) -> Result<(), PlanError> {
        let wrong = |what: String| Err(PlanError::Wrong(what));
        let sizes = Sizes { lowered, layouts };
        for (index, slot) in self.slots.iter().enumerate() {
            let Slot { name, bytes, offset_bytes, lifetime, .. } = slot;
            if !offset_bytes.is_multiple_of(ALIGN) || !bytes.is_multiple_of(ALIGN) {
                return wrong(format!("`{name}` is not aligned to {ALIGN} bytes"));
            }
            if offset_bytes.checked_add(*bytes).is_none_or(|end| end > self.arena_bytes) {
                return wrong(format!("`{name}` reaches past the arena's end"));
            }
            if sizes.elements(slot.item).is_none_or(|elements| elements * 4 > *bytes) {
                return wrong(format!("`{name}` is larger than its {bytes} bytes"));
            }
            for other in &self.slots[index + 1..] {
                if lifetime.overlaps(&other.lifetime)
                    && *offset_bytes < other.end()
                    && other.offset_bytes < slot.end()
                {
                    return wrong(format!("`{name}` and `{}` overlap while both live", other.name));
                }
            }
        }
        for (index, (call, locals)) in lowered.calls.iter().zip(&self.locals).enumerate() {
            let mut scratch_end = 0;
            for (((buffer, &argument), &local), &first) in
                call.kernel.buffers.iter().zip(&call.arguments).zip(locals).zip(&call.firsts)
            {
                let needed = (first + buffer.len) * buffer.dtype.bytes();
                let name = || buffer.name.clone();
                let item = match argument {
                    Argument::Value(value) => Item::Value(value),
                    Argument::Temporary(temporary) => Item::Temporary(temporary),
                    Argument::Local => {
                        let fits = local >= scratch_end && local + needed <= self.local_bytes;
                        if !fits || !local.is_multiple_of(ALIGN) {
                            return wrong(format!(
                                "scratch `{}` of {} has no place of its own",
                                buffer.name,
                                call.label()
                            ));
                        }
                        scratch_end = local + needed;
                        continue;
                    }
                    Argument::Weights(pack) => {
                        self.verify_weights(lowered, pack, call.label(), name(), needed)?;
                        continue;
                    }
                    Argument::Input | Argument::Output => continue,
                };
                let Some(slot) = self.slot(item) else {
                    return Err(PlanError::Unbound { call: call.label(), buffer: name() });
                };
                if !slot.lifetime.contains(index) {
                    return wrong(format!("`{}` is not alive in {}", slot.name, call.label()));
                }
                if needed > slot.bytes {
                    let (call, buffer, bytes) = (call.label(), name(), slot.bytes);
                    return Err(PlanError::Short { call, buffer, needed, bytes });
                }
            }
        }
        if self.arena_bytes < self.lower_bound_bytes {
            return wrong("the arena is smaller than the lower bound".to_owned());
        }
        Ok(())
    }

    fn verify_weights(
        &self,
        lowered: &Lowered,
        pack: usize,
        call: String,
        buffer: String,
        needed: usize,
    ) -> Result<(), PlanError> {
        let (Some(&start), Some(len)) =
            (self.weights.get(pack), lowered.packs.get(pack).map(Packed::bytes))
        else {
            return Err(PlanError::Unbound { call, buffer });
        };
        if needed > len {
            return Err(PlanError::Short { call, buffer, needed, bytes: len });
        }
        let next = self.weights.get(pack + 1).copied().unwrap_or(self.weights_bytes);
        if !start.is_multiple_of(ALIGN) || start + len > next {
            return Err(PlanError::Wrong(format!("pack {pack} overlaps the next one")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
