//! What this machine's processor can do, asked from the processor (CPUID, and XCR0 for the
//! registers that the operating system saves), never guessed from its name.

use std::{fmt, str::FromStr};

/// Instruction set families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
    /// No processor's: OpenCL C, for the compiler of a device's driver.
    OpenCl,
}

impl Arch {
    /// All that machine code can be made for.
    pub const ALL: &[Arch] = &[Arch::X86_64, Arch::Aarch64, Arch::Riscv64];

    /// The machine's, None where no code for it can be made.
    pub fn host() -> Option<Arch> {
        Arch::ALL.iter().find(|arch| arch.name() == std::env::consts::ARCH).copied()
    }

    /// Name as in target triples.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Riscv64 => "riscv64",
            Arch::OpenCl => "opencl",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Declares [`Feature`], so that no list of features can miss one.
macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// An extension of an instruction set beyond its baseline.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Feature {
            $($(#[$doc])* $variant,)*
        }

        impl Feature {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Feature] = &[$(Feature::$variant),*];

            /// Name in lower case, as Linux and compilers write it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Feature::$variant => $name,)*
                }
            }
        }
    };
}

features! {
    /// 16-byte compare and exchange.
    Cmpxchg16b = "cmpxchg16b",
    /// LAHF and SAHF in 64-bit code.
    Lahf = "lahf",
    /// Population count.
    Popcnt = "popcnt",
    /// SSE3.
    Sse3 = "sse3",
    /// Supplemental SSE3.
    Ssse3 = "ssse3",
    /// SSE4.1.
    Sse41 = "sse4.1",
    /// SSE4.2.
    Sse42 = "sse4.2",
    /// 256-bit vectors of floats.
    Avx = "avx",
    /// 256-bit vectors of integers.
    Avx2 = "avx2",
    /// Bit manipulation, first set.
    Bmi1 = "bmi1",
    /// Bit manipulation, second set.
    Bmi2 = "bmi2",
    /// Conversion between binary16 and binary32.
    F16c = "f16c",
    /// Fused multiply-add.
    Fma = "fma",
    /// Leading zero count.
    Lzcnt = "lzcnt",
    /// Byte-swapping moves.
    Movbe = "movbe",
    /// XGETBV, by which a program learns the registers that the system saves.
    Osxsave = "osxsave",
    /// AVX-512 foundation.
    Avx512f = "avx512f",
    /// AVX-512 on bytes and words.
    Avx512bw = "avx512bw",
    /// AVX-512 conflict detection.
    Avx512cd = "avx512cd",
    /// AVX-512 on double and quad words.
    Avx512dq = "avx512dq",
    /// AVX-512 on shorter vectors.
    Avx512vl = "avx512vl",
    /// Arm's 128-bit vectors.
    Neon = "neon",
    /// Arm's arithmetic on binary16.
    Fp16 = "fp16",
    /// RISC-V's vectors.
    Rvv = "v",
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Feature {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Feature, UnknownName> {
        let known = Feature::ALL.iter().find(|feature| feature.name() == text);
        known.copied().ok_or_else(|| UnknownName(text.to_string()))
    }
}

/// No feature or level has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no CPU feature or level that alexc knows")]
pub struct UnknownName(pub String);

/// The levels of the x86-64 psABI; each contains those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The baseline, which every x86-64 has: SSE2.
    V1,
    /// SSE4.2.
    V2,
    /// AVX2 and FMA.
    V3,
    /// AVX-512.
    V4,
}

impl Level {
    /// Lowest first.
    pub const ALL: &[Level] = &[Level::V1, Level::V2, Level::V3, Level::V4];

    /// Name in the psABI.
    pub fn name(self) -> &'static str {
        match self {
            Level::V1 => "x86-64-v1",
            Level::V2 => "x86-64-v2",
            Level::V3 => "x86-64-v3",
            Level::V4 => "x86-64-v4",
        }
    }

    /// What a processor of this level has beyond the baseline, lower levels included.
    pub fn features(self) -> &'static [Feature] {
        use Feature::*;
        // The psABI's table, row after row: v2 is the first 7, v3 the first 16, v4 all.
        const TABLE: &[Feature] = &[
            Cmpxchg16b, Lahf, Popcnt, Sse3, Sse41, Sse42, Ssse3, // v2
            Avx, Avx2, Bmi1, Bmi2, F16c, Fma, Lzcnt, Movbe, Osxsave, // v3
            Avx512f, Avx512bw, Avx512cd, Avx512dq, Avx512vl, // v4
        ];
        match self {
            Level::V1 => &[],
            Level::V2 => &TABLE[..7],
            Level::V3 => &TABLE[..16],
            Level::V4 => TABLE,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Level, UnknownName> {
        let known = Level::ALL.iter().find(|level| level.name() == text);
        known.copied().ok_or_else(|| UnknownName(text.to_string()))
    }
}

/// What a processor can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Its family, None where alexc makes no code for it.
    pub arch: Option<Arch>,
    features: Vec<Feature>,
}

impl Cpu {
    /// Asks this machine.
    pub fn detect() -> Cpu {
        Cpu {
            arch: Arch::host(),
            features: Feature::ALL.iter().copied().filter(|&feature| detect(feature)).collect(),
        }
    }

    /// An x86-64 of exactly this level.
    pub fn of_level(level: Level) -> Cpu {
        let mut features = level.features().to_vec();
        features.sort();
        Cpu { arch: Some(Arch::X86_64), features }
    }

    /// What it has beyond its baseline, sorted.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// It has this feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// It has them all.
    pub fn has_all(&self, features: &[Feature]) -> bool {
        features.iter().all(|&feature| self.has(feature))
    }

    /// The highest level it reaches; None where it is no x86-64.
    pub fn level(&self) -> Option<Level> {
        if self.arch != Some(Arch::X86_64) {
            return None;
        }
        Level::ALL.iter().rev().find(|level| self.has_all(level.features())).copied()
    }

    /// Fused multiply-add on f32 vectors.
    pub fn fma(&self) -> bool {
        match self.arch {
            Some(Arch::X86_64) => self.has(Feature::Fma),
            Some(Arch::Aarch64) => self.has(Feature::Neon),
            Some(Arch::Riscv64) => self.has(Feature::Rvv),
            Some(Arch::OpenCl) | None => false,
        }
    }

    /// Conversion of binary16 vectors on x86-64.
    pub fn f16c(&self) -> bool {
        self.has(Feature::F16c)
    }

    /// 512-bit vectors of floats.
    pub fn avx512f(&self) -> bool {
        self.has(Feature::Avx512f)
    }
}

/// `x86-64-v3 (cmpxchg16b lahf ...)`, `aarch64 (neon)`.
impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.level(), self.arch) {
            (Some(level), _) => write!(f, "{level}")?,
            (None, Some(arch)) => write!(f, "{arch}")?,
            (None, None) => write!(f, "{} (unsupported)", std::env::consts::ARCH)?,
        }
        // What the level says already need not be listed.
        let implied = self.level().map_or(&[][..], Level::features);
        let more: Vec<&str> = self
            .features
            .iter()
            .filter(|feature| !implied.contains(feature))
            .map(|feature| feature.name())
            .collect();
        if more.is_empty() { Ok(()) } else { write!(f, " ({})", more.join(" ")) }
    }
}

#[cfg(target_arch = "x86_64")]
fn detect(feature: Feature) -> bool {
    use std::arch::{is_x86_feature_detected as has, x86_64::__cpuid};
    match feature {
        Feature::Cmpxchg16b => has!("cmpxchg16b"),
        Feature::Lahf => {
            __cpuid(0x8000_0000).eax > 0x8000_0000 && __cpuid(0x8000_0001).ecx & 1 != 0
        }
        Feature::Popcnt => has!("popcnt"),
        Feature::Sse3 => has!("sse3"),
        Feature::Ssse3 => has!("ssse3"),
        Feature::Sse41 => has!("sse4.1"),
        Feature::Sse42 => has!("sse4.2"),
        Feature::Avx => has!("avx"),
        Feature::Avx2 => has!("avx2"),
        Feature::Bmi1 => has!("bmi1"),
        Feature::Bmi2 => has!("bmi2"),
        Feature::F16c => has!("f16c"),
        Feature::Fma => has!("fma"),
        Feature::Lzcnt => has!("lzcnt"),
        Feature::Movbe => has!("movbe"),
        Feature::Osxsave => __cpuid(1).ecx & (1 << 27) != 0,
        Feature::Avx512f => has!("avx512f"),
        Feature::Avx512bw => has!("avx512bw"),
        Feature::Avx512cd => has!("avx512cd"),
        Feature::Avx512dq => has!("avx512dq"),
        Feature::Avx512vl => has!("avx512vl"),
        Feature::Neon | Feature::Fp16 | Feature::Rvv => false,
    }
}

#[cfg(target_arch = "aarch64")]
fn detect(feature: Feature) -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    match feature {
        Feature::Neon => has!("neon"),
        Feature::Fp16 => has!("fp16"),
        _ => false,
    }
}

/// The standard library does not detect RISC-V's extensions yet; Linux tells every process in its
/// auxiliary vector, pairs of a key and a value.
#[cfg(target_arch = "riscv64")]
fn detect(feature: Feature) -> bool {
    const AT_HWCAP: u64 = 16;
    let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let mut words =
        vector.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key == AT_HWCAP {
            return feature == Feature::Rvv && value & (1 << (b'v' - b'a')) != 0;
        }
    }
    false
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
fn detect(_: Feature) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_contain_those_before() {
        for pair in Level::ALL.windows(2) {
            assert!(pair[1].features().starts_with(pair[0].features()));
            assert!(pair[1].features().len() > pair[0].features().len());
        }
        for &level in Level::ALL {
            assert_eq!(Cpu::of_level(level).level(), Some(level));
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert!("x86-64-v5".parse::<Level>().is_err());
    }

    #[test]
    fn one_missing_feature_lowers_the_level() {
        let mut cpu = Cpu::of_level(Level::V4);
        cpu.features.retain(|&feature| feature != Feature::Movbe);
        assert_eq!(cpu.level(), Some(Level::V2));
        assert!(cpu.fma() && cpu.f16c() && cpu.avx512f());
        cpu.arch = Some(Arch::Aarch64);
        assert_eq!(cpu.level(), None);
        assert!(!cpu.fma());
    }

    #[test]
    fn names_are_unique_and_parse_back() {
        for &feature in Feature::ALL {
            assert_eq!(feature.name().parse(), Ok(feature));
        }
        assert_eq!("sse9".parse::<Feature>(), Err(UnknownName("sse9".to_string())));
    }

    #[test]
    fn levels_and_extras_are_displayed() {
        assert_eq!(Cpu::of_level(Level::V3).to_string(), "x86-64-v3");
        let mut cpu = Cpu::of_level(Level::V2);
        cpu.features.extend([Feature::Avx, Feature::Fma]);
        assert_eq!(cpu.to_string(), "x86-64-v2 (avx fma)");
        let arm = Cpu { arch: Some(Arch::Aarch64), features: vec![Feature::Neon] };
        assert_eq!(arm.to_string(), "aarch64 (neon)");
    }

    /// The kernel reads CPUID by itself and hides what it does not save (XCR0).
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn agrees_with_the_kernel() {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let line = info.lines().find(|line| line.starts_with("flags")).unwrap();
        let flags: Vec<&str> = line.split_whitespace().collect();
        let cpu = Cpu::detect();
        for &feature in Feature::ALL {
            let flag = match feature {
                Feature::Cmpxchg16b => "cx16",
                Feature::Lahf => "lahf_lm",
                Feature::Sse3 => "pni",
                Feature::Sse41 => "sse4_1",
                Feature::Sse42 => "sse4_2",
                Feature::Lzcnt => "abm",
                // Linux shows XGETBV's bit as a consequence of `xsave`.
                Feature::Osxsave => "xsave",
                Feature::Neon | Feature::Fp16 | Feature::Rvv => {
                    assert!(!cpu.has(feature));
                    continue;
                }
                _ => feature.name(),
            };
            assert_eq!(cpu.has(feature), flags.contains(&flag), "{feature}");
        }
    }
}
