//! `NET_self_test`: runs the net on an input that it makes itself, and holds the output against
//! the one that was computed when the net was compiled.

use super::control::{Control, begin, finish};
use super::entry::{NULL_POINTER, OK};
use crate::target::Target;
use alexc_runtime::program::Program;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    FuncRef, Function, GlobalValue, InstBuilder, MemFlagsData, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// The output is not the expected one.
pub(super) const SELF_TEST_FAILED: i64 = 7;

/// What the test expects.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    /// Beginning of SplitMix64, which draws the input: element i is `2 u - 1`, where `u` is the
    /// upper 24 bits of the i-th number, times 2^-24.
    pub stream: u64,
    /// The output for that input.
    pub expected: Vec<f32>,
}

impl SelfTest {
    /// Other processors may round otherwise; nothing else may differ.
    fn tolerance(&self) -> f32 {
        1e-4 * self.expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()))
    }
}

/// What the function refers to.
pub(super) struct References {
    /// `NET_run`.
    pub(super) run: FuncRef,
    /// [`SelfTest::expected`].
    pub(super) expected: GlobalValue,
}

/// Writes the function. `function` has [`signature`].
pub(super) fn build(
    program: &Program,
    test: &SelfTest,
    references: &References,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let [input, output, workspace, weights] = begin(&mut b)[..] else { return };
    let null = b.ins().icmp_imm_u(IntCC::Equal, input, 0);
    b.return_if(null, NULL_POINTER);
    draw(&mut b, input, program.input_dims.iter().product(), test.stream);

    let arguments = [input, output, workspace, weights];
    let call = b.ins().call(references.run, &arguments);
    let status = b.inst_results(call)[0];
    b.return_unless_ok(status);

    let flags = MemFlagsData::new().with_notrap();
    let expected = b.ins().symbol_value(types::I64, references.expected);
    let distance = b.ins().isub(expected, output);
    let tolerance = b.ins().f32const(test.tolerance());
    let at = b.declare_var(types::I64);
    b.def_var(at, output);
    let end = b.ins().iadd_imm_s(output, 4 * test.expected.len() as i64);
    b.repeat(at, end, 4, |b, at| {
        let found = b.ins().load(types::F32, flags, at, 0);
        let at = b.ins().iadd(at, distance);
        let expected = b.ins().load(types::F32, flags, at, 0);
        let difference = b.ins().fsub(found, expected);
        let difference = b.ins().fabs(difference);
        // Fails for NaN as well.
        let near = b.ins().fcmp(FloatCC::LessThanOrEqual, difference, tolerance);
        let far = b.ins().bxor_imm_u(near, 1);
        b.return_if(far, SELF_TEST_FAILED);
    });
    let ok = b.ins().iconst(types::I32, OK);
    b.ins().return_(&[ok]);
    finish(b, target);
}

/// Fills the input. Every step is exact: the thread's rounding makes no difference.
fn draw(b: &mut FunctionBuilder<'_>, input: Value, len: usize, stream: u64) {
    let at = b.declare_var(types::I64);
    b.def_var(at, input);
    let state = b.declare_var(types::I64);
    let start = b.ins().iconst(types::I64, stream.cast_signed());
    b.def_var(state, start);
    let end = b.ins().iadd_imm_s(input, 4 * len as i64);
    b.repeat(at, end, 4, |b, at| {
        let constant = |b: &mut FunctionBuilder<'_>, value: u64| {
            b.ins().iconst(types::I64, value.cast_signed())
        };
        let step = constant(b, 0x9E37_79B9_7F4A_7C15);
        let now = b.use_var(state);
        let mut z = b.ins().iadd(now, step);
        b.def_var(state, z);
        for (bits, factor) in
            [(30, Some(0xBF58_476D_1CE4_E5B9)), (27, Some(0x94D0_49BB_1331_11EB)), (31, None)]
        {
            let shifted = b.ins().ushr_imm_u(z, bits);
            z = b.ins().bxor(z, shifted);
            if let Some(factor) = factor {
                let factor = constant(b, factor);
                z = b.ins().imul(z, factor);
            }
        }
        let upper = b.ins().ushr_imm_u(z, 40);
        let upper = b.ins().fcvt_from_sint(types::F32, upper);
        let scale = b.ins().f32const(1.0 / (1 << 23) as f32);
        let one = b.ins().f32const(1.0);
        let doubled = b.ins().fmul(upper, scale);
        let value = b.ins().fsub(doubled, one);
        b.ins().store(MemFlagsData::new().with_notrap(), value, at, 0);
    });
}
