//! Bytes of x86-64 instructions: VEX and EVEX encodings of the vector instructions that the
//! emitter uses, and a few general-purpose ones. Formats as in Intel's Software Developer's Manual,
//! volume 2, chapter 2. Tests decode every form with an independent decoder.

/// A general-purpose register by its number (0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi,
/// 7 rdi, 8 to 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Gpr(pub(super) u8);

pub(super) const RAX: Gpr = Gpr(0);
pub(super) const RCX: Gpr = Gpr(1);
pub(super) const RDX: Gpr = Gpr(2);
pub(super) const RSP: Gpr = Gpr(4);
pub(super) const RSI: Gpr = Gpr(6);
pub(super) const RDI: Gpr = Gpr(7);

/// Bits of a vector operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Width {
    /// The lowest f32 of an xmm register.
    Scalar,
    /// xmm.
    B128,
    /// ymm.
    B256,
    /// zmm.
    B512,
}

impl Width {
    pub(super) fn of_lanes(lanes: u8) -> Width {
        match lanes {
            1 => Width::Scalar,
            4 => Width::B128,
            8 => Width::B256,
            _ => Width::B512,
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Width::Scalar => 4,
            Width::B128 => 16,
            Width::B256 => 32,
            Width::B512 => 64,
        }
    }

    fn code(self) -> u8 {
        match self {
            Width::Scalar | Width::B128 => 0,
            Width::B256 => 1,
            Width::B512 => 2,
        }
    }
}

/// How EVEX scales an 8-bit displacement: by the bytes that the memory operand has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tuple {
    /// As many as the vector (4 with broadcast).
    Full,
    /// One f32.
    Scalar,
    /// Half the vector.
    Half,
    /// A quarter of the vector.
    Quarter,
}

/// A vector instruction's opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Op {
    /// 1: 0F, 2: 0F38, 3: 0F3A.
    map: u8,
    /// Mandatory prefix: 0 none, 1: 66, 2: F3, 3: F2.
    prefix: u8,
    opcode: u8,
    tuple: Tuple,
}

const fn op(map: u8, prefix: u8, opcode: u8, tuple: Tuple) -> Op {
    Op { map, prefix, opcode, tuple }
}

impl Op {
    pub(super) const LOAD: Op = op(1, 0, 0x10, Tuple::Full);
    pub(super) const STORE: Op = op(1, 0, 0x11, Tuple::Full);
    pub(super) const MOVE: Op = op(1, 0, 0x28, Tuple::Full);
    pub(super) const BROADCAST: Op = op(2, 1, 0x18, Tuple::Scalar);
    pub(super) const ADD: Op = op(1, 0, 0x58, Tuple::Full);
    pub(super) const MUL: Op = op(1, 0, 0x59, Tuple::Full);
    pub(super) const SUB: Op = op(1, 0, 0x5c, Tuple::Full);
    pub(super) const MIN: Op = op(1, 0, 0x5d, Tuple::Full);
    pub(super) const DIV: Op = op(1, 0, 0x5e, Tuple::Full);
    pub(super) const MAX: Op = op(1, 0, 0x5f, Tuple::Full);
    pub(super) const SQRT: Op = op(1, 0, 0x51, Tuple::Full);
    pub(super) const AND: Op = op(1, 0, 0x54, Tuple::Full);
    pub(super) const XOR: Op = op(1, 0, 0x57, Tuple::Full);
    /// `dst = dst * rm + src1`.
    pub(super) const FMA132: Op = op(2, 1, 0x98, Tuple::Full);
    /// `dst = src1 * dst + rm`.
    pub(super) const FMA213: Op = op(2, 1, 0xa8, Tuple::Full);
    /// `dst = src1 * rm + dst`.
    pub(super) const FMA231: Op = op(2, 1, 0xb8, Tuple::Full);
    /// With an immediate: 8 rounds to nearest, ties to even, without exceptions.
    pub(super) const ROUND: Op = op(3, 1, 0x08, Tuple::Full);
    pub(super) const TO_INT: Op = op(1, 1, 0x5b, Tuple::Full);
    pub(super) const FROM_INT: Op = op(1, 0, 0x5b, Tuple::Full);
    pub(super) const ADD_INT: Op = op(1, 1, 0xfe, Tuple::Full);
    pub(super) const SUB_INT: Op = op(1, 1, 0xfa, Tuple::Full);
    /// Group with /6: shift left by an immediate; the destination is the vvvv operand.
    pub(super) const SHIFT: Op = op(1, 1, 0x72, Tuple::Full);
    /// Group with /2: logical shift right by an immediate, otherwise as [`Op::SHIFT`].
    pub(super) const SHIFT_RIGHT: Op = op(1, 1, 0x72, Tuple::Full);
    pub(super) const WIDEN_F16: Op = op(2, 1, 0x13, Tuple::Half);
    pub(super) const WIDEN_U16: Op = op(2, 1, 0x33, Tuple::Half);
    pub(super) const WIDEN_I16: Op = op(2, 1, 0x23, Tuple::Half);
    pub(super) const WIDEN_I8: Op = op(2, 1, 0x21, Tuple::Quarter);
    /// `dst.low = src2.high` (both from one register here).
    pub(super) const HIGH_TO_LOW: Op = op(1, 0, 0x12, Tuple::Full);
    /// Odd lanes duplicated downwards.
    pub(super) const ODD: Op = op(1, 2, 0x16, Tuple::Full);
    /// Upper 128 bits of 256; the destination is the rm operand.
    pub(super) const UPPER_128: Op = op(3, 1, 0x19, Tuple::Full);
    /// Upper 256 bits of 512 (EVEX only, W1); the destination is the rm operand.
    pub(super) const UPPER_256: Op = op(3, 1, 0x1b, Tuple::Full);
    /// 32 bits from a general-purpose register or memory.
    pub(super) const FROM_GPR: Op = op(1, 1, 0x6e, Tuple::Scalar);

    /// The form that works on the lowest f32 only.
    fn scalar(self) -> Op {
        let tuple = Tuple::Scalar;
        match (self.map, self.prefix) {
            // ps -> ss: prefix F3.
            (1, 0) if self != Op::AND && self != Op::XOR && self != Op::MOVE => {
                Op { prefix: 2, tuple, ..self }
            }
            // FMA and round: the next opcodes.
            (2, 1) if matches!(self.opcode, 0x98 | 0xa8 | 0xb8) => {
                Op { opcode: self.opcode + 1, tuple, ..self }
            }
            (3, 1) if self.opcode == 0x08 => Op { opcode: 0x0a, tuple, ..self },
            _ => self,
        }
    }
}

/// A constant of the pool behind the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Constant(usize);

/// The last operand of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rm {
    /// A vector register.
    Reg(u8),
    /// A general-purpose register.
    Gpr(Gpr),
    /// Memory.
    Mem { base: Gpr, displacement: i32 },
    /// Memory: one f32 spread over all lanes by the instruction (EVEX only).
    Spread { base: Gpr, displacement: i32 },
    /// A constant.
    Pool(Constant),
}

/// A place to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Conditions of jumps.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition {
    /// Unsigned below.
    Below = 2,
    /// Unsigned above or equal.
    AboveOrEqual = 3,
    /// Not zero.
    NotZero = 5,
}

/// Machine code being written.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    bytes: Vec<u8>,
    /// Position of each label once bound.
    labels: Vec<Option<usize>>,
    /// (position of a 32-bit field, label it shall reach).
    jumps: Vec<(usize, Label)>,
    /// (position of a 32-bit field, bytes of the instruction after the field, constant).
    pool_uses: Vec<(usize, usize, Constant)>,
    pool: Vec<Vec<u8>>,
}

impl Assembler {
    /// A constant of one f32 (by its bits) spread over `width`.
    pub(super) fn constant(&mut self, bits: u32, width: Width) -> Constant {
        let bytes = bits.to_le_bytes().repeat(width.bytes() / 4);
        let known = self.pool.iter().position(|c| c.starts_with(&bytes));
        Constant(known.unwrap_or_else(|| {
            self.pool.push(bytes);
            self.pool.len() - 1
        }))
    }

    /// A vector instruction `op reg, vvvv, rm`; `vvvv` is None where there are two operands.
    pub(super) fn vector(&mut self, op: Op, width: Width, reg: u8, vvvv: Option<u8>, rm: Rm) {
        self.instruction(op, width, false, reg, vvvv, rm, None);
    }

    /// The same with an immediate byte.
    pub(super) fn vector_immediate(
        &mut self,
        op: Op,
        width: Width,
        reg: u8,
        vvvv: Option<u8>,
        rm: Rm,
        immediate: u8,
    ) {
        self.instruction(op, width, op == Op::UPPER_256, reg, vvvv, rm, Some(immediate));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one instruction")]
    fn instruction(
        &mut self,
        op: Op,
        width: Width,
        wide: bool,
        reg: u8,
        vvvv: Option<u8>,
        rm: Rm,
        immediate: Option<u8>,
    ) {
        let op = if width == Width::Scalar { op.scalar() } else { op };
        let high = |r: u8| r >= 16;
        let evex = width == Width::B512
            || matches!(rm, Rm::Spread { .. })
            || matches!(rm, Rm::Reg(r) if high(r))
            || high(reg)
            || vvvv.is_some_and(high);
        let (x, b) = match rm {
            Rm::Reg(r) => (r >> 4 & 1, r >> 3 & 1),
            Rm::Gpr(g) | Rm::Mem { base: g, .. } | Rm::Spread { base: g, .. } => (0, g.0 >> 3),
            Rm::Pool(_) => (0, 0),
        };
        let vvvv = vvvv.unwrap_or(0);
        let r = reg >> 3 & 1;
        if evex {
            let spread = u8::from(matches!(rm, Rm::Spread { .. }));
            self.bytes.extend([
                0x62,
                (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (reg >> 4 & 1 ^ 1) << 4 | op.map,
                u8::from(wide) << 7 | (!vvvv & 15) << 3 | 4 | op.prefix,
                width.code() << 5 | spread << 4 | (vvvv >> 4 & 1 ^ 1) << 3,
            ]);
        } else if op.map == 1 && b == 0 {
            let last = (!vvvv & 15) << 3 | width.code() << 2 | op.prefix;
            self.bytes.extend([0xc5, (r ^ 1) << 7 | last]);
        } else {
            let last = (!vvvv & 15) << 3 | width.code() << 2 | op.prefix;
            self.bytes.extend([0xc4, (r ^ 1) << 7 | 1 << 6 | (b ^ 1) << 5 | op.map, last]);
        }
        self.bytes.push(op.opcode);
        let scale = match (evex, op.tuple) {
            (false, _) => 1,
            _ if matches!(rm, Rm::Spread { .. }) => 4,
            (_, Tuple::Full) => width.bytes() as i32,
            (_, Tuple::Scalar) => 4,
            (_, Tuple::Half) => width.bytes() as i32 / 2,
            (_, Tuple::Quarter) => width.bytes() as i32 / 4,
        };
        self.modrm(reg & 7, rm, scale, usize::from(immediate.is_some()));
        self.bytes.extend(immediate);
    }

    /// ModRM, SIB and displacement; `scale` is what one step of an 8-bit displacement stands for,
    /// `after` the number of bytes that follow.
    fn modrm(&mut self, reg: u8, rm: Rm, scale: i32, after: usize) {
        match rm {
            Rm::Reg(r) => self.bytes.push(0xc0 | reg << 3 | r & 7),
            Rm::Gpr(g) => self.bytes.push(0xc0 | reg << 3 | g.0 & 7),
            Rm::Pool(constant) => {
                self.bytes.push(reg << 3 | 5);
                self.pool_uses.push((self.bytes.len(), after, constant));
                self.bytes.extend([0; 4]);
            }
            Rm::Mem { base, displacement } | Rm::Spread { base, displacement } => {
                let short = (displacement % scale == 0)
                    .then(|| i8::try_from(displacement / scale).ok())
                    .flatten();
                // Base 101 without displacement means something else.
                let mode = match short {
                    Some(0) if base.0 & 7 != 5 => 0,
                    Some(_) => 1,
                    None => 2,
                };
                self.bytes.push(mode << 6 | reg << 3 | base.0 & 7);
                if base.0 & 7 == 4 {
                    self.bytes.push(0x24);
                }
                match (mode, short) {
                    (1, Some(short)) => self.bytes.push(short as u8),
                    (2, _) => self.bytes.extend(displacement.to_le_bytes()),
                    _ => {}
                }
            }
        }
    }

    /// A 64-bit general-purpose instruction with a ModRM byte.
    fn general(&mut self, opcode: &[u8], reg: u8, rm: Rm, after: usize) {
        let b = match rm {
            Rm::Gpr(g) | Rm::Mem { base: g, .. } => g.0 >> 3,
            _ => 0,
        };
        self.bytes.push(0x48 | (reg >> 3) << 2 | b);
        self.bytes.extend(opcode);
        self.modrm(reg & 7, rm, 1, after);
    }

    /// A 32-bit general-purpose instruction on memory.
    fn general32(&mut self, opcode: u8, reg: Gpr, base: Gpr, displacement: i32) {
        let prefix = 0x40 | (reg.0 >> 3) << 2 | base.0 >> 3;
        if prefix != 0x40 {
            self.bytes.push(prefix);
        }
        self.bytes.push(opcode);
        self.modrm(reg.0 & 7, Rm::Mem { base, displacement }, 1, 0);
    }

    /// `dst = src`.
    pub(super) fn mov(&mut self, dst: Gpr, src: Gpr) {
        if dst != src {
            self.general(&[0x8b], dst.0, Rm::Gpr(src), 0);
        }
    }

    /// 64-bit load.
    pub(super) fn load(&mut self, dst: Gpr, base: Gpr, displacement: i32) {
        self.general(&[0x8b], dst.0, Rm::Mem { base, displacement }, 0);
    }

    /// 64-bit store.
    pub(super) fn store(&mut self, base: Gpr, displacement: i32, src: Gpr) {
        self.general(&[0x89], src.0, Rm::Mem { base, displacement }, 0);
    }

    /// `dst = value`.
    pub(super) fn set(&mut self, dst: Gpr, value: i64) {
        if let Ok(value) = u32::try_from(value) {
            if dst.0 >= 8 {
                self.bytes.push(0x41);
            }
            self.bytes.push(0xb8 | dst.0 & 7);
            self.bytes.extend(value.to_le_bytes());
        } else {
            self.bytes.extend([0x48 | dst.0 >> 3, 0xb8 | dst.0 & 7]);
            self.bytes.extend(value.to_le_bytes());
        }
    }

    /// `[base + displacement] = value`, sign-extended to 64 bits.
    pub(super) fn store_immediate(&mut self, base: Gpr, displacement: i32, value: i32) {
        self.general(&[0xc7], 0, Rm::Mem { base, displacement }, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// Adds a constant to a register or to memory.
    pub(super) fn add_immediate(&mut self, rm: Rm, value: i32) {
        match i8::try_from(value) {
            Ok(short) => {
                self.general(&[0x83], 0, rm, 1);
                self.bytes.push(short as u8);
            }
            Err(_) => {
                self.general(&[0x81], 0, rm, 4);
                self.bytes.extend(value.to_le_bytes());
            }
        }
    }

    /// `dst += src`.
    pub(super) fn add(&mut self, dst: Gpr, src: Gpr) {
        self.general(&[0x03], dst.0, Rm::Gpr(src), 0);
    }

    /// `[base + displacement] += src`.
    pub(super) fn add_to_memory(&mut self, base: Gpr, displacement: i32, src: Gpr) {
        self.general(&[0x01], src.0, Rm::Mem { base, displacement }, 0);
    }

    /// `dst *= [base + displacement]`.
    pub(super) fn multiply_memory(&mut self, dst: Gpr, base: Gpr, displacement: i32) {
        self.general(&[0x0f, 0xaf], dst.0, Rm::Mem { base, displacement }, 0);
    }

    /// `dst = [base + displacement] * value`.
    pub(super) fn multiply_immediate(
        &mut self,
        dst: Gpr,
        base: Gpr,
        displacement: i32,
        value: i32,
    ) {
        self.general(&[0x69], dst.0, Rm::Mem { base, displacement }, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `dst = src * value`.
    pub(super) fn multiply_by(&mut self, dst: Gpr, src: Gpr, value: i32) {
        self.general(&[0x69], dst.0, Rm::Gpr(src), 4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `dst *= src`.
    pub(super) fn multiply(&mut self, dst: Gpr, src: Gpr) {
        self.general(&[0x0f, 0xaf], dst.0, Rm::Gpr(src), 0);
    }

    /// rdx:rax divided by `by`: quotient in rax, remainder in rdx.
    pub(super) fn divide(&mut self, by: Gpr) {
        self.general(&[0xf7], 6, Rm::Gpr(by), 0);
    }

    /// Decrements a register or memory, setting the zero flag.
    pub(super) fn decrement(&mut self, rm: Rm) {
        self.general(&[0xff], 1, rm, 0);
    }

    /// Compares a register with memory.
    pub(super) fn compare_memory(&mut self, left: Gpr, base: Gpr, displacement: i32) {
        self.general(&[0x3b], left.0, Rm::Mem { base, displacement }, 0);
    }

    /// Compares two registers.
    pub(super) fn compare(&mut self, left: Gpr, right: Gpr) {
        self.general(&[0x3b], left.0, Rm::Gpr(right), 0);
    }

    /// Compares a register with a constant.
    pub(super) fn compare_immediate(&mut self, left: Gpr, value: i32) {
        self.general(&[0x81], 7, Rm::Gpr(left), 4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// Negates; the carry flag says whether the register was not zero.
    pub(super) fn negate(&mut self, reg: Gpr) {
        self.general(&[0xf7], 3, Rm::Gpr(reg), 0);
    }

    /// -1 where the carry flag is set, else 0.
    pub(super) fn carry_mask(&mut self, reg: Gpr) {
        self.general(&[0x1b], reg.0, Rm::Gpr(reg), 0);
    }

    /// `dst -= src`.
    pub(super) fn subtract(&mut self, dst: Gpr, src: Gpr) {
        self.general(&[0x2b], dst.0, Rm::Gpr(src), 0);
    }

    /// Clears low bits: `rsp &= -alignment`.
    pub(super) fn align_stack(&mut self, alignment: i8) {
        self.general(&[0x83], 4, Rm::Gpr(RSP), 1);
        self.bytes.push(alignment.wrapping_neg() as u8);
    }

    /// 32-bit load, the upper half cleared.
    pub(super) fn load_u32(&mut self, dst: Gpr, base: Gpr, displacement: i32) {
        self.general32(0x8b, dst, base, displacement);
    }

    /// 32-bit store.
    pub(super) fn store_u32(&mut self, base: Gpr, displacement: i32, src: Gpr) {
        self.general32(0x89, src, base, displacement);
    }

    /// 16-bit zero-extending load into 64 bits.
    pub(super) fn load_u16(&mut self, dst: Gpr, base: Gpr, displacement: i32) {
        self.general(&[0x0f, 0xb7], dst.0, Rm::Mem { base, displacement }, 0);
    }

    /// 16-bit sign-extending load into 32 bits.
    pub(super) fn load_i16(&mut self, dst: Gpr, base: Gpr, displacement: i32) {
        self.general(&[0x0f, 0xbf], dst.0, Rm::Mem { base, displacement }, 0);
    }

    /// 8-bit sign-extending load into 64 bits.
    pub(super) fn load_i8(&mut self, dst: Gpr, base: Gpr, displacement: i32) {
        self.general(&[0x0f, 0xbe], dst.0, Rm::Mem { base, displacement }, 0);
    }

    /// Shifts left.
    pub(super) fn shift_left(&mut self, reg: Gpr, by: u8) {
        self.general(&[0xc1], 4, Rm::Gpr(reg), 1);
        self.bytes.push(by);
    }

    pub(super) fn push(&mut self, reg: Gpr) {
        if reg.0 >= 8 {
            self.bytes.push(0x41);
        }
        self.bytes.push(0x50 | reg.0 & 7);
    }

    pub(super) fn pop(&mut self, reg: Gpr) {
        if reg.0 >= 8 {
            self.bytes.push(0x41);
        }
        self.bytes.push(0x58 | reg.0 & 7);
    }

    /// Hints that a cache line will be read: from the second-level cache, since what is fetched far
    /// ahead would only drive out of the first what is read meanwhile.
    pub(super) fn prefetch(&mut self, base: Gpr, displacement: i32) {
        self.general(&[0x0f, 0x18], 2, Rm::Mem { base, displacement }, 0);
    }

    /// Clears the upper halves, as code of older vector encodings expects.
    pub(super) fn clear_upper(&mut self) {
        self.bytes.extend([0xc5, 0xf8, 0x77]);
    }

    pub(super) fn ret(&mut self) {
        self.bytes.push(0xc3);
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label stands for what comes next.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
    }

    /// Pads with instructions that do nothing.
    pub(super) fn align(&mut self, alignment: usize) {
        // Multi-byte NOPs as recommended in the manual's entry for NOP.
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x40, 0x00],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
            &[0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0],
            &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0],
        ];
        let mut missing = self.bytes.len().next_multiple_of(alignment) - self.bytes.len();
        while missing > 0 {
            let step = missing.min(NOPS.len());
            self.bytes.extend(NOPS[step - 1]);
            missing -= step;
        }
    }

    pub(super) fn jump_if(&mut self, condition: Condition, label: Label) {
        self.bytes.extend([0x0f, 0x80 | condition as u8]);
        self.jumps.push((self.bytes.len(), label));
        self.bytes.extend([0; 4]);
    }

    /// Places the constants behind the code and resolves jumps and constants.
    pub(super) fn finish(mut self) -> Vec<u8> {
        for (field, label) in &self.jumps {
            let target = self.labels[label.0].unwrap_or(*field);
            let distance = (target as i64 - (*field as i64 + 4)) as i32;
            self.bytes[*field..field + 4].copy_from_slice(&distance.to_le_bytes());
        }
        let mut places = vec![0; self.pool.len()];
        for (constant, place) in self.pool.iter().zip(&mut places) {
            let at = self.bytes.len().next_multiple_of(constant.len());
            // Traps, should control ever get here.
            self.bytes.resize(at, 0xcc);
            self.bytes.extend(constant);
            *place = at;
        }
        for &(field, after, constant) in &self.pool_uses {
            let distance = (places[constant.0] as i64 - (field as i64 + 4 + after as i64)) as i32;
            self.bytes[field..field + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests;
