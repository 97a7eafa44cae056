//! Every form, decoded by iced-x86, which knows nothing of this encoder.

use super::*;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

fn decode(assembler: Assembler) -> Instruction {
    let bytes = assembler.finish();
    let mut decoder = Decoder::with_ip(64, &bytes, 0x1000, DecoderOptions::NONE);
    decoder.decode()
}

fn register(width: Width, number: u8) -> Register {
    let first = match width {
        Width::Scalar | Width::B128 => Register::XMM0,
        Width::B256 => Register::YMM0,
        Width::B512 => Register::ZMM0,
    };
    first + u32::from(number)
}

fn gpr(g: Gpr) -> Register {
    Register::RAX + u32::from(g.0)
}

const WIDTHS: [Width; 4] = [Width::Scalar, Width::B128, Width::B256, Width::B512];
const REGISTERS: [u8; 6] = [0, 7, 8, 15, 16, 31];
/// Zero, short, scaled short, long, negative.
const DISPLACEMENTS: [i32; 8] = [0, 4, 64, 127, 128, 4096, -64, -100_000];
const BASES: [Gpr; 6] = [RAX, RSP, Gpr(5), Gpr(12), Gpr(13), Gpr(15)];

/// (operation, packed mnemonic, scalar mnemonic).
const THREE: [(Op, Mnemonic, Mnemonic); 9] = [
    (Op::ADD, Mnemonic::Vaddps, Mnemonic::Vaddss),
    (Op::SUB, Mnemonic::Vsubps, Mnemonic::Vsubss),
    (Op::MUL, Mnemonic::Vmulps, Mnemonic::Vmulss),
    (Op::DIV, Mnemonic::Vdivps, Mnemonic::Vdivss),
    (Op::MIN, Mnemonic::Vminps, Mnemonic::Vminss),
    (Op::MAX, Mnemonic::Vmaxps, Mnemonic::Vmaxss),
    (Op::FMA132, Mnemonic::Vfmadd132ps, Mnemonic::Vfmadd132ss),
    (Op::FMA213, Mnemonic::Vfmadd213ps, Mnemonic::Vfmadd213ss),
    (Op::FMA231, Mnemonic::Vfmadd231ps, Mnemonic::Vfmadd231ss),
];

#[test]
fn three_registers() {
    for (op, packed, scalar) in THREE {
        for width in WIDTHS {
            for (a, b, c) in REGISTERS.iter().flat_map(|&a| {
                REGISTERS.iter().flat_map(move |&b| REGISTERS.iter().map(move |&c| (a, b, c)))
            }) {
                let mut asm = Assembler::default();
                asm.vector(op, width, a, Some(b), Rm::Reg(c));
                let decoded = decode(asm);
                let mnemonic = if width == Width::Scalar { scalar } else { packed };
                assert_eq!(decoded.mnemonic(), mnemonic, "{width:?} {a} {b} {c}");
                assert_eq!(decoded.op0_register(), register(width, a));
                assert_eq!(decoded.op1_register(), register(width, b));
                assert_eq!(decoded.op2_register(), register(width, c));
            }
        }
    }
}

#[test]
fn memory_operands() {
    for (op, packed, scalar) in THREE {
        for width in WIDTHS {
            for base in BASES {
                for displacement in DISPLACEMENTS {
                    for (a, b) in [(0, 1), (9, 14), (17, 30)] {
                        let mut asm = Assembler::default();
                        asm.vector(op, width, a, Some(b), Rm::Mem { base, displacement });
                        let decoded = decode(asm);
                        let mnemonic = if width == Width::Scalar { scalar } else { packed };
                        assert_eq!(decoded.mnemonic(), mnemonic);
                        assert_eq!(decoded.op1_register(), register(width, b));
                        assert_memory(&decoded, 2, base, displacement);
                        assert!(!decoded.is_broadcast());
                    }
                }
            }
        }
    }
}

fn assert_memory(decoded: &Instruction, operand: u32, base: Gpr, displacement: i32) {
    assert_eq!(decoded.op_kind(operand), OpKind::Memory);
    assert_eq!(decoded.memory_base(), gpr(base));
    assert_eq!(decoded.memory_index(), Register::None);
    assert_eq!(decoded.memory_displacement64() as i64, i64::from(displacement));
}

#[test]
fn one_element_spread() {
    for width in [Width::B128, Width::B256, Width::B512] {
        for base in BASES {
            for displacement in DISPLACEMENTS {
                let mut asm = Assembler::default();
                asm.vector(Op::FMA231, width, 3, Some(29), Rm::Spread { base, displacement });
                let decoded = decode(asm);
                assert_eq!(decoded.mnemonic(), Mnemonic::Vfmadd231ps);
                assert_memory(&decoded, 2, base, displacement);
                assert!(decoded.is_broadcast());
                assert_eq!(decoded.op0_register(), register(width, 3));
                assert_eq!(decoded.op1_register(), register(width, 29));
            }
        }
    }
}

#[test]
fn two_operands() {
    let table = [
        (Op::LOAD, Mnemonic::Vmovups),
        (Op::SQRT, Mnemonic::Vsqrtps),
        (Op::TO_INT, Mnemonic::Vcvtps2dq),
        (Op::FROM_INT, Mnemonic::Vcvtdq2ps),
        (Op::WIDEN_F16, Mnemonic::Vcvtph2ps),
        (Op::WIDEN_U16, Mnemonic::Vpmovzxwd),
        (Op::WIDEN_I16, Mnemonic::Vpmovsxwd),
        (Op::WIDEN_I8, Mnemonic::Vpmovsxbd),
        (Op::BROADCAST, Mnemonic::Vbroadcastss),
    ];
    for (op, mnemonic) in table {
        for width in [Width::B128, Width::B256, Width::B512] {
            for (reg, base, displacement) in REGISTERS
                .iter()
                .flat_map(|&r| BASES.iter().flat_map(move |&b| DISPLACEMENTS.map(|d| (r, b, d))))
            {
                let mut asm = Assembler::default();
                asm.vector(op, width, reg, None, Rm::Mem { base, displacement });
                let decoded = decode(asm);
                assert_eq!(decoded.mnemonic(), mnemonic, "{op:?} {width:?}");
                assert_eq!(decoded.op0_register(), register(width, reg));
                assert_memory(&decoded, 1, base, displacement);
            }
        }
    }
    let mut asm = Assembler::default();
    asm.vector(Op::STORE, Width::B512, 20, None, Rm::Mem { base: RDI, displacement: 64 });
    let decoded = decode(asm);
    assert_eq!((decoded.mnemonic(), decoded.op1_register()), (Mnemonic::Vmovups, Register::ZMM20));
    assert_memory(&decoded, 0, RDI, 64);
    let mut asm = Assembler::default();
    asm.vector(Op::STORE, Width::Scalar, 4, None, Rm::Mem { base: RSI, displacement: 12 });
    assert_eq!(decode(asm).mnemonic(), Mnemonic::Vmovss);
    let mut asm = Assembler::default();
    asm.vector(Op::FROM_GPR, Width::B128, 19, None, Rm::Gpr(RAX));
    let decoded = decode(asm);
    assert_eq!((decoded.mnemonic(), decoded.op1_register()), (Mnemonic::Vmovd, Register::EAX));
}

#[test]
fn register_moves_and_logic() {
    for width in [Width::B128, Width::B256, Width::B512] {
        for (a, b) in REGISTERS.iter().flat_map(|&a| REGISTERS.map(|b| (a, b))) {
            for (op, second, mnemonic) in [
                (Op::MOVE, None, Mnemonic::Vmovaps),
                (Op::XOR, Some(b), Mnemonic::Vxorps),
                (Op::AND, Some(b), Mnemonic::Vandps),
                (Op::ADD_INT, Some(b), Mnemonic::Vpaddd),
                (Op::SUB_INT, Some(b), Mnemonic::Vpsubd),
            ] {
                let integer = matches!(op, Op::ADD_INT | Op::SUB_INT);
                if integer && (a >= 16 || b >= 16) != (width == Width::B512) {
                    continue;
                }
                let mut asm = Assembler::default();
                asm.vector(op, width, a, second, Rm::Reg(b));
                let decoded = decode(asm);
                assert_eq!(decoded.mnemonic(), mnemonic);
                assert_eq!(decoded.op0_register(), register(width, a));
            }
        }
    }
}

#[test]
fn immediates() {
    for width in [Width::B128, Width::B256, Width::B512] {
        let mut asm = Assembler::default();
        asm.vector_immediate(Op::SHIFT, width, 6, Some(18), Rm::Reg(5), 23);
        let decoded = decode(asm);
        assert_eq!(decoded.mnemonic(), Mnemonic::Vpslld);
        assert_eq!(decoded.op0_register(), register(width, 18));
        assert_eq!(decoded.op1_register(), register(width, 5));
        assert_eq!(decoded.immediate8(), 23);
        let mut asm = Assembler::default();
        asm.vector_immediate(Op::SHIFT_RIGHT, width, 2, Some(18), Rm::Reg(5), 2);
        let decoded = decode(asm);
        assert_eq!(decoded.mnemonic(), Mnemonic::Vpsrld);
        assert_eq!(decoded.op0_register(), register(width, 18));
        assert_eq!(decoded.immediate8(), 2);
    }
    for (width, reg, mnemonic) in [
        (Width::Scalar, 3, Mnemonic::Vroundss),
        (Width::B256, 3, Mnemonic::Vroundps),
        (Width::B256, 19, Mnemonic::Vrndscaleps),
        (Width::B512, 3, Mnemonic::Vrndscaleps),
    ] {
        let mut asm = Assembler::default();
        let second = (width == Width::Scalar).then_some(2);
        asm.vector_immediate(Op::ROUND, width, reg, second, Rm::Reg(2), 8);
        assert_eq!(decode(asm).mnemonic(), mnemonic);
    }
    let mut asm = Assembler::default();
    asm.vector_immediate(Op::UPPER_256, Width::B512, 17, None, Rm::Reg(30), 1);
    let decoded = decode(asm);
    assert_eq!(decoded.mnemonic(), Mnemonic::Vextractf64x4);
    assert_eq!(
        (decoded.op0_register(), decoded.op1_register()),
        (Register::YMM30, Register::ZMM17)
    );
    for (high, mnemonic) in [(2, Mnemonic::Vextractf128), (30, Mnemonic::Vextractf32x4)] {
        let mut asm = Assembler::default();
        asm.vector_immediate(Op::UPPER_128, Width::B256, 9, None, Rm::Reg(high), 1);
        let decoded = decode(asm);
        assert_eq!(decoded.mnemonic(), mnemonic);
        assert_eq!(decoded.op0_register(), Register::XMM0 + u32::from(high));
    }
}

#[test]
fn lane_movements() {
    let mut asm = Assembler::default();
    asm.vector(Op::HIGH_TO_LOW, Width::B128, 29, Some(3), Rm::Reg(3));
    assert_eq!(decode(asm).mnemonic(), Mnemonic::Vmovhlps);
    let mut asm = Assembler::default();
    asm.vector(Op::ODD, Width::B128, 29, None, Rm::Reg(3));
    assert_eq!(decode(asm).mnemonic(), Mnemonic::Vmovshdup);
}

#[test]
fn constants_lie_behind_the_code_and_are_shared() {
    let mut asm = Assembler::default();
    let one = asm.constant(1.0f32.to_bits(), Width::B512);
    let same = asm.constant(1.0f32.to_bits(), Width::Scalar);
    assert_eq!(one, same);
    asm.vector_immediate(Op::ROUND, Width::B512, 1, None, Rm::Pool(one), 8);
    asm.ret();
    let bytes = asm.finish();
    let mut decoder = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE);
    let target = decoder.decode().ip_rel_memory_address() as usize;
    assert_eq!(target % 64, 0);
    assert_eq!(bytes[target..target + 64], 1.0f32.to_le_bytes().repeat(16));
}

#[test]
fn general_purpose_instructions() {
    type Write = fn(&mut Assembler);
    let table: [(&str, Write); 30] = [
        ("mov r9,[rsp+128]", |a| a.load(Gpr(9), RSP, 128)),
        ("mov [rbp],r15", |a| a.store(Gpr(5), 0, Gpr(15))),
        ("mov r8,rdx", |a| a.mov(Gpr(8), RDX)),
        ("mov ecx,5", |a| a.set(RCX, 5)),
        ("mov r12d,5", |a| a.set(Gpr(12), 5)),
        ("mov r12,-1", |a| a.set(Gpr(12), -1)),
        ("mov qword [r13],-7", |a| a.store_immediate(Gpr(13), 0, -7)),
        ("add r11,64", |a| a.add_immediate(Rm::Gpr(Gpr(11)), 64)),
        ("add qword [rsp+8],4096", |a| {
            a.add_immediate(Rm::Mem { base: RSP, displacement: 8 }, 4096)
        }),
        ("add rax,r14", |a| a.add(RAX, Gpr(14))),
        ("add [rsp+8],rax", |a| a.add_to_memory(RSP, 8, RAX)),
        ("imul rdx,[rsp+8]", |a| a.multiply_memory(RDX, RSP, 8)),
        ("imul rdx,[rsp+8],100000", |a| a.multiply_immediate(RDX, RSP, 8, 100_000)),
        ("div r10", |a| a.divide(Gpr(10))),
        ("dec r10", |a| a.decrement(Rm::Gpr(Gpr(10)))),
        ("cmp rax,[rsp+16]", |a| a.compare_memory(RAX, RSP, 16)),
        ("and rsp,-64", |a| a.align_stack(64)),
        ("push r12", |a| a.push(Gpr(12))),
        ("prefetcht1 [r9+300]", |a| a.prefetch(Gpr(9), 300)),
        ("mov r9d,[rcx+128]", |a| a.load_u32(Gpr(9), RCX, 128)),
        ("mov eax,[rcx]", |a| a.load_u32(RAX, RCX, 0)),
        ("mov [r13],esi", |a| a.store_u32(Gpr(13), 0, RSI)),
        ("mov [rdx+40],r14d", |a| a.store_u32(RDX, 40, Gpr(14))),
        ("imul rdx,rax,-4096", |a| a.multiply_by(RDX, RAX, -4096)),
        ("imul r12,r8", |a| a.multiply(Gpr(12), Gpr(8))),
        ("cmp rsi,9216", |a| a.compare_immediate(RSI, 9216)),
        ("neg rax", |a| a.negate(RAX)),
        ("neg r11", |a| a.negate(Gpr(11))),
        ("sbb rdi,rdi", |a| a.carry_mask(RDI)),
        ("sub rdx,r10", |a| a.subtract(RDX, Gpr(10))),
    ];
    use iced_x86::{Formatter, NasmFormatter};
    for (text, write) in table {
        let mut asm = Assembler::default();
        write(&mut asm);
        let decoded = decode(asm);
        let mut formatter = NasmFormatter::new();
        let options = formatter.options_mut();
        options.set_memory_size_options(iced_x86::MemorySizeOptions::Minimal);
        options.set_number_base(iced_x86::NumberBase::Decimal);
        options.set_signed_immediate_operands(true);
        let mut found = String::new();
        formatter.format(&decoded, &mut found);
        assert_eq!(found.replace("byte [", "[").replace(", ", ","), text);
    }
}

#[test]
fn padding_is_one_run_of_nops() {
    for before in 0..16 {
        let mut asm = Assembler::default();
        (0..before).for_each(|_| asm.ret());
        asm.align(16);
        let bytes = asm.finish();
        assert_eq!(bytes.len() % 16, 0);
        let decoder = Decoder::with_ip(64, &bytes[before..], 0, DecoderOptions::NONE);
        assert!(decoder.into_iter().all(|i| i.mnemonic() == Mnemonic::Nop));
    }
}
