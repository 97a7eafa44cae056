//! Checks a program before any of its code may run: names, sizes, that every binding lies inside
//! its block, that nothing is written which must not be, and that no two parameters of a call
//! are in each other's way. What the code does inside its bindings was proved when it was
//! compiled and cannot be seen here.

use std::collections::HashMap;

use crate::program::{Base, Binding, Program, Step};

/// Why a program cannot run. Steps are named by number and name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Names become symbols.
    #[error("the {what}'s name `{name}` is not a C identifier")]
    Name {
        /// `program` or `kernel`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Names become symbols.
    #[error("two kernels are named `{name}`")]
    KernelTwice {
        /// The name.
        name: String,
    },
    /// A kernel returns at least.
    #[error("kernel `{kernel}` has no code")]
    NoCode {
        /// Its name.
        kernel: String,
    },
    /// Memory is aligned to pages.
    #[error("kernel `{kernel}` wants alignment {align}; it must be a power of two up to 4096")]
    CodeAlign {
        /// Its name.
        kernel: String,
        /// What it says.
        align: usize,
    },
    /// No dimensions, a zero, or too many elements.
    #[error("the {what}'s dimensions {dims:?} do not make a tensor")]
    Dims {
        /// `input` or `output`.
        what: &'static str,
        /// The dimensions.
        dims: Vec<usize>,
    },
    /// No machine has so much memory.
    #[error("{what} of {bytes} bytes is too large")]
    TooLarge {
        /// Which block.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Index out of range.
    #[error("{step} calls kernel number {kernel} of {kernels}")]
    NoKernel {
        /// The step.
        step: String,
        /// What it says.
        kernel: usize,
        /// How many there are.
        kernels: usize,
    },
    /// A step does something.
    #[error("{step} has no iterations")]
    NoIterations {
        /// The step.
        step: String,
    },
    /// Out of the block.
    #[error(
        "{step}, parameter {param}: {len} bytes at {offset} reach out of the {base} ({size} bytes)"
    )]
    Outside {
        /// The step.
        step: String,
        /// Number of the parameter.
        param: usize,
        /// The block.
        base: &'static str,
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
        /// Size of the block.
        size: usize,
    },
    /// Floats lie at multiples of four.
    #[error(
        "{step}, parameter {param}: {len} bytes at {offset} of the {base} are not whole floats"
    )]
    Unaligned {
        /// The step.
        step: String,
        /// Number of the parameter.
        param: usize,
        /// The block.
        base: &'static str,
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
    },
    /// The input and the weights are not the program's to change.
    #[error("{step}, parameter {param} would write into the {base}")]
    Writes {
        /// The step.
        step: String,
        /// Number of the parameter.
        param: usize,
        /// The block.
        base: &'static str,
    },
    /// A written parameter shares bytes with another of the same call.
    #[error("{step}: parameters {first} and {second} overlap, and one is written")]
    Overlap {
        /// The step.
        step: String,
        /// Number of the one.
        first: usize,
        /// Number of the other.
        second: usize,
    },
    /// A kernel's buffers have one size each, so all its calls look alike.
    #[error("{step} and {other} call the same kernel with parameters of different sizes or uses")]
    Unlike {
        /// The step.
        step: String,
        /// An earlier one.
        other: String,
    },
    /// One thread could read what another has not written yet.
    #[error(
        "{step} may run at the same time as {other}, and both use the same bytes of the {base}"
    )]
    NoBarrier {
        /// The step.
        step: String,
        /// An earlier one.
        other: String,
        /// The block.
        base: &'static str,
    },
}

/// Bytes of a dense f32 tensor.
pub(crate) fn tensor_bytes(what: &'static str, dims: &[usize]) -> Result<usize, ProgramError> {
    let elements = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    match elements.and_then(|elements| elements.checked_mul(4)) {
        Some(bytes) if bytes > 0 && bytes <= MAX_BYTES && !dims.is_empty() => Ok(bytes),
        _ => Err(ProgramError::Dims { what, dims: dims.to_vec() }),
    }
}

/// No block is larger.
const MAX_BYTES: usize = isize::MAX as usize / 2;

/// Checks everything that can be checked without running the code.
pub fn check(program: &Program) -> Result<(), ProgramError> {
    check_names_and_code(program)?;
    let sizes = Sizes {
        input: tensor_bytes("input", &program.input_dims)?,
        output: tensor_bytes("output", &program.output_dims)?,
        arena: limited("the arena", program.arena_bytes)?,
        weights: limited("the block of weights", program.weights_bytes)?,
        local: limited("a thread's scratch", program.local_bytes)?,
    };
    let mut first_call: HashMap<usize, usize> = HashMap::new();
    let mut since_barrier = 0;
    for (index, step) in program.steps.iter().enumerate() {
        check_step(program, index, step, &sizes)?;
        if let Some(&other) = first_call.get(&step.kernel) {
            let uses = |step: &Step| -> Vec<_> {
                step.params.iter().map(|param| (param.len_bytes, param.writes)).collect()
            };
            if uses(step) != uses(&program.steps[other]) {
                let (step, other) = (name(program, index), name(program, other));
                return Err(ProgramError::Unlike { step, other });
            }
        } else {
            first_call.insert(step.kernel, index);
        }
        if step.barrier {
            since_barrier = index;
        }
        for other in since_barrier..index {
            check_side_by_side(program, index, other)?;
        }
    }
    Ok(())
}

struct Sizes {
    input: usize,
    output: usize,
    arena: usize,
    weights: usize,
    local: usize,
}

impl Sizes {
    fn of(&self, base: Base) -> usize {
        match base {
            Base::Input => self.input,
            Base::Output => self.output,
            Base::Arena => self.arena,
            Base::Weights => self.weights,
            Base::Local => self.local,
        }
    }
}

fn limited(what: &'static str, bytes: usize) -> Result<usize, ProgramError> {
    if bytes <= MAX_BYTES { Ok(bytes) } else { Err(ProgramError::TooLarge { what, bytes }) }
}

fn is_c_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_names_and_code(program: &Program) -> Result<(), ProgramError> {
    if !is_c_identifier(&program.name) {
        return Err(ProgramError::Name { what: "program", name: program.name.clone() });
    }
    let mut seen = HashMap::new();
    for kernel in &program.kernels {
        let name = || kernel.name.clone();
        if !is_c_identifier(&kernel.name) {
            return Err(ProgramError::Name { what: "kernel", name: name() });
        }
        if seen.insert(&kernel.name, ()).is_some() {
            return Err(ProgramError::KernelTwice { name: name() });
        }
        if kernel.bytes.is_empty() {
            return Err(ProgramError::NoCode { kernel: name() });
        }
        if !kernel.align.is_power_of_two() || kernel.align > 4096 {
            return Err(ProgramError::CodeAlign { kernel: name(), align: kernel.align });
        }
    }
    Ok(())
}

/// For messages: steps are counted from 0, as in the plan's dump.
fn name(program: &Program, step: usize) -> String {
    format!("step {step} (`{}`)", program.steps[step].name)
}

fn block(base: Base) -> &'static str {
    match base {
        Base::Input => "input",
        Base::Output => "output",
        Base::Arena => "arena",
        Base::Weights => "weights",
        Base::Local => "thread's scratch",
    }
}

fn check_step(
    program: &Program,
    index: usize,
    step: &Step,
    sizes: &Sizes,
) -> Result<(), ProgramError> {
    let kernels = program.kernels.len();
    if step.kernel >= kernels {
        let step_name = name(program, index);
        return Err(ProgramError::NoKernel { step: step_name, kernel: step.kernel, kernels });
    }
    if step.extent == 0 {
        return Err(ProgramError::NoIterations { step: name(program, index) });
    }
    for (number, param) in step.params.iter().enumerate() {
        let Binding { base, offset_bytes: offset, len_bytes: len, writes } = *param;
        let size = sizes.of(base);
        if offset.checked_add(len).is_none_or(|end| end > size) {
            let (step, base) = (name(program, index), block(base));
            return Err(ProgramError::Outside { step, param: number, base, offset, len, size });
        }
        // Weights may be of narrower types.
        if base != Base::Weights && !(offset.is_multiple_of(4) && len.is_multiple_of(4)) {
            let (step, base) = (name(program, index), block(base));
            return Err(ProgramError::Unaligned { step, param: number, base, offset, len });
        }
        if writes && matches!(base, Base::Input | Base::Weights) {
            let (step, base) = (name(program, index), block(base));
            return Err(ProgramError::Writes { step, param: number, base });
        }
        if let Some(first) = step.params[..number].iter().position(|other| param.collides(other)) {
            let step = name(program, index);
            return Err(ProgramError::Overlap { step, first, second: number });
        }
    }
    Ok(())
}

/// Two steps without a barrier between them: any thread may run any iteration of either, at the same
/// time.
fn check_side_by_side(program: &Program, index: usize, other: usize) -> Result<(), ProgramError> {
    let (step, before) = (&program.steps[index], &program.steps[other]);
    for param in step.params.iter().filter(|param| param.base != Base::Local) {
        if before.params.iter().any(|earlier| param.collides(earlier)) {
            let base = block(param.base);
            let (step, other) = (name(program, index), name(program, other));
            return Err(ProgramError::NoBarrier { step, other, base });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::Arch, program::KernelCode};

    fn binding(base: Base, offset_bytes: usize, len_bytes: usize, writes: bool) -> Binding {
        Binding { base, offset_bytes, len_bytes, writes }
    }

    fn step(kernel: usize, extent: u64, barrier: bool, params: &[Binding]) -> Step {
        Step { name: format!("s{extent}"), kernel, extent, barrier, params: params.to_vec() }
    }

    /// Input 32 bytes, output 16, arena 128, weights 10, scratch 64; two steps.
    fn sound() -> Program {
        let kernel =
            |name: &str| KernelCode { name: name.to_string(), bytes: vec![0xC3], align: 16 };
        Program {
            name: "net".to_string(),
            arch: Arch::X86_64,
            features: Vec::new(),
            kernels: vec![kernel("first"), kernel("second")],
            steps: vec![
                step(
                    0,
                    4,
                    true,
                    &[
                        binding(Base::Input, 0, 32, false),
                        binding(Base::Weights, 1, 9, false),
                        binding(Base::Arena, 64, 64, true),
                        binding(Base::Local, 0, 64, true),
                    ],
                ),
                step(
                    1,
                    2,
                    true,
                    &[
                        binding(Base::Arena, 64, 64, false),
                        binding(Base::Arena, 64, 32, false),
                        binding(Base::Output, 0, 16, true),
                    ],
                ),
            ],
            input_dims: vec![1, 2, 2, 2],
            output_dims: vec![1, 4],
            arena_bytes: 128,
            weights_bytes: 10,
            local_bytes: 64,
            weights_key: 0,
        }
    }

    /// The message for a sound program after one change.
    fn refusal(change: impl FnOnce(&mut Program)) -> String {
        let mut program = sound();
        change(&mut program);
        check(&program).expect_err("the changed program is refused").to_string()
    }

    #[test]
    fn sound_program_passes() {
        assert_eq!(check(&sound()), Ok(()));
    }

    #[test]
    fn names() {
        for name in ["", "1st", "a-b", "a b", "naïve"] {
            let message = refusal(|p| p.name = name.to_string());
            assert_eq!(message, format!("the program's name `{name}` is not a C identifier"));
            let message = refusal(|p| p.kernels[1].name = name.to_string());
            assert_eq!(message, format!("the kernel's name `{name}` is not a C identifier"));
        }
        let message = refusal(|p| p.kernels[1].name = "first".to_string());
        assert_eq!(message, "two kernels are named `first`");
    }

    #[test]
    fn code() {
        let message = refusal(|p| p.kernels[0].bytes.clear());
        assert_eq!(message, "kernel `first` has no code");
        for align in [0, 3, 8192] {
            let message = refusal(|p| p.kernels[0].align = align);
            assert!(message.contains(&format!("wants alignment {align};")), "{message}");
        }
    }

    #[test]
    fn dimensions_and_sizes() {
        for dims in [vec![], vec![1, 0], vec![usize::MAX, 2], vec![usize::MAX / 4]] {
            let message = refusal(|p| p.input_dims = dims.clone());
            assert!(message.starts_with("the input's dimensions"), "{message}");
            let message = refusal(|p| p.output_dims = dims);
            assert!(message.starts_with("the output's dimensions"), "{message}");
        }
        let message = refusal(|p| p.arena_bytes = usize::MAX);
        assert!(message.starts_with("the arena of"), "{message}");
        let message = refusal(|p| p.weights_bytes = usize::MAX);
        assert!(message.starts_with("the block of weights of"), "{message}");
        let message = refusal(|p| p.local_bytes = usize::MAX);
        assert!(message.starts_with("a thread's scratch of"), "{message}");
    }

    #[test]
    fn steps() {
        let message = refusal(|p| p.steps[1].kernel = 2);
        assert_eq!(message, "step 1 (`s2`) calls kernel number 2 of 2");
        let message = refusal(|p| p.steps[0].extent = 0);
        assert_eq!(message, "step 0 (`s4`) has no iterations");
    }

    #[test]
    fn bindings_out_of_their_block() {
        // One byte range too far in each block, then sums that wrap.
        for (step, param, base) in [
            (0, 0, "input"),
            (0, 1, "weights"),
            (0, 2, "arena"),
            (0, 3, "thread's scratch"),
            (1, 2, "output"),
        ] {
            let message = refusal(|p| p.steps[step].params[param].len_bytes += 4);
            assert!(message.contains(&format!("reach out of the {base}")), "{message}");
            let message = refusal(|p| p.steps[step].params[param].offset_bytes += 4);
            assert!(message.contains(&format!("reach out of the {base}")), "{message}");
            let message = refusal(|p| p.steps[step].params[param].offset_bytes = usize::MAX - 3);
            assert!(message.contains(&format!("reach out of the {base}")), "{message}");
        }
        // A smaller block than the steps were made for.
        assert!(refusal(|p| p.arena_bytes -= 1).contains("reach out of the arena (127 bytes)"));
        assert!(refusal(|p| p.input_dims[1] = 1).contains("reach out of the input (16 bytes)"));
    }

    #[test]
    fn floats_are_aligned() {
        let message = refusal(|p| {
            p.steps[0].params[2].offset_bytes = 62;
        });
        let expected =
            "step 0 (`s4`), parameter 2: 64 bytes at 62 of the arena are not whole floats";
        assert_eq!(message, expected);
        assert!(refusal(|p| p.steps[1].params[2].len_bytes = 15).contains("not whole floats"));
    }

    #[test]
    fn input_and_weights_are_not_written() {
        let message = refusal(|p| p.steps[0].params[0].writes = true);
        assert_eq!(message, "step 0 (`s4`), parameter 0 would write into the input");
        let message = refusal(|p| p.steps[0].params[1].writes = true);
        assert_eq!(message, "step 0 (`s4`), parameter 1 would write into the weights");
    }

    #[test]
    fn written_parameters_overlap_no_other() {
        let message = refusal(|p| p.steps[1].params[1].writes = true);
        assert_eq!(message, "step 1 (`s2`): parameters 0 and 1 overlap, and one is written");
        // Neighbours do not overlap.
        let mut program = sound();
        program.steps[1].params[0].len_bytes = 32;
        program.steps[1].params[1] = binding(Base::Arena, 96, 32, true);
        assert_eq!(check(&program), Ok(()));
        program.steps[1].params[1].offset_bytes = 92;
        assert!(check(&program).is_err());
    }

    #[test]
    fn calls_of_one_kernel_are_alike() {
        let again = |p: &mut Program| p.steps.push(p.steps[1].clone());
        let mut program = sound();
        again(&mut program);
        assert_eq!(check(&program), Ok(()));
        let expected = "step 2 (`s2`) and step 1 (`s2`) call the same kernel with parameters of different sizes or uses";
        let changes: [fn(&mut Step); 3] = [
            |step| step.params[0].len_bytes -= 4,
            |step| step.params[2].writes = false,
            |step| step.params.truncate(2),
        ];
        for change in changes {
            let message = refusal(|p| {
                again(p);
                change(&mut p.steps[2]);
            });
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn races_are_found() {
        let message = refusal(|p| p.steps[1].barrier = false);
        let expected = "step 1 (`s2`) may run at the same time as step 0 (`s4`), and both use the same bytes of the arena";
        assert_eq!(message, expected);
        // Threads need not run the same iterations of steps with the same extent.
        let message = refusal(|p| {
            p.steps[1].barrier = false;
            p.steps[1].extent = 4;
        });
        assert_eq!(message, expected);
        // A step in between does not end the race.
        let mut program = sound();
        program.steps[1].barrier = false;
        program
            .kernels
            .push(KernelCode { name: "third".to_string(), ..program.kernels[0].clone() });
        program.steps.insert(1, step(2, 7, false, &[binding(Base::Local, 0, 64, true)]));
        assert!(check(&program).unwrap_err().to_string().starts_with("step 2 (`s2`) may run"));
        program.steps[1].barrier = true;
        assert_eq!(check(&program), Ok(()));
    }
}
