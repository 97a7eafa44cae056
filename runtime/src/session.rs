//! Running a net: one arena, one scratch a thread and one pool of threads, all made beforehand,
//! so that a run itself allocates nothing and looks nothing up.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    code::Entry,
    float_env::Defaults,
    memory::{ALIGN, Buffer},
    network::Network,
    parallel::MAX_THREADS,
    pool::{Pool, Worker},
    program::{Base, Program},
    shares::Shares,
};

/// A place to run a net: all memory that a run changes, and the threads that work on it.
/// Sessions of one net are independent of each other.
pub struct Session {
    network: Arc<Network>,
    pool: Pool,
    calls: Vec<Call>,
    shares: Shares,
    tables: Tables,
    /// What one step took, for [`Session::run_profiled`].
    nanoseconds: Vec<AtomicU64>,
    arena: Buffer,
    /// Owned for the tables' sake.
    _scratch: Buffer,
}

/// A step, ready to be called.
struct Call {
    entry: Entry,
    extent: u64,
    barrier: bool,
    /// Index of its first parameter in a thread's table.
    first_param: usize,
}

/// The addresses of all parameters of all steps, a table for every thread, because each has its
/// own scratch.
struct Tables {
    pointers: Vec<*mut u8>,
    /// Entries of one thread.
    len: usize,
    /// Entries that belong to the caller's slices, set anew for every run.
    callers: Vec<CallersEntry>,
}

struct CallersEntry {
    index: usize,
    base: Base,
    offset_bytes: usize,
}

// SAFETY: the pointers lead into memory that the session owns, into the network's weights, which
// it keeps alive, or into the caller's slices, which are borrowed as long as anybody follows
// them (during a run). Only kernels follow them, and those keep out of each other's way: see
// `Call::run`.
unsafe impl Send for Tables {}
// SAFETY: as above; through a shared reference the table itself is only read.
unsafe impl Sync for Tables {}

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nonsense.
    #[error("{0} threads; there must be 1 to {MAX_THREADS}")]
    ThreadCount(usize),
    /// Out of memory.
    #[error(
        "no memory for the arena ({arena} bytes) and {threads} times {local} bytes of scratch: {source}"
    )]
    Memory {
        /// Size of the arena.
        arena: usize,
        /// Number of threads.
        threads: usize,
        /// Scratch of each.
        local: usize,
        /// What the system says.
        source: io::Error,
    },
    /// The system starts no more threads.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many there should be.
        threads: usize,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a net does not run on these arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Wrong length.
    #[error("the input has {given} elements and must have {expected} ({dims:?})")]
    InputLength {
        /// What the net takes.
        expected: usize,
        /// What it was given.
        given: usize,
        /// Its dimensions.
        dims: Vec<usize>,
    },
    /// Wrong length.
    #[error("the output has {given} elements and must have {expected} ({dims:?})")]
    OutputLength {
        /// What the net fills.
        expected: usize,
        /// What it was given.
        given: usize,
        /// Its dimensions.
        dims: Vec<usize>,
    },
    /// Wrong length.
    #[error("{given} durations are given for {expected} steps")]
    StepCount {
        /// Steps of the program.
        expected: usize,
        /// Length of the slice.
        given: usize,
    },
}

impl Session {
    /// A session on `threads` threads, the caller's included; fewer where no step could use
    /// that many. Any number of threads gives the same bits.
    pub fn new(network: &Arc<Network>, threads: usize) -> Result<Session, SessionError> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(SessionError::ThreadCount(threads));
        }
        let program = network.program();
        let widest = program.steps.iter().map(|step| step.extent).max().unwrap_or(1);
        let threads = threads.min(usize::try_from(widest).unwrap_or(usize::MAX));

        let local = program.local_bytes;
        let memory =
            |source| SessionError::Memory { arena: program.arena_bytes, threads, local, source };
        let mut arena = Buffer::zeroed(program.arena_bytes).map_err(memory)?;
        let stride = scratch_stride(local);
        let all = stride.checked_mul(threads);
        let mut scratch = Buffer::zeroed(all.unwrap_or(usize::MAX)).map_err(memory)?;
        let tables = Tables::new(network, threads, arena.as_mut_ptr(), scratch.as_mut_ptr());
        let pool =
            Pool::new(threads).map_err(|source| SessionError::Threads { threads, source })?;

        let mut first_param = 0;
        let calls: Vec<Call> = program
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let call = Call {
                    entry: network.code().entry(step.kernel),
                    extent: step.extent,
                    // Threads start together.
                    barrier: step.barrier && index > 0,
                    first_param,
                };
                first_param += step.params.len();
                call
            })
            .collect();
        Ok(Session {
            network: Arc::clone(network),
            pool,
            nanoseconds: calls.iter().map(|_| AtomicU64::new(0)).collect(),
            calls,
            shares: Shares::new(threads),
            tables,
            arena,
            _scratch: scratch,
        })
    }

    /// The net that runs here.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Number of threads at work, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs the net: `input` and `output` are dense, in the order of the program's dimensions.
    pub fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        self.bind(input, output)?;
        let work = Work { calls: &self.calls, shares: &self.shares, tables: &self.tables };
        self.pool.run(&|worker| {
            let _defaults = Defaults::set();
            for (step, call) in work.calls.iter().enumerate() {
                if call.barrier {
                    work.help(worker);
                    worker.barrier();
                }
                work.share(step, worker);
            }
            work.help(worker);
        });
        Ok(())
    }

    /// Runs the net with a barrier after every step, and stores what each step took.
    pub fn run_profiled(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        steps: &mut [Duration],
    ) -> Result<(), RunError> {
        one_each(self.network.program(), steps)?;
        self.bind(input, output)?;
        let work = Work { calls: &self.calls, shares: &self.shares, tables: &self.tables };
        let nanoseconds = &self.nanoseconds;
        self.pool.run(&|worker| {
            let _defaults = Defaults::set();
            worker.barrier();
            let mut since = Instant::now();
            for (step, nanoseconds) in nanoseconds.iter().enumerate() {
                work.share(step, worker);
                work.help(worker);
                worker.barrier();
                if worker.index() == 0 {
                    let now = Instant::now();
                    // A step of 584 years would not fit.
                    nanoseconds.store((now - since).as_nanos() as u64, Ordering::Relaxed);
                    since = now;
                }
            }
        });
        for (step, nanoseconds) in steps.iter_mut().zip(&self.nanoseconds) {
            *step = Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        }
        Ok(())
    }

    /// Runs the net and calls `observe(step, arena)` after every step, when no thread is at
    /// work. The values of later steps may replace those of earlier ones in the arena.
    pub fn run_observed(
        &mut self,
        input: &[f32],
        output: &mut [f32],
        mut observe: impl FnMut(usize, &[f32]),
    ) -> Result<(), RunError> {
        self.bind(input, output)?;
        let work = Work { calls: &self.calls, shares: &self.shares, tables: &self.tables };
        for step in 0..self.calls.len() {
            self.pool.run(&|worker| {
                let _defaults = Defaults::set();
                work.share(step, worker);
                work.help(worker);
            });
            observe(step, self.arena.as_f32());
        }
        Ok(())
    }

    /// Checks the caller's slices and lets the tables point into them.
    fn bind(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        fits(self.network.program(), input, output)?;
        self.tables.bind(input.as_ptr().cast_mut().cast(), output.as_mut_ptr().cast());
        self.shares.clear();
        Ok(())
    }
}

/// The caller's slices are as long as the program's tensors.
pub(crate) fn fits(program: &Program, input: &[f32], output: &[f32]) -> Result<(), RunError> {
    let len = |dims: &[usize]| dims.iter().product::<usize>();
    let (expected, given) = (len(&program.input_dims), input.len());
    if expected != given {
        let dims = program.input_dims.clone();
        return Err(RunError::InputLength { expected, given, dims });
    }
    let (expected, given) = (len(&program.output_dims), output.len());
    if expected != given {
        let dims = program.output_dims.clone();
        return Err(RunError::OutputLength { expected, given, dims });
    }
    Ok(())
}

/// There is a duration for each of the program's steps.
pub(crate) fn one_each<T>(program: &Program, durations: &[T]) -> Result<(), RunError> {
    let (expected, given) = (program.steps.len(), durations.len());
    if expected == given { Ok(()) } else { Err(RunError::StepCount { expected, given }) }
}

/// Distance between the scratch of two threads: whole pages, so that no two share a cache line
/// and each page belongs to the thread that touches it first.
fn scratch_stride(local_bytes: usize) -> usize {
    local_bytes.next_multiple_of(ALIGN.max(4096))
}

impl Tables {
    fn new(network: &Network, threads: usize, arena: *mut u8, scratch: *mut u8) -> Tables {
        let program = network.program();
        let stride = scratch_stride(program.local_bytes);
        let params = || program.steps.iter().flat_map(|step| &step.params);
        let len = params().count();
        let mut pointers = Vec::with_capacity(len * threads);
        let mut callers = Vec::new();
        for thread in 0..threads {
            for param in params() {
                let (base, offset_bytes) = (param.base, param.offset_bytes);
                pointers.push(match base {
                    Base::Arena => arena.wrapping_add(offset_bytes),
                    // Never written: a program that would is refused.
                    Base::Weights => network.weights_at(param).cast_mut(),
                    Base::Local => scratch.wrapping_add(thread * stride + offset_bytes),
                    Base::Input | Base::Output => {
                        callers.push(CallersEntry { index: pointers.len(), base, offset_bytes });
                        std::ptr::null_mut()
                    }
                });
            }
        }
        Tables { pointers, len, callers }
    }

    fn bind(&mut self, input: *mut u8, output: *mut u8) {
        for entry in &self.callers {
            let base = if entry.base == Base::Input { input } else { output };
            self.pointers[entry.index] = base.wrapping_add(entry.offset_bytes);
        }
    }
}

/// What a run's threads share.
#[derive(Clone, Copy)]
struct Work<'a> {
    calls: &'a [Call],
    shares: &'a Shares,
    tables: &'a Tables,
}

impl Work<'_> {
    /// Runs this thread's share of a step, or what others leave of it.
    fn share(&self, step: usize, worker: &Worker) {
        let call = &self.calls[step];
        // No memory holds a program of 2^32 steps.
        self.shares.own(worker, step as u32, call.extent, |part| {
            call.run(worker, self.tables, part);
        });
    }

    /// Runs what others have left of their shares since the last barrier.
    fn help(&self, worker: &Worker) {
        let call = |step: u32| &self.calls[step as usize];
        self.shares.others(
            worker,
            |step| call(step).extent,
            |step, part| call(step).run(worker, self.tables, part),
        );
    }
}

impl Call {
    /// Runs some iterations of the step on this thread.
    fn run(&self, worker: &Worker, tables: &Tables, part: Range<u64>) {
        if part.is_empty() {
            return;
        }
        let params = &tables.pointers[worker.index() * tables.len + self.first_param..];
        // SAFETY: the entry is executable code of this program and lives as long as the network,
        // which the session keeps. The network checked (`check`) that every parameter lies
        // inside its block: the arena and the scratch that the session owns, the weights, whose
        // length was compared (and those in files, which lie inside of them), or the caller's
        // slices, whose lengths `bind` compared and which are borrowed during the run. Nothing is written that is borrowed shared (input and
        // weights), and parameters of one call that are written overlap no others. What is left
        // is the compiler's promise on `KernelCode`, `Binding` and `Step`: that the kernel stays
        // inside its bindings, and that iterations of one step, and of steps without a barrier
        // between them, do not touch what another thread writes at that time.
        unsafe { (self.entry)(params.as_ptr(), part.start, part.end) };
    }
}
