//! `alexc build`: a net as files that an app links or loads.

use super::args::{BuildArgs, CompileArgs, Stage};
use super::dump::later_stage;
use super::failure::{Failure, print, print_json, write};
use super::{load, memory, tuning};
use crate::artifact::{Artifact, Kind, Written, make_folder, self_test};
use crate::compile::{self, Compiled, Options};
use crate::graph::Graph;
use crate::spec::Spec;
use crate::weights;
use alexc_codegen::target::Target;
use alexc_runtime::cpu::Level;
use serde_json::{Value, json};
use std::path::Path;

/// Where the numbered dumps go.
const DUMPS: &str = "dumps";

/// What was made of a net.
pub(super) struct Made {
    pub(super) spec: Spec,
    pub(super) compiled: Compiled,
    pub(super) written: Vec<Written>,
}

pub(super) fn run(args: &BuildArgs) -> Result<(), Failure> {
    let Made { compiled, written, .. } = make(args)?;
    if args.common.json {
        let files: Vec<Value> = written
            .iter()
            .map(|file| {
                let path = file.path.to_string_lossy();
                json!({"kind": file.kind.name(), "path": path, "bytes": file.bytes})
            })
            .collect();
        return print_json(&json!({
            "model": compiled.fused.name,
            "name": compiled.program.name,
            "target": compiled.target,
            "compile_ms": compiled.timings.total().as_secs_f64() * 1e3,
            "files": files,
        }));
    }
    if args.common.quiet {
        return Ok(());
    }
    let lines =
        written.iter().map(|file| format!("{:>12} bytes  {}\n", file.bytes, file.path.display()));
    print(&lines.collect::<String>())
}

/// Compiles the net and writes the files.
pub(super) fn make(args: &BuildArgs) -> Result<Made, Failure> {
    load::no_schedule(&args.compile)?;
    let mut kinds = args.emit.clone();
    if kinds.is_empty() {
        kinds = vec![Kind::Staticlib, Kind::Header, Kind::Manifest];
        let apart = args.weights.is_some() && !args.embed_weights;
        kinds.extend(apart.then_some(Kind::Weights));
    }
    if kinds.contains(&Kind::Weights) && args.weights.is_none() {
        return Err(Failure::Usage(
            "--emit weights needs --weights FILE.safetensors (or random:SEED for a trial)"
                .to_owned(),
        ));
    }
    let (spec, mut graph) = load::graph(&args.spec, &args.common)?;
    if args.logits {
        load::without_softmax(&mut graph);
    }
    let labels = load::labels(&spec, &args.spec, &graph)?.unwrap_or_default();
    // Whether the weights fit is known before anything is compiled or written.
    let source = match &args.weights {
        Some(weights) => {
            memory::check_graph(&graph, load::weights_dtype(&args.compile))?;
            Some(weights::open(weights)?.check(&graph.tensors())?)
        }
        None => None,
    };
    let triple = args.target.as_deref();
    let threads = load::threads(None)?;
    let cpus = cpus(&args.compile.target_cpu, triple)?;
    if cpus.len() > 1 && kinds.contains(&Kind::Module) {
        return Err(Failure::Usage(
            "a module holds the code for one CPU: give --target-cpu one of them, or leave out \
             --emit module"
                .to_owned(),
        ));
    }
    // Compiled for the best of them; the lesser ones take its choices, so that one file of weights
    // serves all.
    let compile_for =
        |cpu: &String| CompileArgs { target_cpu: cpu.clone(), ..args.compile.clone() };
    let (best, lesser) = cpus.split_last().ok_or_else(no_cpu)?;
    let mut options = tuning::options(&graph, &args.common, &compile_for(best), triple, threads)?;
    options.texts = args.dumps;
    let compiled = compile::compile(&graph, &options)?;
    let lesser: Vec<(Compiled, Options)> = lesser
        .iter()
        .map(|cpu| {
            let mut lesser = load::options(&args.common, &compile_for(cpu), triple)?;
            lesser.tuned.clone_from(&options.tuned);
            Ok((compile::compile(&graph, &lesser)?, lesser))
        })
        .collect::<Result<_, Failure>>()?;
    let packed = match &source {
        Some(source) => {
            Some(load::pack(&compiled, source, &[], options.threads, args.common.quiet)?)
        }
        None => None,
    };
    let links = kinds.iter().any(|kind| matches!(kind, Kind::Object | Kind::Staticlib));
    let (self_test, packed) = match (&source, packed) {
        (Some(source), Some(packed)) if links => {
            let (test, packed) = self_test(&graph, source, &compiled, &options, packed)?;
            (Some(test), Some(packed))
        }
        (_, packed) => (None, packed),
    };
    let artifact = Artifact {
        spec: &spec,
        compiled: &compiled,
        options: &options,
        lesser: &lesser,
        labels: &labels,
        weights: packed.as_ref(),
        embed: args.embed_weights,
        self_test: self_test.as_ref(),
    };
    let written = artifact.write(&kinds, &args.output)?;
    if args.dumps {
        write_dumps(&args.output.join(DUMPS), &spec, &graph, &compiled)?;
    }
    Ok(Made { spec, compiled, written })
}

/// The CPUs of `--target-cpu`, the least of them first, each once.
fn cpus(list: &str, triple: Option<&str>) -> Result<Vec<String>, Failure> {
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    if let [one] = names[..] {
        return Ok(vec![one.to_owned()]);
    }
    let mut found: Vec<(Level, String)> = Vec::new();
    for name in names {
        let Some(level) = Target::new(triple, name)?.level() else {
            return Err(Failure::Usage(format!(
                "--target-cpu {list}: code for several CPUs is made for x86-64 only"
            )));
        };
        if found.iter().all(|(other, _)| *other != level) {
            found.push((level, name.to_owned()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

fn no_cpu() -> Failure {
    Failure::Usage("--target-cpu names no CPU".to_owned())
}

/// What every stage made, in their order.
fn write_dumps(
    folder: &Path,
    spec: &Spec,
    graph: &Graph,
    compiled: &Compiled,
) -> Result<(), Failure> {
    make_folder(folder)?;
    let later = |stage| later_stage(compiled, stage, None);
    for (index, (name, text)) in [
        ("spec", spec.to_string()),
        ("graph", graph.to_string()),
        ("fused", later(Stage::Fused)),
        ("plan", later(Stage::Plan)),
        ("kernel", later(Stage::Kernel)),
        ("clif", later(Stage::Clif)),
        ("asm", later(Stage::Asm)),
    ]
    .into_iter()
    .enumerate()
    {
        write(Some(&folder.join(format!("{index:02}-{name}.txt"))), &text)?;
    }
    Ok(())
}
