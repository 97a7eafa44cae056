//! Emitter 1: Kernel IR to machine code through Cranelift, for every target that it knows. Vectors
//! of any lane count are cut into 128-bit pieces, the widest that Cranelift has on x86-64.

use crate::ir::{Binary, DType, Inst, Kernel, Reduce, Reg, Unary};
use crate::streams::{Node, Place, Pointer, Streams, Turns, resolve};
use crate::target::Target;
use crate::verify::Verified;
use alexc_runtime::program::KernelCode;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    Endianness, InstBuilder, MemFlagsData, Type, UserFuncName, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

/// Why Cranelift made no code. None of these depends on the user's net.
#[derive(Debug, thiserror::Error)]
pub enum ClifError {
    /// A kernel for groups of items.
    #[error("kernel {kernel} is written for groups of items, which only OpenCL has")]
    Grouped {
        /// Name of the kernel.
        kernel: String,
    },
    /// Cranelift refused the function.
    #[error("kernel {kernel}: Cranelift: {reason}")]
    Refused {
        /// Name of the kernel.
        kernel: String,
        /// Cranelift's words.
        reason: String,
    },
    /// The code would need the linker.
    #[error("kernel {kernel}: the target has no instruction for an operation (it calls {callee})")]
    Relocation {
        /// Name of the kernel.
        kernel: String,
        /// What the code refers to.
        callee: String,
    },
}

/// Machine code with what `dump` shows of it.
#[derive(Debug, Clone)]
pub struct Emitted {
    /// The code.
    pub code: KernelCode,
    /// Cranelift's IR as text; empty unless asked for.
    pub clif: String,
    /// Cranelift's listing of the machine code; empty unless asked for.
    pub listing: String,
}

/// Makes machine code for a kernel. `texts`: also the texts for `dump`.
pub fn emit(kernel: &Verified, target: &Target, texts: bool) -> Result<Emitted, ClifError> {
    if !kernel.is_plain() {
        return Err(ClifError::Grouped { kernel: kernel.name.clone() });
    }
    let refused = |reason: String| ClifError::Refused { kernel: kernel.name.clone(), reason };
    let isa = target.isa();
    let mut context = Context::new();
    context.func.signature = target.kernel_signature();
    context.func.name = UserFuncName::testcase(kernel.name.as_bytes());
    let mut frontend = FunctionBuilderContext::new();
    let builder = FunctionBuilder::new(&mut context.func, &mut frontend);
    Emitter::new(kernel, builder, target).kernel(target);
    let clif = if texts { context.func.display().to_string() } else { String::new() };
    context.set_disasm(texts);
    let compiled = context
        .compile(isa, &mut ControlPlane::default())
        .map_err(|e| refused(e.inner.to_string()))?;
    if let Some(reloc) = compiled.buffer.relocs().first() {
        return Err(ClifError::Relocation {
            kernel: kernel.name.clone(),
            callee: format!("{:?}", reloc.target),
        });
    }
    Ok(Emitted {
        code: KernelCode {
            name: kernel.name.clone(),
            bytes: compiled.code_buffer().to_vec(),
            align: 64.max(compiled.buffer.alignment as usize),
        },
        clif,
        listing: compiled.vcode.clone().unwrap_or_default(),
    })
}

struct Emitter<'a> {
    kernel: &'a Kernel,
    b: FunctionBuilder<'a>,
    fma: bool,
    /// Lanes of a piece of a register: four, or one where the target has no vectors.
    piece: u8,
    flags: MemFlagsData,
    /// The pieces of each register.
    regs: Vec<Vec<Variable>>,
    pointers: Vec<Variable>,
}

impl<'a> Emitter<'a> {
    fn new(kernel: &'a Kernel, mut b: FunctionBuilder<'a>, target: &Target) -> Self {
        let piece = if target.has_vectors() { 4 } else { 1 };
        let regs = kernel
            .regs
            .iter()
            .map(|&lanes| match lanes {
                lanes if lanes < 4 || piece == 1 => {
                    (0..lanes).map(|_| b.declare_var(types::F32)).collect()
                }
                lanes => (0..lanes / 4).map(|_| b.declare_var(types::F32X4)).collect(),
            })
            .collect();
        let mut flags = MemFlagsData::new().with_notrap();
        flags.set_endianness(match target.isa().triple().endianness() {
            Ok(target_lexicon::Endianness::Big) => Endianness::Big,
            _ => Endianness::Little,
        });
        let fma = target.has_fma();
        Emitter { kernel, b, fma, piece, flags, regs, pointers: Vec::new() }
    }

    fn kernel(mut self, target: &Target) {
        let streams = resolve(self.kernel);
        self.pointers = (0..streams.pointers).map(|_| self.b.declare_var(types::I64)).collect();
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        self.b.seal_block(entry);
        let &[params, begin, end] = self.b.block_params(entry) else { return };
        let iteration = self.b.declare_var(types::I64);
        self.b.def_var(iteration, begin);
        let head = self.b.create_block();
        let body = self.b.create_block();
        let exit = self.b.create_block();
        let any = self.b.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        self.b.ins().brif(any, head, &[], exit, &[]);

        self.b.switch_to_block(head);
        let now = self.b.use_var(iteration);
        self.roots(&streams, params, now);
        self.b.ins().jump(body, &[]);
        self.b.switch_to_block(body);
        self.b.seal_block(body);
        self.nodes(&streams.body);
        let now = self.b.use_var(iteration);
        let next = self.b.ins().iadd_imm_s(now, 1);
        self.b.def_var(iteration, next);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, next, end);
        self.b.ins().brif(more, head, &[], exit, &[]);
        self.b.seal_block(head);
        self.b.seal_block(exit);
        self.b.switch_to_block(exit);
        self.b.ins().return_(&[]);
        self.b.finalize(target.isa().frontend_config());
    }

    /// Splits the iteration's number into the parallel indices and sets up the root pointers.
    fn roots(&mut self, streams: &Streams<'_>, params: Value, iteration: Value) {
        let dims = &self.kernel.parallel;
        let mut indices = vec![iteration; dims.len()];
        let mut rest = iteration;
        for (index, dim) in dims.iter().enumerate().rev() {
            if index == 0 {
                indices[0] = rest;
            } else {
                let count = self.b.ins().iconst(types::I64, i64::from(dim.count));
                indices[index] = self.b.ins().urem(rest, count);
                rest = self.b.ins().udiv(rest, count);
            }
        }
        for root in &streams.roots {
            let slot = i32::from(root.buffer.0 as i16) * 8;
            let mut pointer = self.b.ins().load(types::I64, self.flags, params, slot);
            for &(dim, step) in &root.terms {
                let step = self.b.ins().imul_imm_s(indices[dim], step);
                pointer = self.b.ins().iadd(pointer, step);
            }
            if root.offset_bytes != 0 {
                pointer = self.b.ins().iadd_imm_s(pointer, root.offset_bytes);
            }
            self.b.def_var(self.pointers[root.pointer.0 as usize], pointer);
        }
    }

    fn pointer(&mut self, pointer: Pointer) -> Value {
        self.b.use_var(self.pointers[pointer.0 as usize])
    }

    fn nodes(&mut self, nodes: &[Node<'_>]) {
        for node in nodes {
            match node {
                Node::Inst(inst, place) => self.inst(inst, *place),
                Node::Loop { count, advances, body } => {
                    let counter = self.b.declare_var(types::I64);
                    let start = self.b.ins().iconst(types::I64, i64::from(*count));
                    self.b.def_var(counter, start);
                    for advance in advances {
                        let from = self.pointer(advance.from);
                        self.b.def_var(self.pointers[advance.pointer.0 as usize], from);
                    }
                    let block = self.b.create_block();
                    let after = self.b.create_block();
                    self.b.ins().jump(block, &[]);
                    self.b.switch_to_block(block);
                    self.nodes(body);
                    for advance in advances {
                        let now = self.pointer(advance.pointer);
                        let next = self.b.ins().iadd_imm_s(now, advance.step_bytes);
                        self.b.def_var(self.pointers[advance.pointer.0 as usize], next);
                    }
                    let left = self.b.use_var(counter);
                    let left = self.b.ins().iadd_imm_s(left, -1);
                    self.b.def_var(counter, left);
                    self.b.ins().brif(left, block, &[], after, &[]);
                    self.b.seal_block(block);
                    self.b.seal_block(after);
                    self.b.switch_to_block(after);
                }
                Node::Nonzero(turns) => self.nonzero(turns),
            }
        }
    }

    /// A list of the nonzero elements and their indices, then a loop over it. Each element is
    /// written down, and the next one over it if it was zero.
    fn nonzero(&mut self, turns: &Turns<'_>) {
        let flags = self.flags;
        let indices = turns.of.half_list() as i32 * 4;
        let list = self.pointer(turns.list.pointer);
        let end = self.b.declare_var(types::I64);
        let counter = self.b.declare_var(types::I64);
        let zero = self.b.ins().iconst(types::I64, 0);
        self.b.def_var(end, list);
        self.b.def_var(counter, zero);
        let from = self.pointer(turns.from.pointer);
        let find = self.b.create_block();
        let found = self.b.create_block();
        self.b.ins().jump(find, &[]);
        self.b.switch_to_block(find);
        let (at, index) = (self.b.use_var(end), self.b.use_var(counter));
        let bytes = self.b.ins().imul_imm_s(index, 4);
        let source = self.b.ins().iadd(from, bytes);
        let bits = self.b.ins().load(types::I32, flags, source, turns.from.displacement_bytes);
        let narrow = self.b.ins().ireduce(types::I32, index);
        self.b.ins().store(flags, bits, at, 0);
        self.b.ins().store(flags, narrow, at, indices);
        // Without its sign, so that -0 is zero.
        let size = self.b.ins().ishl_imm_u(bits, 1);
        let is_kept = self.b.ins().icmp_imm_u(IntCC::NotEqual, size, 0);
        let step = self.b.ins().uextend(types::I64, is_kept);
        let step = self.b.ins().imul_imm_s(step, 4);
        let next = self.b.ins().iadd(at, step);
        self.b.def_var(end, next);
        let index = self.b.ins().iadd_imm_s(index, 1);
        self.b.def_var(counter, index);
        let count = self.b.ins().iconst(types::I64, i64::from(turns.of.count));
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, index, count);
        self.b.ins().brif(more, find, &[], found, &[]);
        self.b.seal_block(find);
        self.b.seal_block(found);
        self.b.switch_to_block(found);
        let last = self.b.use_var(end);
        let nothing = self.b.ins().iconst(types::I32, 0);
        for missing in 0..turns.of.found.len() as i32 {
            self.b.ins().store(flags, nothing, last, 4 * missing);
            self.b.ins().store(flags, nothing, last, indices + 4 * missing);
        }

        let cursor = self.b.declare_var(types::I64);
        self.b.def_var(cursor, list);
        let turn = self.b.create_block();
        let after = self.b.create_block();
        let any = self.b.ins().icmp(IntCC::UnsignedLessThan, list, last);
        self.b.ins().brif(any, turn, &[], after, &[]);
        self.b.switch_to_block(turn);
        let at = self.b.use_var(cursor);
        for &(index, lead) in &turns.leads {
            let entry = self.b.ins().load(types::I32, flags, at, indices + 4 * index as i32);
            let entry = self.b.ins().uextend(types::I64, entry);
            let bytes = self.b.ins().imul_imm_s(entry, lead.step_bytes);
            let from = self.pointer(lead.from);
            let pointer = self.b.ins().iadd(from, bytes);
            self.b.def_var(self.pointers[lead.pointer.0 as usize], pointer);
        }
        for (index, &value) in turns.of.values.iter().enumerate() {
            let element = self.b.ins().load(types::F32, flags, at, 4 * index as i32);
            self.spread(value, element);
        }
        self.nodes(&turns.body);
        let at = self.b.use_var(cursor);
        let at = self.b.ins().iadd_imm_s(at, 4 * turns.of.values.len() as i64);
        self.b.def_var(cursor, at);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, at, last);
        self.b.ins().brif(more, turn, &[], after, &[]);
        self.b.seal_block(turn);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
    }

    fn read(&mut self, reg: Reg) -> Vec<Value> {
        let pieces = self.regs[reg.0 as usize].clone();
        pieces.into_iter().map(|piece| self.b.use_var(piece)).collect()
    }

    fn write(&mut self, reg: Reg, values: impl IntoIterator<Item = Value>) {
        let pieces = self.regs[reg.0 as usize].clone();
        for (piece, value) in pieces.into_iter().zip(values) {
            self.b.def_var(piece, value);
        }
    }

    /// The register's pieces all hold `value` spread over their lanes.
    fn spread(&mut self, reg: Reg, value: Value) {
        let value = match self.kernel.lanes(reg) {
            lanes if lanes < 4 || self.piece == 1 => value,
            _ => self.b.ins().splat(types::F32X4, value),
        };
        let pieces = self.regs[reg.0 as usize].len();
        self.write(reg, std::iter::repeat_n(value, pieces));
    }

    fn inst(&mut self, inst: &Inst, place: Option<Place>) {
        match *inst {
            Inst::Const { dst, value } => {
                let value = self.b.ins().f32const(value);
                self.spread(dst, value);
            }
            Inst::Load { dst, .. } => {
                let Some(place) = place else { return };
                let dtype = self.dtype(place);
                let pieces = self.regs[dst.0 as usize].len() as i32;
                let lanes = self.kernel.lanes(dst).min(self.piece);
                let step = i32::from(lanes) * dtype.bytes() as i32;
                let values: Vec<Value> = (0..pieces)
                    .map(|i| {
                        let displacement_bytes = place.displacement_bytes + i * step;
                        let place = Place { displacement_bytes, ..place };
                        if lanes == 1 {
                            self.element(place, dtype)
                        } else {
                            self.quad(place, dtype)
                        }
                    })
                    .collect();
                self.write(dst, values);
            }
            Inst::Splat { dst, .. } => {
                let Some(place) = place else { return };
                let value = self.element(place, self.dtype(place));
                self.spread(dst, value);
            }
            Inst::Broadcast { dst, src } => {
                let value = self.read(src)[0];
                self.spread(dst, value);
            }
            Inst::Store { src, .. } => {
                let Some(place) = place else { return };
                let pointer = self.pointer(place.pointer);
                for (i, value) in self.read(src).into_iter().enumerate() {
                    let at = place.displacement_bytes + 4 * i32::from(self.piece) * i as i32;
                    self.b.ins().store(self.flags, value, pointer, at);
                }
            }
            Inst::Unary { op, dst, src } => {
                let values = self.read(src);
                let values: Vec<Value> = values.into_iter().map(|v| self.unary(op, v)).collect();
                self.write(dst, values);
            }
            Inst::Binary { op, dst, a, b } => {
                let (a, b) = (self.read(a), self.read(b));
                let values: Vec<Value> =
                    a.into_iter().zip(b).map(|(a, b)| self.binary(op, a, b)).collect();
                self.write(dst, values);
            }
            Inst::Fma { dst, a, b, c } => {
                let (a, b, c) = (self.read(a), self.read(b), self.read(c));
                let values: Vec<Value> = (a.into_iter().zip(b).zip(c))
                    .map(|((a, b), c)| {
                        if self.fma {
                            self.b.ins().fma(a, b, c)
                        } else {
                            let product = self.b.ins().fmul(a, b);
                            self.b.ins().fadd(product, c)
                        }
                    })
                    .collect();
                self.write(dst, values);
            }
            // No plain kernel has it.
            Inst::Lane { .. } | Inst::Join { .. } | Inst::Tf32 { .. } | Inst::Mma { .. } => {}
            Inst::Reduce { op, dst, src } => {
                let values = self.read(src);
                let value = self.reduce(op, values);
                self.write(dst, [value]);
            }
            // Cranelift has no prefetch; a hint may be left out.
            Inst::Prefetch { .. } => {}
        }
    }

    fn dtype(&self, place: Place) -> DType {
        self.kernel.buffers[usize::from(place.buffer.0)].dtype
    }

    fn binary(&mut self, op: Binary, a: Value, b: Value) -> Value {
        match op {
            Binary::Add => self.b.ins().fadd(a, b),
            Binary::Sub => self.b.ins().fsub(a, b),
            Binary::Mul => self.b.ins().fmul(a, b),
            Binary::Div => self.b.ins().fdiv(a, b),
            // These forms are what Cranelift knows as maxps and minps.
            Binary::Max => self.choose(FloatCC::LessThan, (b, a), a, b),
            Binary::Min => self.choose(FloatCC::LessThan, (a, b), a, b),
            Binary::SubQuarter => {
                let float = self.b.func.dfg.value_type(b);
                let int = float.as_int();
                let bits = self.b.ins().bitcast(int, self.flags, b);
                let quarter = self.b.ins().ushr_imm_u(bits, 2);
                let from = self.b.ins().bitcast(int, self.flags, a);
                let bits = self.b.ins().isub(from, quarter);
                self.b.ins().bitcast(float, self.flags, bits)
            }
        }
    }

    fn choose(&mut self, cc: FloatCC, (x, y): (Value, Value), yes: Value, no: Value) -> Value {
        let test = self.b.ins().fcmp(cc, x, y);
        if self.b.func.dfg.value_type(yes).is_vector() {
            let mask = self.b.ins().bitcast(types::F32X4, self.flags, test);
            self.b.ins().bitselect(mask, yes, no)
        } else {
            self.b.ins().select(test, yes, no)
        }
    }

    fn unary(&mut self, op: Unary, value: Value) -> Value {
        match op {
            Unary::Copy => value,
            Unary::Neg => self.b.ins().fneg(value),
            Unary::Abs => self.b.ins().fabs(value),
            Unary::Sqrt => self.b.ins().sqrt(value),
            Unary::Round => self.b.ins().nearest(value),
            Unary::Pow2 => {
                let float = self.b.func.dfg.value_type(value);
                let int = float.as_int();
                let exponent = self.b.ins().fcvt_to_sint_sat(int, value);
                let bias = self.int(int, 127);
                let biased = self.b.ins().iadd(exponent, bias);
                let bits = self.b.ins().ishl_imm_u(biased, 23);
                self.b.ins().bitcast(float, self.flags, bits)
            }
        }
    }

    /// An integer constant, spread where `ty` is a vector.
    fn int(&mut self, ty: Type, value: i64) -> Value {
        let scalar = self.b.ins().iconst(types::I32, value);
        if ty.is_vector() { self.b.ins().splat(ty, scalar) } else { scalar }
    }

    fn reduce(&mut self, op: Reduce, mut values: Vec<Value>) -> Value {
        let op = match op {
            Reduce::Add => Binary::Add,
            Reduce::Max => Binary::Max,
        };
        while values.len() > 1 {
            let high = values.split_off(values.len() / 2);
            values = values
                .into_iter()
                .zip(high)
                .map(|(low, high)| self.binary(op, low, high))
                .collect();
        }
        let Some(&value) = values.first() else { return self.b.ins().f32const(0.0) };
        if !self.b.func.dfg.value_type(value).is_vector() {
            return value;
        }
        let mut lanes: Vec<Value> =
            (0..4u8).map(|lane| self.b.ins().extractlane(value, lane)).collect();
        while lanes.len() > 1 {
            let high = lanes.split_off(lanes.len() / 2);
            lanes =
                lanes.into_iter().zip(high).map(|(low, high)| self.binary(op, low, high)).collect();
        }
        lanes[0]
    }

    /// One element as f32.
    fn element(&mut self, place: Place, dtype: DType) -> Value {
        let pointer = self.pointer(place.pointer);
        let at = place.displacement_bytes;
        match dtype {
            DType::F32 => self.b.ins().load(types::F32, self.flags, pointer, at),
            DType::F16 => {
                let bits = self.b.ins().uload16(types::I32, self.flags, pointer, at);
                self.widen_f16(bits)
            }
            DType::Bf16 => {
                let bits = self.b.ins().uload16(types::I32, self.flags, pointer, at);
                let bits = self.b.ins().ishl_imm_u(bits, 16);
                self.b.ins().bitcast(types::F32, self.flags, bits)
            }
            DType::I16 => {
                let value = self.b.ins().sload16(types::I32, self.flags, pointer, at);
                self.b.ins().fcvt_from_sint(types::F32, value)
            }
            DType::I8 => {
                let value = self.b.ins().sload8(types::I32, self.flags, pointer, at);
                self.b.ins().fcvt_from_sint(types::F32, value)
            }
        }
    }

    /// Four elements as f32.
    fn quad(&mut self, place: Place, dtype: DType) -> Value {
        let pointer = self.pointer(place.pointer);
        let at = place.displacement_bytes;
        match dtype {
            DType::F32 => self.b.ins().load(types::F32X4, self.flags, pointer, at),
            DType::F16 => {
                let bits = self.b.ins().uload16x4(self.flags, pointer, at);
                self.widen_f16(bits)
            }
            DType::Bf16 => {
                let bits = self.b.ins().uload16x4(self.flags, pointer, at);
                let bits = self.b.ins().ishl_imm_u(bits, 16);
                self.b.ins().bitcast(types::F32X4, self.flags, bits)
            }
            DType::I16 => {
                let vector = self.b.ins().sload16x4(self.flags, pointer, at);
                self.b.ins().fcvt_from_sint(types::F32X4, vector)
            }
            DType::I8 => {
                let bytes = self.b.ins().load(types::I32, self.flags, pointer, at);
                let vector = self.b.ins().scalar_to_vector(types::I32X4, bytes);
                let vector = self.b.ins().bitcast(types::I8X16, self.flags, vector);
                let vector = self.b.ins().swiden_low(vector);
                let vector = self.b.ins().swiden_low(vector);
                self.b.ins().fcvt_from_sint(types::F32X4, vector)
            }
        }
    }

    /// binary16 bits in 32-bit lanes to f32: exponent and fraction move to their places and a
    /// multiplication by 2^112 corrects the bias, subnormal numbers included. Infinities and NaN
    /// get their exponent by a comparison.
    fn widen_f16(&mut self, bits: Value) -> Value {
        let int = self.b.func.dfg.value_type(bits);
        let float = if int.is_vector() { types::F32X4 } else { types::F32 };
        let magnitude_mask = self.int(int, 0x7fff);
        let magnitude = self.b.ins().band(bits, magnitude_mask);
        let shifted = self.b.ins().ishl_imm_u(magnitude, 13);
        let shifted = self.b.ins().bitcast(float, self.flags, shifted);
        let factor = self.int(int, 0x7780_0000);
        let factor = self.b.ins().bitcast(float, self.flags, factor);
        let scaled = self.b.ins().fmul(shifted, factor);
        let scaled = self.b.ins().bitcast(int, self.flags, scaled);
        let limit = self.int(int, 0x7bff);
        let special = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, limit);
        let all_ones = self.int(int, 0x7f80_0000);
        let infinite = if int.is_vector() {
            self.b.ins().band(special, all_ones)
        } else {
            let zero = self.int(int, 0);
            self.b.ins().select(special, all_ones, zero)
        };
        let result = self.b.ins().bor(scaled, infinite);
        let sign_mask = self.int(int, 0x8000);
        let sign = self.b.ins().band(bits, sign_mask);
        let sign = self.b.ins().ishl_imm_u(sign, 16);
        let result = self.b.ins().bor(result, sign);
        self.b.ins().bitcast(float, self.flags, result)
    }
}
