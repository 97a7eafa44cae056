//! How threads share the iterations of a step. Each begins with a share of its own, the same for
//! every step of that extent, so that it finds in its caches what it left there; it takes that share
//! part by part. A thread that has finished takes parts from the end of what others have left: cores
//! are seldom equally fast for long where other programs run beside them.

use std::{
    ops::Range,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Release},
    },
};

use crate::pool::{Line, Worker, share};

/// Parts of a thread's share. The more there are, the shorter is the wait for the last one, but each
/// costs a call of the kernel.
const PARTS: u64 = 8;

/// What every thread has left of the step it is at.
pub(crate) struct Shares {
    /// A [`Rest`] each, changed as a whole.
    rests: Vec<Line<AtomicU64>>,
}

/// Parts `next..end` of a thread's share of a step. While a run goes on no two are the same: within
/// a step `next` only grows and `end` only shrinks. So a thread that compares and exchanges one
/// takes what it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rest {
    step: u32,
    next: u16,
    end: u16,
}

impl Rest {
    fn pack(self) -> u64 {
        u64::from(self.step) << 32 | u64::from(self.next) << 16 | u64::from(self.end)
    }

    fn unpack(word: u64) -> Rest {
        Rest { step: (word >> 32) as u32, next: (word >> 16) as u16, end: word as u16 }
    }
}

impl Shares {
    pub(crate) fn new(threads: usize) -> Shares {
        Shares { rests: (0..threads).map(|_| Line(AtomicU64::new(0))).collect() }
    }

    /// Forgets what a run left that ended too early.
    pub(crate) fn clear(&mut self) {
        self.rests.iter_mut().for_each(|rest| *rest.0.get_mut() = 0);
    }

    /// Calls `work` with parts of this thread's share of a step until none is left. Steps have
    /// different numbers.
    pub(crate) fn own(&self, worker: &Worker, step: u32, extent: u64, work: impl Fn(Range<u64>)) {
        let share = worker.share(extent);
        if worker.threads() == 1 {
            return work(share);
        }
        let end = parts(&share);
        let rest = &self.rests[worker.index()].0;
        // Nothing is left of the step before, so nobody exchanges it now.
        rest.store(Rest { step, next: 0, end }.pack(), Release);
        while let Some((_, part)) =
            take(rest, |rest| (rest.next, Rest { next: rest.next + 1, ..rest }))
        {
            work(part_of(&share, part));
        }
    }

    /// Calls `work` with parts of what the others have left, and the number of their step, until
    /// they have nothing left. `extent` tells that of a step.
    pub(crate) fn others(
        &self,
        worker: &Worker,
        extent: impl Fn(u32) -> u64,
        work: impl Fn(u32, Range<u64>),
    ) {
        let threads = worker.threads();
        for other in (worker.index() + 1..threads).chain(0..worker.index()) {
            let last = |rest: Rest| (rest.end - 1, Rest { end: rest.end - 1, ..rest });
            while let Some((step, part)) = take(&self.rests[other].0, last) {
                work(step, part_of(&share(extent(step), other, threads), part));
            }
        }
    }
}

/// Takes a part from what is left, if anything is: its step and number.
fn take(rest: &AtomicU64, split: impl Fn(Rest) -> (u16, Rest)) -> Option<(u32, u16)> {
    let left = |word: u64| Some(Rest::unpack(word)).filter(|rest| rest.next < rest.end);
    let before =
        rest.fetch_update(AcqRel, Acquire, |word| Some(split(left(word)?).1.pack())).ok()?;
    let before = Rest::unpack(before);
    Some((before.step, split(before).0))
}

/// How many parts a share has.
fn parts(share: &Range<u64>) -> u16 {
    (share.end - share.start).min(PARTS) as u16
}

/// The iterations of a part of a share.
fn part_of(whole: &Range<u64>, part: u16) -> Range<u64> {
    let of_share = share(whole.end - whole.start, usize::from(part), usize::from(parts(whole)));
    whole.start + of_share.start..whole.start + of_share.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// Every iteration of every step is worked on once, before the barrier behind its step.
    #[test]
    fn every_iteration_once() {
        for threads in [1, 2, 3, 8] {
            let extents: Vec<u64> =
                (0..200).map(|step| [1, 2, 5, 16, 97, 1000][step % 6]).collect();
            let done: Vec<Vec<AtomicUsize>> = extents
                .iter()
                .map(|&extent| (0..extent).map(|_| AtomicUsize::new(0)).collect())
                .collect();
            let mut pool = Pool::new(threads).unwrap();
            let mut shares = Shares::new(threads);
            let rounds = 20;
            for round in 1..=rounds {
                shares.clear();
                let shares = &shares;
                pool.run(&|worker| {
                    let count = |step: usize, part: Range<u64>| {
                        for at in part {
                            // One thread is slow, so that others take what is its own.
                            for _ in 0..if worker.index() == 0 { 50 } else { 1 } {
                                std::hint::spin_loop();
                            }
                            done[step][at as usize].fetch_add(1, Relaxed);
                        }
                    };
                    let help = || {
                        let extent = |step| extents[step as usize];
                        shares.others(worker, extent, |step, part| count(step as usize, part));
                    };
                    for (step, &extent) in extents.iter().enumerate() {
                        // Barriers behind every third step.
                        if step % 3 == 0 {
                            help();
                            worker.barrier();
                            let before = done[..step].iter().flatten();
                            assert!(before.into_iter().all(|times| times.load(Relaxed) == round));
                        }
                        shares.own(worker, step as u32, extent, |part| count(step, part));
                    }
                    help();
                });
                assert!(done.iter().flatten().all(|times| times.load(Relaxed) == round));
            }
        }
    }

    #[test]
    fn parts_cover_a_share_in_order() {
        for len in 0..40 {
            let whole = 7..7 + len;
            let mut at = 7;
            for part in 0..parts(&whole) {
                let range = part_of(&whole, part);
                assert!(range.start == at && range.end > at);
                at = range.end;
            }
            assert_eq!(at, whole.end);
        }
    }

    #[test]
    fn nothing_is_taken_twice() {
        let rest = AtomicU64::new(Rest { step: 9, next: 0, end: 3 }.pack());
        let first = |rest: Rest| (rest.next, Rest { next: rest.next + 1, ..rest });
        let last = |rest: Rest| (rest.end - 1, Rest { end: rest.end - 1, ..rest });
        assert_eq!(take(&rest, first), Some((9, 0)));
        assert_eq!(take(&rest, last), Some((9, 2)));
        assert_eq!(take(&rest, last), Some((9, 1)));
        assert_eq!(take(&rest, first), None);
        assert_eq!(take(&rest, last), None);
    }
}
