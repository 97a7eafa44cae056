//! The manifest: what an app's build needs to know about a net, and what a person wants to see
//! of it years later. Keys are stable.

use super::{Artifact, COMPILER, Written};
use crate::algorithm::{self, Algorithm};
use crate::compile::{Compiled, Options};
use crate::graph::{Node, Op};
use alexc_codegen::object::{self, ALIGNMENT, Memory};
use alexc_runtime::container::{HEADER_BYTES, checksum};
use alexc_runtime::parallel::available_threads;
use alexc_runtime::preprocess::{Preprocess, Resize};
use serde_json::{Value, json};

/// Changes where a key changes its meaning.
const VERSION: u64 = 1;

impl Artifact<'_> {
    pub(super) fn manifest(&self, written: &[Written]) -> Value {
        let compiled = self.compiled;
        let program = &compiled.program;
        let options = self.object_options();
        let memory = Memory::of(program, &options);
        let lesser = self.lesser.iter().map(|(compiled, options)| variant(compiled, options));
        let variants: Vec<Value> = lesser.chain([variant(compiled, self.options)]).collect();
        // What a processor must have at the least.
        let (needed, by) = self
            .lesser
            .first()
            .map_or((compiled, self.options), |(compiled, options)| (compiled, options));
        let needed = variant(needed, by);
        let nodes = compiled.fused.nodes.iter().zip(&compiled.algorithms);
        let weights = self.weights.map(|weights| checksum(weights.as_bytes(), available_threads()));
        let files: Vec<Value> = written
            .iter()
            .map(|file| {
                let name = file.path.file_name().map(|name| name.to_string_lossy());
                json!({"kind": file.kind.name(), "name": name, "bytes": file.bytes})
            })
            .collect();
        json!({
            "manifest_version": VERSION,
            "compiler": COMPILER,
            "name": program.name,
            "model": compiled.fused.name,
            "target": {
                "triple": self.options.target.isa().triple().to_string(),
                "level": needed["level"],
                "features": needed["features"],
                "emitter": needed["emitter"],
                "variants": variants,
            },
            "math": self.options.math.name(),
            "input": tensor(&program.input_dims),
            "output": tensor(&program.output_dims),
            "preprocess": self.spec.preprocess.as_ref().map(preprocess),
            "labels": self.labels,
            "memory": {
                "workspace_bytes": memory.workspace_bytes(),
                "workspace_bytes_per_thread": memory.thread_stride(),
                "arena_bytes": memory.scratch_offset,
                "scratch_bytes": memory.scratch_bytes,
                "weights_bytes": program.weights_bytes,
                "weights_embedded": self.embed,
                "weights_file_offset": HEADER_BYTES,
                "alignment": ALIGNMENT,
            },
            "self_test": self.self_test.is_some(),
            "symbols": object::exports(program, &options),
            "layers": nodes.map(|(node, &algorithm)| layer(node, algorithm)).collect::<Vec<_>>(),
            "hashes": {
                "spec": hex(checksum(self.spec.to_string().as_bytes(), 1)),
                "program": hex(program.fingerprint()),
                "weights": weights.map(hex),
            },
            "files": files,
        })
    }
}

/// Code for some processors.
fn variant(compiled: &Compiled, options: &Options) -> Value {
    let features = compiled.program.features.iter();
    json!({
        "level": options.target.level().map(|level| level.name()),
        "features": features.map(|feature| feature.name()).collect::<Vec<_>>(),
        "emitter": compiled.emitter.to_string(),
    })
}

/// 64 bits: XXH64 in pieces, as the headers of alexc's files have it.
fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

fn tensor(dims: &[usize]) -> Value {
    let elements: usize = dims.iter().product();
    json!({"shape": dims, "dtype": "float32", "bytes": 4 * elements})
}

/// As the spec writes it.
fn preprocess(preprocess: &Preprocess) -> Value {
    let resize = match preprocess.resize {
        None => Value::Null,
        Some(Resize::Shorter(size)) => json!(size),
        Some(Resize::Exact(size)) => json!(size),
    };
    json!({
        "resize": resize,
        "crop": preprocess.crop,
        "color": preprocess.color.to_string(),
        "mean": preprocess.mean,
        "std": preprocess.std,
    })
}

fn layer(node: &Node, algorithm: Algorithm) -> Value {
    let (method, error) = match (&node.op, algorithm) {
        (Op::Conv(conv), Algorithm::Winograd { m }) => {
            let winograd = algorithm::winograd(conv, m);
            (Some(algorithm.to_string()), winograd.map(|winograd| winograd.expected_error()))
        }
        (Op::Conv(_) | Op::Linear(_), Algorithm::Direct | Algorithm::Nonzero) => {
            (Some(algorithm.to_string()), None)
        }
        _ => (None, None),
    };
    json!({
        "name": node.name,
        "op": node.op.name(),
        "layers": node.sources,
        "algorithm": method,
        "expected_error": error,
    })
}
