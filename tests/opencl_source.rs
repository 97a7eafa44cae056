//! Every net of `specs/` as OpenCL C: each kernel is printed, and what a host needs to know about
//! it fits the plan. Whether the text computes the right thing is tested where a device is.

use alexc::compile::Options;
use alexc::compile::opencl::{Device, compile};
use alexc::graph::build::{BuildOptions, build};
use alexc::spec;
use alexc_codegen::ir::{Access, DType};
use alexc_codegen::opencl::Arg;
use alexc_codegen::target::Target;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn specs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut specs: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    specs.sort();
    assert!(specs.len() > 5, "the specs are gone: {specs:?}");
    specs
}

#[test]
fn every_kernel_of_every_net_is_printed() {
    for path in specs() {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        let spec = spec::parse(&name, &text).unwrap();
        let graph = build(&spec, &BuildOptions::default()).unwrap();
        for (width, dtype) in [(4, DType::F32), (8, DType::F16), (16, DType::I8)] {
            let mut options = Options::new(Target::host().unwrap());
            options.weights_dtype = dtype;
            let device = Device { vector_width: width, ..Device::CPU };
            let net = compile(&graph, &options, device).unwrap();
            assert_eq!(net.sources.len(), net.kernels.len(), "{name}");
            let mut names = HashSet::new();
            for (kernel, source) in net.kernels.iter().zip(&net.sources) {
                let shown = || format!("{name}, {}", kernel.name);
                assert!(names.insert(&source.kernel_name), "{}", shown());
                assert_eq!(source.global[0] as u64, kernel.extent(), "{}", shown());
                let bound = kernel.buffers.iter().filter(|b| b.access != Access::Local).count();
                let bases = source.args.iter().filter(|arg| matches!(arg, Arg::Base(_))).count();
                assert_eq!(bases, bound, "{}", shown());
                // A variable for each register that is written, none wider than was asked for.
                let widest = format!("float{}", 2 * width);
                assert!(!source.text.contains(&widest), "{}", shown());
                let loops = source.text.matches("for (int ").count();
                // One over nonzero elements finds them, ends their list, and passes over that.
                let mut all = kernel.vars.len() - kernel.parallel.len();
                kernel.for_each_nonzero(&mut |nonzero| all = all - nonzero.found.len() + 3);
                assert_eq!(loops, all, "{}", shown());
            }
            let program = net.program();
            assert_eq!(program.matches('{').count(), program.matches('}').count(), "{name}");
            assert_eq!(program.matches("kernel __attribute__").count(), net.kernels.len());
        }
    }
}
