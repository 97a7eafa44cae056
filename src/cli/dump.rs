//! `alexc dump`: what a stage made, as text.

use super::args::{DumpArgs, ScheduleArg, Stage};
use super::failure::{Failure, write};
use super::{load, tuning};
use crate::compile::opencl::{self, OpenClNet};
use crate::compile::{Compiled, compile};
use crate::diagnostic::{did_you_mean, listed};
use serde_json::json;

pub(super) fn run(args: &DumpArgs) -> Result<(), Failure> {
    let (spec, graph) = load::graph(&args.spec, &args.common)?;
    if let Some(layer) = &args.layer {
        let names: Vec<&str> = spec.layers.iter().map(|l| l.name.value.as_str()).collect();
        if !names.contains(&layer.as_str()) {
            let hint = did_you_mean(layer, names.iter().copied())
                .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            let known = listed(names);
            return Err(Failure::Usage(format!(
                "--layer {layer}: the net has no such layer{hint} (it has {known})"
            )));
        }
    }
    let text = match args.stage {
        Stage::Spec => spec.to_string(),
        Stage::Graph => graph.to_string(),
        stage => {
            let (common, triple) = (&args.common, args.target.as_deref());
            let threads = load::threads(None)?;
            let mut options = tuning::options(&graph, common, &args.compile, triple, threads)?;
            let layer = args.layer.as_deref();
            if stage == Stage::Opencl {
                let device = match args.compile.schedule {
                    Some(ScheduleArg::Gpu) => opencl::Device::GPU,
                    _ => opencl::Device::CPU,
                };
                opencl_text(&opencl::compile(&graph, &options, device)?, layer)
            } else {
                options.texts = matches!(stage, Stage::Clif | Stage::Asm);
                later_stage(&compile(&graph, &options)?, stage, layer)
            }
        }
    };
    let text = match (&args.layer, args.stage) {
        (Some(layer), Stage::Spec) => lines_of(&text, layer),
        (Some(layer), Stage::Graph) => paragraphs_of(&text, layer),
        _ => text,
    };
    if args.common.json {
        let stage = format!("{:?}", args.stage).to_lowercase();
        let document = json!({"model": graph.name, "stage": stage, "text": text});
        return write(args.output.as_deref(), &format!("{document:#}\n"));
    }
    write(args.output.as_deref(), &text)
}

/// The operator that computes a layer: paragraphs of a graph begin with their operator's name.
fn paragraphs_of(text: &str, layer: &str) -> String {
    let head = [format!("{layer}: "), format!("{layer:?}: ")];
    let found = text.split("\n\n").filter(|part| head.iter().any(|head| part.starts_with(head)));
    found.map(|part| format!("{}\n", part.trim_end())).collect()
}

/// The lines that speak of a layer.
fn lines_of(text: &str, layer: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let speaks = |line: &&str| line.split(|c| !is_word(c)).any(|word| word == layer);
    text.lines().filter(speaks).map(|line| format!("{line}\n")).collect()
}

/// The program, or the functions of one layer.
fn opencl_text(net: &OpenClNet, layer: Option<&str>) -> String {
    match layer {
        None => net.program(),
        Some(_) => {
            let functions = net.kernels_of(layer).into_iter().map(|index| &net.sources[index].text);
            functions.map(|text| format!("{text}\n")).collect()
        }
    }
}

/// The stages behind the graph.
pub(super) fn later_stage(compiled: &Compiled, stage: Stage, layer: Option<&str>) -> String {
    match stage {
        Stage::Fused => compiled.fused_text(layer),
        Stage::Plan => match layer {
            None => compiled.plan.to_string(),
            Some(layer) => {
                let node = compiled.node_of(layer).unwrap_or(layer);
                lines_of(&compiled.plan.to_string().replace(". ", " "), node)
            }
        },
        _ => {
            let mut text = String::new();
            for index in compiled.kernels_of(layer) {
                let shown = match stage {
                    Stage::Kernel => compiled.kernels[index].to_string(),
                    Stage::Clif if compiled.texts[index].clif.is_empty() => format!(
                        "; {}: no Cranelift here, the code comes from {} (--emitter cranelift)\n",
                        compiled.kernels[index].name, compiled.emitter
                    ),
                    Stage::Clif => compiled.texts[index].clif.clone(),
                    _ => format!(
                        "{}:\n{}",
                        compiled.kernels[index].name, compiled.texts[index].listing
                    ),
                };
                text.push_str(&shown);
                text.push('\n');
            }
            text
        }
    }
}
