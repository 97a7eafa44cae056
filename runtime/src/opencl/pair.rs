//! A net on two devices: each does its share of the steps in a queue of its own, and what one wants
//! of the other goes through the host's memory in queues beside those, as soon as it is there and
//! while both go on with what does not need it.
//!
//! Devices of one driver share a context and wait for each other's events. Those of two cannot: for
//! the event of a copy to the host another one stands in the other device's context, which the
//! first driver's callback completes. So a run waits once, in either case.

use super::api::{CallError, Context, Event, Queue, Span};
use super::build::Build;
use super::devices::Device;
use super::rect::Rect;
use super::session::{Net, RunError, Seat, SetupError, as_mut_bytes, fits};
use crate::check::check;
use crate::memory::Buffer;
use crate::program::Program;
use crate::session::RunError as ArgumentError;
use crate::weights::Weights;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A net split over two devices.
#[derive(Debug, Clone)]
pub struct PairNet {
    /// The whole net: its steps' names, its tensors, its arena, which each device has whole.
    pub program: Program,
    /// What each device does.
    pub parts: [PairPart; 2],
    /// What crosses, in the order of `before`.
    pub transfers: Vec<PairTransfer>,
}

/// What one of two devices does.
#[derive(Debug, Clone)]
pub struct PairPart {
    /// Its shares of steps, as a net of their own.
    pub net: Net,
    /// For each of its steps which step of the whole net it is a share of, in order.
    pub numbers: Vec<usize>,
    /// For each of its steps the bytes of the arena that it stores.
    pub stores: Vec<Vec<Range<usize>>>,
}

/// Bytes of the arena that go from one device to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairTransfer {
    /// The device that has them.
    pub from: usize,
    /// They are there when it has done this step of the whole net.
    pub after: usize,
    /// The other one wants them in this step.
    pub before: usize,
    /// The first later step in which the one that has them writes over them.
    pub replaced: Option<usize>,
    /// Which bytes.
    pub rects: Vec<Rect>,
}

/// A net that runs on two devices.
pub struct PairSession {
    net: Shape,
    devices: [Device; 2],
    seats: [Seat; 2],
    queues: Queues,
    /// For profiles alone.
    profiled: Option<Queues>,
    /// What crosses lies here on its way, each transfer in its own place.
    staging: Buffer,
    contexts: Contexts,
}

/// Where devices live: together, or each by itself.
struct Contexts(Vec<Context>);

impl Contexts {
    fn new(devices: &[Device; 2], apart: bool) -> Result<Contexts, CallError> {
        let ids = [devices[0].id, devices[1].id];
        Ok(Contexts(match apart {
            true => vec![Context::of(&ids[..1])?, Context::of(&ids[1..])?],
            false => vec![Context::of(&ids)?],
        }))
    }

    fn of(&self, device: usize) -> &Context {
        &self.0[device.min(self.0.len() - 1)]
    }

    fn are_apart(&self) -> bool {
        self.0.len() > 1
    }
}

/// What a run needs to know of the net.
struct Shape {
    program: Program,
    transfers: Vec<PairTransfer>,
    /// Where each transfer begins in the staging memory.
    places: Vec<usize>,
    /// For each device and step of the whole net the device's step.
    steps: [Vec<Option<usize>>; 2],
    stores: [Vec<Vec<Range<usize>>>; 2],
}

/// For each device a queue that computes and one that carries.
struct Queues {
    work: [Queue; 2],
    carry: [Queue; 2],
}

impl Queues {
    fn new(
        contexts: &Contexts,
        devices: &[Device; 2],
        profiled: bool,
    ) -> Result<Queues, CallError> {
        let queue =
            |device: usize, profiled| contexts.of(device).queue(devices[device].id, profiled);
        Ok(Queues {
            work: [queue(0, profiled)?, queue(1, profiled)?],
            carry: [queue(0, false)?, queue(1, false)?],
        })
    }

    fn finish(&self) -> Result<(), CallError> {
        self.work.iter().chain(&self.carry).try_for_each(Queue::finish)
    }
}

/// Waits for all queues when a run ends before its time.
struct Finish<'a>(&'a Queues);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        for queue in self.0.work.iter().chain(&self.0.carry) {
            // The run has failed already.
            let _ = queue.finish();
        }
    }
}

/// The events of a run: for each device those of the whole net's steps that it does.
type Events = [Vec<Option<Event>>; 2];

impl Shape {
    fn new(net: &PairNet) -> Result<(Shape, usize), SetupError> {
        check(&net.program)?;
        let count = net.program.steps.len();
        let unsound = || SetupError::Launch { kernel: net.program.name.clone() };
        let mut steps = [vec![None; count], vec![None; count]];
        for (steps, part) in steps.iter_mut().zip(&net.parts) {
            let Program { arena_bytes, input_dims, output_dims, .. } = &part.net.program;
            let whole = &net.program;
            let fits = part.numbers.len() == part.net.program.steps.len()
                && part.numbers.len() == part.stores.len()
                && part.numbers.is_sorted_by(|a, b| a < b)
                && part.numbers.iter().all(|&number| number < count)
                && *arena_bytes == whole.arena_bytes
                && *input_dims == whole.input_dims
                && *output_dims == whole.output_dims;
            if !fits {
                return Err(unsound());
            }
            for (step, &number) in part.numbers.iter().enumerate() {
                steps[number] = Some(step);
            }
        }
        let arena = net.program.arena_bytes;
        let inside = |range: &Range<usize>| range.start < range.end && range.end <= arena;
        let stores = net.parts.iter().flat_map(|part| part.stores.iter().flatten());
        let mut places = Vec::with_capacity(net.transfers.len());
        let mut end = 0;
        for transfer in &net.transfers {
            let PairTransfer { from, after, before, ref rects, .. } = *transfer;
            let sound = from < 2
                && after < before
                && before < count
                && steps[from][after].is_some()
                && !rects.is_empty()
                && rects.iter().all(|rect| rect.is_sound(arena));
            if !sound {
                return Err(unsound());
            }
            places.push(end);
            end += rects.iter().map(Rect::bytes).sum::<usize>();
        }
        if !stores.clone().all(inside) {
            return Err(unsound());
        }
        let [a, b] = &net.parts;
        let shape = Shape {
            program: net.program.clone(),
            transfers: net.transfers.clone(),
            places,
            steps,
            stores: [a.stores.clone(), b.stores.clone()],
        };
        Ok((shape, end))
    }
}

impl PairSession {
    /// Builds each device's kernels, and brings its weights there.
    ///
    /// As with one device, the net must come from a compiler that is trusted.
    pub fn new(
        net: &PairNet,
        weights: [&Arc<Weights>; 2],
        devices: [&Device; 2],
        how: &Build<'_>,
    ) -> Result<PairSession, SetupError> {
        let apart = devices[0].platform != devices[1].platform;
        PairSession::set_up(net, weights, devices, how, apart)
    }

    /// As if the devices had two drivers, whether they do or not.
    pub fn apart(
        net: &PairNet,
        weights: [&Arc<Weights>; 2],
        devices: [&Device; 2],
        how: &Build<'_>,
    ) -> Result<PairSession, SetupError> {
        PairSession::set_up(net, weights, devices, how, true)
    }

    fn set_up(
        net: &PairNet,
        weights: [&Arc<Weights>; 2],
        devices: [&Device; 2],
        how: &Build<'_>,
        apart: bool,
    ) -> Result<PairSession, SetupError> {
        let (shape, staging_bytes) = Shape::new(net)?;
        let label = format!("{} and {}", devices[0].about.label, devices[1].about.label);
        let fault = |source: CallError| SetupError::Call { device: label.clone(), source };
        let devices = devices.map(Device::clone);
        let contexts = Contexts::new(&devices, apart).map_err(fault)?;
        let queues = Queues::new(&contexts, &devices, false).map_err(fault)?;
        let seat = |device: usize| {
            let (queue, net) = (&queues.work[device], &net.parts[device].net);
            Seat::new(contexts.of(device), queue, net, weights[device], &devices[device], how)
        };
        let seats = [seat(0)?, seat(1)?];
        let staging = Buffer::zeroed(staging_bytes)
            .map_err(|source| SetupError::Host { bytes: staging_bytes, source })?;
        Ok(PairSession { net: shape, devices, seats, queues, profiled: None, staging, contexts })
    }

    /// The whole net.
    pub fn program(&self) -> &Program {
        &self.net.program
    }

    /// Runs the net: `input` and `output` are dense, in the order of the program's dimensions.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        fits(&self.net.program, input, output)?;
        let run = Run {
            net: &self.net,
            seats: &self.seats,
            queues: &self.queues,
            contexts: &self.contexts,
            staging: self.staging.as_mut_ptr(),
        };
        let done = run.all(input, output, &mut |_| Ok(()));
        done.map(drop).map_err(|source| self.failed(source))
    }

    /// Runs the net, and stores what each step took, on the device where it took longer.
    pub fn run_profiled(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        steps: &mut [Duration],
    ) -> Result<(), RunError> {
        fits(&self.net.program, input, output)?;
        let (expected, given) = (self.net.program.steps.len(), steps.len());
        if expected != given {
            return Err(ArgumentError::StepCount { expected, given }.into());
        }
        if self.profiled.is_none() {
            let queues = Queues::new(&self.contexts, &self.devices, true);
            self.profiled = Some(queues.map_err(|source| self.failed(source))?);
        }
        let run = Run {
            net: &self.net,
            seats: &self.seats,
            queues: self.profiled.as_ref().unwrap_or(&self.queues),
            contexts: &self.contexts,
            staging: self.staging.as_mut_ptr(),
        };
        let timed = run.all(input, output, &mut |_| Ok(())).and_then(|events| {
            for (number, time) in steps.iter_mut().enumerate() {
                *time = Duration::ZERO;
                for event in events.iter().filter_map(|events| events[number].as_ref()) {
                    let [begin, end] = event.times()?;
                    *time = (*time).max(Duration::from_nanos(end.saturating_sub(begin)));
                }
            }
            Ok(())
        });
        timed.map_err(|source| self.failed(source))
    }

    /// Runs the net and calls `observe(step, arena)` after every step, with what either device
    /// stored last.
    pub fn run_observed(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        mut observe: impl FnMut(usize, &[f32]),
    ) -> Result<(), RunError> {
        fits(&self.net.program, input, output)?;
        let mut arena = vec![0.0f32; self.net.program.arena_bytes / 4];
        let run = Run {
            net: &self.net,
            seats: &self.seats,
            queues: &self.queues,
            contexts: &self.contexts,
            staging: self.staging.as_mut_ptr(),
        };
        let mut look = |number: usize| {
            run.queues.finish()?;
            for device in 0..2 {
                let Some(step) = run.net.steps[device][number] else { continue };
                for range in &run.net.stores[device][step] {
                    let from = Span { mem: &run.seats[device].memory.arena, offset: range.start };
                    let bytes = &mut as_mut_bytes(&mut arena)[range.clone()];
                    run.queues.work[device].read(from, bytes)?;
                }
            }
            observe(number, &arena);
            Ok(())
        };
        let done = run.all(input, output, &mut look);
        done.map(drop).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: CallError) -> RunError {
        let [a, b] = &self.devices;
        RunError::Call { device: format!("{} or {}", a.about.label, b.about.label), source }
    }
}

/// What a run works with.
struct Run<'a> {
    net: &'a Shape,
    seats: &'a [Seat; 2],
    queues: &'a Queues,
    contexts: &'a Contexts,
    staging: *mut u8,
}

impl Run<'_> {
    /// Queues everything, waits, and gives the events of all steps; `each` is called when a step
    /// has been queued.
    fn all(
        &self,
        input: &[f32],
        output: &mut [f32],
        each: &mut dyn FnMut(usize) -> Result<(), CallError>,
    ) -> Result<Events, CallError> {
        let guard = Finish(self.queues);
        for (seat, queue) in self.seats.iter().zip(&self.queues.work) {
            // SAFETY: the input is borrowed until this returns, which it does when all queues
            // have finished: below, or in `Finish`.
            unsafe { seat.begin(queue, input)? };
        }
        let count = self.net.program.steps.len();
        let mut events: Events = [(), ()].map(|()| (0..count).map(|_| None).collect());
        // For each transfer when it has left, and when each of its copies has arrived.
        let mut left: Vec<Option<Event>> = self.net.transfers.iter().map(|_| None).collect();
        let mut arrived: Vec<Vec<Event>> = self.net.transfers.iter().map(|_| Vec::new()).collect();
        for number in 0..count {
            for (device, events) in events.iter_mut().enumerate() {
                let Some(step) = self.net.steps[device][number] else { continue };
                let mut after: Vec<&Event> = Vec::new();
                for (index, transfer) in self.net.transfers.iter().enumerate() {
                    if transfer.before == number && transfer.from != device {
                        after.extend(arrived[index].last());
                    }
                    if transfer.replaced == Some(number) && transfer.from == device {
                        after.extend(&left[index]);
                    }
                }
                let mut event = None;
                let queue = &self.queues.work[device];
                self.seats[device].queue_step(queue, step, &after, Some(&mut event))?;
                queue.flush()?;
                events[number] = event;
            }
            for index in 0..self.net.transfers.len() {
                if self.net.transfers[index].after == number {
                    (left[index], arrived[index]) = self.carry(index, &events)?;
                }
            }
            each(number)?;
        }
        self.seats[0].end(&self.queues.work[0], output)?;
        self.queues.finish()?;
        // A copy that failed in one context fails the one in the other without a word.
        arrived.iter().flatten().try_for_each(Event::succeeded)?;
        std::mem::forget(guard);
        Ok(events)
    }

    /// Queues a transfer; gives the events of its leaving and of its copies' arrivals.
    fn carry(
        &self,
        index: usize,
        events: &Events,
    ) -> Result<(Option<Event>, Vec<Event>), CallError> {
        let PairTransfer { from, after, ref rects, .. } = self.net.transfers[index];
        let to = 1 - from;
        // It is in nobody's way there when the other one has come as far.
        let far = events[to][..=after].iter().rev().flatten().next();
        let (mut left, mut arrived) = (None, Vec::new());
        let mut at = self.net.places[index];
        for rect in rects {
            let place = self.staging.wrapping_add(at);
            let [there, here] = [from, to].map(|device| (&self.seats[device].memory.arena, rect));
            let (mut gone, mut come) = (None, None);
            let made: Vec<&Event> = events[from][after].iter().collect();
            // SAFETY: the session keeps the staging memory, which has room for all transfers, and
            // waits for the queues before a run ends. This place is this rectangle's alone, and
            // the copy out of it waits for the copy into it.
            unsafe {
                self.queues.carry[from].read_later(there, place, &made, Some(&mut gone))?;
                self.queues.carry[from].flush()?;
                let stands_in = self.stand_in(to, &gone)?;
                let gone_there = if stands_in.is_some() { &stands_in } else { &gone };
                let before: Vec<&Event> = gone_there.iter().chain(far).collect();
                self.queues.carry[to].write_later(here, place, &before, Some(&mut come))?;
            }
            self.queues.carry[to].flush()?;
            left = gone;
            arrived.extend(come);
            at += rect.bytes();
        }
        Ok((left, arrived))
    }

    /// What the device waits for where the event is of another context.
    fn stand_in(&self, device: usize, event: &Option<Event>) -> Result<Option<Event>, CallError> {
        match event {
            Some(event) if self.contexts.are_apart() => {
                let stand_in = self.contexts.of(device).stand_in()?;
                event.completes(&stand_in)?;
                Ok(Some(stand_in))
            }
            _ => Ok(None),
        }
    }
}
