//! A net on one device: one arena for all activations, weights that are there once, one in-order
//! queue, and one wait a run.

use super::api::{CallError, Context, Event, Kernel, Mem, Queue, Span};
use super::build::{self, Build, BuildError};
use super::devices::{Device, DeviceKind};
use crate::check::{ProgramError, check, tensor_bytes};
use crate::cpu::Arch;
use crate::program::{Base, Program};
pub(super) use crate::session::fits;
use crate::session::{RunError as ArgumentError, one_each};
use crate::weights::Weights;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

/// A compiled net for OpenCL devices.
#[derive(Debug, Clone)]
pub struct Net {
    /// Steps, memory, and for each kernel its function in OpenCL C.
    pub program: Program,
    /// What stands in front of the functions.
    pub prelude: String,
    /// How each kernel of the program is started.
    pub launches: Vec<Launch>,
    /// Registers of a work-item, where kernels are meant for no more and the driver can be told.
    pub most_registers: Option<u32>,
}

/// How a kernel is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The function's name.
    pub function: String,
    /// Its parameters.
    pub args: Vec<Arg>,
    /// Work-items.
    pub global: [usize; 3],
    /// Work-items of a group.
    pub local: [usize; 3],
    /// Bytes of scratch in the device's memory for each work-item. Where it is not zero, fewer
    /// work-items than `global[0]` may be started, in whole groups.
    pub scratch_bytes: usize,
}

/// A parameter of a kernel's function. Buffers are those of the step, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// The block of memory that the buffer lies in.
    Base(usize),
    /// `ulong`: where the buffer begins there, in elements.
    First {
        /// Number of the buffer.
        buffer: usize,
        /// Bytes of an element.
        element_bytes: usize,
    },
    /// The scratch of all work-items.
    Scratch,
}

/// Why a net cannot be set up on a device.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The program contradicts itself.
    #[error("the compiled net is not sound: {0}")]
    Program(#[from] ProgramError),
    /// The launches do not fit the program.
    #[error("the compiled net is not sound: kernel `{kernel}` cannot be started as it says")]
    Launch {
        /// The kernel.
        kernel: String,
    },
    /// Weights of another net, or of another compilation.
    #[error("the net has {expected} bytes of packed weights, and {given} are given")]
    WeightsLength {
        /// What the program says.
        expected: usize,
        /// What there is.
        given: usize,
    },
    /// More than the device has.
    #[error(
        "{device} has no memory for {what} ({needed} bytes; it has {memory} bytes, at most \
         {largest} of them in one block); a smaller batch, or --weights-dtype f16, needs less"
    )]
    Memory {
        /// The device.
        device: String,
        /// What the block is for.
        what: &'static str,
        /// Size of the block.
        needed: usize,
        /// Size of the device's memory.
        memory: u64,
        /// Largest block.
        largest: u64,
    },
    /// What crosses between two devices goes through the host's memory.
    #[error("no memory for {bytes} bytes on their way between two devices: {source}")]
    Host {
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The driver's compiler refuses the source.
    #[error("the driver of {device} does not build the net's kernels:\n{log}")]
    Build {
        /// The device.
        device: String,
        /// What the compiler says.
        log: String,
    },
    /// The driver fails.
    #[error("{device} fails: {source}")]
    Call {
        /// The device.
        device: String,
        /// What failed.
        source: CallError,
    },
}

/// Why a run has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The caller's slices do not fit.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// The driver fails.
    #[error("{device} fails: {source}")]
    Call {
        /// The device.
        device: String,
        /// What failed.
        source: CallError,
    },
}

/// A net that runs on a device.
pub struct Session {
    program: Program,
    device: Device,
    seat: Seat,
    queue: Queue,
    /// For profiles alone: keeping times costs some.
    profiled: Option<Queue>,
    context: Context,
}

/// A net on a device, without the queues that drive it.
pub(super) struct Seat {
    steps: Vec<Ready>,
    pub(super) memory: Memory,
    /// The device reads them in place where it can.
    _weights: Arc<Weights>,
}

/// A step with all its arguments set.
struct Ready {
    kernel: Kernel,
    global: [usize; 3],
    local: [usize; 3],
}

/// The blocks that parameters point into.
pub(super) struct Memory {
    pub(super) input: Mem,
    pub(super) output: Mem,
    pub(super) arena: Mem,
    weights: Mem,
    scratch: Mem,
}

impl Memory {
    fn of(&self, base: Base) -> &Mem {
        match base {
            Base::Input => &self.input,
            Base::Output => &self.output,
            Base::Arena => &self.arena,
            Base::Weights => &self.weights,
            Base::Local => &self.scratch,
        }
    }
}

/// Work-items for each compute unit that share scratch: enough to keep a GPU's unit busy.
fn items_of_unit(kind: DeviceKind) -> usize {
    match kind {
        DeviceKind::Cpu => 1,
        DeviceKind::Gpu | DeviceKind::Accelerator => 1024,
    }
}

impl Launch {
    /// Work-items to start on a device with so many units.
    fn global_on(&self, device: &Device) -> [usize; 3] {
        if self.scratch_bytes == 0 {
            return self.global;
        }
        let units = usize::try_from(device.about.units).unwrap_or(1).max(1);
        let wanted = units.saturating_mul(items_of_unit(device.about.kind));
        let group = self.local[0].max(1);
        let items = wanted.next_multiple_of(group).min(self.global[0]);
        [items, self.global[1], self.global[2]]
    }

    fn is_sound(&self, params: usize) -> bool {
        let divides = |(&global, &local): (&usize, &usize)| {
            global > 0 && local > 0 && global.is_multiple_of(local)
        };
        self.global.iter().zip(&self.local).all(divides)
            && self.args.iter().all(|arg| match *arg {
                Arg::Base(buffer) => buffer < params,
                Arg::First { buffer, element_bytes } => buffer < params && element_bytes > 0,
                Arg::Scratch => self.scratch_bytes > 0,
            })
    }
}

impl Net {
    /// The whole text that the driver compiles.
    pub fn source(&self) -> String {
        let mut text = self.prelude.clone();
        for kernel in &self.program.kernels {
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&kernel.bytes));
        }
        text
    }

    fn check(&self, weights: &Weights) -> Result<(), SetupError> {
        check(&self.program)?;
        let Program { kernels, steps, arch, .. } = &self.program;
        let unsound = |kernel: usize| SetupError::Launch {
            kernel: kernels.get(kernel).map_or_else(String::new, |kernel| kernel.name.clone()),
        };
        if self.launches.len() != kernels.len() || *arch != Arch::OpenCl {
            return Err(unsound(0));
        }
        let wrong = steps.iter().find(|s| !self.launches[s.kernel].is_sound(s.params.len()));
        if let Some(step) = wrong {
            return Err(unsound(step.kernel));
        }
        let (expected, given) = (self.program.weights_bytes, weights.as_bytes().len());
        if expected != given {
            return Err(SetupError::WeightsLength { expected, given });
        }
        Ok(())
    }
}

/// Takes memory of a device, or says how much was wanted.
struct Taker<'a> {
    device: &'a Device,
    context: &'a Context,
}

impl Taker<'_> {
    fn refused(&self, what: &'static str, needed: usize) -> SetupError {
        let about = &self.device.about;
        SetupError::Memory {
            device: self.device.to_string(),
            what,
            needed,
            memory: about.memory_bytes,
            largest: about.allocation_bytes,
        }
    }

    fn failed(&self, what: &'static str, needed: usize, error: CallError) -> SetupError {
        match error.status.is_memory() {
            true => self.refused(what, needed),
            false => SetupError::Call { device: self.device.to_string(), source: error },
        }
    }

    fn take(&self, what: &'static str, bytes: usize) -> Result<Mem, SetupError> {
        let about = &self.device.about;
        // Some drivers promise more than they have, and fail in the middle of a run.
        if bytes as u64 > about.allocation_bytes.min(about.memory_bytes) {
            return Err(self.refused(what, bytes));
        }
        self.context.memory(bytes).map_err(|error| self.failed(what, bytes, error))
    }
}

impl Seat {
    /// Builds the kernels, sets their arguments, takes the memory, and brings the weights there by
    /// a queue of the device.
    pub(super) fn new(
        context: &Context,
        queue: &Queue,
        net: &Net,
        weights: &Arc<Weights>,
        device: &Device,
        how: &Build<'_>,
    ) -> Result<Seat, SetupError> {
        net.check(weights)?;
        let program = &net.program;
        let fault = |source: CallError| SetupError::Call { device: device.to_string(), source };
        let built = build::build(context, device, net, how);
        let built = built.map_err(|error| match error {
            BuildError::Refused(log) => SetupError::Build { device: device.to_string(), log },
            BuildError::Call(source) => fault(source),
        })?;

        let scratch = net.launches.iter().map(|launch| {
            let items: usize = launch.global_on(device).iter().product();
            items.saturating_mul(launch.scratch_bytes)
        });
        let taker = Taker { device, context };
        let memory = Memory {
            input: taker.take("the input", tensor_bytes("input", &program.input_dims)?)?,
            output: taker.take("the output", tensor_bytes("output", &program.output_dims)?)?,
            arena: taker.take("the activations", program.arena_bytes)?,
            weights: upload(&taker, queue, weights)?,
            scratch: taker.take("scratch", scratch.max().unwrap_or(0))?,
        };

        let ready = |step: &crate::program::Step| {
            let launch = &net.launches[step.kernel];
            let name = CString::new(launch.function.as_str()).unwrap_or_default();
            let kernel = built.kernel(&name)?;
            for (index, arg) in (0u32..).zip(&launch.args) {
                match *arg {
                    Arg::Base(buffer) => {
                        kernel.set_memory(index, memory.of(step.params[buffer].base))?;
                    }
                    Arg::First { buffer, element_bytes } => {
                        let first = step.params[buffer].offset_bytes / element_bytes;
                        kernel.set_ulong(index, first as u64)?;
                    }
                    Arg::Scratch => kernel.set_memory(index, &memory.scratch)?,
                }
            }
            Ok(Ready { kernel, global: launch.global_on(device), local: launch.local })
        };
        let steps = program.steps.iter().map(ready).collect::<Result<_, _>>().map_err(fault)?;
        Ok(Seat { steps, memory, _weights: Arc::clone(weights) })
    }

    /// Queues the copy of the input.
    ///
    /// # Safety
    /// The input stays where it is, unchanged, until the queue has finished.
    pub(super) unsafe fn begin(&self, queue: &Queue, input: &[f32]) -> Result<(), CallError> {
        let to = Span { mem: &self.memory.input, offset: 0 };
        // SAFETY: the caller keeps the input.
        unsafe { queue.write(to, as_bytes(input)) }
    }

    /// Queues a step behind other commands.
    pub(super) fn queue_step(
        &self,
        queue: &Queue,
        step: usize,
        after: &[&Event],
        event: Option<&mut Option<Event>>,
    ) -> Result<(), CallError> {
        let Ready { kernel, global, local } = &self.steps[step];
        // SAFETY: all arguments were set when the seat was made. The program was checked: every
        // parameter lies inside its block, and the blocks are as large as the program says. That
        // the kernel stays inside of its parameters is the compiler's promise.
        unsafe { queue.run(kernel, *global, *local, after, event) }
    }

    /// Reads the output; returns when everything before it in the queue is done.
    pub(super) fn end(&self, queue: &Queue, output: &mut [f32]) -> Result<(), CallError> {
        queue.read(Span { mem: &self.memory.output, offset: 0 }, as_mut_bytes(output))
    }
}

impl Session {
    /// Builds the net's kernels, or takes them from where they are kept, and brings the weights to
    /// the device.
    ///
    /// What the kernels do is beyond any check: like a linked library, a net must come from a
    /// compiler that is trusted (alexc proves every access of its kernels inside their bindings).
    pub fn new(
        net: &Net,
        weights: &Arc<Weights>,
        device: &Device,
        how: &Build<'_>,
    ) -> Result<Session, SetupError> {
        let fault = |source: CallError| SetupError::Call { device: device.to_string(), source };
        let context = Context::of(&[device.id]).map_err(fault)?;
        let queue = context.queue(device.id, false).map_err(fault)?;
        let seat = Seat::new(&context, &queue, net, weights, device, how)?;
        let (program, device) = (net.program.clone(), device.clone());
        Ok(Session { program, device, seat, queue, profiled: None, context })
    }

    /// What runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs the net: `input` and `output` are dense, in the order of the program's dimensions.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        fits(&self.program, input, output)?;
        self.told(|session| {
            let queue = &session.queue;
            let guard = Finish(queue);
            session.begin(queue, input)?;
            for step in 0..session.seat.steps.len() {
                session.seat.queue_step(queue, step, &[], None)?;
            }
            session.seat.end(queue, output)?;
            std::mem::forget(guard);
            Ok(())
        })
    }

    /// Runs the net, and stores what each step took by the device's clock.
    pub fn run_profiled(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        steps: &mut [Duration],
    ) -> Result<(), RunError> {
        fits(&self.program, input, output)?;
        one_each(&self.program, steps)?;
        if self.profiled.is_none() {
            let queue = self.context.queue(self.device.id, true);
            self.profiled = Some(queue.map_err(|source| self.failed(source))?);
        }
        self.told(|session| {
            let Some(queue) = &session.profiled else { return Ok(()) };
            let guard = Finish(queue);
            session.begin(queue, input)?;
            let mut events = Vec::with_capacity(session.seat.steps.len());
            for step in 0..session.seat.steps.len() {
                let mut event = None;
                session.seat.queue_step(queue, step, &[], Some(&mut event))?;
                events.push(event);
            }
            session.seat.end(queue, output)?;
            std::mem::forget(guard);
            for (step, event) in steps.iter_mut().zip(events.iter().flatten()) {
                let [begin, end] = event.times()?;
                *step = Duration::from_nanos(end.saturating_sub(begin));
            }
            Ok(())
        })
    }

    /// Runs the net and calls `observe(step, arena)` after every step. The values of later steps
    /// may replace those of earlier ones in the arena.
    pub fn run_observed(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        mut observe: impl FnMut(usize, &[f32]),
    ) -> Result<(), RunError> {
        fits(&self.program, input, output)?;
        let mut arena = vec![0.0f32; self.program.arena_bytes / 4];
        self.told(|session| {
            let queue = &session.queue;
            let guard = Finish(queue);
            session.begin(queue, input)?;
            for index in 0..session.seat.steps.len() {
                session.seat.queue_step(queue, index, &[], None)?;
                if !arena.is_empty() {
                    let all = Span { mem: &session.seat.memory.arena, offset: 0 };
                    queue.read(all, as_mut_bytes(&mut arena))?;
                }
                observe(index, &arena);
            }
            session.seat.end(queue, output)?;
            std::mem::forget(guard);
            Ok(())
        })
    }

    fn begin(&self, queue: &Queue, input: &[f32]) -> Result<(), CallError> {
        // SAFETY: the input is borrowed until the run returns. It returns after a read that
        // waits for everything, or, after a failure, when `Finish` has waited.
        unsafe { self.seat.begin(queue, input) }
    }

    fn told(&self, work: impl FnOnce(&Session) -> Result<(), CallError>) -> Result<(), RunError> {
        work(self).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: CallError) -> RunError {
        RunError::Call { device: self.device.to_string(), source }
    }
}

/// Waits for a queue when a run ends before its time, so that nothing reads the caller's slices
/// any more.
pub(super) struct Finish<'a>(pub(super) &'a Queue);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        // The run has failed already.
        let _ = self.0.finish();
    }
}

/// Brings the weights to the device; a CPU reads them where they are.
fn upload(taker: &Taker<'_>, queue: &Queue, weights: &Weights) -> Result<Mem, SetupError> {
    let (what, bytes) = ("the weights", weights.as_bytes());
    if taker.device.about.kind == DeviceKind::Cpu && !bytes.is_empty() {
        // SAFETY: the session keeps the weights, which never change, behind an address that does
        // not move, and drops its memory objects first.
        let mem = unsafe { taker.context.borrowed(bytes) };
        return mem.map_err(|error| taker.failed(what, bytes.len(), error));
    }
    let mem = taker.take(what, bytes.len())?;
    if !bytes.is_empty() {
        // SAFETY: the weights live until the queue has finished, below.
        let written = unsafe { queue.write(Span { mem: &mem, offset: 0 }, bytes) };
        let finished = queue.finish();
        written.and(finished).map_err(|error| taker.failed(what, bytes.len(), error))?;
    }
    Ok(mem)
}

fn as_bytes(floats: &[f32]) -> &[u8] {
    // SAFETY: every f32 is four bytes, and bytes have no alignment.
    unsafe { floats.align_to::<u8>().1 }
}

pub(super) fn as_mut_bytes(floats: &mut [f32]) -> &mut [u8] {
    // SAFETY: every f32 is four bytes, bytes have no alignment, and every bit pattern is an f32.
    unsafe { floats.align_to_mut::<u8>().1 }
}
