//! The module file: a compiled net as an app loads it, without the compiler. It holds the
//! program and what goes with the net (labels, preprocessing); the packed weights lie in a file
//! of their own beside it, made to be mapped.

use std::{fs, path::Path};

use crate::{
    codec::{Reader, Writer},
    container::{self, FileError, FileFault, HEADER_BYTES, Kind, Malformed},
    cpu::{Arch, Feature},
    preprocess::{Color, Preprocess, Resize},
    program::{Base, Binding, KernelCode, Program, Step},
};

const KIND: Kind = Kind { magic: *b"ALEXCmod", version: 2, name: "module file" };

/// Usual ending of a module file's name.
pub const EXTENSION: &str = "alexc";

/// Usual ending of the name of the weights' file.
pub const WEIGHTS_EXTENSION: &str = "weights";

/// A compiled net with what goes with it, but without its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// What runs.
    pub program: Program,
    /// Who compiled it, for people: `alexc 0.1.0`.
    pub compiler: String,
    /// Names of the classes, in the order of the output; may be empty.
    pub labels: Vec<String>,
    /// How a picture becomes the input.
    pub preprocess: Option<Preprocess>,
    /// The output is that of a softmax.
    pub probabilities: bool,
}

impl Module {
    /// The whole file, the same for the same module on every machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer { bytes: vec![0; HEADER_BYTES] };
        write_program(&mut w, &self.program);
        w.text(&self.compiler);
        w.list(&self.labels, |w, label| w.text(label));
        w.option(self.preprocess.as_ref(), write_preprocess);
        w.bool(self.probabilities);
        let mut bytes = w.bytes;
        let key = self.program.fingerprint();
        let header = container::header(&KIND, key, &bytes[HEADER_BYTES..], 1);
        bytes[..HEADER_BYTES].copy_from_slice(&header);
        bytes
    }

    /// Reads what [`Module::to_bytes`] wrote. Whether the program can run is for
    /// [`crate::network::Network::new`] to say.
    pub fn from_bytes(file: &[u8]) -> Result<Module, FileFault> {
        let (key, contents) = container::open(&KIND, file, 1)?;
        let mut r = Reader::new(contents);
        let module = Module {
            program: read_program(&mut r)?,
            compiler: r.text()?,
            labels: r.list(Reader::text)?,
            preprocess: r.option(read_preprocess)?,
            probabilities: r.bool()?,
        };
        r.end()?;
        if module.program.fingerprint() != key {
            return Err(FileFault::Malformed { at: 16, what: Malformed::Key });
        }
        Ok(module)
    }

    /// Reads a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Module, FileError> {
        let path = path.as_ref();
        fs::read(path)
            .map_err(FileFault::Io)
            .and_then(|file| Module::from_bytes(&file))
            .map_err(|fault| FileError { path: path.to_path_buf(), fault })
    }

    /// The beginning of a file is that of a module file.
    pub fn recognises(beginning: &[u8]) -> bool {
        beginning.starts_with(&KIND.magic)
    }
}

impl Program {
    /// Tells programs apart.
    pub fn fingerprint(&self) -> u64 {
        let mut w = Writer::default();
        write_program(&mut w, self);
        container::checksum(&w.bytes, 1)
    }
}

fn write_program(w: &mut Writer, program: &Program) {
    w.text(&program.name);
    w.text(program.arch.name());
    w.list(&program.features, |w, feature| w.text(feature.name()));
    w.list(&program.kernels, |w, kernel| {
        w.text(&kernel.name);
        w.usize(kernel.align);
        w.bytes(&kernel.bytes);
    });
    w.list(&program.steps, |w, step| {
        w.text(&step.name);
        w.usize(step.kernel);
        w.u64(step.extent);
        w.bool(step.barrier);
        w.list(&step.params, |w, param| {
            w.u8(match param.base {
                Base::Input => 0,
                Base::Output => 1,
                Base::Arena => 2,
                Base::Weights => 3,
                Base::Local => 4,
            });
            w.usize(param.offset_bytes);
            w.usize(param.len_bytes);
            w.bool(param.writes);
        });
    });
    w.list(&program.input_dims, |w, &dim| w.usize(dim));
    w.list(&program.output_dims, |w, &dim| w.usize(dim));
    w.usize(program.arena_bytes);
    w.usize(program.weights_bytes);
    w.usize(program.local_bytes);
    w.u64(program.weights_key);
}

fn read_program(r: &mut Reader) -> Result<Program, FileFault> {
    Ok(Program {
        name: r.text()?,
        arch: read_arch(r)?,
        features: r.list(read_feature)?,
        kernels: r.list(|r| {
            let (name, align) = (r.text()?, r.usize()?);
            Ok(KernelCode { name, align, bytes: r.bytes()?.to_vec() })
        })?,
        steps: r.list(|r| {
            Ok(Step {
                name: r.text()?,
                kernel: r.usize()?,
                extent: r.u64()?,
                barrier: r.bool()?,
                params: r.list(read_binding)?,
            })
        })?,
        input_dims: r.list(Reader::usize)?,
        output_dims: r.list(Reader::usize)?,
        arena_bytes: r.usize()?,
        weights_bytes: r.usize()?,
        local_bytes: r.usize()?,
        weights_key: r.u64()?,
    })
}

fn read_arch(r: &mut Reader) -> Result<Arch, FileFault> {
    let name = r.text()?;
    let known = Arch::ALL.iter().find(|arch| arch.name() == name);
    known.copied().ok_or_else(|| r.fault(name.len(), Malformed::Arch(name)))
}

fn read_feature(r: &mut Reader) -> Result<Feature, FileFault> {
    let name = r.text()?;
    name.parse().map_err(|_| r.fault(name.len(), Malformed::Feature(name)))
}

fn read_binding(r: &mut Reader) -> Result<Binding, FileFault> {
    let base = match r.u8()? {
        0 => Base::Input,
        1 => Base::Output,
        2 => Base::Arena,
        3 => Base::Weights,
        4 => Base::Local,
        code => return Err(r.fault(1, Malformed::Code { what: "block of memory", code })),
    };
    Ok(Binding { base, offset_bytes: r.usize()?, len_bytes: r.usize()?, writes: r.bool()? })
}

fn write_preprocess(w: &mut Writer, preprocess: &Preprocess) {
    let pair = |w: &mut Writer, [height, width]: [usize; 2]| {
        w.usize(height);
        w.usize(width);
    };
    match preprocess.resize {
        None => w.u8(0),
        Some(Resize::Shorter(size)) => {
            w.u8(1);
            w.usize(size);
        }
        Some(Resize::Exact(size)) => {
            w.u8(2);
            pair(w, size);
        }
    }
    w.option(preprocess.crop, pair);
    w.u8(match preprocess.color {
        Color::Rgb => 0,
        Color::Bgr => 1,
        Color::Gray => 2,
    });
    w.list(&preprocess.mean, |w, &value| w.f64(value));
    w.list(&preprocess.std, |w, &value| w.f64(value));
}

fn read_preprocess(r: &mut Reader) -> Result<Preprocess, FileFault> {
    let pair = |r: &mut Reader| Ok([r.usize()?, r.usize()?]);
    Ok(Preprocess {
        resize: match r.u8()? {
            0 => None,
            1 => Some(Resize::Shorter(r.usize()?)),
            2 => Some(Resize::Exact(pair(r)?)),
            code => return Err(r.fault(1, Malformed::Code { what: "way to resize", code })),
        },
        crop: r.option(pair)?,
        color: match r.u8()? {
            0 => Color::Rgb,
            1 => Color::Bgr,
            2 => Color::Gray,
            code => return Err(r.fault(1, Malformed::Code { what: "order of channels", code })),
        },
        mean: r.list(Reader::f64)?,
        std: r.list(Reader::f64)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;

    fn module() -> Module {
        let binding = |base, offset_bytes, len_bytes, writes| Binding {
            base,
            offset_bytes,
            len_bytes,
            writes,
        };
        let kernel = |name: &str, len: usize| KernelCode {
            name: name.to_string(),
            bytes: (0..len).map(|i| (i * 5) as u8).collect(),
            align: 32,
        };
        let step = |name: &str, kernel, extent, barrier, params: &[Binding]| Step {
            name: name.to_string(),
            kernel,
            extent,
            barrier,
            params: params.to_vec(),
        };
        Module {
            program: Program {
                name: "net".to_string(),
                arch: Arch::X86_64,
                features: vec![Feature::Avx2, Feature::Fma],
                kernels: vec![kernel("conv1", 300), kernel("fc", 170)],
                steps: vec![
                    step(
                        "conv1",
                        0,
                        96,
                        true,
                        &[
                            binding(Base::Input, 0, 64, false),
                            binding(Base::Weights, 64, 128, false),
                            binding(Base::Arena, 256, 256, true),
                            binding(Base::Local, 0, 32, true),
                        ],
                    ),
                    step(
                        "fc+softmax",
                        1,
                        5,
                        true,
                        &[binding(Base::Arena, 256, 256, false), binding(Base::Output, 0, 8, true)],
                    ),
                ],
                input_dims: vec![1, 1, 4, 4],
                output_dims: vec![1, 2],
                arena_bytes: 512,
                weights_bytes: 192,
                local_bytes: 64,
                weights_key: 17,
            },
            compiler: "alexc 0.1.0".to_string(),
            labels: vec!["cat".to_string(), "größerer Hund".to_string()],
            preprocess: Some(Preprocess {
                resize: Some(Resize::Shorter(5)),
                crop: Some([4, 4]),
                color: Color::Gray,
                mean: vec![0.1],
                std: vec![0.25],
            }),
            probabilities: true,
        }
    }

    /// One way to make numbers; quality does not matter, only that runs are alike.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((self.0 >> 33) % end as u64) as usize
        }
    }

    /// Changes some bytes, removes some, adds some or repeats some.
    fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            match random.below(7) {
                0 => bytes.truncate(at),
                1 => bytes.push(random.below(256) as u8),
                2 => drop(bytes.drain(at..(at + 1 + random.below(16)).min(bytes.len()))),
                3 => bytes.insert(at, random.below(256) as u8),
                4 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
                5 => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill([0, 0xFF][random.below(2)]);
                }
                _ => bytes[at] ^= 1 << random.below(8),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let module = module();
        assert_eq!(check(&module.program), Ok(()));
        let bytes = module.to_bytes();
        assert_eq!(Module::from_bytes(&bytes).unwrap(), module);
        assert!(Module::recognises(&bytes));
        assert!(!Module::recognises(b"name: alexnet"));
        let plain = Module { labels: vec![], preprocess: None, probabilities: false, ..module };
        assert_eq!(Module::from_bytes(&plain.to_bytes()).unwrap(), plain);
        for resize in [None, Some(Resize::Exact([3, 7]))] {
            for color in [Color::Rgb, Color::Bgr] {
                let (mean, std) = (vec![0.5, -1.0, 3.0], vec![1.0]);
                let preprocess = Some(Preprocess { resize, crop: None, color, mean, std });
                let module = Module { preprocess, ..plain.clone() };
                assert_eq!(Module::from_bytes(&module.to_bytes()).unwrap(), module);
            }
        }
    }

    #[test]
    fn ten_thousand_damaged_files_are_refused() {
        let sound = module().to_bytes();
        let mut random = Random(1);
        for _ in 0..10_000 {
            let mut file = sound.clone();
            mutate(&mut file, &mut random);
            if file != sound {
                let fault = Module::from_bytes(&file).expect_err("a damaged file");
                assert!(!matches!(fault, FileFault::Malformed { .. }), "by its checksum: {fault}");
            }
        }
        for bit in 0..sound.len() * 8 {
            let mut file = sound.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            Module::from_bytes(&file).expect_err("a flipped bit");
        }
        for len in 0..sound.len() {
            Module::from_bytes(&sound[..len]).expect_err("a truncated file");
        }
    }

    /// Files whose checksums are right all the same: reading them must end well or in an error,
    /// and so must the check of what was read.
    #[test]
    fn ten_thousand_wrong_files_with_right_checksums_do_no_harm() {
        let sound = module().to_bytes();
        let mut random = Random(2);
        let (mut malformed, mut unsound, mut passed) = (0, 0, 0);
        for _ in 0..10_000 {
            let mut contents = sound[HEADER_BYTES..].to_vec();
            mutate(&mut contents, &mut random);
            // The key as the reader will compute it, where it gets so far.
            let key = read_program(&mut Reader::new(&contents))
                .map_or(0, |program| program.fingerprint());
            let header = container::header(&KIND, key, &contents, 1);
            match Module::from_bytes(&[&header, &contents[..]].concat()) {
                Err(FileFault::Malformed { at, .. }) => {
                    assert!(at >= HEADER_BYTES && at <= HEADER_BYTES + contents.len());
                    malformed += 1;
                }
                Err(fault) => panic!("{fault}"),
                Ok(module) => match check(&module.program) {
                    Err(_) => unsound += 1,
                    Ok(()) => passed += 1,
                },
            }
        }
        // The test reaches every depth.
        assert!(malformed > 1000 && unsound > 100 && passed > 100);
    }

    #[test]
    fn malformed_contents_are_located() {
        let module = module();
        let sound = module.to_bytes();
        let fault = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut contents = sound[HEADER_BYTES..].to_vec();
            change(&mut contents);
            let header = container::header(&KIND, module.program.fingerprint(), &contents, 1);
            Module::from_bytes(&[&header, &contents[..]].concat()).unwrap_err().to_string()
        };
        // The program's name (8 bytes of length, then `net`), then that of the processor.
        let message = fault(&|contents| contents[19..25].copy_from_slice(b"pdp_11"));
        assert_eq!(message, "at byte 83: the processor `pdp_11` is not known; build it again");
        let message = fault(&|contents| contents[8] = 0xFF);
        assert_eq!(message, "at byte 72: a text is not UTF-8; build it again");
        let message = fault(&|contents| contents.push(0));
        let end = sound.len();
        assert_eq!(message, format!("at byte {end}: something is left over; build it again"));
        let message = fault(&|contents| contents[12] = 0xFF);
        assert_eq!(message, "at byte 83: the contents end too early; build it again");
        let key = container::header(&KIND, 5, &sound[HEADER_BYTES..], 1);
        let fault = Module::from_bytes(&[&key, &sound[HEADER_BYTES..]].concat()).unwrap_err();
        assert_eq!(fault.to_string(), "at byte 16: the key is not the program's; build it again");
    }

    #[test]
    fn any_change_of_a_program_changes_its_fingerprint() {
        let program = module().program;
        let changes: [fn(&mut Program); 8] = [
            |p| p.name.push('x'),
            |p| p.kernels[0].bytes[7] ^= 1,
            |p| p.steps[1].params[0].offset_bytes += 64,
            |p| p.steps[0].barrier = false,
            |p| p.features.truncate(1),
            |p| p.weights_bytes += 64,
            |p| p.weights_key += 1,
            |p| p.input_dims[0] = 2,
        ];
        let mut seen = vec![program.fingerprint()];
        for change in changes {
            let mut changed = program.clone();
            change(&mut changed);
            seen.push(changed.fingerprint());
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
