//! `NET_variant`: the best variant of the code that the processor has all instructions for, asked
//! of the processor itself (CPUID, and XCR0 for the registers that the system saves), before an
//! instruction that it lacks ends the program. Cranelift has no such instructions, so the function
//! is machine code here.

use alexc_runtime::cpu::Feature;

/// Bits that must be set.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    /// ECX of leaf 1.
    leaf_1: u32,
    /// EBX of leaf 7.
    leaf_7: u32,
    /// ECX of leaf 0x8000_0001.
    extended: u32,
    /// EAX of XCR0.
    saved: u32,
}

impl Needs {
    /// From the tables of the processors' manuals.
    fn of(features: &[Feature]) -> Needs {
        let mut needs = Needs::default();
        // XMM and YMM registers; for AVX-512 also its masks and the rest of ZMM.
        let (ymm, zmm) = (0b110, 0b1110_0110);
        for feature in features {
            let (register, bit, saved) = match feature {
                Feature::Sse3 => (&mut needs.leaf_1, 0, 0),
                Feature::Ssse3 => (&mut needs.leaf_1, 9, 0),
                Feature::Fma => (&mut needs.leaf_1, 12, ymm),
                Feature::Cmpxchg16b => (&mut needs.leaf_1, 13, 0),
                Feature::Sse41 => (&mut needs.leaf_1, 19, 0),
                Feature::Sse42 => (&mut needs.leaf_1, 20, 0),
                Feature::Movbe => (&mut needs.leaf_1, 22, 0),
                Feature::Popcnt => (&mut needs.leaf_1, 23, 0),
                Feature::Osxsave => (&mut needs.leaf_1, 27, 0),
                Feature::Avx => (&mut needs.leaf_1, 28, ymm),
                Feature::F16c => (&mut needs.leaf_1, 29, ymm),
                Feature::Bmi1 => (&mut needs.leaf_7, 3, 0),
                Feature::Avx2 => (&mut needs.leaf_7, 5, ymm),
                Feature::Bmi2 => (&mut needs.leaf_7, 8, 0),
                Feature::Avx512f => (&mut needs.leaf_7, 16, zmm),
                Feature::Avx512dq => (&mut needs.leaf_7, 17, zmm),
                Feature::Avx512cd => (&mut needs.leaf_7, 28, zmm),
                Feature::Avx512bw => (&mut needs.leaf_7, 30, zmm),
                Feature::Avx512vl => (&mut needs.leaf_7, 31, zmm),
                Feature::Lahf => (&mut needs.extended, 0, 0),
                Feature::Lzcnt => (&mut needs.extended, 5, 0),
                // Other processors'.
                Feature::Neon | Feature::Fp16 | Feature::Rvv => continue,
            };
            *register |= 1 << bit;
            needs.saved |= saved;
        }
        if needs.saved != 0 {
            // Without it XCR0 cannot be read.
            needs.leaf_1 |= 1 << 27;
        }
        needs
    }
}

/// Machine code of `int (void)` for x86-64, in the convention of every system: the number of the
/// last of the variants whose features the processor has, or -1. Variants need more and more.
///
/// CPUID is slow where a hypervisor answers it, so each leaf is asked once and only if somebody
/// needs it. No leaf's existence is asked for: 0x8000_0001 says that there is a 64-bit mode, and a
/// system that uses XSAVE has leaf 0xD, so 7 too.
pub(super) fn choose_x86(variants: &[&[Feature]]) -> Vec<u8> {
    let needs: Vec<Needs> = variants.iter().map(|features| Needs::of(features)).collect();
    let any = |mask: fn(&Needs) -> u32| needs.iter().any(|needs| mask(needs) != 0);
    let mut code = Code::default();
    // push rbx; and zero, four times: r8d to r11d are leaf 1, leaf 7, the extended leaf and XCR0.
    code.bytes.push(0x53);
    code.bytes.extend([0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9]);
    code.bytes.extend([0x45, 0x31, 0xd2, 0x45, 0x31, 0xdb]);
    if any(|needs| needs.leaf_1) {
        code.leaf(1);
        // mov r8d, ecx
        code.bytes.extend([0x41, 0x89, 0xc8]);
    }
    if any(|needs| needs.extended) {
        code.leaf(0x8000_0001);
        // mov r10d, ecx
        code.bytes.extend([0x41, 0x89, 0xca]);
    }
    if any(|needs| needs.leaf_7 | needs.saved) {
        // bt r8d, 27 (OSXSAVE); jnc
        code.bytes.extend([0x41, 0x0f, 0xba, 0xe0, 27]);
        let without = code.jump(0x83);
        code.leaf(7);
        // mov r9d, ebx; xor ecx, ecx; xgetbv; mov r11d, eax
        code.bytes.extend([0x41, 0x89, 0xd9, 0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x41, 0x89, 0xc3]);
        code.land(without);
    }
    for (number, needs) in needs.iter().enumerate().rev() {
        let masks = [needs.leaf_1, needs.leaf_7, needs.extended, needs.saved];
        let mut failures = Vec::new();
        for (register, mask) in (0_u8..).zip(masks).filter(|&(_, mask)| mask != 0) {
            // mov eax, r8d + register; and eax, mask; cmp eax, mask; jne
            code.bytes.extend([0x44, 0x89, 0xc0 | register << 3, 0x25]);
            code.bytes.extend(mask.to_le_bytes());
            code.bytes.push(0x3d);
            code.bytes.extend(mask.to_le_bytes());
            failures.push(code.jump(0x85));
        }
        code.leave(number as u32);
        failures.into_iter().for_each(|failure| code.land(failure));
    }
    code.leave(u32::MAX);
    code.bytes
}

#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
}

impl Code {
    /// mov eax, leaf; xor ecx, ecx; cpuid
    fn leaf(&mut self, leaf: u32) {
        self.bytes.push(0xb8);
        self.bytes.extend(leaf.to_le_bytes());
        self.bytes.extend([0x31, 0xc9, 0x0f, 0xa2]);
    }

    /// A conditional jump to where [`Code::land`] will be called with the result.
    fn jump(&mut self, condition: u8) -> usize {
        self.bytes.extend([0x0f, condition, 0, 0, 0, 0]);
        self.bytes.len()
    }

    fn land(&mut self, jump: usize) {
        let distance = (self.bytes.len() - jump) as u32;
        self.bytes[jump - 4..jump].copy_from_slice(&distance.to_le_bytes());
    }

    /// mov eax, result; pop rbx; ret
    fn leave(&mut self, result: u32) {
        self.bytes.push(0xb8);
        self.bytes.extend(result.to_le_bytes());
        self.bytes.extend([0x5b, 0xc3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alexc_runtime::cpu::Level;
    use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
    use std::collections::HashMap;

    /// What a processor and its system say of themselves.
    #[derive(Clone, Copy, Default)]
    struct Machine {
        leaf_1_ecx: u32,
        leaf_7_ebx: u32,
        extended_ecx: u32,
        xcr0: u32,
    }

    /// Follows the code as an independent decoder reads it. Registers by their 32-bit names.
    fn chosen(code: &[u8], machine: Machine) -> i32 {
        use iced_x86::Register::{EAX, EBX, ECX, EDX};
        let mut registers: HashMap<iced_x86::Register, u32> = HashMap::new();
        let (mut below, mut equal, mut carry) = (false, false, false);
        let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
        for _ in 0..200 {
            let instruction: Instruction = decoder.decode();
            assert!(!instruction.is_invalid(), "at {:#x}", instruction.ip());
            let (first, second) = (instruction.op0_register(), instruction.op1_register());
            let value = |registers: &HashMap<_, u32>| match second {
                iced_x86::Register::None => instruction.immediate(1) as u32,
                second => registers[&second],
            };
            let jumps = match instruction.mnemonic() {
                Mnemonic::Push | Mnemonic::Pop => false,
                Mnemonic::Ret => return registers[&EAX].cast_signed(),
                Mnemonic::Mov => {
                    let value = value(&registers);
                    registers.insert(first, value);
                    false
                }
                Mnemonic::Xor => {
                    assert_eq!(first, second);
                    registers.insert(first, 0);
                    false
                }
                Mnemonic::And => {
                    let value = registers[&first] & value(&registers);
                    registers.insert(first, value);
                    false
                }
                Mnemonic::Cmp => {
                    let (left, right) = (registers[&first], value(&registers));
                    (below, equal) = (left < right, left == right);
                    false
                }
                Mnemonic::Bt => {
                    carry = registers[&first] >> instruction.immediate(1) & 1 == 1;
                    false
                }
                Mnemonic::Cpuid => {
                    assert_eq!(registers[&ECX], 0);
                    // Whoever lacks a leaf answers something: all bits, to be sure.
                    let [b, c] = match registers[&EAX] {
                        1 => [0, machine.leaf_1_ecx],
                        7 => [machine.leaf_7_ebx, 0],
                        0x8000_0001 => [0, machine.extended_ecx],
                        _ => [u32::MAX; 2],
                    };
                    let answers = [(EAX, 0x5555), (EBX, b), (ECX, c), (EDX, 0x5555)];
                    registers.extend(answers);
                    false
                }
                Mnemonic::Xgetbv => {
                    assert!(machine.leaf_1_ecx >> 27 & 1 == 1, "XGETBV without OSXSAVE");
                    assert_eq!(registers[&ECX], 0);
                    registers.extend([(EAX, machine.xcr0), (EDX, 0x5555)]);
                    false
                }
                Mnemonic::Jb => below,
                Mnemonic::Jne => !equal,
                Mnemonic::Jae => !carry,
                other => panic!("{other:?}"),
            };
            if jumps {
                let target = instruction.near_branch_target();
                decoder.set_position(target as usize).unwrap();
                decoder.set_ip(target);
            }
        }
        panic!("the code goes on and on");
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let levels = [Level::V2, Level::V3, Level::V4];
        let all = choose_x86(&levels.map(Level::features));
        let v2 = Machine { leaf_1_ecx: 0x0098_2201, extended_ecx: 1, ..Default::default() };
        let v3 =
            Machine { leaf_1_ecx: 0x38d8_3201, leaf_7_ebx: 0x128, extended_ecx: 0x21, xcr0: 6 };
        let v4 = Machine { leaf_7_ebx: 0xd003_0128, xcr0: 0xe6, ..v3 };
        let everything = Machine {
            leaf_1_ecx: u32::MAX,
            leaf_7_ebx: u32::MAX,
            extended_ecx: u32::MAX,
            xcr0: u32::MAX,
        };
        for (machine, best) in [
            (Machine::default(), -1),
            (Machine { extended_ecx: 0, ..v2 }, -1),
            (Machine { leaf_1_ecx: v2.leaf_1_ecx & !1, ..v2 }, -1),
            (v2, 0),
            // AVX2 without a system that saves its registers, in three degrees.
            (Machine { leaf_1_ecx: v3.leaf_1_ecx & !(1 << 27), ..v3 }, 0),
            (Machine { xcr0: 2, ..v3 }, 0),
            (Machine { xcr0: 4, ..v3 }, 0),
            (Machine { leaf_7_ebx: 0x120, ..v3 }, 0),
            (Machine { extended_ecx: 1, ..v3 }, 0),
            (v3, 1),
            (Machine { xcr0: 6, ..v4 }, 1),
            (Machine { leaf_7_ebx: v4.leaf_7_ebx & !(1 << 31), ..v4 }, 1),
            (v4, 2),
            (everything, 2),
        ] {
            assert_eq!(chosen(&all, machine), best);
        }
        // Nothing needed, nothing asked.
        assert_eq!(chosen(&choose_x86(&[&[]]), Machine::default()), 0);
        assert_eq!(chosen(&choose_x86(&[Level::V3.features()]), v2), -1);
        assert_eq!(chosen(&choose_x86(&[Level::V3.features()]), v4), 0);
    }

    /// What the psABI's levels are, as bits of the manuals.
    #[test]
    fn levels_as_bits() {
        let v2 = Needs { leaf_1: 0x0098_2201, leaf_7: 0, extended: 1, saved: 0 };
        assert_eq!(Needs::of(Level::V2.features()), v2);
        let v3 = Needs { leaf_1: 0x38d8_3201, leaf_7: 0x128, extended: 0x21, saved: 6 };
        assert_eq!(Needs::of(Level::V3.features()), v3);
        let v4 = Needs { leaf_7: 0xd003_0128, saved: 0xe6, ..v3 };
        assert_eq!(Needs::of(Level::V4.features()), v4);
        assert_eq!(Needs::of(&[]), Needs::default());
    }
}
