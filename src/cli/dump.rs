//! `alexc dump`: what a stage made, as text.

use super::args::{DumpArgs, ScheduleArg, Stage};
use super::device::{self, Place};
use super::failure::{Failure, write};
use super::{load, tuning};
use crate::compile::opencl::{self, OpenClNet};
use crate::compile::{Compiled, Options, Prepared, compile};
use crate::diagnostic::{did_you_mean, listed};
use crate::graph::Graph;
use crate::report::estimate;
#[cfg(feature = "opencl")]
use alexc_runtime::opencl::Device;
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
    let purpose = purpose(&graph, args)?;
    let text = match args.stage {
        Stage::Spec => spec.to_string(),
        Stage::Graph => graph.to_string(),
        _ => stage_text(&graph, args, purpose)?,
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

/// What the net is compiled for. Flags that do not go with that are refused for the stages, too,
/// that come before it matters.
enum For {
    Processor(Options),
    OpenCl(Options, opencl::Device),
    #[cfg(feature = "opencl")]
    Devices(Options, opencl::Device, Vec<Device>),
}

fn purpose(graph: &Graph, args: &DumpArgs) -> Result<For, Failure> {
    let (compile, common, triple) = (&args.compile, &args.common, args.target.as_deref());
    let threads = load::threads(args.device.threads)?;
    match device::find(&args.device.device)? {
        Place::Cpu if matches!(args.stage, Stage::Opencl | Stage::Estimate) => {
            load::for_opencl(compile, triple)?;
            if compile.tune {
                return Err(Failure::Usage(
                    "--tune measures, and a stage for OpenCL without a device has none to measure \
                     on"
                    .to_owned(),
                ));
            }
            let device = match (compile.schedule, args.stage) {
                (Some(ScheduleArg::Gpu), _) | (None, Stage::Estimate) => opencl::Device::GPU,
                _ => {
                    load::no_tensor_cores(compile)?;
                    opencl::Device::CPU
                }
            };
            Ok(For::OpenCl(load::options(common, compile, None)?, device))
        }
        Place::Cpu => {
            load::no_schedule(compile)?;
            // Nothing is measured for a graph.
            let options = match args.stage {
                Stage::Spec | Stage::Graph => load::options(common, compile, triple)?,
                _ => tuning::options(graph, common, compile, triple, threads)?,
            };
            Ok(For::Processor(options))
        }
        #[cfg(feature = "opencl")]
        Place::OpenCl(devices) => {
            load::for_opencl(compile, triple)?;
            if matches!(args.stage, Stage::Clif | Stage::Asm) {
                return Err(Failure::Usage(
                    "a net for an OpenCL device has no machine code here: its driver makes that; \
                     --stage opencl shows the source"
                        .to_owned(),
                ));
            }
            let target = super::opencl::target(compile, &devices)?;
            let options = load::options(common, compile, None)?;
            let options = Options { halves: devices.len() == 2, ..options };
            Ok(For::Devices(options, target, devices))
        }
    }
}

/// A stage behind the graph.
fn stage_text(graph: &Graph, args: &DumpArgs, purpose: For) -> Result<String, Failure> {
    let (stage, layer) = (args.stage, args.layer.as_deref());
    match purpose {
        For::Processor(mut options) => {
            options.texts = matches!(stage, Stage::Clif | Stage::Asm);
            Ok(later_stage(&compile(graph, &options)?, stage, layer))
        }
        For::OpenCl(options, device) => {
            let net = opencl::compile(graph, &options, device)?;
            if stage == Stage::Estimate {
                estimated(&net, layer)
            } else {
                Ok(opencl_text(&net, layer))
            }
        }
        #[cfg(feature = "opencl")]
        For::Devices(options, target, devices) => {
            let net = opencl::compile(graph, &options, target)?;
            match stage {
                Stage::Opencl => Ok(opencl_text(&net, layer)),
                Stage::Estimate => estimated(&net, layer),
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

/// What kernels take at least.
fn estimated(net: &OpenClNet, layer: Option<&str>) -> Result<String, Failure> {
    match net.device.schedule {
        opencl::Schedule::Gpu => Ok(estimate::text(net, layer)),
        opencl::Schedule::Cpu => Err(Failure::Usage(
            "--stage estimate is for the kernels of GPUs: with --schedule gpu".to_owned(),
        )),
    }
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
