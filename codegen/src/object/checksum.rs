//! XXH64 (<https://github.com/Cyan4973/xxHash>, doc/xxhash_spec.md) as code of the artifact, and
//! the sum over pieces that files of packed weights carry.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, MemFlagsData, Signature, Type, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::control::{Control, begin, finish};
use crate::target::Target;
use alexc_runtime::container::PIECE_BYTES;

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// `uint64_t (const void *bytes, uint64_t length, uint64_t seed)`.
pub(super) fn signature(target: &Target) -> Signature {
    let mut signature = target.kernel_signature();
    signature.returns.push(AbiParam::new(types::I64));
    signature
}

/// Writes the function. `function` has [`signature`].
pub(super) fn build(target: &Target, function: &mut Function) {
    let mut frontend = FunctionBuilderContext::new();
    let mut h = Hasher { b: FunctionBuilder::new(function, &mut frontend) };
    let [bytes, length, seed] = begin(&mut h.b)[..] else { return };
    let at = h.variable(bytes);
    let end = h.b.ins().iadd(bytes, length);
    let lanes = h.start(seed).map(|value| h.variable(value));
    let short = h.add(seed, PRIME_5);
    let hash = h.variable(short);

    // Four lanes of eight bytes.
    let many = h.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, length, 32);
    h.when(many, |h| {
        h.repeat(at, end, 32, |h, at| {
            for (index, lane) in lanes.into_iter().enumerate() {
                let input = h.load(types::I64, at, 8 * index as i32);
                let value = h.b.use_var(lane);
                let value = h.round(value, input);
                h.b.def_var(lane, value);
            }
        });
        let values = lanes.map(|lane| h.b.use_var(lane));
        let merged = h.merge(values);
        h.b.def_var(hash, merged);
    });
    let value = h.b.use_var(hash);
    let value = h.b.ins().iadd(value, length);
    h.b.def_var(hash, value);

    // What is left over, in words, half words and bytes.
    h.repeat(at, end, 8, |h, at| {
        let input = h.load(types::I64, at, 0);
        let value = h.b.use_var(hash);
        let value = h.tail(value, input);
        h.b.def_var(hash, value);
    });
    h.repeat(at, end, 4, |h, at| {
        let input = h.load(types::I32, at, 0);
        let value = h.b.use_var(hash);
        let value = h.mix(value, input, PRIME_1, 23);
        let value = h.multiply(value, PRIME_2);
        let value = h.add(value, PRIME_3);
        h.b.def_var(hash, value);
    });
    h.repeat(at, end, 1, |h, at| {
        let input = h.load(types::I8, at, 0);
        let value = h.b.use_var(hash);
        let value = h.mix(value, input, PRIME_5, 11);
        let value = h.multiply(value, PRIME_1);
        h.b.def_var(hash, value);
    });
    let value = h.b.use_var(hash);
    let value = h.avalanche(value);
    h.b.ins().return_(&[value]);
    finish(h.b, target);
}

/// The sum over `length` bytes at `contents` as `alexc_runtime::container::checksum` makes it;
/// `xxh64` is the function above.
pub(super) fn of_pieces(
    b: FunctionBuilder<'_>,
    xxh64: FuncRef,
    contents: Value,
    length: usize,
) -> (FunctionBuilder<'_>, Value) {
    let mut h = Hasher { b };
    let zero = h.constant(0);
    let of_piece = |h: &mut Hasher<'_>, start: Value, bytes: usize| {
        let bytes = h.constant(bytes as u64);
        let call = h.b.ins().call(xxh64, &[start, bytes, zero]);
        h.b.inst_results(call)[0]
    };
    let seed = h.constant(length as u64);
    let pieces = length.div_ceil(PIECE_BYTES);
    let at = h.variable(contents);
    let mut hash = if pieces >= 4 {
        let lanes = h.start(seed).map(|value| h.variable(value));
        // The last piece of the last four may be shorter than the others.
        let whole = length / PIECE_BYTES / 4;
        if whole > 0 {
            let end = h.add(contents, (whole * 4 * PIECE_BYTES) as u64);
            h.repeat(at, end, 4 * PIECE_BYTES as i64, |h, at| {
                for (index, lane) in lanes.into_iter().enumerate() {
                    let start = h.add(at, (index * PIECE_BYTES) as u64);
                    let sum = of_piece(h, start, PIECE_BYTES);
                    let value = h.b.use_var(lane);
                    let value = h.round(value, sum);
                    h.b.def_var(lane, value);
                }
            });
        }
        if pieces / 4 > whole {
            for (index, lane) in lanes.into_iter().enumerate() {
                let first = (whole * 4 + index) * PIECE_BYTES;
                let start = h.add(contents, first as u64);
                let sum = of_piece(&mut h, start, PIECE_BYTES.min(length - first));
                let value = h.b.use_var(lane);
                let value = h.round(value, sum);
                h.b.def_var(lane, value);
            }
        }
        let values = lanes.map(|lane| h.b.use_var(lane));
        h.merge(values)
    } else {
        h.add(seed, PRIME_5)
    };
    hash = h.add(hash, 8 * pieces as u64);
    for piece in pieces / 4 * 4..pieces {
        let first = piece * PIECE_BYTES;
        let start = h.add(contents, first as u64);
        let sum = of_piece(&mut h, start, PIECE_BYTES.min(length - first));
        hash = h.tail(hash, sum);
    }
    let hash = h.avalanche(hash);
    (h.b, hash)
}

/// The steps of the specification.
struct Hasher<'b> {
    b: FunctionBuilder<'b>,
}

impl Hasher<'_> {
    fn constant(&mut self, value: u64) -> Value {
        self.b.ins().iconst(types::I64, value.cast_signed())
    }

    fn variable(&mut self, value: Value) -> Variable {
        let variable = self.b.declare_var(types::I64);
        self.b.def_var(variable, value);
        variable
    }

    fn load(&mut self, ty: Type, at: Value, offset: i32) -> Value {
        let value = self.b.ins().load(ty, MemFlagsData::new().with_notrap(), at, offset);
        if ty == types::I64 { value } else { self.b.ins().uextend(types::I64, value) }
    }

    fn add(&mut self, value: Value, constant: u64) -> Value {
        let constant = self.constant(constant);
        self.b.ins().iadd(value, constant)
    }

    fn multiply(&mut self, value: Value, constant: u64) -> Value {
        let constant = self.constant(constant);
        self.b.ins().imul(value, constant)
    }

    fn rotate(&mut self, value: Value, bits: i64) -> Value {
        let bits = self.b.ins().iconst(types::I64, bits);
        self.b.ins().rotl(value, bits)
    }

    /// The lanes before any input.
    fn start(&mut self, seed: Value) -> [Value; 4] {
        [
            self.add(seed, PRIME_1.wrapping_add(PRIME_2)),
            self.add(seed, PRIME_2),
            seed,
            self.add(seed, PRIME_1.wrapping_neg()),
        ]
    }

    fn round(&mut self, lane: Value, input: Value) -> Value {
        let input = self.multiply(input, PRIME_2);
        let sum = self.b.ins().iadd(lane, input);
        let rotated = self.rotate(sum, 31);
        self.multiply(rotated, PRIME_1)
    }

    /// The lanes after all input that fills them.
    fn merge(&mut self, lanes: [Value; 4]) -> Value {
        let [a, b, c, d] = [(0, 1), (1, 7), (2, 12), (3, 18)]
            .map(|(lane, bits): (usize, i64)| self.rotate(lanes[lane], bits));
        let (ab, cd) = (self.b.ins().iadd(a, b), self.b.ins().iadd(c, d));
        let mut hash = self.b.ins().iadd(ab, cd);
        let zero = self.constant(0);
        for lane in lanes {
            let value = self.round(zero, lane);
            hash = self.b.ins().bxor(hash, value);
            hash = self.multiply(hash, PRIME_1);
            hash = self.add(hash, PRIME_4);
        }
        hash
    }

    /// Eight bytes that fill no four lanes.
    fn tail(&mut self, hash: Value, input: Value) -> Value {
        let zero = self.constant(0);
        let value = self.round(zero, input);
        let hash = self.b.ins().bxor(hash, value);
        let hash = self.rotate(hash, 27);
        let hash = self.multiply(hash, PRIME_1);
        self.add(hash, PRIME_4)
    }

    fn mix(&mut self, hash: Value, input: Value, prime: u64, bits: i64) -> Value {
        let value = self.multiply(input, prime);
        let hash = self.b.ins().bxor(hash, value);
        self.rotate(hash, bits)
    }

    fn avalanche(&mut self, mut hash: Value) -> Value {
        for (bits, prime) in [(33, Some(PRIME_2)), (29, Some(PRIME_3)), (32, None)] {
            let shifted = self.b.ins().ushr_imm_u(hash, bits);
            hash = self.b.ins().bxor(hash, shifted);
            if let Some(prime) = prime {
                hash = self.multiply(hash, prime);
            }
        }
        hash
    }
}

impl<'f> Control<'f> for Hasher<'f> {
    fn builder(&mut self) -> &mut FunctionBuilder<'f> {
        &mut self.b
    }
}
