//! A net on two devices. Each holds a share of every step: half of the values of one dimension of
//! its kernel's parallel space, mostly output channels, and with it that half of the weights. What
//! a kernel loads and stores is known to the byte, so what must cross is what a device loads and
//! the other one stored last, and nothing is computed otherwise than on one device.

mod choose;
mod display;
mod ranges;
mod rects;

pub use choose::Share;
pub use ranges::Ranges;

use crate::compile::Prepared;
use crate::plan::ALIGN;
use alexc_codegen::ir::Kernel;
use alexc_codegen::part::rebase;
use alexc_codegen::verify::Verified;
use alexc_runtime::opencl::Rect;
use alexc_runtime::program::{Base, Binding, Step};
use choose::{Candidate, Stale, Work};
use std::ops::Range;

/// Bytes of the arena that go from one device to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// For people: what it is a part of.
    pub value: String,
    /// The device that has them; the other one wants them.
    pub from: usize,
    /// They are there when it has done this step.
    pub after: usize,
    /// They are wanted in this step.
    pub before: usize,
    /// The first later step in which the device that has them writes over them.
    pub replaced: Option<usize>,
    /// Which bytes.
    pub rects: Vec<Rect>,
}

impl Transfer {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.rects.iter().map(Rect::bytes).sum()
    }

    /// The bytes as a set.
    pub fn ranges(&self) -> Ranges {
        Ranges::of(self.rects.iter().flat_map(Rect::ranges).collect())
    }
}

/// What one device does.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Its kernels, each once.
    pub kernels: Vec<Verified>,
    /// Its steps, with their places in its own weights.
    pub steps: Vec<Step>,
    /// For each of them which step of the net it is a share of.
    pub numbers: Vec<usize>,
    /// For each of them the bytes of the arena that it stores.
    pub stores: Vec<Ranges>,
    /// Bytes of the net's packed weights, and where they begin in its own.
    pub weights: Vec<(Range<usize>, usize)>,
    /// Size of its own.
    pub weights_bytes: usize,
    /// What each question for a place was answered.
    placed: Vec<(Vec<Range<usize>>, usize)>,
}

/// A net split over two devices.
#[derive(Debug, Clone)]
pub struct Split {
    /// For each device.
    pub parts: [Part; 2],
    /// In the order of the steps that want them.
    pub transfers: Vec<Transfer>,
    /// For each step of the net who does it.
    pub shares: Vec<Share>,
}

/// Why a net cannot be split.
#[derive(Debug, thiserror::Error)]
#[error("internal error: a half of kernel {kernel} does not verify")]
pub struct SplitError {
    /// Its name.
    pub kernel: String,
}

/// Splits a net whose steps are planned for one device.
pub fn split(net: &Prepared) -> Result<Split, SplitError> {
    let chosen = choose::choose(net);
    let births = choose::births(net);
    let mut stale = Stale::default();
    let runs = [0, 1].map(|device| runs_of_weights(net, &chosen, device));
    let origins = [Vec::new(), Vec::new()];
    let mut builder = Builder { net, runs, origins, parts: Default::default() };
    let mut transfers = Vec::new();
    for (number, candidate) in chosen.iter().enumerate() {
        stale.born(&births[number]);
        // Both are brought what they want at the same time.
        let before = stale.clone();
        for (device, work) in candidate.works.iter().enumerate() {
            let Some(work) = work else { continue };
            let wanted = before.wanted(device, work);
            let brought = bring(net, &chosen, number, device, &wanted, &before);
            for transfer in &brought {
                stale.brought(device, &transfer.ranges());
            }
            transfers.extend(brought);
            builder.step(number, device, work)?;
        }
        choose::apply(&mut stale, candidate);
    }
    let shares = chosen.iter().map(|candidate| candidate.share).collect();
    Ok(Split { parts: builder.parts, transfers, shares })
}

/// A value that is not brought over by so many copies is brought with the gaps between its parts.
const MOST_COMMANDS: usize = 8;

/// What brings the wanted bytes to a device before a step, for each value.
fn bring(
    net: &Prepared,
    chosen: &[Candidate],
    number: usize,
    device: usize,
    wanted: &Ranges,
    stale: &Stale,
) -> Vec<Transfer> {
    let from = 1 - device;
    let stores = |step: usize| chosen[step].works[from].as_ref().map(|work| &work.stores);
    let alive = net.plan.slots.iter().filter(|slot| slot.lifetime.contains(number));
    let transfer = |slot: &crate::plan::Slot| {
        let place = Ranges::one(slot.offset_bytes..slot.offset_bytes + slot.bytes);
        let exactly = wanted.intersection(&place);
        let mut rects = rects::rects(exactly.list());
        if rects.len() > MOST_COMMANDS {
            let mut joined: Vec<Range<usize>> = Vec::new();
            for range in exactly.list() {
                match joined.last_mut() {
                    // The same on both devices, and dearer to go around.
                    Some(last)
                        if Ranges::one(last.end..range.start)
                            .intersection(&stale.0[from])
                            .is_empty() =>
                    {
                        last.end = range.end;
                    }
                    _ => joined.push(range.clone()),
                }
            }
            rects = rects::rects(&joined);
        }
        let all = Ranges::of(rects.iter().flat_map(Rect::ranges).collect());
        let touches =
            |step: &usize| stores(*step).is_some_and(|s| !s.intersection(&all).is_empty());
        // Somebody stored them, or they would not be old.
        let after = (0..number).rev().find(touches)?;
        let replaced = (number..chosen.len()).find(touches);
        let value = slot.name.clone();
        (!rects.is_empty()).then_some(Transfer {
            value,
            from,
            after,
            before: number,
            replaced,
            rects,
        })
    };
    alive.filter_map(transfer).collect()
}

/// Collects the devices' steps.
struct Builder<'a> {
    net: &'a Prepared,
    /// For each device the parts of the packed weights that steps read as one run of bytes.
    runs: [Ranges; 2],
    /// For each kernel of a device the net's kernel that it is a part of, and its text before it
    /// got a name of its own.
    origins: [Vec<(usize, Kernel)>; 2],
    parts: [Part; 2],
}

impl Builder<'_> {
    fn step(&mut self, number: usize, device: usize, work: &Work) -> Result<(), SplitError> {
        let step = &self.net.steps[number];
        let part = &mut self.parts[device];
        let mut kernel = work.kernel.clone();
        let mut params: Vec<Binding> = Vec::with_capacity(step.params.len());
        for (index, param) in step.params.iter().enumerate() {
            if param.base != Base::Weights {
                params.push(*param);
                continue;
            }
            let (bytes, len) = weights(&mut kernel, param, index, work);
            let size = kernel.buffers[index].dtype.bytes();
            let offset_bytes = part.place(bytes, &self.runs[device]);
            params.push(Binding { offset_bytes, len_bytes: len * size, ..*param });
        }
        let known = &mut self.origins[device];
        let position = known.iter().position(|(k, text)| *k == step.kernel && *text == kernel);
        let position = match position {
            Some(position) => position,
            None => {
                known.push((step.kernel, kernel.clone()));
                let again = known.iter().filter(|(k, _)| *k == step.kernel).count();
                if again > 1 {
                    kernel.name = format!("{}_part{again}", kernel.name);
                }
                let name = kernel.name.clone();
                part.kernels.push(choose::proved(kernel).ok_or(SplitError { kernel: name })?);
                known.len() - 1
            }
        };
        part.steps.push(Step {
            name: step.name.clone(),
            kernel: position,
            extent: part.kernels[position].extent(),
            barrier: true,
            params,
        });
        part.numbers.push(number);
        part.stores.push(work.stores.clone());
        Ok(())
    }
}

/// What a device's steps read as one run of the packed weights each: runs that overlap together, for
/// kernels of one layer may share what lies between their own.
fn runs_of_weights(net: &Prepared, chosen: &[Candidate], device: usize) -> Ranges {
    let mut runs = Vec::new();
    for (step, candidate) in net.steps.iter().zip(chosen) {
        let Some(work) = &candidate.works[device] else { continue };
        let mut kernel = work.kernel.clone();
        for (index, param) in step.params.iter().enumerate() {
            if param.base == Base::Weights
                && let [run] = &weights(&mut kernel, param, index, work).0[..]
            {
                // Elements stay aligned as they are.
                runs.push(run.start / ALIGN * ALIGN..run.end);
            }
        }
    }
    Ranges::of(runs)
}

/// Lets a kernel see of a parameter in the packed weights what it loads: gives those bytes, and the
/// parameter's length in elements from then on.
fn weights(
    kernel: &mut Kernel,
    param: &Binding,
    index: usize,
    work: &Work,
) -> (Vec<Range<usize>>, usize) {
    let size = kernel.buffers[index].dtype.bytes();
    let (pieces, len) = pieces(kernel, index, &work.touched.loads[index]);
    let bytes = pieces.iter().map(|(piece, _)| {
        param.offset_bytes + piece.start * size..param.offset_bytes + piece.end * size
    });
    (bytes.collect(), len)
}

/// Pieces of a buffer, and where they begin in one that holds nothing else.
type Pieces = Vec<(Range<usize>, usize)>;

/// Lets a kernel see of its weights what it loads and nothing else: far pieces are put side by
/// side where no access reaches over the gap between them. Gives them, and the length of all.
fn pieces(kernel: &mut Kernel, buffer: usize, loads: &[Range<usize>]) -> (Pieces, usize) {
    // Elements: at smaller gaps the seams cost more than the bytes.
    const FAR: usize = 4096;
    let mut near: Vec<Range<usize>> = Vec::new();
    for range in loads {
        match near.last_mut() {
            Some(last) if range.start - last.end < FAR => last.end = range.end,
            _ => near.push(range.clone()),
        }
    }
    // No buffer is empty, not even one that is not read.
    let first = near.first().map_or(0, |range| range.start);
    let whole = first..near.last().map_or(first + 1, |range| range.end);
    for ranges in [near, std::iter::once(whole).collect()] {
        let mut len = 0;
        let side_by_side = |range: Range<usize>| {
            let at = len;
            len += range.len();
            (range, at)
        };
        let pieces: Pieces = ranges.into_iter().map(side_by_side).collect();
        if !pieces.is_empty() && rebase(kernel, buffer, &pieces, len) {
            return (pieces, len);
        }
    }
    let len = kernel.buffers[buffer].len;
    (std::iter::once((0..len, 0)).collect(), len)
}

impl Part {
    /// Where parts of the net's weights are in its own, side by side, put there at the first
    /// question; one piece as a part of the run that it lies in.
    fn place(&mut self, pieces: Vec<Range<usize>>, runs: &Ranges) -> usize {
        if let [piece] = &pieces[..] {
            let inside = |run: &&Range<usize>| run.start <= piece.start && piece.end <= run.end;
            if let Some(run) = runs.list().iter().find(inside) {
                let at = piece.start - run.start;
                return self.place_apart(std::iter::once(run.clone()).collect()) + at;
            }
        }
        self.place_apart(pieces)
    }

    fn place_apart(&mut self, pieces: Vec<Range<usize>>) -> usize {
        if let Some((_, at)) = self.placed.iter().find(|(known, _)| *known == pieces) {
            return *at;
        }
        let start = self.weights_bytes;
        for bytes in &pieces {
            self.weights.push((bytes.clone(), self.weights_bytes));
            self.weights_bytes += bytes.len();
        }
        self.weights_bytes = self.weights_bytes.next_multiple_of(ALIGN);
        self.placed.push((pieces, start));
        start
    }
}

#[cfg(test)]
mod tests;
