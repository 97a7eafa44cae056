//! A compiled net: machine code of its kernels and the steps that run them over one arena.
//! Plain data; `network` loads and runs it.

use crate::cpu::{Arch, Feature};

/// What a kernel's parameter points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// The caller's input, dense `[N, C, H, W]` f32.
    Input,
    /// The caller's output, dense f32.
    Output,
    /// The arena: one block for all activations of a run.
    Arena,
    /// The packed weights.
    Weights,
    /// Scratch of the running thread.
    Local,
}

/// Where a kernel's parameter begins and how far it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The block of memory.
    pub base: Base,
    /// Start in it, in bytes, a multiple of the element's size (64 where the planner chooses).
    pub offset_bytes: usize,
    /// Bytes that the kernel may touch from there.
    pub len_bytes: usize,
    /// The kernel stores there.
    pub writes: bool,
}

impl Binding {
    /// The two share bytes, and one of them is written. Scratch is each thread's own: there, only
    /// bindings of one step meet.
    pub fn collides(&self, other: &Binding) -> bool {
        let range = |binding: &Binding| [binding.offset_bytes, binding.len_bytes];
        self.base == other.base
            && (self.writes || other.writes)
            && overlap(range(self), range(other))
    }
}

/// Two runs of bytes, each given by its offset and length, share some.
pub(crate) fn overlap(a: [usize; 2], b: [usize; 2]) -> bool {
    // A sum that is too large, which the checks refuse, cannot wrap into a smaller range here.
    let end = |[offset, len]: [usize; 2]| offset.saturating_add(len);
    a[0] < end(b) && b[0] < end(a)
}

/// Machine code of one kernel: `fn(params: *const *mut u8, begin: u64, end: u64)` runs the
/// iterations `begin..end` of its parallel space; `params[i]` is the address of its i-th buffer.
/// Position-independent, without relocations. The calling convention is System V's on x86-64,
/// whatever the operating system, and the C one elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelCode {
    /// Symbol name, a C identifier, unique in the program.
    pub name: String,
    /// Code and its constants.
    pub bytes: Vec<u8>,
    /// Required alignment of the first byte, a power of two up to 4096.
    pub align: usize,
}

/// One call of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// For profiles: the fused operator's name.
    pub name: String,
    /// Index into [`Program::kernels`].
    pub kernel: usize,
    /// Iterations of the kernel's parallel space.
    pub extent: u64,
    /// All threads must have finished everything before this step when it begins. Without it, a
    /// thread goes on with this step at once, and any thread may run any iteration of the steps since
    /// the last barrier: the step may not touch what they write, nor write what they touch.
    pub barrier: bool,
    /// One for each buffer of the kernel.
    pub params: Vec<Binding>,
}

/// A compiled net. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The net's name, a C identifier.
    pub name: String,
    /// The processors that the code is for.
    pub arch: Arch,
    /// What such a processor must have beyond its baseline.
    pub features: Vec<Feature>,
    /// Code, each kernel once.
    pub kernels: Vec<KernelCode>,
    /// In order.
    pub steps: Vec<Step>,
    /// Dimensions of the input, batch first.
    pub input_dims: Vec<usize>,
    /// Dimensions of the output, batch first.
    pub output_dims: Vec<usize>,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Size of the packed weights.
    pub weights_bytes: usize,
    /// Scratch of one thread.
    pub local_bytes: usize,
    /// Names the net and how its weights lie in memory. A file of packed weights carries it, and
    /// fits every program that has the same, whatever machine its code is for.
    pub weights_key: u64,
}
