//! `NET_check_cpu`: whether the processor has what the code needs, asked of the processor itself
//! (CPUID, and XCR0 for the registers that the system saves), before an instruction that it lacks
//! ends the program. Cranelift has no such instructions, so the function is machine code here.

use super::entry::OK;
use alexc_runtime::cpu::Feature;
use alexc_runtime::program::Program;

/// The processor lacks something.
pub(super) const UNSUPPORTED_CPU: i64 = 8;

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

/// Machine code of `int (void)` for x86-64, in the convention of every system.
pub(super) fn check_x86(program: &Program) -> Vec<u8> {
    let needs = Needs::of(&program.features);
    let mut code = Code { bytes: Vec::new(), failures: Vec::new() };
    // push rbx
    code.bytes.push(0x53);
    if needs.leaf_7 != 0 {
        code.leaf(0);
        code.at_least(7);
    }
    if needs.leaf_1 != 0 {
        code.leaf(1);
        // and ecx, mask; cmp ecx, mask
        code.all_of(&[0x81, 0xe1], &[0x81, 0xf9], needs.leaf_1);
    }
    if needs.leaf_7 != 0 {
        code.leaf(7);
        // and ebx, mask; cmp ebx, mask
        code.all_of(&[0x81, 0xe3], &[0x81, 0xfb], needs.leaf_7);
    }
    if needs.extended != 0 {
        code.leaf(0x8000_0000);
        code.at_least(0x8000_0001);
        code.leaf(0x8000_0001);
        code.all_of(&[0x81, 0xe1], &[0x81, 0xf9], needs.extended);
    }
    if needs.saved != 0 {
        // xor ecx, ecx; xgetbv; and eax, mask; cmp eax, mask
        code.bytes.extend([0x31, 0xc9, 0x0f, 0x01, 0xd0]);
        code.all_of(&[0x25], &[0x3d], needs.saved);
    }
    code.finish()
}

struct Code {
    bytes: Vec<u8>,
    /// Where the distances of jumps to the failure stand.
    failures: Vec<usize>,
}

impl Code {
    /// mov eax, leaf; xor ecx, ecx; cpuid
    fn leaf(&mut self, leaf: u32) {
        self.bytes.push(0xb8);
        self.bytes.extend(leaf.to_le_bytes());
        self.bytes.extend([0x31, 0xc9, 0x0f, 0xa2]);
    }

    /// cmp eax, least; jb failure
    fn at_least(&mut self, least: u32) {
        self.bytes.push(0x3d);
        self.bytes.extend(least.to_le_bytes());
        self.fail(0x82);
    }

    /// The bits of the mask are all set; `and` and `compare` take it as their last four bytes.
    fn all_of(&mut self, and: &[u8], compare: &[u8], mask: u32) {
        for instruction in [and, compare] {
            self.bytes.extend(instruction);
            self.bytes.extend(mask.to_le_bytes());
        }
        // jne
        self.fail(0x85);
    }

    fn fail(&mut self, condition: u8) {
        self.bytes.extend([0x0f, condition]);
        self.failures.push(self.bytes.len());
        self.bytes.extend([0; 4]);
    }

    /// mov eax, status; pop rbx; ret, for both statuses.
    fn finish(mut self) -> Vec<u8> {
        self.leave(OK);
        let failure = self.bytes.len();
        self.leave(UNSUPPORTED_CPU);
        for at in self.failures {
            let distance = (failure - at - 4) as u32;
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes
    }

    fn leave(&mut self, status: i64) {
        self.bytes.push(0xb8);
        self.bytes.extend((status as u32).to_le_bytes());
        self.bytes.extend([0x5b, 0xc3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alexc_runtime::cpu::Level;

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
