//! The ways to make machine code that this CPU can run.
//!
//! With ALEXC_REQUIRE_CPU=x86-64-v4 (or another level) in the environment, a CPU that cannot run
//! code of that level is a failure; otherwise what it cannot run is named and left out.

use alexc::compile::Emitter;
use alexc_codegen::target::Target;
use alexc_runtime::cpu::{Arch, Cpu, Level};

/// A target and an emitter for it.
pub struct Machine {
    /// What the code is made for.
    pub target: Target,
    /// What makes it.
    pub emitter: Emitter,
}

impl Machine {
    fn new(triple: Option<&str>, cpu: &str, emitter: Emitter) -> Self {
        Machine { target: Target::new(triple, cpu).unwrap(), emitter }
    }

    /// For messages.
    pub fn name(&self) -> String {
        format!("{} ({})", self.target, self.emitter)
    }
}

/// Every pair of level and emitter that this CPU can run, the narrowest first.
pub fn machines() -> Vec<Machine> {
    let cpu = Cpu::detect();
    if cpu.arch != Some(Arch::X86_64) {
        return vec![Machine::new(None, "native", Emitter::Cranelift)];
    }
    let required = std::env::var("ALEXC_REQUIRE_CPU").ok();
    let required: Option<Level> =
        required.map(|text| text.parse().expect("a level in ALEXC_REQUIRE_CPU"));
    let all = [
        (Level::V2, Emitter::Cranelift),
        (Level::V3, Emitter::Cranelift),
        (Level::V3, Emitter::X86(Level::V3)),
        (Level::V4, Emitter::X86(Level::V4)),
    ];
    let runs = |&(level, emitter): &(Level, Emitter)| {
        let has = cpu.level().is_some_and(|has| has >= level);
        assert!(has || required.is_none_or(|r| r < level), "this CPU cannot run {level} code");
        if !has {
            println!("left out, because this CPU cannot run it: {level} ({emitter})");
        }
        has
    };
    let machine = |(level, emitter): (Level, Emitter)| Machine::new(None, level.name(), emitter);
    all.into_iter().filter(runs).map(machine).collect()
}
