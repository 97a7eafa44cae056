//! Threads that run one net together: each knows its number, and they meet at barriers. Waiting
//! threads watch memory for a moment, which answers within a microsecond, then sleep, so that an
//! idle pool costs nothing. As long as nobody sleeps, no lock is taken; nothing is ever allocated
//! after `new`.

use std::{
    any::Any,
    cell::UnsafeCell,
    io,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::parallel::available_threads;

/// How long a thread watches for the next job before it sleeps: shorter than anybody would notice
/// as a busy core.
const WATCH_IDLE: Duration = Duration::from_micros(50);

/// How long a thread watches for the others at a barrier, and the caller at the end: they are at work,
/// if perhaps on a core that does something else for a moment. Who sleeps instead comes late to the
/// next step: a core that has stopped takes a while to start, above all a virtual one, and the system
/// may first put who wakes beside the one who woke it, on one core.
const WATCH_OTHERS: Duration = Duration::from_millis(2);

/// How long of that it keeps its core for itself. Later it lets other threads run between two
/// looks: the one it waits for may be queued behind it, on a machine that has more to do.
const KEEP_CORE: Duration = Duration::from_micros(10);

/// Looks at memory between two looks at the clock.
const LOOKS: u32 = 64;

/// A fixed number of threads, the caller's among them. Dropping it ends the others.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// One thread's place in a running job.
pub struct Worker<'a> {
    shared: &'a Shared,
    index: usize,
}

/// On a cache line of its own, so that watching it does not slow down writers nearby. Two lines,
/// because processors fetch lines in pairs.
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

type Job = *const (dyn Fn(&Worker) + Sync);
type Panic = Box<dyn Any + Send>;

struct Shared {
    threads: usize,
    /// [`KEEP_CORE`], or nothing where threads outnumber cores.
    keep_core: Duration,
    /// [`WATCH_OTHERS`], or [`WATCH_IDLE`] there, since watching takes time from those at work.
    watch_others: Duration,
    /// What all threads shall do. Written by the caller alone, while `running` is 0.
    job: UnsafeCell<Option<Job>>,
    /// Counts jobs; a change starts the workers.
    round: Line<AtomicU32>,
    /// Workers (the caller not counted) that have not finished the job.
    running: Line<AtomicUsize>,
    /// Threads that have arrived at the barrier.
    arrived: Line<AtomicUsize>,
    /// Counts barriers; a change opens the current one.
    opened: Line<AtomicU32>,
    /// A thread panicked in the job, so that barriers would wait for it in vain.
    broken: AtomicBool,
    panic: Mutex<Option<Panic>>,
    stop: AtomicBool,
    /// Threads that sleep or are about to.
    sleepers: Line<AtomicUsize>,
    bed: Mutex<()>,
    alarm: Condvar,
}

// SAFETY: `job` is the only part that is not Sync by itself. It is written in `Pool::run` before
// `round` goes up and after `running` has come down to 0, and read by workers in between, each
// after it saw `round` change and before it counts `running` down (all SeqCst). What it points
// to is Sync.
unsafe impl Sync for Shared {}
// SAFETY: the job's pointer is used only as said above, whichever thread owns `Shared`.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `threads - 1` threads; 0 counts as 1.
    pub fn new(threads: usize) -> io::Result<Pool> {
        let threads = threads.max(1);
        let crowded = threads > available_threads();
        let shared = Arc::new(Shared {
            threads,
            keep_core: if crowded { Duration::ZERO } else { KEEP_CORE },
            watch_others: if crowded { WATCH_IDLE } else { WATCH_OTHERS },
            job: UnsafeCell::new(None),
            round: Line(AtomicU32::new(0)),
            running: Line(AtomicUsize::new(0)),
            arrived: Line(AtomicUsize::new(0)),
            opened: Line(AtomicU32::new(0)),
            broken: AtomicBool::new(false),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            sleepers: Line(AtomicUsize::new(0)),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
        });
        // Dropping the pool stops the threads that have started if a later one cannot.
        let mut pool = Pool { shared, workers: Vec::with_capacity(threads - 1) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("alexc-{index}"))
                .spawn(move || shared.work(index))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Calls `job` once on every thread at the same time and returns when all have finished.
    /// Every thread must wait at equally many barriers. A panic on any thread comes out here.
    pub fn run(&mut self, job: &(dyn Fn(&Worker) + Sync)) {
        let shared = &*self.shared;
        if shared.threads == 1 {
            return job(&Worker { shared, index: 0 });
        }
        // SAFETY: only the lifetime changes. Workers use the pointer until they count `running`
        // down, and this function neither returns nor unwinds before `running` is 0.
        let pointer: Job =
            unsafe { std::mem::transmute::<*const (dyn Fn(&Worker) + Sync + '_), Job>(job) };
        // SAFETY: `running` is 0, so no worker looks at it until `round` changes.
        unsafe { *shared.job.get() = Some(pointer) };
        shared.running.0.store(self.workers.len(), SeqCst);
        shared.round.0.fetch_add(1, SeqCst);
        shared.wake();
        shared.perform(job, 0);
        shared.wait_until(shared.watch_others, || shared.running.0.load(SeqCst) == 0);
        if shared.broken.load(SeqCst) {
            shared.arrived.0.store(0, SeqCst);
            shared.broken.store(false, SeqCst);
            let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.round.0.fetch_add(1, SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // Workers catch every panic.
            worker.join().ok();
        }
    }
}

impl Worker<'_> {
    /// This thread's number, below [`Worker::threads`]; the caller's is 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Number of threads at work.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// This thread's part of `0..extent`: parts are contiguous, in the order of the threads, and
    /// differ by one at most; where there are fewer iterations than threads the last threads get
    /// nothing.
    pub fn share(&self, extent: u64) -> Range<u64> {
        share(extent, self.index, self.shared.threads)
    }

    /// Returns when all threads have called it equally often.
    pub fn barrier(&self) {
        let shared = self.shared;
        if shared.threads == 1 {
            return;
        }
        // Cannot change before this thread arrives.
        let opened = shared.opened.0.load(SeqCst);
        if shared.arrived.0.fetch_add(1, SeqCst) + 1 == shared.threads {
            shared.arrived.0.store(0, SeqCst);
            shared.opened.0.store(opened.wrapping_add(1), SeqCst);
            shared.wake();
            return;
        }
        shared.wait_until(shared.watch_others, || {
            shared.opened.0.load(SeqCst) != opened || shared.broken.load(SeqCst)
        });
        if shared.opened.0.load(SeqCst) == opened {
            // Unwinds out of the job; the panic that broke it is the one that is reported.
            resume_unwind(Box::new("another thread panicked"));
        }
    }
}

/// See [`Worker::share`].
pub(crate) fn share(extent: u64, index: usize, threads: usize) -> Range<u64> {
    let (index, threads) = (index as u64, threads as u64);
    let (each, more) = (extent / threads, extent % threads);
    let begin = |index: u64| each * index + more.min(index);
    begin(index)..begin(index + 1)
}

impl Shared {
    fn work(&self, index: usize) {
        let mut round = 0_u32;
        loop {
            self.wait_until(WATCH_IDLE, || self.round.0.load(SeqCst) != round);
            if self.stop.load(SeqCst) {
                return;
            }
            round = round.wrapping_add(1);
            // SAFETY: `round` changed, so the caller has written the job and will not write
            // again before this thread counts `running` down.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: the job lives until `running` is 0, see `Pool::run`.
                self.perform(unsafe { &*job }, index);
            }
            if self.running.0.fetch_sub(1, SeqCst) == 1 {
                self.wake();
            }
        }
    }

    fn perform(&self, job: &(dyn Fn(&Worker) + Sync), index: usize) {
        let worker = Worker { shared: self, index };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(&worker))) {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            // Threads that unwound out of a barrier come later than the one that broke it.
            first.get_or_insert(panic);
            drop(first);
            self.broken.store(true, SeqCst);
            self.wake();
        }
    }

    /// Returns once `ready` is true; sleeps if that takes longer than `watch`. Whoever makes it true
    /// must call `wake` afterwards.
    fn wait_until(&self, watch: Duration, ready: impl Fn() -> bool) {
        let mut since = None;
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    return;
                }
                std::hint::spin_loop();
            }
            let watched = since.get_or_insert_with(Instant::now).elapsed();
            if watched > watch {
                break;
            }
            if watched > self.keep_core {
                std::thread::yield_now();
            }
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        // From here on a waker sees this sleeper, or this thread sees what the waker wrote
        // before it looked: both sides write first and read then, in one total order.
        self.sleepers.0.fetch_add(1, SeqCst);
        while !ready() {
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.0.fetch_sub(1, SeqCst);
    }

    /// Wakes all who sleep, to look again at what they wait for.
    fn wake(&self) {
        if self.sleepers.0.load(SeqCst) > 0 {
            // A sleeper between its look and its sleep holds the mutex.
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.alarm.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn shares_are_contiguous_and_even() {
        for threads in 1..=9 {
            for extent in [0, 1, 2, 7, 8, 9, 1000, u64::MAX] {
                let shares: Vec<_> = (0..threads).map(|i| share(extent, i, threads)).collect();
                assert_eq!(shares[0].start, 0);
                assert_eq!(shares[threads - 1].end, extent);
                for pair in shares.windows(2) {
                    assert_eq!(pair[0].end, pair[1].start);
                }
                let lens: Vec<u64> = shares.iter().map(|part| part.end - part.start).collect();
                assert!(lens.iter().max().unwrap() - lens.iter().min().unwrap() <= 1);
                assert!(lens.is_sorted_by(|a, b| a >= b));
            }
        }
    }

    /// Every thread checks at every step that all others have finished the step before.
    fn cross_barriers(threads: usize, barriers: u64) {
        let mut pool = Pool::new(threads).unwrap();
        let steps: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
        pool.run(&|worker| {
            for step in 1..=barriers {
                // Relaxed: the barrier alone must order these.
                steps[worker.index()].store(step, std::sync::atomic::Ordering::Relaxed);
                worker.barrier();
                let neighbour = (worker.index() + 1 + step as usize) % threads;
                let seen = steps[neighbour].load(std::sync::atomic::Ordering::Relaxed);
                assert!(seen == step || seen == step + 1, "{seen} at step {step}");
            }
        });
    }

    #[test]
    fn barriers_hold_on_1_to_8_threads() {
        for threads in 1..=8 {
            cross_barriers(threads, if threads <= 2 { 100_000 } else { 5_000 });
        }
    }

    #[test]
    fn every_job_runs_once_on_every_thread() {
        for threads in [1, 2, 3, 8] {
            let mut pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            let calls: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
            for round in 1..=300 {
                pool.run(&|worker| {
                    assert_eq!(worker.threads(), threads);
                    calls[worker.index()].fetch_add(1, SeqCst);
                });
                assert!(calls.iter().all(|calls| calls.load(SeqCst) == round));
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let mut pool = Pool::new(3).unwrap();
        let calls = AtomicU64::new(0);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(5));
            pool.run(&|worker| {
                // The caller, then a worker, comes so late that the others sleep.
                for late in 0..2 {
                    if worker.index() == late {
                        std::thread::sleep(3 * WATCH_OTHERS);
                    }
                    worker.barrier();
                }
                calls.fetch_add(1, SeqCst);
            });
        }
        assert_eq!(calls.load(SeqCst), 9);
    }

    #[test]
    fn a_panic_comes_out_and_the_pool_lives_on() {
        let mut pool = Pool::new(3).unwrap();
        for culprit in [0, 1, 2] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    worker.barrier();
                    if worker.index() == culprit {
                        resume_unwind(Box::new(culprit));
                    }
                    worker.barrier();
                });
            }));
            assert_eq!(caught.unwrap_err().downcast_ref(), Some(&culprit));
            let calls = AtomicU64::new(0);
            pool.run(&|worker| {
                worker.barrier();
                calls.fetch_add(1, SeqCst);
            });
            assert_eq!(calls.load(SeqCst), 3);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_idle_pool_uses_no_time() {
        fn ticks() -> u64 {
            // Clock ticks (10 ms) of all threads named by the pool, user and system.
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let mut sum = 0;
            for task in tasks {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
                let Ok(stat) = stat else { continue };
                let (name, rest) = stat.rsplit_once(") ").unwrap();
                if name.contains("(alexc-idle") {
                    let fields: Vec<&str> = rest.split(' ').collect();
                    sum += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
                }
            }
            sum
        }
        let mut pool = Pool::new(2).unwrap();
        pool.run(&|worker| {
            if worker.index() == 1 {
                std::fs::write("/proc/thread-self/comm", "alexc-idle").unwrap();
            }
        });
        let before = ticks();
        std::thread::sleep(Duration::from_millis(300));
        assert!(ticks() - before <= 1);
    }
}
