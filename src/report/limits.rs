//! What this machine can do at most, measured: the bandwidth of reading memory, and the
//! arithmetic of code that does nothing else, made by the same emitter as a net's.

use crate::compile::{self, EmitError, Options};
use crate::lower::Vectors;
use alexc_codegen::builder::Builder;
use alexc_codegen::ir::{Access, Binary, Kernel, Reg};
use alexc_codegen::stats::stats;
use alexc_codegen::verify::{VerifyError, verify};
use alexc_runtime::limits::read_bandwidth;
use alexc_runtime::memory::Buffer;
use alexc_runtime::network::{LoadError, Network};
use alexc_runtime::program::{Base, Binding, Program, Step};
use alexc_runtime::session::{RunError, Session, SessionError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// This machine's limits on a number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes a second of reading memory that is in no cache.
    pub read_bytes_per_s: f64,
    /// Additions and multiplications a second, of fused multiply-adds where the target has them.
    pub flops_per_s: f64,
}

impl Limits {
    /// Of a device that cannot be measured.
    pub const UNKNOWN: Limits =
        Limits { read_bytes_per_s: f64::INFINITY, flops_per_s: f64::INFINITY };

    /// They were measured.
    pub fn known(&self) -> bool {
        self.read_bytes_per_s.is_finite() && self.flops_per_s.is_finite()
    }
}

/// Why the limits could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// No memory to read.
    #[error("the memory's bandwidth cannot be measured: {0}")]
    Memory(#[from] std::io::Error),
    /// The kernel does not verify: a mistake of alexc.
    #[error(
        "the kernel that measures arithmetic does not verify: {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Kernel(Vec<VerifyError>),
    /// No code for it.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The code is for another machine.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No threads or no memory.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A mistake of alexc.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Measures for a third of a second.
pub fn measure(options: &Options, threads: usize) -> Result<Limits, LimitsError> {
    Ok(Limits {
        flops_per_s: peak_flops(options, threads)?,
        read_bytes_per_s: read_bandwidth(threads)?,
    })
}

/// Iterations of the kernel for each thread.
const SHARES: usize = 16;

/// Turns of an iteration's loop: some ten thousand cycles.
const TURNS: usize = 4096;

/// Measuring ends after this.
const ENOUGH: Duration = Duration::from_millis(50);

/// The fastest of many runs of the kernel below.
fn peak_flops(options: &Options, threads: usize) -> Result<f64, LimitsError> {
    let emitter = options.emitter();
    let vectors = emitter.vectors();
    let extent = threads * SHARES;
    let kernel = verify(peak_kernel(vectors, extent)).map_err(LimitsError::Kernel)?;
    let (code, _) = compile::emit(&kernel, emitter, options)?;
    let lanes = usize::from(vectors.lanes);
    let (input_len, output_len) = (2 * lanes, extent * lanes);
    let binding = |base, elements: usize, writes| Binding {
        base,
        offset_bytes: 0,
        len_bytes: 4 * elements,
        writes,
    };
    let program = Program {
        name: kernel.name.clone(),
        arch: options.target.arch(),
        features: emitter.features(&options.target),
        steps: vec![Step {
            name: kernel.name.clone(),
            kernel: 0,
            extent: extent as u64,
            barrier: false,
            params: vec![
                binding(Base::Input, input_len, false),
                binding(Base::Output, output_len, true),
            ],
        }],
        kernels: vec![code],
        input_dims: vec![input_len],
        output_dims: vec![output_len],
        arena_bytes: 0,
        weights_bytes: 0,
        local_bytes: 0,
        weights_key: 0,
    };
    let network = Arc::new(Network::new(program, Buffer::zeroed(0)?.into())?);
    let mut session = Session::new(&network, threads)?;
    // Multiplied by a half, plus a quarter: the sums stay near a half, far from denormals.
    let input: Vec<f32> = [0.5_f32, 0.25].iter().flat_map(|&x| vec![x; lanes]).collect();
    let mut output = vec![0.0; output_len];
    let mut best = Duration::MAX;
    let start = Instant::now();
    while start.elapsed() < ENOUGH {
        let since = Instant::now();
        session.run(&input, &mut output)?;
        best = best.min(since.elapsed());
    }
    Ok(stats(&kernel).flops as f64 / best.as_secs_f64())
}

/// Chains of multiply-adds that do not wait for each other: more than two units with a latency of
/// five cycles can have under way, as many as registers allow.
fn peak_kernel(vectors: Vectors, extent: usize) -> Kernel {
    let lanes = vectors.lanes;
    let chains = vectors.registers * 3 / 4;
    let mut b = Builder::new("multiply_add");
    let input = b.buffer("input", 2 * usize::from(lanes), Access::Read);
    let output = b.buffer("output", extent * usize::from(lanes), Access::Write);
    let share = b.parallel("share", extent);
    let factor = b.load(lanes, input, 0_usize);
    let addend = b.load(lanes, input, usize::from(lanes));
    // Of different beginnings: nobody may take two chains for one.
    let sums: Vec<Reg> = (0..chains).map(|i| b.constant(lanes, i as f32)).collect();
    b.repeat("turn", TURNS, |b, _| {
        for &sum in &sums {
            b.fma_into(sum, sum, factor, addend);
        }
    });
    for &sum in &sums[1..] {
        b.binary_into(Binary::Add, sums[0], sums[0], sum);
    }
    b.store(output, share * usize::from(lanes), sums[0]);
    b.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Emitter;
    use alexc_codegen::target::Target;

    #[test]
    fn arithmetic_is_counted() {
        for (vectors, chains) in
            [(Vectors::SSE, 12), (Vectors { lanes: 16, registers: 32 }, 24_u64)]
        {
            let kernel = verify(peak_kernel(vectors, 3)).unwrap();
            let lanes = u64::from(vectors.lanes);
            let expected = 3 * lanes * (2 * TURNS as u64 * chains + chains - 1);
            assert_eq!(stats(&kernel).flops, expected);
        }
    }

    /// No core does fewer than 10 million or more than a trillion of these a second.
    #[test]
    fn peak_is_plausible() {
        let mut options = Options::new(Target::host().unwrap());
        for emitter in [None, Some(Emitter::Cranelift)] {
            options.emitter = emitter;
            let peak = peak_flops(&options, 1).unwrap();
            assert!((1e7..1e12).contains(&peak), "{peak}");
        }
    }
}
