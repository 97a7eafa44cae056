//! Work on all threads while a net is prepared: packing weights, checking files. Threads live
//! for one call only; running nets have [`crate::pool`].

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The threads that a run should use when its caller has no wish: `ALEXC_NUM_THREADS` where it
/// is set, else [`available_threads`].
pub fn default_threads() -> Result<usize, ThreadsError> {
    match std::env::var_os("ALEXC_NUM_THREADS") {
        Some(value) => parse_threads(&value.to_string_lossy()),
        None => Ok(available_threads()),
    }
}

/// The number of cores that this process may use.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// `ALEXC_NUM_THREADS` says something that is no number of threads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ALEXC_NUM_THREADS is `{0}`; it must be a number of threads from 1 to {MAX_THREADS}")]
pub struct ThreadsError(pub String);

/// More threads than this are refused everywhere.
pub const MAX_THREADS: usize = 1024;

fn parse_threads(text: &str) -> Result<usize, ThreadsError> {
    match text.trim().parse() {
        Ok(threads @ 1..=MAX_THREADS) => Ok(threads),
        _ => Err(ThreadsError(text.to_string())),
    }
}

/// Calls `work` with every index of `0..count`, each once, on up to `threads` threads, the
/// calling one among them. Which thread takes which index is left to chance. A panic of `work`
/// comes out of this call.
pub fn parallel_for(threads: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    on_threads(threads.min(count), || {
        // Ends before the counter could wrap: every thread stops at its first index too far.
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            work(index);
        }
    });
}

/// Calls `work` with every item, each once, on up to `threads` threads. The items may hold
/// mutable borrows, for example disjoint parts of one buffer (see [`split_mut`]).
pub fn parallel_each<T: Send>(threads: usize, items: Vec<T>, work: impl Fn(T) + Sync) {
    let count = items.len();
    let items = Mutex::new(items.into_iter());
    on_threads(threads.min(count), || {
        loop {
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            match item {
                Some(item) => work(item),
                None => break,
            }
        }
    });
}

fn on_threads(threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 1..threads.min(MAX_THREADS) {
            // A machine out of threads is only slower.
            if std::thread::Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

/// The parts of `slice` at `ranges`, in the order of `ranges`; None where one reaches out of the
/// slice or two overlap.
pub fn split_mut<'a, T>(slice: &'a mut [T], ranges: &[Range<usize>]) -> Option<Vec<&'a mut [T]>> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|&index| (ranges[index].start, ranges[index].end));
    let mut parts: Vec<Option<&'a mut [T]>> = ranges.iter().map(|_| None).collect();
    let (mut rest, mut at) = (slice, 0);
    for index in order {
        let range = &ranges[index];
        let skip = range.start.checked_sub(at)?;
        let (part, behind) = std::mem::take(&mut rest)
            .split_at_mut_checked(skip)?
            .1
            .split_at_mut_checked(range.end.checked_sub(range.start)?)?;
        parts[index] = Some(part);
        (rest, at) = (behind, range.end);
    }
    parts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once() {
        for threads in [0, 1, 2, 5] {
            for count in [0, 1, 2, 1000] {
                let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                parallel_for(threads, count, |i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(seen.iter().all(|times| times.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn items_may_be_parts_of_one_slice() {
        let mut numbers = vec![0; 100];
        let ranges = [40..60, 0..10, 60..60, 60..100, 10..40];
        let parts = split_mut(&mut numbers, &ranges).unwrap();
        let items: Vec<_> = parts.into_iter().enumerate().collect();
        parallel_each(3, items, |(i, part)| part.fill(i + 1));
        let expected: Vec<usize> = (0..100)
            .map(|i| {
                if i < 10 {
                    2
                } else if i < 40 {
                    5
                } else if i < 60 {
                    1
                } else {
                    4
                }
            })
            .collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn overlapping_or_outlying_parts_are_refused() {
        let mut numbers = [0; 10];
        assert!(split_mut(&mut numbers, &[0..6, 5..10]).is_none());
        assert!(split_mut(&mut numbers, &[0..0, 0..11]).is_none());
        assert!(split_mut(&mut numbers, &[0..3, 3..usize::MAX]).is_none());
        assert!(split_mut(&mut numbers, &[0..1, 11..11]).is_none());
        assert!(split_mut(&mut numbers, &[0..1, Range { start: 4, end: 2 }]).is_none());
        assert_eq!(split_mut(&mut numbers, &[]).unwrap().len(), 0);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_on_another_thread_comes_out() {
        let caller = std::thread::current().id();
        let barrier = std::sync::Barrier::new(2);
        parallel_for(2, 2, |_| {
            barrier.wait();
            assert!(std::thread::current().id() == caller);
        });
    }

    #[test]
    fn thread_counts_are_numbers_from_1() {
        assert_eq!(parse_threads("3"), Ok(3));
        assert_eq!(parse_threads(" 12 "), Ok(12));
        for text in ["", "0", "-1", "two", "1025", "99999999999999999999"] {
            assert_eq!(parse_threads(text), Err(ThreadsError(text.to_string())));
        }
    }
}
