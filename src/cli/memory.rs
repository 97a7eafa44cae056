//! Whether this machine can hold a net, asked before any memory is taken: a system that promises
//! more than it has ends the process without a word.

use super::failure::Failure;
use crate::graph::Graph;
use crate::report::table::bytes;
use alexc_codegen::ir::DType;
use alexc_runtime::machine_memory::machine_bytes;
use alexc_runtime::program::Program;

/// Before a graph is compiled: what it takes at the very least.
pub(super) fn check_graph(graph: &Graph, weights_dtype: DType) -> Result<(), Failure> {
    let elements = graph.tensors().into_iter().map(|tensor| tensor.len() as u64);
    let weights = elements.fold(0_u64, u64::saturating_add).saturating_mul(size(weights_dtype));
    let value = |index: usize| 4 * graph.values[index].shape.len() as u64;
    let activations = value(graph.input.index()) + value(graph.output.index());
    fits(&graph.name, weights, activations, machine_bytes())
}

/// Before a program's memory is taken.
pub(super) fn check_program(program: &Program, threads: usize) -> Result<(), Failure> {
    let floats = |dims: &[usize]| 4 * dims.iter().product::<usize>() as u64;
    let scratch = (program.local_bytes as u64).saturating_mul(threads as u64);
    let activations = [
        program.arena_bytes as u64,
        scratch,
        floats(&program.input_dims),
        floats(&program.output_dims),
    ];
    let activations = activations.into_iter().fold(0, u64::saturating_add);
    fits(&program.name, program.weights_bytes as u64, activations, machine_bytes())
}

fn size(dtype: DType) -> u64 {
    match dtype {
        DType::F32 => 4,
        DType::F16 | DType::Bf16 | DType::I16 => 2,
        DType::I8 => 1,
    }
}

fn fits(name: &str, weights: u64, activations: u64, machine: Option<u64>) -> Result<(), Failure> {
    let needed = weights.saturating_add(activations);
    let Some(machine) = machine.filter(|&machine| machine < needed) else { return Ok(()) };
    let remedy = if weights > machine {
        "--weights-dtype f16 or int8 halves or quarters the weights of linear layers"
    } else {
        "a smaller batch (--batch) or smaller maps need less"
    };
    Err(Failure::Input(format!(
        "{name} needs {} of memory ({} for weights, {} for activations), and this machine has {}; \
         {remedy}",
        bytes(needed),
        bytes(weights),
        bytes(activations),
        bytes(machine)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_told_with_its_parts() {
        assert!(fits("net", 3 << 30, 1 << 30, Some(4 << 30)).is_ok());
        assert!(fits("net", u64::MAX, u64::MAX, None).is_ok());
        let Err(Failure::Input(told)) = fits("net", 3 << 30, 2 << 30, Some(4 << 30)) else {
            panic!("it was not refused");
        };
        assert_eq!(
            told,
            "net needs 5.0 GiB of memory (3.0 GiB for weights, 2.0 GiB for activations), and this \
             machine has 4.0 GiB; a smaller batch (--batch) or smaller maps need less"
        );
        assert!(fits("net", u64::MAX, u64::MAX, Some(u64::MAX - 1)).is_err());
    }
}
