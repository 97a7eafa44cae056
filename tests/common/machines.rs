//! Everything that can run a net here: for each emitter of machine code that this CPU has
//! instructions for, and, with the feature `opencl`, for each OpenCL device.
//!
//! With ALEXC_REQUIRE_CPU=x86-64-v4 (or another level) in the environment, a CPU that cannot run
//! code of that level is a failure; otherwise what it cannot run is named and left out.

use alexc::compile::{self, CompileError, Emitter, Options, Prepared};
use alexc::graph::Graph;
use alexc::session::Session;
use alexc_codegen::target::Target;
use alexc_runtime::cpu::{Arch, Cpu, Level};
use alexc_runtime::network::Network;
use alexc_runtime::program::Program;
use alexc_runtime::weights::Weights;
use std::ops::Deref;
use std::sync::Arc;

#[cfg(feature = "opencl")]
use alexc_runtime::opencl::{self, Build, Device, Net};

/// What compiles and runs nets.
pub struct Machine {
    /// How it is told to compile.
    options: Options,
    place: Place,
}

enum Place {
    Cpu,
    #[cfg(feature = "opencl")]
    OpenCl(Box<Device>),
}

/// A net compiled for a machine.
pub struct Made {
    net: Prepared,
    code: Code,
}

enum Code {
    Cpu(Program),
    #[cfg(feature = "opencl")]
    OpenCl(Box<Net>, Box<Device>),
}

/// A net with its weights.
pub enum Loaded {
    /// For sessions on any number of threads.
    Cpu(Arc<Network>),
    /// For sessions on a device.
    #[cfg(feature = "opencl")]
    OpenCl(Box<Net>, Arc<Weights>, Box<Device>),
}

impl Deref for Made {
    type Target = Prepared;
    fn deref(&self) -> &Prepared {
        &self.net
    }
}

impl Machine {
    fn new(triple: Option<&str>, cpu: &str, emitter: Emitter) -> Self {
        let mut options = Options::new(Target::new(triple, cpu).unwrap());
        options.emitter = Some(emitter);
        Machine { options, place: Place::Cpu }
    }

    #[cfg(feature = "opencl")]
    fn of_device(device: Device) -> Self {
        Machine {
            options: Options::new(Target::host().unwrap()),
            place: Place::OpenCl(Box::new(device)),
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Cpu => format!("{} ({})", self.options.target, self.options.emitter()),
            #[cfg(feature = "opencl")]
            Place::OpenCl(device) => device.to_string(),
        }
    }

    /// Drivers take seconds to build a net's kernels: tests with many nets do less of each there.
    pub fn builds_slowly(&self) -> bool {
        !matches!(self.place, Place::Cpu)
    }

    /// Every operation is rounded as the interpreter rounds it. Without fused multiply-add a
    /// machine rounds twice where the interpreter rounds once; a driver's compiler does as it
    /// likes.
    pub fn is_exact(&self) -> bool {
        matches!(self.place, Place::Cpu) && self.options.target.has_fma()
    }

    /// Numbers of threads that sessions may differ in.
    pub fn threads(&self) -> &'static [usize] {
        if matches!(self.place, Place::Cpu) { &[1, 2, 3] } else { &[1] }
    }

    /// Compiles a graph, with options as `change` leaves them.
    pub fn compile(
        &self,
        graph: &Graph,
        change: impl FnOnce(&mut Options),
    ) -> Result<Made, CompileError> {
        let mut options = self.options.clone();
        change(&mut options);
        match &self.place {
            Place::Cpu => {
                let compiled = compile::compile(graph, &options)?;
                Ok(Made { net: compiled.net, code: Code::Cpu(compiled.program) })
            }
            #[cfg(feature = "opencl")]
            Place::OpenCl(device) => {
                let target = alexc::opencl::target(device);
                let compiled = compile::opencl::compile(graph, &options, target)?;
                let code = Code::OpenCl(Box::new(alexc::opencl::net(&compiled)), device.clone());
                Ok(Made { net: compiled.net, code })
            }
        }
    }
}

impl Made {
    /// With weights that were packed for it.
    pub fn load(&self, weights: Weights) -> Loaded {
        match &self.code {
            Code::Cpu(program) => {
                Loaded::Cpu(Arc::new(Network::new(program.clone(), weights).unwrap()))
            }
            #[cfg(feature = "opencl")]
            Code::OpenCl(net, device) => {
                Loaded::OpenCl(net.clone(), Arc::new(weights), device.clone())
            }
        }
    }
}

impl Loaded {
    /// A session as users have it.
    pub fn session(&self, threads: usize) -> Box<dyn Session> {
        self.session_of(threads, true)
    }

    /// A session for a net that runs once.
    pub fn session_built_soon(&self, threads: usize) -> Box<dyn Session> {
        self.session_of(threads, false)
    }

    #[cfg_attr(not(feature = "opencl"), allow(unused_variables))]
    fn session_of(&self, threads: usize, optimise: bool) -> Box<dyn Session> {
        match self {
            Loaded::Cpu(network) => {
                Box::new(alexc_runtime::session::Session::new(network, threads).unwrap())
            }
            #[cfg(feature = "opencl")]
            Loaded::OpenCl(net, weights, device) => {
                let how = Build { optimise, ..Build::default() };
                let session = opencl::Session::new(net, weights, device, &how);
                Box::new(session.unwrap_or_else(|error| panic!("{error}")))
            }
        }
    }
}

/// Everything at hand: every pair of level and emitter that this CPU can run, the narrowest first,
/// then OpenCL devices.
pub fn machines() -> Vec<Machine> {
    let mut list = cpus();
    list.extend(devices());
    list
}

/// OpenCL devices alone.
pub fn devices() -> Vec<Machine> {
    #[cfg(feature = "opencl")]
    {
        let drivers = opencl::drivers().unwrap();
        let devices = drivers.into_iter().flat_map(|driver| driver.devices);
        let usable = devices.filter(|device| device.about.usable);
        let list: Vec<Machine> = usable.map(Machine::of_device).collect();
        assert!(!list.is_empty(), "there is no OpenCL device; tests/run installs one");
        list
    }
    #[cfg(not(feature = "opencl"))]
    Vec::new()
}

fn cpus() -> Vec<Machine> {
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
            super::left_out(format_args!("this CPU cannot run {level} code ({emitter})"));
        }
        has
    };
    let machine = |(level, emitter): (Level, Emitter)| Machine::new(None, level.name(), emitter);
    all.into_iter().filter(runs).map(machine).collect()
}
