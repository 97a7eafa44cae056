//! What this machine's memory can do, measured, so that a profile can say how near to the limit
//! a layer is.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{caches::last_level_bytes, memory::Buffer, pool::Pool};

/// Distant places that each thread reads from in turn: processors prefetch several streams at a
/// time, and one alone does not fill the memory's pipes. Linear layers read their weights so.
const STREAMS: usize = 4;

/// Passes over the memory; the fastest counts.
const ROUNDS: usize = 8;

/// No further pass begins after this.
const ENOUGH: Duration = Duration::from_millis(100);

/// Bytes read by one turn: four cache lines of each stream.
const TURN: usize = 256;

/// Bandwidth of reading memory that is in no cache, on this many threads, in bytes a second.
/// Takes about a quarter of a second, most of it to get the memory.
pub fn read_bandwidth(threads: usize) -> io::Result<f64> {
    let mut pool = Pool::new(threads)?;
    let threads = pool.threads();
    let unit = threads * STREAMS * TURN;
    let buffer = touched(buffer_bytes().next_multiple_of(unit), threads)?;
    let words = as_words(buffer.as_bytes());
    let share = words.len() / threads;

    let sum = AtomicU64::new(0);
    let mut best = Duration::MAX;
    let start = Instant::now();
    for round in 0..ROUNDS {
        let since = Instant::now();
        pool.run(&|worker| {
            let part = &words[worker.index() * share..][..share];
            sum.fetch_add(read(part), Ordering::Relaxed);
        });
        best = best.min(since.elapsed());
        if round > 0 && start.elapsed() > ENOUGH {
            break;
        }
    }
    // The sum must be wanted, or nothing needs to be read.
    std::hint::black_box(sum.load(Ordering::Relaxed));
    Ok(buffer.len() as f64 / best.as_secs_f64())
}

/// Larger than the caches, as far as the system tells.
fn buffer_bytes() -> usize {
    const LEAST: usize = 256 << 20;
    const MOST: usize = 1 << 30;
    let cache = last_level_bytes().unwrap_or(0);
    cache.saturating_mul(4).clamp(LEAST, MOST)
}

/// Memory that was written: what never was is one page of zeros behind all addresses.
fn touched(len: usize, threads: usize) -> io::Result<Buffer> {
    let mut buffer = Buffer::zeroed(len)?;
    // A write to every page of the smallest size brings it in.
    let pieces: Vec<&mut [u8]> = buffer.as_mut_bytes().chunks_mut(4 << 20).collect();
    crate::parallel::parallel_each(threads, pieces, |piece| {
        piece.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    });
    Ok(buffer)
}

fn as_words(bytes: &[u8]) -> &[u64] {
    // SAFETY: every bit pattern is a u64.
    unsafe { bytes.align_to().1 }
}

/// Adds everything up, reading from distant places in turn.
fn read(words: &[u64]) -> u64 {
    const WORDS: usize = TURN / 8;
    let (turns, _) = words.as_chunks::<WORDS>();
    let stream = turns.len() / STREAMS;
    let (a, rest) = turns.split_at(stream);
    let (b, rest) = rest.split_at(stream);
    let (c, d) = rest.split_at(stream);
    let mut sums = [0_u64; 8];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for turn in [a, b, c, d] {
            for words in turn.as_chunks::<8>().0 {
                for (sum, word) in sums.iter_mut().zip(words) {
                    *sum = sum.wrapping_add(*word);
                }
            }
        }
    }
    sums.iter().fold(0, |sum, part| sum.wrapping_add(*part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read() {
        let words: Vec<u64> = (0..32 * STREAMS as u64 * 5).map(|i| i * i).collect();
        assert_eq!(read(&words), words.iter().sum());
    }

    /// No machine that this runs on reads less than 100 MB/s or more than 10 TB/s.
    #[test]
    fn bandwidth_is_plausible() {
        let bandwidth = read_bandwidth(2).unwrap();
        assert!((1e8..1e13).contains(&bandwidth), "{bandwidth}");
    }
}
