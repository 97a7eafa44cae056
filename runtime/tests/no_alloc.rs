//! A run allocates nothing, on any thread.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use alexc_runtime::session::Session;
use common::{LEN, expected, input, network, program};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Its own main function: the test harness's threads would allocate, too.
fn main() {
    let network = network();
    let input = input();
    for threads in [1, 2, 5] {
        let mut session = Session::new(&network, threads).unwrap();
        let mut output = vec![0.0; LEN];
        let mut times = vec![Duration::ZERO; program().steps.len()];
        // Threads that have just started may still be setting themselves up.
        session.run(&input, &mut output).unwrap();
        output.fill(0.0);

        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for _ in 0..200 {
            session.run(&input, &mut output).unwrap();
        }
        // Also where workers fell asleep.
        std::thread::sleep(Duration::from_millis(5));
        session.run(&input, &mut output).unwrap();
        session.run_profiled(&input, &mut output, &mut times).unwrap();
        let after = ALLOCATIONS.load(Ordering::SeqCst);
        assert_eq!(after - before, 0, "{threads} threads");

        assert_eq!(output, expected(&input));
        std::hint::black_box(vec![0_u8; 100]);
        assert!(ALLOCATIONS.load(Ordering::SeqCst) > after, "the counter counts");
    }
}
