//! The first question of a process for its devices, from many threads at once. A test of its own
//! file: in a process that has asked before, there is nothing left to race for.
#![cfg(feature = "opencl")]

use alexc_runtime::opencl::{choose, drivers};
use std::sync::Barrier;
use std::thread;

#[test]
fn many_threads_find_the_same_devices() {
    const THREADS: usize = 16;
    let start = Barrier::new(THREADS);
    let ask = |thread: usize| {
        start.wait();
        // Some ask for the list first, some for a device, some for a part of one.
        let device = match thread % 3 {
            0 => None,
            1 => Some(choose("").expect("a device; its driver is installed by tests/run").about),
            _ => Some(match choose("0.1") {
                Ok(half) => half.about,
                // Of one compute unit.
                Err(_) => choose("0").expect("the whole device").about,
            }),
        };
        let found = drivers().expect("a driver");
        let names = found.iter().flat_map(|driver| driver.devices.iter().map(|d| d.about.clone()));
        (device, names.collect::<Vec<_>>())
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let ask = &ask;
                    move || ask(thread)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(!answers[0].1.is_empty(), "no device is installed");
    for (device, all) in &answers {
        assert_eq!(all, &answers[0].1);
        if let Some(device) = device {
            assert!(all.iter().any(|about| about.name == device.name), "{device:?}");
        }
    }
}
