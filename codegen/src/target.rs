//! What machine code is made for: a target triple and, on x86-64, a level of its instruction set.

use alexc_runtime::cpu::{Arch, Cpu, Level};
use cranelift_codegen::ir::{AbiParam, Signature, types};
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use std::fmt;
use target_lexicon::{Architecture, Triple};

/// Why there is no such target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The triple is malformed.
    #[error("`{triple}` is no target triple ({reason}); an example is aarch64-unknown-linux-gnu")]
    Triple {
        /// As given.
        triple: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Cranelift has no back end for it, or the machine is too old.
    #[error("no code can be made for {triple}: {reason}")]
    Unsupported {
        /// The triple.
        triple: String,
        /// Why.
        reason: String,
    },
    /// Not a known CPU level.
    #[error(
        "`{cpu}` is no CPU of {triple}; use {}",
        if *.x86 { "native, x86-64-v2, x86-64-v3 or x86-64-v4" } else { "native or generic" }
    )]
    Cpu {
        /// As given.
        cpu: String,
        /// The triple.
        triple: String,
        /// Whether the triple is an x86-64 one.
        x86: bool,
    },
}

/// A machine to make code for.
#[derive(Clone)]
pub struct Target {
    isa: OwnedTargetIsa,
    level: Option<Level>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Prints the triple, with the level on x86-64.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.isa.triple())?;
        self.level.map_or(Ok(()), |level| write!(f, " {level}"))
    }
}

/// What Cranelift may use.
enum Features {
    /// What every processor of the family has.
    Baseline,
    /// What this machine has.
    Native,
    /// A level of x86-64.
    Level(Level),
}

fn isa(triple: Triple, features: Features) -> Result<OwnedTargetIsa, String> {
    let mut builder = isa::lookup(triple).map_err(|e| e.to_string())?;
    let enable = |builder: &mut isa::Builder, flags: &[&str]| {
        flags.iter().try_for_each(|flag| builder.enable(flag)).map_err(|e| e.to_string())
    };
    let v2 = ["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];
    let v3 = ["has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt"];
    match features {
        Features::Baseline => {}
        Features::Native => {
            cranelift_native::infer_native_flags(&mut builder).map_err(str::to_owned)?;
        }
        Features::Level(level) => {
            enable(&mut builder, &v2)?;
            if level >= Level::V3 {
                enable(&mut builder, &v3)?;
            }
        }
    }
    let mut flags = settings::builder();
    for (name, value) in [
        // Kernels are scheduled already: the optimiser would move all loads of a loop in front
        // of its arithmetic, and nearly every value to the stack.
        ("opt_level", "none"),
        ("is_pic", "true"),
        ("enable_verifier", "false"),
        ("unwind_info", "false"),
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
    ] {
        flags.set(name, value).map_err(|e| e.to_string())?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| e.to_string())
}

impl Target {
    /// The machine at hand with everything that it has.
    pub fn host() -> Result<Target, TargetError> {
        Target::new(None, "native")
    }

    /// A target by its triple (none: this machine's) and CPU: `native`, `generic`, or a level.
    pub fn new(triple: Option<&str>, cpu: &str) -> Result<Target, TargetError> {
        let host = Triple::host();
        let triple = match triple {
            None => host.clone(),
            Some(text) => text.parse().map_err(|reason| TargetError::Triple {
                triple: text.to_owned(),
                reason: format!("{reason}"),
            })?,
        };
        let unsupported =
            |reason: String| TargetError::Unsupported { triple: triple.to_string(), reason };
        let x86 = triple.architecture == Architecture::X86_64;
        if !matches!(
            triple.architecture,
            Architecture::X86_64 | Architecture::Aarch64(_) | Architecture::Riscv64(_)
        ) {
            return Err(unsupported("alexc knows x86_64, aarch64 and riscv64".into()));
        }
        let same = triple.architecture == host.architecture;
        let no_cpu = || TargetError::Cpu { cpu: cpu.to_owned(), triple: triple.to_string(), x86 };
        let level = match cpu {
            "native" if x86 && same => Some(
                Cpu::detect().level().filter(|level| *level >= Level::V2).ok_or_else(|| {
                    unsupported(
                        "this CPU lacks SSE4.2 (x86-64-v2), the least that alexc needs".into(),
                    )
                })?,
            ),
            "native" if !x86 && same => None,
            "generic" => x86.then_some(Level::V2),
            _ if x86 => {
                let known = cpu.parse().ok().filter(|level| *level >= Level::V2);
                Some(known.ok_or_else(no_cpu)?)
            }
            _ => return Err(no_cpu()),
        };
        let features = match level {
            Some(level) => Features::Level(level),
            None if cpu == "native" => Features::Native,
            None => Features::Baseline,
        };
        let isa = isa(triple.clone(), features).map_err(unsupported)?;
        Ok(Target { isa, level })
    }

    /// The same system with nothing beyond its processors' baseline, for code that must run before
    /// anybody knows the processor.
    pub(crate) fn baseline(&self) -> Result<Target, String> {
        let isa = isa(self.isa.triple().clone(), Features::Baseline)?;
        Ok(Target { isa, level: None })
    }

    /// Cranelift's view of the target.
    pub fn isa(&self) -> &dyn TargetIsa {
        &*self.isa
    }

    /// A shared handle of [`Target::isa`].
    pub fn owned_isa(&self) -> OwnedTargetIsa {
        self.isa.clone()
    }

    /// How a kernel is called: `(params, begin, end)`. Kernels of x86-64 follow the System V
    /// convention on every system: the runtime calls them so.
    pub(crate) fn kernel_signature(&self) -> Signature {
        let mut signature = Signature::new(match self.arch() {
            Arch::X86_64 => CallConv::SystemV,
            Arch::Aarch64 | Arch::Riscv64 | Arch::OpenCl => self.isa.default_call_conv(),
        });
        signature.params.extend([types::I64; 3].map(AbiParam::new));
        signature
    }

    /// The level of an x86-64 target.
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// The instruction set family.
    pub fn arch(&self) -> Arch {
        match self.isa.triple().architecture {
            Architecture::Aarch64(_) => Arch::Aarch64,
            Architecture::Riscv64(_) => Arch::Riscv64,
            _ => Arch::X86_64,
        }
    }

    /// There are 128-bit vectors: everywhere but on RISC-V without its extension V.
    pub(crate) fn has_vectors(&self) -> bool {
        self.arch() != Arch::Riscv64
            || self
                .isa
                .isa_flags()
                .iter()
                .any(|flag| flag.name == "has_v" && flag.as_bool() == Some(true))
    }

    /// Fused multiply-add is one instruction.
    pub fn has_fma(&self) -> bool {
        match self.level {
            Some(level) => level >= Level::V3,
            None => matches!(
                self.isa.triple().architecture,
                Architecture::Aarch64(_) | Architecture::Riscv64(_)
            ),
        }
    }
}
