//! Nets of tiny kernels, run in every way that sessions offer.

mod common;

use std::{sync::Arc, time::Duration};

use alexc_runtime::{
    mapped::MappedFile,
    memory::Buffer,
    network::Network,
    session::{RunError, Session, SessionError},
    weights::InFile,
};
use common::{LEN, expected, input, network};

#[test]
fn any_number_of_threads_gives_the_result() {
    let network = network();
    let input = input();
    for threads in 1..=8 {
        let mut session = Session::new(&network, threads).unwrap();
        assert_eq!(session.threads(), threads);
        for _ in 0..50 {
            let mut output = vec![f32::NAN; LEN];
            session.run(&input, &mut output).unwrap();
            assert_eq!(output, expected(&input), "{threads} threads");
        }
    }
}

#[test]
fn input_and_output_may_lie_elsewhere_every_time() {
    let mut session = Session::new(&network(), 2).unwrap();
    for shift in 0..5 {
        let store: Vec<f32> = (0..LEN + shift).map(|i| i as f32).collect();
        let mut output = vec![0.0; LEN + 3];
        session.run(&store[shift..], &mut output[3..]).unwrap();
        assert_eq!(output[3..], expected(&store[shift..]));
        assert_eq!(output[..3], [0.0; 3]);
    }
}

#[test]
fn concurrent_sessions_of_one_network() {
    let network = network();
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let network = Arc::clone(&network);
            scope.spawn(move || {
                let mut session = Session::new(&network, 1 + caller % 2).unwrap();
                let input: Vec<f32> = input().iter().map(|x| x + caller as f32).collect();
                for _ in 0..100 {
                    let mut output = vec![0.0; LEN];
                    session.run(&input, &mut output).unwrap();
                    assert_eq!(output, expected(&input));
                }
            });
        }
    });
}

#[test]
fn a_session_moves_between_threads() {
    let mut session = Session::new(&network(), 2).unwrap();
    for _ in 0..3 {
        session = std::thread::spawn(move || {
            let mut output = vec![0.0; LEN];
            session.run(&input(), &mut output).unwrap();
            assert_eq!(output, expected(&input()));
            session
        })
        .join()
        .unwrap();
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let mut session = Session::new(&network(), 2).unwrap();
    let dims = vec![1, 10, 10, 10];
    for given in [0, LEN - 1, LEN + 1] {
        let error = session.run(&vec![0.0; given], &mut [0.0; LEN]).unwrap_err();
        assert_eq!(error, RunError::InputLength { expected: LEN, given, dims: dims.clone() });
        let error = session.run(&[0.0; LEN], &mut vec![0.0; given]).unwrap_err();
        assert_eq!(error, RunError::OutputLength { expected: LEN, given, dims: vec![1, LEN] });
        assert!(error.to_string().contains("must have 1000 ([1, 1000])"), "{error}");
    }
}

#[test]
fn profiled_runs_give_the_result_and_times() {
    for threads in 1..=3 {
        let mut session = Session::new(&network(), threads).unwrap();
        let mut output = vec![0.0; LEN];
        let mut times = [Duration::MAX; 6];
        let start = std::time::Instant::now();
        session.run_profiled(&input(), &mut output, &mut times).unwrap();
        let all = start.elapsed();
        assert_eq!(output, expected(&input()));
        assert!(times.iter().all(|time| *time > Duration::ZERO));
        assert!(times.iter().sum::<Duration>() <= all);
        let error = session.run_profiled(&input(), &mut output, &mut times[..5]).unwrap_err();
        assert_eq!(error, RunError::StepCount { expected: 6, given: 5 });
    }
}

#[test]
fn observers_see_the_arena_after_every_step() {
    let mut session = Session::new(&network(), 2).unwrap();
    let input = input();
    let mut output = vec![0.0; LEN];
    let mut seen = Vec::new();
    session
        .run_observed(&input, &mut output, |step, arena| {
            seen.push(step);
            let (a, b) = (&arena[1024..1024 + LEN], &arena[..LEN]);
            for i in 0..LEN {
                let added = |i: usize| input[i] + 3.0;
                let scaled = |i: usize| added(i) * common::weight(i);
                match step {
                    0 => assert_eq!(a[i], if i < common::SOME { added(i) } else { 0.0 }),
                    1 => assert_eq!(a[i], added(i)),
                    2 => assert_eq!((a[i], b[i]), (added(i), scaled(i))),
                    3 => assert_eq!((a[i], b[i]), (scaled(LEN - 1 - i), scaled(i))),
                    _ => assert_eq!(b[i], scaled(LEN - 1 - i) * 0.5),
                }
            }
        })
        .unwrap();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    assert_eq!(output, expected(&input));
}

/// What the packed weights have in their place is not looked at.
#[test]
fn weights_are_read_in_their_file() {
    let path = std::env::temp_dir().join(format!("alexc-in-file-{}", std::process::id()));
    let contents = [&[0xFF; 12], common::weights().as_bytes()].concat();
    std::fs::write(&path, contents).unwrap();
    let file = MappedFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let nothing = Buffer::zeroed(LEN * 4).unwrap().into();
    let part = InFile { offset_bytes: 0, len_bytes: LEN * 4, file, at_byte: 12 };
    let network = Network::with_weights_in_files(common::program(), nothing, vec![part]).unwrap();
    let input = common::input();
    let mut output = vec![0.0; LEN];
    Session::new(&Arc::new(network), 2).unwrap().run(&input, &mut output).unwrap();
    assert_eq!(output, expected(&input));
}

#[test]
fn thread_counts_have_limits() {
    let network = network();
    for threads in [0, 1025, usize::MAX] {
        let error = Session::new(&network, threads).map(|_| ()).unwrap_err();
        assert!(matches!(error, SessionError::ThreadCount(count) if count == threads));
    }
    // No more threads than iterations.
    let mut program = common::program();
    program.steps.truncate(1);
    program.steps[0].extent = 3;
    let network = Network::new(program, common::weights().into()).unwrap();
    assert_eq!(Session::new(&Arc::new(network), 64).unwrap().threads(), 3);
}

/// The caller's floating-point settings change nothing, on any thread: threads inherit the
/// settings of those that start them.
#[cfg(target_arch = "x86_64")]
#[test]
fn denormals_are_kept_where_the_caller_flushes_them() {
    fn set_flush(flush: bool) {
        let value: u32 = if flush { 0x9FC0 } else { 0x1F80 };
        // SAFETY: sets or clears flush-to-zero and denormals-are-zero, on this thread.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
    }
    let mut program = common::program();
    let n = LEN;
    program.steps = vec![alexc_runtime::program::Step {
        name: "multiply".to_string(),
        kernel: 1,
        extent: n as u64,
        barrier: true,
        params: vec![
            common::floats(alexc_runtime::program::Base::Input, 0, n, false),
            common::floats(alexc_runtime::program::Base::Weights, 0, n, false),
            common::floats(alexc_runtime::program::Base::Output, 0, n, true),
        ],
    }];
    let network = Network::new(program, common::weights().into()).unwrap();
    let input = vec![f32::MIN_POSITIVE; n];
    let mut output = vec![0.0; n];
    set_flush(true);
    let mut session = Session::new(&Arc::new(network), 2).unwrap();
    session.run(&input, &mut output).unwrap();
    set_flush(false);
    let expected: Vec<u32> =
        (0..n).map(|i| (f32::MIN_POSITIVE * common::weight(i)).to_bits()).collect();
    assert!(expected.contains(&(1 << 22)), "half of the smallest normal number");
    assert_eq!(output.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), expected);
}
