//! `NET_check_weights`: whether a file is the one that was built with this object, whole and
//! undamaged, before anything counts on it.

use super::checksum;
use super::control::{Control, begin, finish};
use super::entry::{ALIGNMENT_MASK, MISALIGNED, NULL_POINTER, OK, returns_int};
use crate::target::Target;
use alexc_runtime::container::HEADER_BYTES;
use alexc_runtime::program::Program;
use alexc_runtime::weights::identity;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, Function, InstBuilder, MemFlagsData, Signature, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// The file is no file of packed weights.
pub(super) const NOT_WEIGHTS: i64 = 3;
/// It belongs to another net or another build.
pub(super) const OTHER_BUILD: i64 = 4;
/// It is shorter or longer than it was.
pub(super) const WRONG_LENGTH: i64 = 5;
/// Some of its bits are not what they were.
pub(super) const DAMAGED: i64 = 6;

/// `int (const void *file, size_t bytes)`.
pub(super) fn signature(target: &Target) -> Signature {
    returns_int(target, &[types::I64; 2])
}

/// `NET_check_weights_header`: all that can be said without reading the weights. `function` has
/// [`signature`].
pub(super) fn build_header(
    program: &Program,
    xxh64: FuncRef,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let [file, bytes] = begin(&mut b)[..] else { return };
    let null = b.ins().icmp_imm_u(IntCC::Equal, file, 0);
    b.return_if(null, NULL_POINTER);
    let rest = b.ins().band_imm_u(file, ALIGNMENT_MASK);
    b.return_if(rest, MISALIGNED);

    let word = |b: &mut FunctionBuilder<'_>, at: i32| {
        b.ins().load(types::I64, MemFlagsData::new().with_notrap(), file, at)
    };
    // Of every version: what the file is, then the version.
    let [magic, version, key] = identity(program);
    let short = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, bytes, 16);
    b.return_if(short, NOT_WEIGHTS);
    for (at, expected, status) in [(0, magic, NOT_WEIGHTS), (8, version, OTHER_BUILD)] {
        let found = word(&mut b, at);
        let expected = b.ins().iconst(types::I64, expected.cast_signed());
        let other = b.ins().icmp(IntCC::NotEqual, found, expected);
        b.return_if(other, status);
    }
    let short = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, bytes, HEADER_BYTES as i64);
    b.return_if(short, WRONG_LENGTH);

    // A damaged header tells nothing.
    let (checked, seed) = (b.ins().iconst(types::I64, 56), b.ins().iconst(types::I64, 0));
    let call = b.ins().call(xxh64, &[file, checked, seed]);
    let sum = b.inst_results(call)[0];
    let stated = word(&mut b, 56);
    let wrong = b.ins().icmp(IntCC::NotEqual, sum, stated);
    b.return_if(wrong, DAMAGED);
    let stated = word(&mut b, 24);
    let contents_bytes = b.ins().iadd_imm_s(bytes, -(HEADER_BYTES as i64));
    let wrong = b.ins().icmp(IntCC::NotEqual, stated, contents_bytes);
    b.return_if(wrong, WRONG_LENGTH);
    let found = word(&mut b, 16);
    let expected = b.ins().iconst(types::I64, key.cast_signed());
    let other = b.ins().icmp(IntCC::NotEqual, found, expected);
    b.return_if(other, OTHER_BUILD);
    let length = b.ins().iconst(types::I64, program.weights_bytes as i64);
    let other = b.ins().icmp(IntCC::NotEqual, contents_bytes, length);
    b.return_if(other, OTHER_BUILD);

    let ok = b.ins().iconst(types::I32, OK);
    b.ins().return_(&[ok]);
    finish(b, target);
}

/// `NET_check_weights`: the header, then every bit of the weights. `function` has [`signature`].
pub(super) fn build(
    program: &Program,
    header: FuncRef,
    xxh64: FuncRef,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let [file, bytes] = begin(&mut b)[..] else { return };
    let call = b.ins().call(header, &[file, bytes]);
    let status = b.inst_results(call)[0];
    b.return_unless_ok(status);
    let contents = b.ins().iadd_imm_s(file, HEADER_BYTES as i64);
    let (mut b, sum) = checksum::of_pieces(b, xxh64, contents, program.weights_bytes);
    let stated = b.ins().load(types::I64, MemFlagsData::new().with_notrap(), file, 32);
    let wrong = b.ins().icmp(IntCC::NotEqual, sum, stated);
    b.return_if(wrong, DAMAGED);
    let ok = b.ins().iconst(types::I32, OK);
    b.ins().return_(&[ok]);
    finish(b, target);
}
