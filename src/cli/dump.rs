//! `alexc dump`: what a stage made, as text.

use super::args::{DumpArgs, ScheduleArg, Stage};
use super::device::{self, Place};
use super::failure::{Failure, write};
use super::{load, tuning};
use crate::compile::opencl::{self, OpenClNet};
use crate::compile::{Compiled, Prepared, compile};
use crate::diagnostic::{did_you_mean, listed};
use crate::graph::Graph;
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
        stage => stage_text(&graph, args, stage)?,
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

/// A stage behind the graph, on the device that is named.
fn stage_text(graph: &Graph, args: &DumpArgs, stage: Stage) -> Result<String, Failure> {
    let layer = args.layer.as_deref();
    match device::find(&args.device.device)? {
        Place::Cpu => {
            if stage != Stage::Opencl {
                load::no_schedule(&args.compile)?;
            }
            let (common, triple) = (&args.common, args.target.as_deref());
            let threads = load::threads(args.device.threads)?;
            let mut options = tuning::options(graph, common, &args.compile, triple, threads)?;
            if stage == Stage::Opencl {
                let device = match args.compile.schedule {
                    Some(ScheduleArg::Gpu) => opencl::Device::GPU,
                    _ => opencl::Device::CPU,
                };
                let net = opencl::compile(graph, &options, device)?;
                return Ok(opencl_text(&net, layer));
            }
            options.texts = matches!(stage, Stage::Clif | Stage::Asm);
            Ok(later_stage(&compile(graph, &options)?, stage, layer))
        }
        #[cfg(feature = "opencl")]
        Place::OpenCl(devices) => {
            if args.target.is_some() {
                return Err(super::opencl::for_processors("--target"));
            }
            let net = super::opencl::compiled(graph, &args.common, &args.compile, &devices)?;
            match stage {
                Stage::Clif | Stage::Asm => Err(Failure::Usage(
                    "a net for an OpenCL device has no machine code here: its driver makes that; \
                     --stage opencl shows the source"
                        .to_owned(),
                )),
                Stage::Opencl => Ok(opencl_text(&net, layer)),
                Stage::Plan if layer.is_none() => super::opencl::plan_text(&net, &devices),
                _ => Ok(common_stage(&net, stage, layer)),
            }
        }
    }
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

/// The stages between the graph and the code, which are the same for all emitters.
fn common_stage(net: &Prepared, stage: Stage, layer: Option<&str>) -> String {
    match stage {
        Stage::Fused => net.fused_text(layer),
        Stage::Plan => match layer {
            None => net.plan.to_string(),
            Some(layer) => {
                let node = net.node_of(layer).unwrap_or(layer);
                lines_of(&net.plan.to_string().replace(". ", " "), node)
            }
        },
        _ => {
            let kernels = net.kernels_of(layer).into_iter().map(|index| &net.kernels[index]);
            kernels.map(|kernel| format!("{}\n", **kernel)).collect()
        }
    }
}

/// The stages behind the graph.
pub(super) fn later_stage(compiled: &Compiled, stage: Stage, layer: Option<&str>) -> String {
    if !matches!(stage, Stage::Clif | Stage::Asm) {
        return common_stage(compiled, stage, layer);
    }
    let mut text = String::new();
    for index in compiled.kernels_of(layer) {
        let name = &compiled.kernels[index].name;
        let shown = match stage {
            Stage::Clif if compiled.texts[index].clif.is_empty() => format!(
                "; {name}: no Cranelift here, the code comes from {} (--emitter cranelift)\n",
                compiled.emitter
            ),
            Stage::Clif => compiled.texts[index].clif.clone(),
            _ => format!("{name}:\n{}", compiled.texts[index].listing),
        };
        text.push_str(&shown);
        text.push('\n');
    }
    text
}
