//! `NET_label`: names of the classes.

use super::control::{Control, begin, finish};
use super::entry::returns_int;
use crate::target::Target;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Function, GlobalValue, InstBuilder, MemFlagsData, Signature, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// Where each name begins, as 32-bit numbers, and behind them the names, each ended by a zero.
pub(super) fn table(labels: &[String]) -> Vec<u8> {
    let mut offsets = Vec::new();
    let mut names: Vec<u8> = Vec::new();
    for label in labels {
        let at = 4 * labels.len() + names.len();
        offsets.extend(u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes());
        names.extend(label.bytes().filter(|&byte| byte != 0));
        names.push(0);
    }
    [offsets, names].concat()
}

/// `const char *(int class)`.
pub(super) fn signature(target: &Target) -> Signature {
    let mut signature = returns_int(target, &[types::I32]);
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

/// Writes the function. `function` has [`signature`].
pub(super) fn build(count: usize, table: GlobalValue, target: &Target, function: &mut Function) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let class = begin(&mut b)[0];
    let null = b.ins().iconst(types::I64, 0);
    let result = b.declare_var(types::I64);
    b.def_var(result, null);
    // Negative numbers are large ones here.
    let there = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, class, count as i64);
    b.when(there, |b| {
        let table = b.ins().symbol_value(types::I64, table);
        let class = b.ins().uextend(types::I64, class);
        let class = b.ins().ishl_imm_u(class, 2);
        let entry = b.ins().iadd(table, class);
        let offset = b.ins().load(types::I32, MemFlagsData::trusted(), entry, 0);
        let offset = b.ins().uextend(types::I64, offset);
        let name = b.ins().iadd(table, offset);
        b.def_var(result, name);
    });
    let result = b.use_var(result);
    b.ins().return_(&[result]);
    finish(b, target);
}
