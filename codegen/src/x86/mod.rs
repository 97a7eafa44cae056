//! Emitter 2: Kernel IR to x86-64 with AVX2 and FMA, or AVX-512.
//!
//! It allocates registers and picks instructions; loops, tiles and epilogues stand in the kernel.
//! The code is position-independent, calls nothing, and carries its constants behind it.

mod allocate;
mod encode;
mod listing;
mod nonzero;
mod plan;

use crate::ir::{Binary, DType, Inst, Kernel, Reduce, Reg, Unary};
use crate::streams::{Place, Root, resolve};
use crate::verify::Verified;
use alexc_runtime::cpu::Level;
use alexc_runtime::program::KernelCode;
use allocate::Home;
use encode::{Assembler, Condition, Gpr, Label, Op, RAX, RCX, RDI, RDX, RSI, RSP, Rm, Width};
use plan::{Folded, Item, Plan};

pub use listing::listing;

/// Registers that pointers and counters may live in: all but rsp and the scratch rax and rdx.
const GPRS: [Gpr; 13] = [
    Gpr(1),
    Gpr(6),
    Gpr(7),
    Gpr(8),
    Gpr(9),
    Gpr(10),
    Gpr(11),
    Gpr(3),
    Gpr(5),
    Gpr(12),
    Gpr(13),
    Gpr(14),
    Gpr(15),
];

/// Registers that a function must give back unchanged.
const CALLEE_SAVED: [Gpr; 6] = [Gpr(3), Gpr(5), Gpr(12), Gpr(13), Gpr(14), Gpr(15)];

/// Vector registers kept free where values spill or an instruction needs room.
const SCRATCH: usize = 3;

/// Why a kernel cannot be emitted for a level. A mistake of the lowering, never of the user.
#[derive(Debug, thiserror::Error)]
pub enum X86Error {
    /// A kernel for groups of items.
    #[error("kernel {kernel} is written for groups of items, which only OpenCL has")]
    Grouped {
        /// Name of the kernel.
        kernel: String,
    },
    /// Registers wider than the level has.
    #[error("kernel {kernel}: {lanes} lanes need AVX-512, which {level} lacks")]
    TooWide {
        /// Name of the kernel.
        kernel: String,
        /// Lanes of a register.
        lanes: u8,
        /// The level.
        level: Level,
    },
    /// The level has no AVX2.
    #[error("{level} lacks AVX2: use the Cranelift emitter")]
    NoAvx2 {
        /// The level.
        level: Level,
    },
}

/// Makes machine code for a kernel.
pub fn emit(kernel: &Verified, level: Level) -> Result<KernelCode, X86Error> {
    if level < Level::V3 {
        return Err(X86Error::NoAvx2 { level });
    }
    if !kernel.is_plain() {
        return Err(X86Error::Grouped { kernel: kernel.name.clone() });
    }
    let wide = level >= Level::V4;
    if let (false, Some(&lanes)) = (wide, kernel.regs.iter().find(|&&lanes| lanes > 8)) {
        return Err(X86Error::TooWide { kernel: kernel.name.clone(), lanes, level });
    }
    let registers = if wide { 32 } else { 16 };
    let streams = resolve(kernel);
    let plan = Plan::new(kernel, &streams, wide, registers, SCRATCH, GPRS.len());
    let bytes = Emitter::new(kernel, &plan, wide, registers).emit();
    Ok(KernelCode { name: kernel.name.clone(), bytes, align: 64 })
}

/// The stack frame, offsets from rsp in bytes. Vector slots come first, each as wide as the widest
/// vector.
struct Frame {
    vector_bytes: i32,
    gpr_slots: i32,
    params: i32,
    iteration: i32,
    end: i32,
    dims: i32,
    old_rsp: i32,
    size: i32,
}

impl Frame {
    fn new(plan: &Plan<'_>, dims: usize, widest: usize) -> Frame {
        let vector_bytes = widest as i32;
        let gpr_slots = plan.vector_slots as i32 * vector_bytes;
        let params = gpr_slots + plan.gpr_slots as i32 * 8;
        let dims_at = params + 24;
        let old_rsp = dims_at + dims as i32 * 8;
        Frame {
            vector_bytes,
            gpr_slots,
            params,
            iteration: params + 8,
            end: params + 16,
            dims: dims_at,
            old_rsp,
            size: (old_rsp + 8 + 63) / 64 * 64,
        }
    }
}

struct Emitter<'a> {
    kernel: &'a Kernel,
    plan: &'a Plan<'a>,
    asm: Assembler,
    frame: Frame,
    wide: bool,
    /// First of the scratch vector registers.
    scratch: u8,
    /// Heads of the open loops.
    heads: Vec<Label>,
    /// Ends of the open loops that may run zero times.
    ends: Vec<Label>,
}

impl<'a> Emitter<'a> {
    fn new(kernel: &'a Kernel, plan: &'a Plan<'a>, wide: bool, registers: usize) -> Self {
        let widest = kernel.regs.iter().copied().max().unwrap_or(4).max(4);
        Emitter {
            kernel,
            plan,
            asm: Assembler::default(),
            frame: Frame::new(plan, kernel.parallel.len(), usize::from(widest) * 4),
            wide,
            scratch: (registers - SCRATCH) as u8,
            heads: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn emit(mut self) -> Vec<u8> {
        let exit = self.asm.label();
        let next = self.asm.label();
        let used = |g: &&Gpr| {
            self.plan.gprs.iter().any(|h| matches!(h, Home::Register(r) if GPRS[*r] == **g))
        };
        let saved: Vec<Gpr> = CALLEE_SAVED.iter().filter(used).copied().collect();
        let nothing = self.asm.label();
        self.asm.compare(RSI, RDX);
        self.asm.jump_if(Condition::AboveOrEqual, nothing);
        for &reg in &saved {
            self.asm.push(reg);
        }
        self.asm.mov(RAX, RSP);
        self.asm.add_immediate(Rm::Gpr(RSP), -self.frame.size);
        self.asm.align_stack(64);
        self.asm.store(RSP, self.frame.old_rsp, RAX);
        self.asm.store(RSP, self.frame.params, RDI);
        self.asm.store(RSP, self.frame.iteration, RSI);
        self.asm.store(RSP, self.frame.end, RDX);
        self.asm.bind(next);
        self.indices();
        for root in self.plan.roots {
            self.root(root);
        }
        for item in &self.plan.items {
            self.item(item);
        }
        self.asm.load(RAX, RSP, self.frame.iteration);
        self.asm.add_immediate(Rm::Gpr(RAX), 1);
        self.asm.store(RSP, self.frame.iteration, RAX);
        self.asm.compare_memory(RAX, RSP, self.frame.end);
        self.asm.jump_if(Condition::Below, next);
        self.asm.bind(exit);
        self.asm.clear_upper();
        self.asm.load(RSP, RSP, self.frame.old_rsp);
        for &reg in saved.iter().rev() {
            self.asm.pop(reg);
        }
        self.asm.bind(nothing);
        self.asm.ret();
        self.asm.finish()
    }

    /// Splits the iteration's number into the parallel indices. No pointer is alive here, so any
    /// register may be used.
    fn indices(&mut self) {
        let dims = &self.kernel.parallel;
        self.asm.load(RAX, RSP, self.frame.iteration);
        for (index, dim) in dims.iter().enumerate().rev() {
            let slot = self.frame.dims + index as i32 * 8;
            if index == 0 {
                self.asm.store(RSP, slot, RAX);
            } else {
                self.asm.set(RDX, 0);
                self.asm.set(RCX, i64::from(dim.count));
                self.asm.divide(RCX);
                self.asm.store(RSP, slot, RDX);
            }
        }
    }

    fn root(&mut self, root: &Root) {
        let home = self.plan.pointer(root.pointer);
        if home == Home::Nowhere {
            return;
        }
        self.asm.load(RAX, RSP, self.frame.params);
        self.asm.load(RAX, RAX, i32::from(root.buffer.0) * 8);
        for &(dim, step) in &root.terms {
            let slot = self.frame.dims + dim as i32 * 8;
            match i32::try_from(step) {
                Ok(step) => self.asm.multiply_immediate(RDX, RSP, slot, step),
                Err(_) => {
                    self.asm.set(RDX, step);
                    self.asm.multiply_memory(RDX, RSP, slot);
                }
            }
            self.asm.add(RAX, RDX);
        }
        if root.offset_bytes != 0 {
            self.asm.set(RDX, root.offset_bytes);
            self.asm.add(RAX, RDX);
        }
        self.put_gpr(home, RAX);
    }

    fn gpr_slot(&self, slot: usize) -> i32 {
        self.frame.gpr_slots + slot as i32 * 8
    }

    fn put_gpr(&mut self, home: Home, value: Gpr) {
        match home {
            Home::Register(r) => self.asm.mov(GPRS[r], value),
            Home::Slot(slot) => self.asm.store(RSP, self.gpr_slot(slot), value),
            Home::Nowhere => {}
        }
    }

    /// The value in a register: its own, or `scratch` after a load.
    fn get_gpr(&mut self, home: Home, scratch: Gpr) -> Gpr {
        match home {
            Home::Register(r) => GPRS[r],
            Home::Slot(slot) => {
                self.asm.load(scratch, RSP, self.gpr_slot(slot));
                scratch
            }
            Home::Nowhere => scratch,
        }
    }

    fn gpr_operand(&self, home: Home) -> Rm {
        match home {
            Home::Register(r) => Rm::Gpr(GPRS[r]),
            Home::Slot(slot) => Rm::Mem { base: RSP, displacement: self.gpr_slot(slot) },
            Home::Nowhere => Rm::Gpr(RAX),
        }
    }

    fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::Inst { inst, place, folded } => self.inst(inst, *place, *folded),
            Item::Begin { count, counter, advances, innermost } => {
                for advance in *advances {
                    let to = self.plan.pointer(advance.pointer);
                    let from = self.plan.pointer(advance.from);
                    match to {
                        Home::Nowhere => {}
                        Home::Register(r) => {
                            let from = self.get_gpr(from, GPRS[r]);
                            self.asm.mov(GPRS[r], from);
                        }
                        Home::Slot(_) => {
                            let from = self.get_gpr(from, RAX);
                            self.put_gpr(to, from);
                        }
                    }
                }
                match self.plan.gprs[*counter] {
                    Home::Register(r) => self.asm.set(GPRS[r], i64::from(*count)),
                    Home::Slot(slot) => {
                        let at = self.gpr_slot(slot);
                        match i32::try_from(*count) {
                            Ok(count) => self.asm.store_immediate(RSP, at, count),
                            Err(_) => {
                                self.asm.set(RAX, i64::from(*count));
                                self.asm.store(RSP, at, RAX);
                            }
                        }
                    }
                    Home::Nowhere => {}
                }
                if *innermost {
                    self.asm.align(32);
                }
                let head = self.asm.label();
                self.asm.bind(head);
                self.heads.push(head);
            }
            Item::Find { turns, cursor } => self.find(turns, *cursor),
            Item::Turn { turns, cursor } => self.turn(turns, *cursor),
            Item::Again { turns, cursor } => self.again(turns, *cursor),
            Item::End { counter, advances } => {
                for advance in *advances {
                    let home = self.plan.pointer(advance.pointer);
                    if home == Home::Nowhere {
                        continue;
                    }
                    let operand = self.gpr_operand(home);
                    match (i32::try_from(advance.step_bytes), operand) {
                        (Ok(step), operand) => self.asm.add_immediate(operand, step),
                        (Err(_), Rm::Mem { base, displacement }) => {
                            self.asm.set(RAX, advance.step_bytes);
                            self.asm.add_to_memory(base, displacement, RAX);
                        }
                        (Err(_), Rm::Gpr(reg)) => {
                            self.asm.set(RAX, advance.step_bytes);
                            self.asm.add(reg, RAX);
                        }
                        (Err(_), _) => {}
                    }
                }
                let counter = self.gpr_operand(self.plan.gprs[*counter]);
                self.asm.decrement(counter);
                if let Some(head) = self.heads.pop() {
                    self.asm.jump_if(Condition::NotZero, head);
                }
            }
        }
    }

    fn width(&self, reg: Reg) -> Width {
        Width::of_lanes(self.kernel.lanes(reg))
    }

    fn vector_slot(&self, slot: usize) -> Rm {
        Rm::Mem { base: RSP, displacement: slot as i32 * self.frame.vector_bytes }
    }

    /// The register that holds `reg`: its own, or scratch number `scratch` after a reload.
    fn get(&mut self, reg: Reg, scratch: u8) -> u8 {
        match self.plan.vector(reg) {
            Home::Register(r) => r as u8,
            Home::Slot(slot) => {
                let temp = self.scratch + scratch;
                let from = self.vector_slot(slot);
                self.asm.vector(Op::LOAD, self.width(reg), temp, None, from);
                temp
            }
            Home::Nowhere => self.scratch + scratch,
        }
    }

    /// The register that a result is made in.
    fn target(&self, reg: Reg) -> u8 {
        match self.plan.vector(reg) {
            Home::Register(r) => r as u8,
            _ => self.scratch,
        }
    }

    /// Stores a result whose home is on the stack.
    fn put(&mut self, reg: Reg) {
        if let Home::Slot(slot) = self.plan.vector(reg) {
            let to = self.vector_slot(slot);
            self.asm.vector(Op::STORE, self.width(reg), self.scratch, None, to);
        }
    }

    fn copy(&mut self, width: Width, to: u8, from: u8) {
        if to != from {
            let width = width.max(Width::B128);
            self.asm.vector(Op::MOVE, width, to, None, Rm::Reg(from));
        }
    }

    fn memory(&mut self, place: Place) -> (Gpr, i32) {
        let base = self.get_gpr(self.plan.pointer(place.pointer), RAX);
        (base, place.displacement_bytes)
    }

    /// The operand of a folded load.
    fn folded(&mut self, folded: Folded) -> Rm {
        let (base, displacement) = self.memory(folded.place);
        if folded.spread {
            Rm::Spread { base, displacement }
        } else {
            Rm::Mem { base, displacement }
        }
    }

    fn operand(&mut self, reg: Reg, folded: Option<Folded>, scratch: u8) -> Rm {
        match folded {
            Some(folded) if folded.reg == reg => self.folded(folded),
            _ => Rm::Reg(self.get(reg, scratch)),
        }
    }

    fn inst(&mut self, inst: &Inst, place: Option<Place>, folded: Option<Folded>) {
        match *inst {
            Inst::Const { dst, value } => {
                let (to, width) = (self.target(dst), self.width(dst));
                self.constant(to, width, value);
                self.put(dst);
            }
            Inst::Load { dst, .. } => {
                let Some(place) = place else { return };
                let to = self.target(dst);
                self.load(to, self.width(dst), place);
                self.put(dst);
            }
            Inst::Splat { dst, .. } => {
                let Some(place) = place else { return };
                let (to, width) = (self.target(dst), self.width(dst));
                self.splat(to, width, place);
                self.put(dst);
            }
            Inst::Broadcast { dst, src } => {
                let src = self.get(src, 1);
                let (to, width) = (self.target(dst), self.width(dst));
                match width {
                    Width::Scalar => self.copy(width, to, src),
                    _ => self.asm.vector(Op::BROADCAST, width, to, None, Rm::Reg(src)),
                }
                self.put(dst);
            }
            Inst::Store { src, .. } => {
                let Some(place) = place else { return };
                let value = self.get(src, 0);
                let (base, displacement) = self.memory(place);
                let to = Rm::Mem { base, displacement };
                self.asm.vector(Op::STORE, self.width(src), value, None, to);
            }
            Inst::Prefetch { .. } => {
                let Some(place) = place else { return };
                let (base, displacement) = self.memory(place);
                self.asm.prefetch(base, displacement);
            }
            Inst::Unary { op, dst, src } => {
                let src = self.get(src, 1);
                let (to, width) = (self.target(dst), self.width(dst));
                self.unary(op, width, to, src);
                self.put(dst);
            }
            Inst::Binary { op: Binary::SubQuarter, dst, a, b } => {
                let (left, right) = (self.get(a, 1), self.get(b, 2));
                let (to, full) = (self.target(dst), self.width(dst).max(Width::B128));
                let quarter = if to == left { self.scratch } else { to };
                let right = Rm::Reg(right);
                self.asm.vector_immediate(Op::SHIFT_RIGHT, full, 2, Some(quarter), right, 2);
                self.asm.vector(Op::SUB_INT, full, to, Some(left), Rm::Reg(quarter));
                self.put(dst);
            }
            Inst::Binary { op, dst, a, b } => {
                // A folded load is always the last operand; these two commute.
                let (a, b) = match folded {
                    Some(f) if f.reg == a && a != b => (b, a),
                    _ => (a, b),
                };
                let op = match op {
                    Binary::Add => Op::ADD,
                    Binary::Sub => Op::SUB,
                    Binary::Mul => Op::MUL,
                    Binary::Div => Op::DIV,
                    Binary::Max => Op::MAX,
                    Binary::Min | Binary::SubQuarter => Op::MIN,
                };
                let left = self.get(a, 1);
                let right = self.operand(b, folded, 2);
                let (to, width) = (self.target(dst), self.width(dst));
                self.asm.vector(op, width, to, Some(left), right);
                self.put(dst);
            }
            Inst::Fma { dst, a, b, c } => {
                self.fma(dst, [a, b, c], folded);
                self.put(dst);
            }
            // No plain kernel has it.
            Inst::Lane { .. } | Inst::Join { .. } | Inst::Tf32 { .. } | Inst::Mma { .. } => {}
            Inst::Reduce { op, dst, src } => {
                let from = self.get(src, 1);
                let to = self.target(dst);
                self.reduce(op, self.width(src), to, from);
                self.put(dst);
            }
        }
    }

    fn constant(&mut self, to: u8, width: Width, value: f32) {
        if value.to_bits() == 0 {
            let zeroed = if to < 16 { Width::B128 } else { width.max(Width::B128) };
            self.asm.vector(Op::XOR, zeroed, to, Some(to), Rm::Reg(to));
            return;
        }
        let constant = self.asm.constant(value.to_bits(), Width::Scalar);
        let op = if width == Width::Scalar { Op::LOAD } else { Op::BROADCAST };
        self.asm.vector(op, width, to, None, Rm::Pool(constant));
    }

    fn dtype(&self, place: Place) -> DType {
        self.kernel.buffers[usize::from(place.buffer.0)].dtype
    }

    fn load(&mut self, to: u8, width: Width, place: Place) {
        let dtype = self.dtype(place);
        if width == Width::Scalar && dtype != DType::F32 {
            self.element(to, place);
            return;
        }
        let (base, displacement) = self.memory(place);
        let from = Rm::Mem { base, displacement };
        match dtype {
            DType::F32 => self.asm.vector(Op::LOAD, width, to, None, from),
            DType::F16 => self.asm.vector(Op::WIDEN_F16, width, to, None, from),
            DType::Bf16 => {
                self.asm.vector(Op::WIDEN_U16, width, to, None, from);
                self.asm.vector_immediate(Op::SHIFT, width, 6, Some(to), Rm::Reg(to), 16);
            }
            DType::I16 => {
                self.asm.vector(Op::WIDEN_I16, width, to, None, from);
                self.asm.vector(Op::FROM_INT, width, to, None, Rm::Reg(to));
            }
            DType::I8 => {
                self.asm.vector(Op::WIDEN_I8, width, to, None, from);
                self.asm.vector(Op::FROM_INT, width, to, None, Rm::Reg(to));
            }
        }
    }

    fn splat(&mut self, to: u8, width: Width, place: Place) {
        if self.dtype(place) == DType::F32 {
            let (base, displacement) = self.memory(place);
            let op = if width == Width::Scalar { Op::LOAD } else { Op::BROADCAST };
            self.asm.vector(op, width, to, None, Rm::Mem { base, displacement });
            return;
        }
        self.element(to, place);
        if width != Width::Scalar {
            self.asm.vector(Op::BROADCAST, width, to, None, Rm::Reg(to));
        }
    }

    /// One element of a narrow type into the lowest lane.
    fn element(&mut self, to: u8, place: Place) {
        let (base, displacement) = self.memory(place);
        let x = Width::B128;
        match self.dtype(place) {
            DType::F32 => {
                self.asm.vector(Op::LOAD, Width::Scalar, to, None, Rm::Mem { base, displacement });
            }
            DType::F16 => {
                self.asm.load_u16(RAX, base, displacement);
                self.asm.vector(Op::FROM_GPR, x, to, None, Rm::Gpr(RAX));
                self.asm.vector(Op::WIDEN_F16, x, to, None, Rm::Reg(to));
            }
            DType::Bf16 => {
                self.asm.load_u16(RAX, base, displacement);
                self.asm.shift_left(RAX, 16);
                self.asm.vector(Op::FROM_GPR, x, to, None, Rm::Gpr(RAX));
            }
            DType::I16 => {
                self.asm.load_i16(RAX, base, displacement);
                self.asm.vector(Op::FROM_GPR, x, to, None, Rm::Gpr(RAX));
                self.asm.vector(Op::FROM_INT, x, to, None, Rm::Reg(to));
            }
            DType::I8 => {
                self.asm.load_i8(RAX, base, displacement);
                self.asm.vector(Op::FROM_GPR, x, to, None, Rm::Gpr(RAX));
                self.asm.vector(Op::FROM_INT, x, to, None, Rm::Reg(to));
            }
        }
    }

    fn unary(&mut self, op: Unary, width: Width, to: u8, src: u8) {
        let full = width.max(Width::B128);
        match op {
            Unary::Copy => self.copy(width, to, src),
            Unary::Neg | Unary::Abs => {
                let (op, mask) = match op {
                    Unary::Neg => (Op::XOR, 0x8000_0000),
                    _ => (Op::AND, 0x7fff_ffff),
                };
                let mask = self.asm.constant(mask, full);
                self.asm.vector(op, full, to, Some(src), Rm::Pool(mask));
            }
            Unary::Sqrt => {
                let second = (width == Width::Scalar).then_some(src);
                self.asm.vector(Op::SQRT, width, to, second, Rm::Reg(src));
            }
            Unary::Round => {
                let second = (width == Width::Scalar).then_some(src);
                self.asm.vector_immediate(Op::ROUND, width, to, second, Rm::Reg(src), 8);
            }
            Unary::Pow2 => {
                self.asm.vector(Op::TO_INT, full, to, None, Rm::Reg(src));
                let bias = self.asm.constant(127, full);
                self.asm.vector(Op::ADD_INT, full, to, Some(to), Rm::Pool(bias));
                self.asm.vector_immediate(Op::SHIFT, full, 6, Some(to), Rm::Reg(to), 23);
            }
        }
    }

    /// `dst = a * b + c` in the form that needs the fewest copies.
    fn fma(&mut self, dst: Reg, [a, b, c]: [Reg; 3], folded: Option<Folded>) {
        let width = self.width(dst);
        // A folded factor becomes `b`.
        let (a, b) = match folded {
            Some(f) if f.reg == a && a != b => (b, a),
            _ => (a, b),
        };
        let to = self.target(dst);
        if folded.is_some_and(|f| f.reg == c) {
            // The addend comes from memory: a * b in place.
            let (ra, rb) = (self.get(a, 1), self.get(b, 2));
            let addend = self.operand(c, folded, 0);
            let other = if to == rb {
                ra
            } else {
                self.copy(width, to, ra);
                rb
            };
            self.asm.vector(Op::FMA213, width, to, Some(other), addend);
            return;
        }
        let ra = self.get(a, 1);
        let rc = self.get(c, 0);
        let factor = self.operand(b, folded, 2);
        if to == rc {
            self.asm.vector(Op::FMA231, width, to, Some(ra), factor);
        } else if to == ra {
            if factor == Rm::Reg(ra) {
                // a * a + c with the result in a's register.
                self.asm.vector(Op::FMA213, width, to, Some(ra), Rm::Reg(rc));
            } else if let Rm::Reg(rb) = factor {
                self.asm.vector(Op::FMA213, width, to, Some(rb), Rm::Reg(rc));
            } else {
                self.asm.vector(Op::FMA132, width, to, Some(rc), factor);
            }
        } else if factor == Rm::Reg(to) {
            self.asm.vector(Op::FMA213, width, to, Some(ra), Rm::Reg(rc));
        } else {
            self.copy(width, to, rc);
            self.asm.vector(Op::FMA231, width, to, Some(ra), factor);
        }
    }

    /// Halves until one lane is left. Works in scratch registers.
    fn reduce(&mut self, op: Reduce, width: Width, to: u8, from: u8) {
        let op = match op {
            Reduce::Add => Op::ADD,
            Reduce::Max => Op::MAX,
        };
        let (sum, half) = (self.scratch + 1, self.scratch + 2);
        let mut current = from;
        if width == Width::B512 {
            self.asm.vector_immediate(Op::UPPER_256, Width::B512, current, None, Rm::Reg(half), 1);
            self.asm.vector(op, Width::B256, sum, Some(current), Rm::Reg(half));
            current = sum;
        }
        if width >= Width::B256 {
            self.asm.vector_immediate(Op::UPPER_128, Width::B256, current, None, Rm::Reg(half), 1);
            self.asm.vector(op, Width::B128, sum, Some(current), Rm::Reg(half));
            current = sum;
        }
        if width >= Width::B128 {
            self.asm.vector(Op::HIGH_TO_LOW, Width::B128, half, Some(current), Rm::Reg(current));
            self.asm.vector(op, Width::B128, sum, Some(current), Rm::Reg(half));
            self.asm.vector(Op::ODD, Width::B128, half, None, Rm::Reg(sum));
            self.asm.vector(op, Width::Scalar, to, Some(sum), Rm::Reg(half));
        } else {
            self.copy(width, to, from);
        }
        debug_assert!(self.wide || width < Width::B512);
    }
}
