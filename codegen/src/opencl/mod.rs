//! Emitter 3: Kernel IR to OpenCL C 1.2, as readable text.
//!
//! One iteration of the parallel space is one work-item, or, where the kernel has items, one
//! work-group. Registers become private variables of
//! `float` or `floatN`, loops stay counted loops, addresses stay sums of loop variables: the
//! driver's compiler allocates registers and reduces strengths.
//!
//! Every buffer is two parameters, a pointer and the number of its first element there, so that a
//! host may keep all activations in one memory object and all weights in another. Pointers are
//! never `restrict`: two of them may lead into the same object.

mod body;
mod names;
mod warp;

pub use warp::{Warps, probe};

use crate::ir::{Access, DType, IndexOp, Kernel, Nonzero, ParallelDim, Stmt, Var};
use crate::verify::Verified;
use body::Body;
use std::collections::HashSet;
use std::fmt::Write;
use warp::{EXCHANGED, uses_warps};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Options {
    /// Work-items of a work-group, where the kernel does not say. With 1 a kernel's function
    /// holds one iteration and no loop over work-items: what a CPU wants.
    pub work_group: usize,
    /// Scratch up to this size is an array in private memory; more is a slice of a buffer.
    pub private_bytes: usize,
    /// How a multiply-add is written.
    pub multiply_add: MultiplyAdd,
    /// Every buffer begins at a multiple of 16 bytes of its memory object: four floats may be
    /// loaded as one.
    pub aligned: bool,
    /// How the items of a warp multiply matrices.
    pub warps: Warps,
}

impl Options {
    /// For a CPU: one iteration a work-item, one work-item a group, scratch on the stack.
    pub const CPU: Options = Options {
        work_group: 1,
        private_bytes: 256 * 1024,
        multiply_add: MultiplyAdd::Fused,
        aligned: false,
        warps: Warps::Ptx,
    };

    /// For a GPU: iterations next to each other run side by side.
    pub const GPU: Options = Options {
        work_group: 64,
        private_bytes: 1024,
        multiply_add: MultiplyAdd::Fused,
        aligned: true,
        warps: Warps::Ptx,
    };
}

/// The function for `a * b + c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MultiplyAdd {
    /// `fma`, rounded once; very slow on a device that has no such instruction.
    Fused,
    /// `mad`, rounded as the device likes.
    Any,
}

/// A parameter of the kernel's function, in the order of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arg {
    /// Memory object in which buffer number `.0` of the kernel lies.
    Base(usize),
    /// `ulong`: the element of that object (counted in the buffer's type) where the buffer begins.
    First(usize),
    /// Memory object for scratch, see [`Source::scratch_bytes`].
    Scratch,
}

/// A kernel as OpenCL C.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The function; a program needs [`prelude`] in front of its functions.
    pub text: String,
    /// Name of the function.
    pub kernel_name: String,
    /// Its parameters.
    pub args: Vec<Arg>,
    /// Work-items to start. Where `scratch_bytes` is not zero it may be less, in multiples of
    /// `local`: the work-items then share the iterations out.
    pub global: [usize; 3],
    /// Work-items of a group; the function demands it, or is written for it.
    pub local: Option<[usize; 3]>,
    /// Bytes of scratch in global memory for each work-item, in one memory object.
    pub scratch_bytes: usize,
    /// How its warps multiply matrices, if they do.
    pub warps: Option<Warps>,
}

/// Why there is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenClError {
    /// More iterations than work-items can be numbered.
    #[error("kernel {kernel}: {extent} iterations are more than work-items can be counted")]
    TooManyItems {
        /// Name of the kernel.
        kernel: String,
        /// Its iterations.
        extent: u64,
    },
}

/// What stands once in front of the functions of every program.
const PRELUDE: &str = "\
#pragma OPENCL FP_CONTRACT OFF

float alexc_sum4(float4 v) { float2 a = v.lo + v.hi; return a.lo + a.hi; }
float alexc_sum8(float8 v) { return alexc_sum4(v.lo + v.hi); }
float alexc_sum16(float16 v) { return alexc_sum8(v.lo + v.hi); }

float alexc_max4(float4 v) {
  float2 a = v.lo > v.hi ? v.lo : v.hi;
  return a.lo > a.hi ? a.lo : a.hi;
}
float alexc_max8(float8 v) { return alexc_max4(v.lo > v.hi ? v.lo : v.hi); }
float alexc_max16(float16 v) { return alexc_max8(v.lo > v.hi ? v.lo : v.hi); }
";

/// What stands once in front of these functions.
pub fn prelude(sources: &[Source]) -> String {
    let mut text = PRELUDE.to_owned();
    if let Some(warps) = sources.iter().find_map(|source| source.warps) {
        text.push('\n');
        text.push_str(warps.prelude());
    }
    text
}

/// The text of a whole program.
pub fn program(sources: &[Source]) -> String {
    let mut text = prelude(sources);
    for source in sources {
        text.push('\n');
        text.push_str(&source.text);
    }
    text
}

/// Prints a kernel.
pub fn emit(kernel: &Verified, options: &Options) -> Result<Source, OpenClError> {
    let extent = kernel.extent();
    let too_many = || OpenClError::TooManyItems { kernel: kernel.name.clone(), extent };
    let iterations = usize::try_from(extent).map_err(|_| too_many())?;
    let grouped = !kernel.items.is_empty();
    // Groups have at most 1024 items.
    let group = if grouped { kernel.group() as usize } else { options.work_group.max(1) };
    let global = match grouped {
        true => iterations.checked_mul(group),
        false => iterations.checked_next_multiple_of(group),
    };
    let global = global.ok_or_else(too_many)?;
    let scratch = Scratch::of(kernel, options.private_bytes);
    let warps = uses_warps(kernel).then_some(options.warps);
    let exchange = if warps == Some(Warps::Emulated) { group * EXCHANGED } else { 0 };
    let mut printer = Printer::new(kernel);
    let kernel_name = format!("alexc_{}", kernel.name);
    // NVIDIA's compiler passes over a limit of registers where groups have a size that is demanded.
    let size = match warps {
        Some(Warps::Ptx) => "work_group_size_hint",
        _ => "reqd_work_group_size",
    };
    printer.head(&kernel_name, &format!("{size}({group}, 1, 1)"), &scratch);
    if grouped {
        printer.begin_group(exchange);
    } else {
        printer.begin_item(iterations, global, &scratch);
    }
    Body::new(kernel, &printer.names, options).print(&mut printer.text, printer.depth);
    printer.end();
    Ok(Source {
        text: printer.text,
        kernel_name,
        args: printer.args,
        global: [global, 1, 1],
        local: Some([group, 1, 1]),
        scratch_bytes: scratch.bytes,
        warps,
    })
}

/// Where scratch buffers lie.
struct Scratch {
    /// For each buffer its first element in the work-item's slice; `None` where the buffer is no
    /// scratch or is private.
    firsts: Vec<Option<usize>>,
    /// Size of a slice.
    bytes: usize,
}

impl Scratch {
    /// A slice begins on a cache line of its own.
    const LINE_BYTES: usize = 64;

    fn of(kernel: &Kernel, private_bytes: usize) -> Scratch {
        let local = |access: Access| access == Access::Local;
        let bytes = |len: usize| (4 * len).next_multiple_of(Self::LINE_BYTES);
        let total: usize =
            kernel.buffers.iter().filter(|b| local(b.access)).map(|b| bytes(b.len)).sum();
        if total <= private_bytes {
            return Scratch { firsts: vec![None; kernel.buffers.len()], bytes: 0 };
        }
        let mut end = 0;
        let firsts = kernel
            .buffers
            .iter()
            .map(|buffer| {
                local(buffer.access).then(|| {
                    let first = end / 4;
                    end += bytes(buffer.len);
                    first
                })
            })
            .collect();
        Scratch { firsts, bytes: end }
    }
}

/// Names in the text, and the type that indices need.
struct Names {
    buffers: Vec<String>,
    vars: Vec<String>,
    /// `int`, or `long` where an address is out of its reach.
    index: &'static str,
}

impl Names {
    fn new(kernel: &Kernel) -> Names {
        let mut used = HashSet::new();
        let mut assign = |name: &String| names::assign(name, &mut used);
        let buffers = kernel.buffers.iter().map(|buffer| assign(&buffer.name)).collect();
        let vars = kernel.vars.iter().map(&mut assign).collect();
        let index = if reach(kernel) <= i128::from(i32::MAX) { "int" } else { "long" };
        Names { buffers, vars, index }
    }

    /// The type of indices that are not negative: to divide one takes fewer instructions.
    fn unsigned(&self) -> &'static str {
        if self.index == "int" { "uint" } else { "ulong" }
    }
}

/// The largest number that the evaluation of an address, of a named sum or of an iteration's
/// number can meet.
fn reach(kernel: &Kernel) -> i128 {
    fn sum(largest: &[i128], offset: i64, terms: &[(Var, i64)]) -> i128 {
        let term =
            |&(var, by): &(Var, i64)| i128::from(by.unsigned_abs()) * largest[usize::from(var.0)];
        i128::from(offset.unsigned_abs()) + terms.iter().map(term).sum::<i128>()
    }
    fn walk(body: &[Stmt], largest: &mut [i128], most: &mut i128) {
        for stmt in body {
            match stmt {
                Stmt::For { body, .. } => walk(body, largest, most),
                Stmt::Nonzero(Nonzero { from, count, body, .. }) => {
                    let last = sum(largest, from.offset, &from.terms) + i128::from(*count);
                    *most = last.max(*most);
                    walk(body, largest, most);
                }
                Stmt::Let { var, value } => {
                    let size = sum(largest, value.offset, &value.terms);
                    *most = size.max(*most);
                    largest[usize::from(var.0)] = match value.op {
                        IndexOp::Sum => size,
                        IndexOp::Div(by) => size / i128::from(by.max(1)),
                        IndexOp::Rem(by) => size.min(by.into()),
                    };
                }
                Stmt::Inst(inst) => {
                    if let Some(addr) = inst.addr() {
                        let mut bounded = largest.to_vec();
                        for guard in &addr.guards {
                            let bound = &mut bounded[usize::from(guard.var.0)];
                            *bound = i128::from(guard.count).min(*bound);
                        }
                        // A vector's last element lies behind its first.
                        *most = (sum(&bounded, addr.offset, &addr.terms) + 16).max(*most);
                    }
                }
                Stmt::Barrier => {}
            }
        }
    }
    let mut largest: Vec<i128> = kernel.trip_counts().into_iter().map(i128::from).collect();
    let mut most = i128::from(kernel.extent()) * i128::from(kernel.group());
    walk(&kernel.body, &mut largest, &mut most);
    most
}

/// Bound from the outside; the others are declared in the function.
fn is_parameter(access: Access) -> bool {
    !matches!(access, Access::Local | Access::Shared)
}

/// The function around the body.
struct Printer<'k> {
    kernel: &'k Kernel,
    names: Names,
    text: String,
    args: Vec<Arg>,
    depth: usize,
}

impl<'k> Printer<'k> {
    fn new(kernel: &'k Kernel) -> Self {
        Printer {
            kernel,
            names: Names::new(kernel),
            text: String::new(),
            args: Vec::new(),
            depth: 0,
        }
    }

    fn line(&mut self, line: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{:1$}{line}", "", 2 * self.depth);
    }

    /// `size` is the attribute about the group.
    fn head(&mut self, name: &str, size: &str, scratch: &Scratch) {
        self.line(&format!("kernel __attribute__(({size}))"));
        let mut params = Vec::new();
        for (index, buffer) in self.kernel.buffers.iter().enumerate() {
            if is_parameter(buffer.access) {
                let name = &self.names.buffers[index];
                let pointer = pointer(buffer.dtype, buffer.access);
                let what =
                    format!("{}[{}] {}", buffer.dtype.name(), buffer.len, buffer.access.name());
                params.push((format!("{pointer}{name}_base, ulong {name}_first"), what));
                self.args.extend([Arg::Base(index), Arg::First(index)]);
            }
        }
        if scratch.bytes > 0 {
            params.push(("global float *scratch".to_owned(), "local".to_owned()));
            self.args.push(Arg::Scratch);
        }
        if params.is_empty() {
            params.push(("void".to_owned(), "no buffers".to_owned()));
        }
        self.line(&format!("void {name}("));
        self.depth = 2;
        for (index, (param, what)) in params.iter().enumerate() {
            let end = if index + 1 == params.len() { ") {" } else { "," };
            self.line(&format!("{param}{end}  // {what}"));
        }
        self.depth = 1;
        for (index, buffer) in self.kernel.buffers.iter().enumerate() {
            if is_parameter(buffer.access) {
                let name = &self.names.buffers[index];
                let pointer = pointer(buffer.dtype, buffer.access);
                self.line(&format!("{pointer}{name} = {name}_base + {name}_first;"));
            }
        }
    }

    /// Finds the work-item's iteration, or its first one where scratch bounds their number.
    fn begin_item(&mut self, items: usize, global: usize, scratch: &Scratch) {
        let index = self.names.index;
        for (position, buffer) in self.kernel.buffers.iter().enumerate() {
            if buffer.access != Access::Local {
                continue;
            }
            let name = &self.names.buffers[position];
            let line = match scratch.firsts[position] {
                None => format!("float {name}[{}] __attribute__((aligned(64)));", buffer.len),
                Some(first) => format!(
                    "global float *{name} = scratch + get_global_id(0) * {} + {first};",
                    scratch.bytes / 4
                ),
            };
            self.line(&line);
        }
        if scratch.bytes > 0 {
            let step = format!("item += ({index})get_global_size(0)");
            self.line(&format!(
                "for ({index} item = ({index})get_global_id(0); item < {items}; {step}) {{"
            ));
            self.depth = 2;
        } else {
            self.line(&format!("{index} item = ({index})get_global_id(0);"));
            if items < global {
                self.line(&format!("if (item >= {items}) return;"));
            }
        }
        let kernel = self.kernel;
        self.dimensions("item", &kernel.parallel);
    }

    /// Finds the work-group's iteration and the work-item's place in the group. `exchange`: floats
    /// that the items of warps need to multiply matrices.
    fn begin_group(&mut self, exchange: usize) {
        let index = self.names.index;
        for (position, buffer) in self.kernel.buffers.iter().enumerate() {
            if buffer.access == Access::Shared {
                let name = &self.names.buffers[position];
                self.line(&format!(
                    "local float {name}[{}] __attribute__((aligned(16)));",
                    buffer.len
                ));
            }
        }
        if exchange > 0 {
            self.line(&format!("local float alexc_exchange[{exchange}];"));
        }
        let kernel = self.kernel;
        self.line(&format!("{index} group = ({index})get_group_id(0);"));
        self.dimensions("group", &kernel.parallel);
        self.line(&format!("{index} item = ({index})get_local_id(0);"));
        self.dimensions("item", &kernel.items);
    }

    /// The variables of a space out of a number, the last one fastest.
    fn dimensions(&mut self, number: &str, dims: &[ParallelDim]) {
        let (index, unsigned) = (self.names.index, self.names.unsigned());
        let mut inner = 1;
        let mut lines = Vec::new();
        for (position, dim) in dims.iter().enumerate().rev() {
            let name = &self.names.vars[usize::from(dim.var.0)];
            let (divided, last) = (inner > 1, position == 0);
            let rest = if divided { format!("{number} / {inner}") } else { number.to_owned() };
            let value = if last { rest } else { format!("{rest} % {}", dim.count) };
            let value = if divided || !last { format!("({unsigned}){value}") } else { value };
            lines.push(format!("{index} {name} = {value};"));
            inner *= u64::from(dim.count);
        }
        for line in lines.iter().rev() {
            self.line(line);
        }
    }

    fn end(&mut self) {
        while self.depth > 0 {
            self.depth -= 1;
            self.line("}");
        }
    }
}

/// The declaration of a pointer, up to its name.
fn pointer(dtype: DType, access: Access) -> String {
    let element = match dtype {
        DType::F32 => "float",
        DType::F16 => "half",
        DType::Bf16 => "ushort",
        DType::I16 => "short",
        DType::I8 => "char",
    };
    let constant = if access == Access::Read { "const " } else { "" };
    format!("global {constant}{element} *")
}
