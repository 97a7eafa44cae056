//! Which device does which share of every step. The choices of a node's steps are searched
//! together, because what one step leaves where decides what the next one must bring over.

use super::ranges::Ranges;
use crate::compile::Prepared;
use alexc_codegen::footprint::Cut;
use alexc_codegen::ir::{Access, Kernel};
use alexc_codegen::part::{Half, Halves, halves};
use alexc_codegen::stats::{Touched, touched};
use alexc_codegen::verify::{Verified, verify};
use alexc_runtime::program::{Base, Step};
use std::ops::Range;

/// Who does a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Each device all of it, for itself.
    Both,
    /// The first device.
    First,
    /// Each device a half of a dimension of the parallel space, the first one up to this value.
    Halves {
        /// Index of the dimension.
        dim: usize,
        /// First value of the second device.
        at: u32,
    },
}

/// What a device does in a step.
#[derive(Debug, Clone)]
pub(super) struct Work {
    /// Its iterations.
    pub(super) kernel: Kernel,
    /// For each buffer what it touches, in elements.
    pub(super) touched: Touched,
    /// Bytes of the arena that it loads.
    pub(super) loads: Ranges,
    /// Bytes of the arena that it stores.
    pub(super) stores: Ranges,
    /// Bytes of the packed weights that it loads.
    weights: Ranges,
    /// A measure of its time, in bytes brought over.
    time: f64,
}

/// A way to share a step out.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) share: Share,
    /// For each device; nothing where it has nothing to do.
    pub(super) works: [Option<Work>; 2],
}

/// Arithmetic, as a part of a byte that is brought over: devices that compute 1 TFLOP/s and bring
/// over 20 GB/s.
const FLOP: f64 = 0.02;
/// A byte that a step loads or stores.
const TOUCH: f64 = 0.06;
/// Each time that something is brought over, however little.
const LATENCY: f64 = 4096.0;
/// A byte of weights that both devices must hold.
const TWICE: f64 = 1.0;

/// What each device has not got: bytes of the arena that the other one wrote last.
#[derive(Debug, Clone, Default)]
pub(super) struct Stale(pub(super) [Ranges; 2]);

impl Stale {
    /// Where values begin to live: what is there is nobody's.
    pub(super) fn born(&mut self, places: &Ranges) {
        self.0.iter_mut().for_each(|stale| *stale = stale.without(places));
    }

    /// What a device must be given before its work.
    pub(super) fn wanted(&self, device: usize, work: &Work) -> Ranges {
        work.loads.intersection(&self.0[device])
    }

    /// After something was brought over.
    pub(super) fn brought(&mut self, device: usize, bytes: &Ranges) {
        self.0[device] = self.0[device].without(bytes);
    }

    /// After a step.
    pub(super) fn done(&mut self, candidate: &Candidate) {
        // First what is old by the other's doing, then what is new by one's own.
        for (device, work) in candidate.works.iter().enumerate() {
            if let Some(work) = work {
                self.0[1 - device] = self.0[1 - device].union(&work.stores);
            }
        }
        for (device, work) in candidate.works.iter().enumerate() {
            if let Some(work) = work {
                self.0[device] = self.0[device].without(&work.stores);
            }
        }
    }
}

/// What a device does that runs this kernel, if it is known what that stores.
fn work(step: &Step, (kernel, touched): Half) -> Option<Work> {
    let in_block = |base: Base, lists: &[Vec<Range<usize>>]| {
        let mut ranges = Vec::new();
        for ((param, buffer), list) in step.params.iter().zip(&kernel.buffers).zip(lists) {
            if param.base == base {
                let (first, size) = (param.offset_bytes, buffer.dtype.bytes());
                ranges.extend(list.iter().map(|r| first + r.start * size..first + r.end * size));
            }
        }
        Ranges::of(ranges)
    };
    let (loads, stores) =
        (in_block(Base::Arena, &touched.loads), in_block(Base::Arena, &touched.stores));
    let weights = in_block(Base::Weights, &touched.loads);
    let flops = flops(&kernel);
    let bytes = loads.len() + stores.len() + weights.len();
    let time = flops * FLOP + bytes as f64 * TOUCH;
    touched.stores_exact.then_some(Work { kernel, touched, loads, stores, weights, time })
}

fn flops(kernel: &Kernel) -> f64 {
    alexc_codegen::stats::flops(kernel) as f64
}

/// All ways for a step; the first is always possible.
fn candidates(step: &Step, kernel: &Verified) -> Vec<Candidate> {
    let dims = kernel.parallel.iter().enumerate().filter(|(_, dim)| dim.count > 1);
    let cuts: Vec<Cut> = dims.map(|(dim, d)| (dim, d.count.div_ceil(2))).collect();
    let Halves { whole, cuts: parts } = halves(kernel, &cuts);
    let Some(all) = work(step, (Kernel::clone(kernel), whole)) else {
        // A step whose bytes are not known exactly counts as touching all of its buffers.
        return vec![Candidate { share: Share::First, works: [Some(coarse(step, kernel)), None] }];
    };
    let first_alone = Candidate { share: Share::First, works: [Some(all.clone()), None] };
    if step.params.iter().any(|param| param.base == Base::Output) {
        return vec![first_alone];
    }
    let both = Candidate { share: Share::Both, works: [Some(all.clone()), Some(all)] };
    // What needs nothing of the other device is done by each for itself: the input comes to both.
    // Not so where weights are at stake.
    let reads = |base: Base| {
        step.params.iter().zip(&kernel.buffers).any(|(param, buffer)| {
            param.base == base && matches!(buffer.access, Access::Read | Access::ReadWrite)
        })
    };
    if !reads(Base::Arena) && !reads(Base::Weights) {
        return vec![both];
    }
    let mut list = vec![both, first_alone];
    for (&(dim, at), [a, b]) in cuts.iter().zip(parts) {
        if let (Some(a), Some(b)) = (work(step, a), work(step, b)) {
            // They are apart, or the kernel would not have been proved; a store of the same
            // bytes by both would be lost all the same.
            if a.stores.intersection(&b.stores).is_empty() {
                let share = Share::Halves { dim, at };
                list.push(Candidate { share, works: [Some(a), Some(b)] });
            }
        }
    }
    list
}

/// Of the ways for a step those that hold the least weights twice.
fn with_own_weights(ways: &[Candidate]) -> Vec<Candidate> {
    let twice = |way: &Candidate| match &way.works {
        [Some(a), Some(b)] => a.weights.intersection(&b.weights).len(),
        // No half of the work.
        _ => usize::MAX,
    };
    let least = ways.iter().map(twice).min().unwrap_or(0);
    ways.iter().filter(|way| twice(way) == least).cloned().collect()
}

fn coarse(step: &Step, kernel: &Verified) -> Work {
    let range = |of: fn(Access) -> bool| {
        let params = step.params.iter().zip(&kernel.buffers);
        let mine = params.filter(|(p, b)| p.base == Base::Arena && of(b.access));
        Ranges::of(mine.map(|(p, _)| p.offset_bytes..p.offset_bytes + p.len_bytes).collect())
    };
    let kernel = Kernel::clone(kernel);
    let mut touched = touched(&kernel);
    // Weights are given whole.
    for (list, buffer) in touched.loads.iter_mut().zip(&kernel.buffers) {
        *list = std::iter::once(0..buffer.len).collect();
    }
    Work {
        kernel,
        touched,
        loads: range(|access| access != Access::Write && access != Access::Local),
        stores: range(|access| access != Access::Read && access != Access::Local),
        weights: Ranges::default(),
        time: 0.0,
    }
}

/// What a candidate costs from here on.
fn cost(stale: &Stale, candidate: &Candidate) -> f64 {
    let mut cost = 0.0;
    let mut longest = 0.0_f64;
    for (device, work) in candidate.works.iter().enumerate() {
        let Some(work) = work else { continue };
        longest = longest.max(work.time);
        let wanted = stale.wanted(device, work);
        if !wanted.is_empty() {
            cost += wanted.len() as f64 + LATENCY;
        }
    }
    if let [Some(a), Some(b)] = &candidate.works {
        cost += a.weights.intersection(&b.weights).len() as f64 * TWICE;
    }
    cost + longest
}

/// Carries a candidate out.
pub(super) fn apply(stale: &mut Stale, candidate: &Candidate) {
    for (device, work) in candidate.works.iter().enumerate() {
        if let Some(work) = work {
            let wanted = stale.wanted(device, work);
            stale.brought(device, &wanted);
        }
    }
    stale.done(candidate);
}

/// For each step the places of the values that it is the first to mention.
pub(super) fn births(net: &Prepared) -> Vec<Ranges> {
    let at = |step: usize| {
        let born = net.plan.slots.iter().filter(|slot| slot.lifetime.first == step);
        Ranges::of(born.map(|slot| slot.offset_bytes..slot.offset_bytes + slot.bytes).collect())
    };
    (0..net.steps.len()).map(at).collect()
}

/// The best way for every step. Each node is searched without a look at those behind it. To cut by
/// images or pixels, which looks cheap there, may prove dear when the next node wants channels: so
/// it is also tried to let weights decide.
pub(super) fn choose(net: &Prepared) -> Vec<Candidate> {
    let births = births(net);
    let steps = net.steps.iter();
    let mut all: Vec<Vec<Candidate>> =
        steps.map(|step| candidates(step, &net.kernels[step.kernel])).collect();
    loop {
        let own: Vec<Vec<Candidate>> = all.iter().map(|ways| with_own_weights(ways)).collect();
        let (by_cost, cost) = node_by_node(net, &all, &births);
        let (by_weights, other_cost) = node_by_node(net, &own, &births);
        let chosen = if other_cost < cost { by_weights } else { by_cost };
        // A half has the whole kernel's iterations, and no others; the proof may still miss it.
        let Some(step) = chosen.iter().position(|way| !is_proved(way)) else { return chosen };
        all[step].retain(|way| way.share != chosen[step].share);
    }
}

/// Whether both halves pass the verifier; whole kernels have.
fn is_proved(way: &Candidate) -> bool {
    let mut kernels = way.works.iter().flatten().map(|work| &work.kernel);
    !matches!(way.share, Share::Halves { .. })
        || kernels.all(|kernel| proved(kernel.clone()).is_some())
}

/// The best way for the steps of each node in turn, and what all cost.
fn node_by_node(
    net: &Prepared,
    ways: &[Vec<Candidate>],
    births: &[Ranges],
) -> (Vec<Candidate>, f64) {
    let mut stale = Stale::default();
    let mut chosen = Vec::with_capacity(ways.len());
    let mut total = 0.0;
    let node = |index: usize| net.lowered.calls.get(index).map(|call| call.node.as_str());
    let mut first = 0;
    while first < ways.len() {
        let mut end = first + 1;
        while end < ways.len() && node(end) == node(first) && end - first < LONGEST {
            end += 1;
        }
        let (ways, births) = (&ways[first..end], &births[first..end]);
        let mut search =
            Search { ways, births, best: f64::INFINITY, path: Vec::new(), found: Vec::new() };
        search.from(&stale, 0.0);
        total += search.best;
        for ((ways, &index), born) in ways.iter().zip(&search.found).zip(births) {
            stale.born(born);
            apply(&mut stale, &ways[index]);
            chosen.push(ways[index].clone());
        }
        first = end;
    }
    (chosen, total)
}

/// Steps that are searched together.
const LONGEST: usize = 6;

struct Search<'a> {
    ways: &'a [Vec<Candidate>],
    births: &'a [Ranges],
    best: f64,
    path: Vec<usize>,
    found: Vec<usize>,
}

impl Search<'_> {
    fn from(&mut self, stale: &Stale, spent: f64) {
        let Some(ways) = self.ways.get(self.path.len()) else {
            self.best = spent;
            self.found.clone_from(&self.path);
            return;
        };
        let mut born = stale.clone();
        born.born(&self.births[self.path.len()]);
        let stale = &born;
        let mut order: Vec<(f64, usize)> =
            ways.iter().enumerate().map(|(i, way)| (spent + cost(stale, way), i)).collect();
        // The cheapest first, so that others are soon given up.
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (cost, index) in order {
            if cost >= self.best {
                break;
            }
            let mut after = stale.clone();
            apply(&mut after, &ways[index]);
            self.path.push(index);
            self.from(&after, cost);
            self.path.pop();
        }
    }
}

/// A part of a proved kernel, proved again.
pub(super) fn proved(kernel: Kernel) -> Option<Verified> {
    verify(kernel).ok()
}
