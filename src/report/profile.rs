//! Where the time of a run goes: every layer and every kernel beside the machine's own limits.

use super::limits::Limits;
use super::table::{Align, Table, bytes};
use crate::algorithm::Algorithm;
use crate::compile::Prepared;
use crate::graph::{Op, cost};
use alexc_codegen::ir::Access;
use alexc_codegen::stats::{Stats, stats};
use alexc_runtime::program::Program;
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::Duration;

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// For each profiled run the time of each step.
    pub steps: Vec<Vec<Duration>>,
    /// The fastest run without a profile.
    pub run: Duration,
    /// `cpu`, or an OpenCL device.
    pub device: String,
    /// The target and what made the code, where that is known.
    pub code: Option<(String, String)>,
    /// Threads at work.
    pub threads: usize,
    /// What the machine can do.
    pub limits: Limits,
}

/// A profile.
#[derive(Debug, Clone)]
pub struct Profile {
    model: String,
    batch: usize,
    device: String,
    /// The target and what made the code, where that is known.
    code: Option<(String, String)>,
    threads: usize,
    iters: usize,
    run_ms: f64,
    limits: Limits,
    layers: Vec<Layer>,
    total: Row,
}

/// All kernels of a layer.
#[derive(Debug, Clone)]
struct Layer {
    /// The spec's layers that it computes.
    sources: Vec<String>,
    algorithm: Option<Algorithm>,
    row: Row,
    kernels: Vec<Row>,
}

/// A line of the table.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    min_ms: f64,
    p50_ms: f64,
    work: Work,
    /// Additions and multiplications by definition, where the method saves some.
    direct_flops: Option<u64>,
}

/// What is to be done, and how long it takes at the machine's limits.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    flops: u64,
    bytes: u64,
    /// Of the kernels that arithmetic bounds.
    fma_ms: f64,
    /// Of the kernels that memory bounds.
    memory_ms: f64,
}

impl Work {
    fn of(net: &Prepared, kernel: usize, limits: &Limits) -> Work {
        let kernel = &net.kernels[kernel];
        let Stats { flops, buffers } = stats(kernel);
        let touched = kernel.buffers.iter().zip(&buffers);
        // Scratch stays in the nearest cache.
        let bytes = touched
            .filter(|(buffer, _)| !matches!(buffer.access, Access::Local | Access::Shared))
            .map(|(_, footprint)| footprint.loaded_bytes + footprint.stored_bytes)
            .sum();
        let fma_ms = flops as f64 / limits.flops_per_s * 1e3;
        let memory_ms = bytes as f64 / limits.read_bytes_per_s * 1e3;
        let (fma_ms, memory_ms) =
            if fma_ms >= memory_ms { (fma_ms, 0.0) } else { (0.0, memory_ms) };
        Work { flops, bytes, fma_ms, memory_ms }
    }

    fn plus(self, other: Work) -> Work {
        Work {
            flops: self.flops.saturating_add(other.flops),
            bytes: self.bytes.saturating_add(other.bytes),
            fma_ms: self.fma_ms + other.fma_ms,
            memory_ms: self.memory_ms + other.memory_ms,
        }
    }
}

impl Profile {
    /// Puts measured times beside the work of a net's kernels. Of a program that was not compiled
    /// here nothing is known but its steps' names.
    pub fn new(program: &Program, net: Option<&Prepared>, measured: &Measured) -> Profile {
        let Measured { steps, run, device, code, threads, limits } = measured;
        let works: Vec<Work> = program
            .steps
            .iter()
            .map(|step| net.map_or(Work::default(), |net| Work::of(net, step.kernel, limits)))
            .collect();
        let row = |name: &str, indices: &[usize]| {
            let (min_ms, p50_ms) = times(steps, indices);
            let work = indices.iter().map(|&i| works[i]).fold(Work::default(), Work::plus);
            Row { name: name.to_owned(), min_ms, p50_ms, work, direct_flops: None }
        };
        // Steps are called `node.kernel`, and a kernel's name has no dots.
        let names = program.steps.iter().map(|step| {
            step.name.rsplit_once('.').unwrap_or((step.name.as_str(), step.name.as_str()))
        });
        let mut layers: Vec<(Layer, Vec<usize>)> = Vec::new();
        for (index, (node, kernel)) in names.enumerate() {
            if layers.last().is_none_or(|(layer, _)| layer.row.name != node) {
                layers.push((Layer::new(row(node, &[]), net), Vec::new()));
            }
            if let Some((layer, indices)) = layers.last_mut() {
                layer.kernels.push(row(kernel, &[index]));
                indices.push(index);
            }
        }
        let layers = layers
            .into_iter()
            .map(|(layer, indices)| {
                let direct_flops = layer.row.direct_flops;
                let row = Row { direct_flops, ..row(&layer.row.name, &indices) };
                Layer { row, ..layer }
            })
            .collect();
        let all: Vec<usize> = (0..works.len()).collect();
        Profile {
            model: net.map_or(program.name.clone(), |net| net.fused.name.clone()),
            batch: program.input_dims.first().copied().unwrap_or(1),
            device: device.clone(),
            code: code.clone(),
            threads: *threads,
            iters: steps.len(),
            run_ms: run.as_secs_f64() * 1e3,
            limits: *limits,
            layers,
            total: row("all", &all),
        }
    }

    /// Stable keys.
    pub fn to_json(&self) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let mut object = self.row_json("layer", &layer.row);
                object.insert("layers".to_owned(), json!(layer.sources));
                let algorithm = layer.algorithm.map(|algorithm| algorithm.to_string());
                object.insert("algorithm".to_owned(), json!(algorithm));
                let rate = layer.row.direct_flops.and_then(|flops| giga(flops, layer.row.min_ms));
                object.insert("direct_gflops".to_owned(), json!(rate));
                let kernels = layer.kernels.iter().map(|row| self.row_json("kernel", row));
                object.insert("kernels".to_owned(), kernels.map(Value::Object).collect());
                Value::Object(object)
            })
            .collect();
        json!({
            "model": self.model,
            "batch": self.batch,
            "threads": self.threads,
            "device": self.device,
            "target": self.code.as_ref().map(|(target, _)| target),
            "emitter": self.code.as_ref().map(|(_, emitter)| emitter),
            "iters": self.iters,
            "limits": {
                "fma_gflops": self.limits.flops_per_s / 1e9,
                "read_gbps": self.limits.read_bytes_per_s / 1e9,
            },
            "run_min_ms": self.run_ms,
            "total": self.row_json("name", &self.total),
            "layers": layers,
        })
    }

    fn row_json(&self, key: &str, row: &Row) -> Map<String, Value> {
        // Of a module the work is not known.
        let known = |amount: u64| self.code.as_ref().map(|_| amount);
        let rate = |amount: u64| known(amount).and_then(|amount| giga(amount, row.min_ms));
        let mut object = Map::new();
        for (key, value) in [
            (key, json!(row.name)),
            ("min_ms", json!(row.min_ms)),
            ("p50_ms", json!(row.p50_ms)),
            ("share", json!(self.share(row))),
            ("flops", json!(known(row.work.flops))),
            ("bytes", json!(known(row.work.bytes))),
            ("gflops", json!(rate(row.work.flops))),
            ("gbps", json!(rate(row.work.bytes))),
            ("limit", json!(row.limit())),
            ("of_limit", json!(row.of_limit())),
        ] {
            object.insert(key.to_owned(), value);
        }
        object
    }

    fn share(&self, row: &Row) -> f64 {
        if self.total.p50_ms > 0.0 { row.p50_ms / self.total.p50_ms } else { 0.0 }
    }

    /// The table for people; with `kernels` a line for each kernel below its layer.
    pub fn table(&self, kernels: bool) -> String {
        let code = match &self.code {
            Some((target, emitter)) => format!(", {target}: {emitter}"),
            None => String::new(),
        };
        let mut text =
            format!("{}, batch {}, {} threads{code}\n", self.model, self.batch, self.threads);
        if self.limits.known() {
            text.push_str(&format!(
                "this machine's limits: {:.1} GFLOP/s, {:.1} GB/s read from memory\n",
                self.limits.flops_per_s / 1e9,
                self.limits.read_bytes_per_s / 1e9,
            ));
        }
        text.push('\n');
        let mut table = Table::new(&[
            ("layer", Align::Left),
            ("method", Align::Left),
            ("min ms", Align::Right),
            ("p50 ms", Align::Right),
            ("share", Align::Right),
            ("GFLOP/s", Align::Right),
            ("direct", Align::Right),
            ("bytes", Align::Right),
            ("GB/s", Align::Right),
            ("limit", Align::Left),
            ("of it", Align::Right),
        ]);
        for layer in &self.layers {
            let method = layer.algorithm.map_or(String::new(), |method| method.to_string());
            table.row(self.cells(&layer.row, layer.row.name.clone(), method));
            for row in layer.kernels.iter().filter(|_| kernels && layer.kernels.len() > 1) {
                table.row(self.cells(row, format!("  {}", row.name), String::new()));
            }
        }
        table.rule();
        table.row(self.cells(&self.total, "all".to_owned(), String::new()));
        text.push_str(&table.to_string());
        text.push_str(&format!(
            "\n{} runs with a barrier after every kernel; one without: {:.3} ms at best.\n",
            self.iters, self.run_ms
        ));
        text.push_str(
            "Rates are those of the fastest run. Bytes count each byte that a kernel touches once; \
             what\nlies in a cache comes faster than memory allows, which shows as more than \
             100 %.\n",
        );
        if self.layers.iter().any(|layer| layer.row.direct_flops.is_some()) {
            text.push_str(
                "direct: GFLOP/s that a convolution by definition would need for the same time.\n",
            );
        }
        text
    }

    fn cells(&self, row: &Row, name: String, method: String) -> Vec<String> {
        let rate = |amount: u64| match giga(amount, row.min_ms) {
            Some(rate) if amount > 0 => format!("{rate:.1}"),
            _ => String::new(),
        };
        vec![
            name,
            method,
            format!("{:.3}", row.min_ms),
            format!("{:.3}", row.p50_ms),
            format!("{:.1} %", self.share(row) * 100.0),
            rate(row.work.flops),
            row.direct_flops.map_or(String::new(), rate),
            if row.work.bytes > 0 { bytes(row.work.bytes) } else { String::new() },
            rate(row.work.bytes),
            row.limit().unwrap_or_default().to_owned(),
            row.of_limit().map_or(String::new(), |part| format!("{:.0} %", part * 100.0)),
        ]
    }
}

impl Layer {
    /// Without kernels yet.
    fn new(row: Row, net: Option<&Prepared>) -> Layer {
        let mut layer = Layer { sources: Vec::new(), algorithm: None, row, kernels: Vec::new() };
        let Some(net) = net else { return layer };
        let graph = &net.fused;
        let nodes = graph.nodes.iter().zip(&net.algorithms);
        let Some((node, &algorithm)) = nodes.into_iter().find(|(n, _)| n.name == layer.row.name)
        else {
            return layer;
        };
        layer.sources.clone_from(&node.sources);
        if matches!(node.op, Op::Conv(_)) {
            layer.algorithm = Some(algorithm);
            if matches!(algorithm, Algorithm::Winograd { .. }) {
                layer.row.direct_flops = Some(cost::flops(graph, node));
            }
        }
        layer
    }
}

/// With the kernels.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table(true))
    }
}

impl Row {
    /// What bounds it.
    fn limit(&self) -> Option<&'static str> {
        let Work { fma_ms, memory_ms, .. } = self.work;
        match (fma_ms, memory_ms) {
            _ if fma_ms <= 0.0 && memory_ms <= 0.0 => None,
            _ if fma_ms >= memory_ms => Some("fma"),
            _ => Some("memory"),
        }
    }

    /// The time at the limits, as a part of the time that it took.
    fn of_limit(&self) -> Option<f64> {
        let least = self.work.fma_ms + self.work.memory_ms;
        if least > 0.0 && self.min_ms > 0.0 { Some(least / self.min_ms) } else { None }
    }
}

/// 1e9 a second; nothing where the clock saw no time pass.
fn giga(amount: u64, ms: f64) -> Option<f64> {
    if ms > 0.0 { Some(amount as f64 / ms / 1e6) } else { None }
}

/// Least and median time of some steps together, in milliseconds.
fn times(runs: &[Vec<Duration>], steps: &[usize]) -> (f64, f64) {
    let sum = |run: &Vec<Duration>| steps.iter().map(|&step| run[step]).sum::<Duration>();
    let mut sums: Vec<f64> = runs.iter().map(|run| sum(run).as_secs_f64() * 1e3).collect();
    sums.sort_by(f64::total_cmp);
    let at = |index: usize| sums.get(index).copied().unwrap_or(0.0);
    (at(0), at(sums.len() / 2))
}

#[cfg(test)]
mod tests;
