//! What the emitter decides before it writes bytes: the kernel as a line of instructions and loop
//! ends, which loads become memory operands, and where every value lives.

use super::allocate::{Home, Interval, allocate};
use crate::ir::{Binary, DType, Inst, Kernel, Reg};
use crate::streams::{Advance, Node, Place, Pointer, Root, Streams, Turns};

/// A load that is done by the instruction that uses its result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Folded {
    /// The register that the load would have written.
    pub(super) reg: Reg,
    /// Where it reads.
    pub(super) place: Place,
    /// One element spread over all lanes.
    pub(super) spread: bool,
}

/// The kernel as a line.
#[derive(Debug)]
pub(super) enum Item<'k> {
    Inst {
        inst: &'k Inst,
        place: Option<Place>,
        folded: Option<Folded>,
    },
    Begin {
        count: u32,
        counter: usize,
        advances: &'k [Advance],
        innermost: bool,
    },
    End {
        counter: usize,
        advances: &'k [Advance],
    },
    /// Fills the list of a loop over nonzero elements. Its cursor is among the counters, and then
    /// the end of what was found.
    Find {
        turns: &'k Turns<'k>,
        cursor: usize,
    },
    /// Loads the indices and values of a turn; where the code of the first one begins.
    Turn {
        turns: &'k Turns<'k>,
        cursor: usize,
    },
    /// To the next turn if there are elements left.
    Again {
        turns: &'k Turns<'k>,
        cursor: usize,
    },
}

impl Item<'_> {
    fn opens(&self) -> bool {
        matches!(self, Item::Begin { .. } | Item::Turn { .. })
    }

    fn closes(&self) -> bool {
        matches!(self, Item::End { .. } | Item::Again { .. })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan<'k> {
    pub(super) items: Vec<Item<'k>>,
    pub(super) roots: &'k [Root],
    vectors: Vec<Home>,
    pub(super) vector_slots: usize,
    /// Pointers first, then the counters of loops.
    pub(super) gprs: Vec<Home>,
    pub(super) gpr_slots: usize,
}

impl<'k> Plan<'k> {
    /// `wide`: AVX-512, whose instructions can spread a memory operand.
    pub(super) fn new(
        kernel: &'k Kernel,
        streams: &'k Streams<'k>,
        wide: bool,
        registers: usize,
        scratch: usize,
        gprs: usize,
    ) -> Plan<'k> {
        let mut line = Line { items: Vec::new(), counters: streams.pointers as usize };
        line.nodes(&streams.body);
        let mut items = line.items;
        fold(kernel, &mut items, wide);
        let live = Liveness::of(kernel, streams, &items, line.counters);
        let needs_scratch = items.iter().any(|item| {
            let Item::Inst { inst, .. } = item else { return false };
            match inst {
                Inst::Reduce { .. } => true,
                Inst::Binary { op: Binary::SubQuarter, dst, a, .. } => dst == a,
                _ => false,
            }
        });
        let (mut vectors, mut vector_slots) = allocate(&live.vectors, registers);
        if vector_slots > 0 || needs_scratch {
            (vectors, vector_slots) = allocate(&live.vectors, registers - scratch);
        }
        let (gprs, gpr_slots) = allocate(&live.gprs, gprs);
        Plan { items, roots: &streams.roots, vectors, vector_slots, gprs, gpr_slots }
    }

    pub(super) fn vector(&self, reg: Reg) -> Home {
        self.vectors[reg.0 as usize]
    }

    pub(super) fn pointer(&self, pointer: Pointer) -> Home {
        self.gprs[pointer.0 as usize]
    }
}

/// Writes the tree of loops out as a line.
struct Line<'k> {
    items: Vec<Item<'k>>,
    /// Pointers and counters so far: the next counter's index.
    counters: usize,
}

impl<'k> Line<'k> {
    fn nodes(&mut self, nodes: &'k [Node<'k>]) {
        for node in nodes {
            match node {
                Node::Inst(inst, place) => {
                    self.items.push(Item::Inst { inst, place: *place, folded: None });
                }
                Node::Loop { count, advances, body } => {
                    let counter = self.counters;
                    self.counters += 1;
                    let innermost = body.iter().all(|n| matches!(n, Node::Inst(..)));
                    self.items.push(Item::Begin { count: *count, counter, advances, innermost });
                    self.nodes(body);
                    self.items.push(Item::End { counter, advances });
                }
                Node::Nonzero(turns) => {
                    let cursor = self.counters;
                    self.counters += 2;
                    self.items.push(Item::Find { turns, cursor });
                    self.items.push(Item::Turn { turns, cursor });
                    self.nodes(&turns.body);
                    self.items.push(Item::Again { turns, cursor });
                }
            }
        }
    }
}

/// Makes loads whose result is used once, in the same stretch of straight-line code and with no
/// store to their buffer in between, operands of that use.
fn fold(kernel: &Kernel, items: &mut Vec<Item<'_>>, wide: bool) {
    let mut uses = vec![0u32; kernel.regs.len()];
    let mut definitions = vec![0u32; kernel.regs.len()];
    for item in items.iter() {
        if let Item::Inst { inst, .. } = item {
            inst.uses().for_each(|reg| uses[reg.0 as usize] += 1);
            inst.dst().into_iter().for_each(|reg| definitions[reg.0 as usize] += 1);
        }
    }
    // Loads of the current stretch that could still move, with the item they stand at.
    let mut waiting: Vec<(usize, Folded)> = Vec::new();
    let mut done = vec![false; items.len()];
    for (index, item) in items.iter_mut().enumerate() {
        let Item::Inst { inst, place, folded } = item else {
            waiting.clear();
            continue;
        };
        let (load, spread) = match inst {
            Inst::Load { dst, .. } => (Some(*dst), false),
            Inst::Splat { dst, .. } => (Some(*dst), kernel.lanes(*dst) > 1),
            Inst::Store { .. } => {
                let stored = place.map(|p| p.buffer);
                waiting.retain(|(_, f)| Some(f.place.buffer) != stored);
                (None, false)
            }
            _ => (None, false),
        };
        if let (Some(reg), Some(place)) = (load, *place) {
            let once = uses[reg.0 as usize] == 1 && definitions[reg.0 as usize] == 1;
            let plain = kernel.buffers[usize::from(place.buffer.0)].dtype == DType::F32;
            if once && plain && (wide || !spread) {
                waiting.push((index, Folded { reg, place, spread }));
            }
            continue;
        }
        let candidates: &[Reg] = match inst {
            Inst::Fma { a, b, c, .. } => &[*b, *a, *c],
            Inst::Binary { op: Binary::Add | Binary::Mul, a, b, .. } => &[*b, *a],
            // Its second operand is shifted first.
            Inst::Binary { op: Binary::SubQuarter, .. } => &[],
            Inst::Binary { b, .. } => &[*b],
            _ => &[],
        };
        let chosen = waiting
            .iter()
            .filter(|(_, f)| candidates.contains(&f.reg))
            .max_by_key(|(_, f)| f.spread)
            .copied();
        if let Some((from, load)) = chosen {
            *folded = Some(load);
            done[from] = true;
            waiting.retain(|(at, _)| *at != from);
        }
    }
    let mut done = done.into_iter();
    items.retain(|_| !done.next().unwrap_or(false));
}

/// Live intervals. Item i reads at position 2i + 2 and writes at 2i + 3.
struct Liveness {
    vectors: Vec<Option<Interval>>,
    gprs: Vec<Option<Interval>>,
}

/// An open loop.
struct Open {
    begin: u32,
    end: u32,
    /// Times that what stands in front of the loop is executed.
    outside: f64,
}

impl Liveness {
    fn of(kernel: &Kernel, streams: &Streams<'_>, items: &[Item<'_>], gprs: usize) -> Liveness {
        let ends = matching_ends(items);
        let mut live = Liveness { vectors: vec![None; kernel.regs.len()], gprs: vec![None; gprs] };
        let mut open: Vec<Open> = Vec::new();
        let mut times = 1.0_f64;
        for (index, item) in items.iter().enumerate() {
            let reads = 2 * index as u32 + 2;
            match item {
                Item::Inst { inst, place, folded } => {
                    for reg in inst.uses() {
                        if folded.is_some_and(|f| f.reg == reg) {
                            continue;
                        }
                        touch(&mut live.vectors[reg.0 as usize], reads, times, &open);
                    }
                    if let (Inst::Fma { dst, a, b, c }, Some(f)) = (inst, folded) {
                        // The emitter has no form for a result in the place of a factor whose
                        // other factor is in memory.
                        if dst != c && f.reg != *c {
                            let kept = if f.reg == *b { a } else { b };
                            touch(&mut live.vectors[kept.0 as usize], reads + 2, 0.0, &open);
                        }
                    }
                    if let Inst::Binary { op: Binary::SubQuarter, a, .. } = inst {
                        // The result is begun before this operand is read.
                        touch(&mut live.vectors[a.0 as usize], reads + 2, 0.0, &open);
                    }
                    let places = place.iter().chain(folded.iter().map(|f| &f.place));
                    for place in places {
                        let gpr = &mut live.gprs[place.pointer.0 as usize];
                        if gpr.is_none() {
                            // A root: set up before the first item.
                            *gpr = Some(fresh(0));
                        }
                        touch(gpr, reads, times, &open);
                    }
                    if let Some(reg) = inst.dst() {
                        let hint = match inst {
                            Inst::Fma { c, .. } => Some(*c),
                            Inst::Unary { src, .. } => Some(*src),
                            _ => None,
                        };
                        let interval = &mut live.vectors[reg.0 as usize];
                        if interval.is_none() {
                            let hint = hint.map(|r| r.0 as usize);
                            *interval = Some(Interval { hint, ..fresh(reads + 1) });
                        }
                        touch(interval, reads + 1, times, &open);
                    }
                }
                Item::Begin { count, counter, advances, .. } => {
                    for advance in *advances {
                        let from = &mut live.gprs[advance.from.0 as usize];
                        if from.is_none() {
                            *from = Some(fresh(0));
                        }
                        // Copies follow one another: no register is free before the last one.
                        touch(from, reads + 2, times, &open);
                    }
                    let end = 2 * ends[index] as u32 + 2;
                    for advance in *advances {
                        live.gprs[advance.pointer.0 as usize] =
                            Some(Interval { end, ..fresh(reads + 1) });
                    }
                    let counter = &mut live.gprs[*counter];
                    *counter = Some(Interval { end, ..fresh(reads + 1) });
                    open.push(Open { begin: reads, end, outside: times });
                    times *= f64::from(*count);
                }
                Item::Find { turns, cursor } => {
                    for place in [&turns.from, &turns.list] {
                        let gpr = &mut live.gprs[place.pointer.0 as usize];
                        if gpr.is_none() {
                            *gpr = Some(fresh(0));
                        }
                        // The cursor and the end take their places while they are read.
                        touch(gpr, reads + 2, times, &open);
                    }
                    for gpr in [*cursor, *cursor + 1] {
                        live.gprs[gpr] = Some(fresh(reads + 1));
                    }
                }
                Item::Turn { turns, cursor } => {
                    let end = 2 * ends[index] as u32 + 2;
                    open.push(Open { begin: reads, end, outside: times });
                    times *= f64::from(turns.of.most_times());
                    for gpr in [*cursor, *cursor + 1] {
                        touch(&mut live.gprs[gpr], reads, times, &open);
                    }
                    for (_, lead) in &turns.leads {
                        let from = &mut live.gprs[lead.from.0 as usize];
                        if from.is_none() {
                            *from = Some(fresh(0));
                        }
                        touch(from, reads + 2, times, &open);
                        live.gprs[lead.pointer.0 as usize] =
                            Some(Interval { weight: times, ..fresh(reads + 1) });
                    }
                    for value in &turns.of.values {
                        let interval = &mut live.vectors[value.0 as usize];
                        let known = interval.get_or_insert_with(|| fresh(reads + 1));
                        known.end = known.end.max(reads + 1);
                        touch(interval, reads + 1, times, &open);
                    }
                }
                Item::Again { cursor, .. } => {
                    for gpr in [*cursor, *cursor + 1] {
                        touch(&mut live.gprs[gpr], reads, times, &[]);
                    }
                    times = open.pop().map_or(1.0, |l| l.outside);
                }
                Item::End { counter, advances } => {
                    for advance in *advances {
                        touch(&mut live.gprs[advance.pointer.0 as usize], reads, times, &[]);
                    }
                    touch(&mut live.gprs[*counter], reads, times, &[]);
                    times = open.pop().map_or(1.0, |l| l.outside);
                }
            }
        }
        debug_assert!(streams.pointers as usize <= gprs);
        live
    }
}

fn fresh(position: u32) -> Interval {
    Interval { start: position, end: position, weight: 0.0, hint: None }
}

/// Notes an access. What was alive before a loop and is accessed in it stays alive to its end.
fn touch(interval: &mut Option<Interval>, position: u32, times: f64, open: &[Open]) {
    if let Some(interval) = interval {
        let outermost = open.iter().find(|l| l.begin >= interval.start);
        let end = outermost.map_or(position, |l| l.end.max(position));
        interval.end = interval.end.max(end);
        interval.weight += times;
    }
}

/// For each item that opens a loop the index of the one that closes it (0 for others).
fn matching_ends(items: &[Item<'_>]) -> Vec<usize> {
    let mut ends = vec![0; items.len()];
    let mut open = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match item {
            item if item.opens() => open.push(index),
            item if item.closes() => {
                if let Some(begin) = open.pop() {
                    ends[begin] = index;
                }
            }
            _ => {}
        }
    }
    ends
}
