//! What the kernels of a net take on a GPU at least, by the row of the table of parameters that it
//! was shaped for. Nothing of this is measured.

use super::table::{Align, Table, bytes, grouped};
use crate::compile::opencl::OpenClNet;
use crate::graph::Op;
use crate::lower::gpu::parameters::AROUND;
use alexc_codegen::ir::{Access, Inst, Stmt};
use alexc_codegen::stats::stats;
use alexc_codegen::verify::Verified;

/// One kernel's run.
struct Estimate {
    groups: u64,
    items: u64,
    flops: u64,
    bytes: u64,
    /// Of the processor with the most groups.
    fma_us: f64,
    memory_us: f64,
    /// Steps of a group that follow each other.
    steps_us: f64,
}

impl Estimate {
    fn new(kernel: &Verified, net: &OpenClNet) -> Estimate {
        let p = &net.device.parameters;
        let stats = stats(kernel);
        let buffers = kernel.buffers.iter().zip(&stats.buffers);
        let bytes = buffers
            .filter(|(buffer, _)| !matches!(buffer.access, Access::Local | Access::Shared))
            .map(|(_, touched)| touched.loaded_bytes + touched.stored_bytes)
            .sum();
        let (groups, items) = if kernel.items.is_empty() {
            let items = p.single_items as u64;
            (kernel.extent().div_ceil(items), items)
        } else {
            (kernel.extent(), kernel.group())
        };
        let processors = p.processors as u64;
        let busiest = groups.div_ceil(processors) as f64 / groups as f64;
        let warps = multiplies_by_warps(kernel);
        let rate = if warps { p.tensor_products_per_ns } else { p.products_per_ns };
        let fma_ns = busiest * stats.flops as f64 / (2 * rate) as f64;
        // A step has two barriers, or one where warps multiply.
        let of_step = if warps { 1 } else { 2 };
        let steps = barriers(&kernel.body).div_ceil(of_step) + AROUND as u64;
        Estimate {
            groups,
            items,
            flops: stats.flops,
            bytes,
            fma_us: fma_ns / 1e3,
            memory_us: bytes as f64 / (p.processors * p.bytes_per_us) as f64,
            steps_us: (steps * p.step_ns as u64) as f64 / 1e3,
        }
    }

    fn limit(&self) -> (f64, &'static str) {
        let limits = [(self.fma_us, "fma"), (self.memory_us, "memory"), (self.steps_us, "steps")];
        limits
            .into_iter()
            .fold((0.0, ""), |most, limit| if limit.0 > most.0 { limit } else { most })
    }
}

/// Whether tensor cores do the products.
fn multiplies_by_warps(kernel: &Verified) -> bool {
    let mut found = false;
    kernel.for_each_inst(&mut |inst, _| found |= matches!(inst, Inst::Mma { .. }));
    found
}

/// Barriers that an item meets.
fn barriers(body: &[Stmt]) -> u64 {
    let of = |stmt: &Stmt| match stmt {
        Stmt::Barrier => 1,
        Stmt::For { count, body, .. } => u64::from(*count) * barriers(body),
        Stmt::Inst(_) | Stmt::Let { .. } | Stmt::Nonzero(_) => 0,
    };
    body.iter().map(of).sum()
}

/// A row for each step of a run, or of one layer, and their sum.
pub fn text(net: &OpenClNet, layer: Option<&str>) -> String {
    use Align::{Left, Right};
    let p = &net.device.parameters;
    let mut table = Table::new(&[
        ("kernel", Left),
        ("method", Left),
        ("groups", Right),
        ("items", Right),
        ("flops", Right),
        ("bytes", Right),
        ("fma us", Right),
        ("memory us", Right),
        ("steps us", Right),
        ("at least us", Right),
        ("by", Left),
    ]);
    let us = |us: f64| format!("{us:.2}");
    let node = layer.and_then(|layer| net.node_of(layer));
    let (mut total, mut kernels) = (0.0, 0);
    for (call, step) in net.lowered.calls.iter().zip(&net.steps) {
        if layer.is_some() && node != Some(call.node.as_str()) {
            continue;
        }
        kernels += 1;
        let estimate = Estimate::new(&net.kernels[step.kernel], net);
        let (least, by) = estimate.limit();
        total += least;
        let nodes = net.fused.nodes.iter().zip(&net.algorithms);
        let method = nodes
            .filter(|(node, _)| node.name == call.node && matches!(node.op, Op::Conv(_)))
            .map(|(_, algorithm)| algorithm.to_string());
        table.row([
            call.label(),
            method.collect(),
            grouped(estimate.groups),
            estimate.items.to_string(),
            grouped(estimate.flops),
            bytes(estimate.bytes),
            us(estimate.fma_us),
            us(estimate.memory_us),
            us(estimate.steps_us),
            us(least),
            by.to_owned(),
        ]);
    }
    let between = (kernels * p.kernel_ns) as f64 / 1e3;
    format!(
        "Not measured: {} processors, each with {} multiply-adds and {:.1} bytes a ns, {} ns a \
         step.\n\n{table}\n{kernels} kernels, at least {} us; and {} us between them.\n",
        p.processors,
        p.products_per_ns,
        p.bytes_per_us as f64 / 1e3,
        p.step_ns,
        us(total),
        us(between),
    )
}
