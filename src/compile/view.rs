//! What `dump` and reports show of a compiled net.

use super::Prepared;
use crate::algorithm::Algorithm;
use crate::graph::{Conv, Node, Op, ValueId};
use crate::winograd::{Cover, Winograd};
use alexc_runtime::container::checksum;

impl Prepared {
    /// Changes with whatever decides what the packed weights hold, and with nothing else: they serve
    /// the code of every machine. The net as a whole is in it, so that weights of another net are
    /// refused even where they would lie in the same way.
    pub fn weights_key(&self) -> u64 {
        let (fused, packs) = (&self.fused, &self.lowered.packs);
        let text = format!("{}\n{fused}\n{packs:?}", env!("CARGO_PKG_VERSION"));
        checksum(text.as_bytes(), 1)
    }

    /// Dimensions of a value.
    pub fn dims(&self, value: ValueId) -> Vec<usize> {
        self.fused.values[value.index()].shape.dims()
    }

    /// The node that computes a layer of the spec.
    pub fn node_of(&self, layer: &str) -> Option<&str> {
        let node = self.fused.nodes.iter().find(|n| n.sources.iter().any(|s| s == layer))?;
        Some(&node.name)
    }

    /// Indices of the kernels, those of one layer or all.
    pub fn kernels_of(&self, layer: Option<&str>) -> Vec<usize> {
        let Some(layer) = layer else { return (0..self.kernels.len()).collect() };
        let node = self.node_of(layer);
        let mut list = Vec::new();
        for (call, step) in self.lowered.calls.iter().zip(&self.steps) {
            if Some(call.node.as_str()) == node && !list.contains(&step.kernel) {
                list.push(step.kernel);
            }
        }
        list
    }

    /// Rows and columns of what a convolution computes, where some of its tiles may have fewer
    /// points than others. In the dense maps of GPUs' kernels all are alike.
    fn map_of(&self, node: &Node, conv: &Conv) -> Option<[usize; 2]> {
        let input = self.fused.values[node.inputs[0].index()].shape;
        let blocked = self.layouts[node.output.index()].block > 1;
        blocked.then(|| conv.window.output_size([input.h(), input.w()]))
    }

    /// The fused graph with the algorithm, the layout and the expected error of each node.
    pub fn fused_text(&self, layer: Option<&str>) -> String {
        let node = layer.and_then(|layer| self.node_of(layer));
        let mut text = String::new();
        if layer.is_none() {
            text = self.fused.to_string();
            text.push('\n');
        }
        for (n, &algorithm) in self.fused.nodes.iter().zip(&self.algorithms) {
            if layer.is_some() && Some(n.name.as_str()) != node {
                continue;
            }
            let how = match (&n.op, algorithm) {
                (Op::Conv(conv), Algorithm::Winograd { m }) => {
                    winograd_text(m, conv.window.kernel[0], self.map_of(n, conv))
                }
                (Op::Conv(conv), Algorithm::SpaceToDepth { m }) => {
                    let s = conv.window.stride[0];
                    let r = conv.window.kernel[0].div_ceil(s);
                    let text = winograd_text(m, r, self.map_of(n, conv));
                    format!("space to depth by {s}, then {text}")
                }
                (_, Algorithm::Nonzero) => "nonzero".to_owned(),
                (Op::Conv(_) | Op::Linear(_), Algorithm::Direct) => "direct".to_owned(),
                _ => "-".to_owned(),
            };
            let tuned = if self.tuned.contains(&n.name) { ", tuned" } else { "" };
            let layout = self.layouts[n.output.index()];
            text.push_str(&format!(
                "; {}: {how}{tuned}; output {layout}; layers {}\n",
                n.name,
                n.sources.join(", ")
            ));
        }
        text
    }
}

/// F(m x m, r x r) with its expected error, and how tiles cover the rows and columns of a map.
fn winograd_text(m: usize, r: usize, map: Option<[usize; 2]>) -> String {
    let Some(winograd) = Winograd::new(m, r) else { return String::new() };
    let error = winograd.expected_error();
    let tiles = map.map_or(String::new(), |map| {
        let [rows, columns] = map.map(|size| Cover::new(&winograd, size).to_string());
        let by = if rows == columns { rows } else { format!("{rows} by {columns}") };
        format!("tiles {by}, ")
    });
    format!("winograd F({m}x{m},{r}x{r}), {tiles}expected error {error}x direct")
}
