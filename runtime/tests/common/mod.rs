//! Tiny kernels in machine code, made by Cranelift, to run the runtime with.
#![allow(dead_code)] // Every test file uses a part of it.

use std::sync::Arc;

use alexc_runtime::{
    cpu::Arch,
    memory::Buffer,
    network::Network,
    program::{Base, Binding, KernelCode, Program, Step},
};
use cranelift_codegen::{
    Context,
    control::ControlPlane,
    ir::{AbiParam, Function, InstBuilder, MemFlagsData, Signature, UserFuncName, Value, types},
    isa::CallConv,
    settings,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// What a kernel does with element `i` of its buffers.
pub(crate) enum Body {
    /// `p1[i] = p0[i] + constant`.
    Add(f32),
    /// `p2[i] = p0[i] * p1[i]`.
    Multiply,
    /// `p1[i] = p0[len - 1 - i]`: an iteration needs what any thread wrote.
    Reverse(u64),
    /// `p2[0] = p0[i]; p1[i] = p2[0] * 0.5`: through scratch.
    HalfThroughScratch,
}

/// Compiles the kernel.
pub(crate) fn kernel(name: &str, body: &Body) -> KernelCode {
    let isa = cranelift_native::builder()
        .unwrap()
        .finish(settings::Flags::new(settings::builder()))
        .unwrap();
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); 3];
    let mut function = Function::with_name_signature(UserFuncName::default(), signature);
    let mut builder_context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut function, &mut builder_context);

    let (entry, head, work, end) =
        (b.create_block(), b.create_block(), b.create_block(), b.create_block());
    b.append_block_params_for_function_params(entry);
    let index = b.append_block_param(head, types::I64);
    b.switch_to_block(entry);
    let [params, first, last] = *b.block_params(entry) else { panic!("three parameters") };
    b.ins().jump(head, &[first.into()]);
    b.switch_to_block(head);
    let more = b.ins().icmp(cranelift_codegen::ir::condcodes::IntCC::UnsignedLessThan, index, last);
    b.ins().brif(more, work, &[], end, &[]);
    b.switch_to_block(work);

    let flags = MemFlagsData::trusted();
    let address = |b: &mut FunctionBuilder, param: i32, index: Value| {
        let base = b.ins().load(types::I64, flags, params, param * 8);
        let offset = b.ins().ishl_imm_u(index, 2);
        b.ins().iadd(base, offset)
    };
    let load = |b: &mut FunctionBuilder, param: i32, index: Value| {
        let address = address(b, param, index);
        b.ins().load(types::F32, flags, address, 0)
    };
    let store = |b: &mut FunctionBuilder, param: i32, index: Value, value: Value| {
        let address = address(b, param, index);
        b.ins().store(flags, value, address, 0);
    };
    match *body {
        Body::Add(constant) => {
            let x = load(&mut b, 0, index);
            let constant = b.ins().f32const(constant);
            let sum = b.ins().fadd(x, constant);
            store(&mut b, 1, index, sum);
        }
        Body::Multiply => {
            let x = load(&mut b, 0, index);
            let y = load(&mut b, 1, index);
            let product = b.ins().fmul(x, y);
            store(&mut b, 2, index, product);
        }
        Body::Reverse(len) => {
            let last = b.ins().iconst(types::I64, len as i64 - 1);
            let other = b.ins().isub(last, index);
            let x = load(&mut b, 0, other);
            store(&mut b, 1, index, x);
        }
        Body::HalfThroughScratch => {
            let zero = b.ins().iconst(types::I64, 0);
            let x = load(&mut b, 0, index);
            store(&mut b, 2, zero, x);
            let x = load(&mut b, 2, zero);
            let half = b.ins().f32const(0.5);
            let product = b.ins().fmul(x, half);
            store(&mut b, 1, index, product);
        }
    }
    let next = b.ins().iadd_imm_u(index, 1);
    b.ins().jump(head, &[next.into()]);
    b.switch_to_block(end);
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());

    let mut context = Context::for_function(function);
    let code = context.compile(&*isa, &mut ControlPlane::default()).unwrap();
    assert!(code.buffer.relocs().is_empty());
    KernelCode { name: name.to_string(), bytes: code.code_buffer().to_vec(), align: 64 }
}

/// A binding of `len` floats at the float `offset`.
pub(crate) fn floats(base: Base, offset: usize, len: usize, writes: bool) -> Binding {
    Binding { base, offset_bytes: offset * 4, len_bytes: len * 4, writes }
}

/// Elements of the input and the output of [`program`].
pub(crate) const LEN: usize = 1000;

/// Elements of the first of two steps side by side, which add to some elements each.
pub(crate) const SOME: usize = 640;

/// `output = reverse((input + 3) * weights) / 2 + 1`, in six steps; weights are `LEN` floats.
pub(crate) fn program() -> Program {
    let n = LEN;
    let step = |name: &str, kernel: usize, barrier: bool, params: &[Binding]| Step {
        name: name.to_string(),
        kernel,
        extent: params[0].len_bytes as u64 / 4,
        barrier,
        params: params.to_vec(),
    };
    let (a, b) = (1024, 0);
    let (some, rest) = (SOME, n - SOME);
    Program {
        name: "tiny".to_string(),
        arch: Arch::host().unwrap(),
        features: Vec::new(),
        kernels: vec![
            kernel("add3", &Body::Add(3.0)),
            kernel("multiply", &Body::Multiply),
            kernel("reverse", &Body::Reverse(n as u64)),
            kernel("half", &Body::HalfThroughScratch),
            kernel("add1", &Body::Add(1.0)),
            kernel("add3_rest", &Body::Add(3.0)),
        ],
        steps: vec![
            step(
                "add3",
                0,
                true,
                &[floats(Base::Input, 0, some, false), floats(Base::Arena, a, some, true)],
            ),
            step(
                "add3_rest",
                5,
                false,
                &[
                    floats(Base::Input, some, rest, false),
                    floats(Base::Arena, a + some, rest, true),
                ],
            ),
            // Any thread may multiply what another added.
            step(
                "multiply",
                1,
                true,
                &[
                    floats(Base::Arena, a, n, false),
                    floats(Base::Weights, 0, n, false),
                    floats(Base::Arena, b, n, true),
                ],
            ),
            step(
                "reverse",
                2,
                true,
                &[floats(Base::Arena, b, n, false), floats(Base::Arena, a, n, true)],
            ),
            step(
                "half",
                3,
                true,
                &[
                    floats(Base::Arena, a, n, false),
                    floats(Base::Arena, b, n, true),
                    floats(Base::Local, 16, 1, true),
                ],
            ),
            step(
                "add1",
                4,
                true,
                &[floats(Base::Arena, b, n, false), floats(Base::Output, 0, n, true)],
            ),
        ],
        input_dims: vec![1, 10, 10, 10],
        output_dims: vec![1, n],
        arena_bytes: 2048 * 4,
        weights_bytes: n * 4,
        local_bytes: 128,
        weights_key: 7,
    }
}

/// Element `i` of the weights of [`network`].
pub(crate) fn weight(i: usize) -> f32 {
    (i % 17) as f32 * 0.25 - 2.0
}

/// The weights of [`network`].
pub(crate) fn weights() -> Buffer {
    let mut buffer = Buffer::zeroed(LEN * 4).unwrap();
    for (i, element) in buffer.as_mut_f32().iter_mut().enumerate() {
        *element = weight(i);
    }
    buffer
}

/// [`program`], loaded.
pub(crate) fn network() -> Arc<Network> {
    Arc::new(Network::new(program(), weights().into()).unwrap())
}

/// Some input.
pub(crate) fn input() -> Vec<f32> {
    (0..LEN).map(|i| (i * 37 % 101) as f32 * 0.125 - 6.0).collect()
}

/// What the net must give, in plain Rust.
pub(crate) fn expected(input: &[f32]) -> Vec<f32> {
    let scaled: Vec<f32> = input.iter().enumerate().map(|(i, x)| (x + 3.0) * weight(i)).collect();
    scaled.iter().rev().map(|x| x * 0.5 + 1.0).collect()
}
