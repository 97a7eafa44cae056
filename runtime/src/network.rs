//! A net ready to run: its program, executable, and its weights. Shared by all who run it; what
//! a run changes belongs to a [`crate::session::Session`].

pub use crate::{check::ProgramError, code::CodeError};
use std::path::{Path, PathBuf};

use crate::{
    check::{check, tensor_bytes},
    code::Code,
    container::FileError,
    cpu::{Arch, Cpu, Feature},
    module::{Module, WEIGHTS_EXTENSION},
    preprocess::{Pixels, Preprocess, PreprocessError},
    program::{Base, Binding, Program},
    weights::{InFile, RegionError, Weights},
};

/// A loaded net, which any number of threads may share and run at the same time, each in a
/// session of its own.
pub struct Network {
    program: Program,
    code: Code,
    weights: Weights,
    in_file: Vec<InFile>,
    labels: Vec<String>,
    preprocess: Option<Preprocess>,
    probabilities: bool,
}

// Sharing is the point of it.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Network>();
};

/// Why a net cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program contradicts itself.
    #[error("the compiled net is not sound: {0}")]
    Program(#[from] ProgramError),
    /// Code for other processors.
    #[error(
        "the net was compiled for {needs}, and this machine is {machine}; compile it for this machine"
    )]
    Arch {
        /// What the code is for.
        needs: Arch,
        /// What runs it.
        machine: &'static str,
    },
    /// The processor is older than the code.
    #[error("the net needs a CPU with {}, and this one ({cpu}) has no {}; compile it for this machine", list(.needs), list(.missing))]
    Features {
        /// All that the code needs beyond the baseline.
        needs: Vec<Feature>,
        /// What is missing of that.
        missing: Vec<Feature>,
        /// This machine's.
        cpu: Cpu,
    },
    /// Weights of another net, or of another compilation.
    #[error("the net has {expected} bytes of packed weights, and {given} are given")]
    WeightsLength {
        /// What the program says.
        expected: usize,
        /// What there is.
        given: usize,
    },
    /// Weights that stay in their file cannot be read there.
    #[error(transparent)]
    InFile(#[from] RegionError),
    /// A kernel would read weights of which only a part stays in its file.
    #[error("step {step} reads {len} bytes of weights at {offset}, of which a part lies elsewhere")]
    Torn {
        /// Its name.
        step: String,
        /// First byte of the packed weights.
        offset: usize,
        /// Bytes.
        len: usize,
    },
    /// No executable memory.
    #[error(transparent)]
    Code(#[from] CodeError),
}

/// Why a net cannot be loaded from its files.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One of the files is unusable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The files are whole, but the net does not run here.
    #[error("{}: {source}", path.display())]
    Load {
        /// The module file.
        path: PathBuf,
        /// The reason.
        source: LoadError,
    },
}

fn list(features: &[Feature]) -> String {
    features.iter().map(|feature| feature.name()).collect::<Vec<_>>().join(", ")
}

impl Network {
    /// Checks the program and makes its code executable; nothing of it runs yet.
    ///
    /// What the code does is beyond any check: like a linked library, a program must come from a
    /// compiler that is trusted (alexc proves every access of its kernels inside their
    /// bindings).
    pub fn new(program: Program, weights: Weights) -> Result<Network, LoadError> {
        Self::with_weights_in_files(program, weights, Vec::new())
    }

    /// Like [`Network::new`], where kernels read some of the weights in the files that have them:
    /// the bytes of `weights` in their place are never looked at.
    pub fn with_weights_in_files(
        program: Program,
        weights: Weights,
        in_file: Vec<InFile>,
    ) -> Result<Network, LoadError> {
        Self::for_cpu(&Cpu::detect(), program, weights, in_file)
    }

    /// Loads a module file, and the weights from the file of the same name ending in `.weights`
    /// beside it, which stays mapped: it must not be changed while the net lives, only replaced
    /// by renaming another over it.
    ///
    /// A module holds machine code: open only what comes from somebody you trust, as with
    /// libraries.
    pub fn open(path: impl AsRef<Path>) -> Result<Network, OpenError> {
        let path = path.as_ref();
        Self::open_files(path, &path.with_extension(WEIGHTS_EXTENSION))
    }

    /// Like [`Network::open`], with the weights elsewhere.
    pub fn open_files(module: &Path, weights: &Path) -> Result<Network, OpenError> {
        let contents = Module::open(module)?;
        let weights = Weights::open(weights, &contents.program)?;
        Self::from_module(contents, weights)
            .map_err(|source| OpenError::Load { path: module.to_path_buf(), source })
    }

    /// Like [`Network::new`], with all that goes with the net.
    pub fn from_module(module: Module, weights: Weights) -> Result<Network, LoadError> {
        let Module { program, labels, preprocess, probabilities, .. } = module;
        let network = Self::new(program, weights)?;
        Ok(Network { labels, preprocess, probabilities, ..network })
    }

    fn for_cpu(
        cpu: &Cpu,
        program: Program,
        weights: Weights,
        in_file: Vec<InFile>,
    ) -> Result<Network, LoadError> {
        check(&program)?;
        if cpu.arch != Some(program.arch) {
            return Err(LoadError::Arch { needs: program.arch, machine: std::env::consts::ARCH });
        }
        let missing: Vec<Feature> =
            program.features.iter().copied().filter(|&feature| !cpu.has(feature)).collect();
        if !missing.is_empty() {
            let needs = program.features;
            return Err(LoadError::Features { needs, missing, cpu: cpu.clone() });
        }
        let (expected, given) = (program.weights_bytes, weights.as_bytes().len());
        if expected != given {
            return Err(LoadError::WeightsLength { expected, given });
        }
        in_file.iter().try_for_each(InFile::check)?;
        for step in &program.steps {
            let read = step.params.iter().filter(|binding| binding.base == Base::Weights);
            for &Binding { offset_bytes: offset, len_bytes: len, .. } in read {
                let torn =
                    |part: &InFile| part.meets(offset, len) && part.bytes(offset, len).is_none();
                if in_file.iter().any(torn) {
                    return Err(LoadError::Torn { step: step.name.clone(), offset, len });
                }
            }
        }
        let code = Code::new(&program.kernels)?;
        let (labels, preprocess, probabilities) = (Vec::new(), None, false);
        Ok(Network { program, code, weights, in_file, labels, preprocess, probabilities })
    }

    /// What runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The packed weights, without those that stay in files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The packed weights alone, without those that stay in files.
    pub fn into_weights(self) -> Weights {
        self.weights
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        tensor_bytes("input", &self.program.input_dims).unwrap_or(0) / 4
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        tensor_bytes("output", &self.program.output_dims).unwrap_or(0) / 4
    }

    /// Names of the classes, in the order of the output; empty where the module has none.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Name of a class; none where the module has no names or not so many.
    pub fn label(&self, class: usize) -> Option<&str> {
        self.labels.get(class).map(String::as_str)
    }

    /// Makes one image of the input from a picture, as [`Network::preprocess`] says: the same
    /// numbers as `alexc run`. `image` has room for one image, all of the input where the batch is
    /// 1 and one of its equal parts elsewhere.
    pub fn prepare(&self, picture: Pixels<'_>, image: &mut [f32]) -> Result<(), PreprocessError> {
        let preprocess = self.preprocess.as_ref().ok_or(PreprocessError::Nothing)?;
        // A vector has no channels of a picture.
        let input = match *self.program.input_dims {
            [_, channels, height, width] => [channels, height, width],
            _ => [0, 1, 1],
        };
        preprocess.apply(picture, input, image)
    }

    /// How a picture becomes the input, where the module says so.
    pub fn preprocess(&self) -> Option<&Preprocess> {
        self.preprocess.as_ref()
    }

    /// The output is that of a softmax, where the module says so.
    pub fn probabilities(&self) -> bool {
        self.probabilities
    }

    /// Where the weights lie that a parameter reads.
    pub(crate) fn weights_at(&self, read: &Binding) -> *const u8 {
        let (offset, len) = (read.offset_bytes, read.len_bytes);
        match self.in_file.iter().find_map(|part| part.bytes(offset, len)) {
            Some(bytes) => bytes.as_ptr(),
            None => self.weights.as_bytes().as_ptr().wrapping_add(offset),
        }
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::Level,
        mapped::MappedFile,
        memory::Buffer,
        program::{KernelCode, Step},
    };

    fn program() -> Program {
        let output = Binding { base: Base::Output, offset_bytes: 0, len_bytes: 4, writes: true };
        Program {
            name: "net".to_string(),
            arch: Arch::X86_64,
            features: vec![Feature::Avx2, Feature::Fma, Feature::Avx512f],
            kernels: vec![KernelCode { name: "k".to_string(), bytes: vec![0xC3], align: 1 }],
            steps: vec![Step {
                name: "s".to_string(),
                kernel: 0,
                extent: 1,
                barrier: false,
                params: vec![output],
            }],
            input_dims: vec![1],
            output_dims: vec![1],
            arena_bytes: 0,
            weights_bytes: 8,
            local_bytes: 0,
            weights_key: 0,
        }
    }

    fn refusal(cpu: &Cpu, program: Program, weights: usize) -> String {
        let weights = Buffer::zeroed(weights).unwrap().into();
        Network::for_cpu(cpu, program, weights, Vec::new()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn loads_where_everything_fits() {
        let weights = Buffer::zeroed(8).unwrap().into();
        let network =
            Network::for_cpu(&Cpu::of_level(Level::V4), program(), weights, Vec::new()).unwrap();
        assert_eq!((network.input_len(), network.output_len()), (1, 1));
        assert_eq!(network.weights().as_bytes(), [0; 8]);
        assert_eq!(network.program(), &program());
    }

    #[test]
    fn an_older_cpu_is_refused() {
        assert_eq!(
            refusal(&Cpu::of_level(Level::V3), program(), 8),
            "the net needs a CPU with avx2, fma, avx512f, and this one (x86-64-v3) has no avx512f; compile it for this machine"
        );
    }

    #[test]
    fn another_cpu_is_refused() {
        let mut program = program();
        program.arch = Arch::Riscv64;
        let message = refusal(&Cpu::of_level(Level::V4), program, 8);
        assert!(message.starts_with("the net was compiled for riscv64, and this"), "{message}");
    }

    #[test]
    fn other_weights_are_refused() {
        for given in [0, 7, 9] {
            assert_eq!(
                refusal(&Cpu::of_level(Level::V4), program(), given),
                format!("the net has 8 bytes of packed weights, and {given} are given")
            );
        }
    }

    /// The program reads eight bytes of weights; the file has sixteen.
    #[test]
    fn weights_in_a_file_are_whole_and_inside_of_it() {
        let path = std::env::temp_dir().join(format!("alexc-torn-{}", std::process::id()));
        std::fs::write(&path, [1; 16]).unwrap();
        let file = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut program = program();
        let read = Binding { base: Base::Weights, offset_bytes: 0, len_bytes: 8, writes: false };
        program.steps[0].params.push(read);
        let load = |offset_bytes, len_bytes, at_byte| {
            let part = InFile { offset_bytes, len_bytes, file: file.clone(), at_byte };
            let weights = Buffer::zeroed(8).unwrap().into();
            Network::for_cpu(&Cpu::of_level(Level::V4), program.clone(), weights, vec![part])
        };
        let network = load(0, 8, 8).unwrap();
        assert_eq!(network.weights_at(&read), file.as_bytes()[8..].as_ptr());
        // Behind what is read.
        let network = load(8, 8, 4).unwrap();
        assert_eq!(network.weights_at(&read), network.weights().as_bytes().as_ptr());
        let refusal = |offset, len, at| load(offset, len, at).map(|_| ()).unwrap_err().to_string();
        let outside = "weights at bytes 12 to 12+8 reach behind the file's end (16)";
        assert_eq!(refusal(0, 8, 12), outside);
        assert!(refusal(0, 8, usize::MAX - 3).contains("reach behind the file's end"));
        let uneven = "weights begin at byte 6 of the file, which is no multiple of 4";
        assert_eq!(refusal(0, 8, 6), uneven);
        let torn = "step s reads 8 bytes of weights at 0, of which a part lies elsewhere";
        assert_eq!(refusal(0, 4, 0), torn);
        assert_eq!(refusal(4, 8, 0), torn);
    }

    #[test]
    fn an_unsound_program_is_refused() {
        let mut program = program();
        program.output_dims = vec![];
        let message = refusal(&Cpu::of_level(Level::V4), program, 8);
        let expected =
            "the compiled net is not sound: the output's dimensions [] do not make a tensor";
        assert_eq!(message, expected);
    }
}
