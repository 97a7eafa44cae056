//! `alexc run`: one input through the net.

use super::args::RunArgs;
use super::failure::{Failure, print, print_json};
use super::load;
use crate::graph::Op;
use crate::npy;
use serde_json::json;

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let (spec, mut graph) = load::graph(&args.spec, &args.common)?;
    if args.logits {
        load::without_softmax(&mut graph);
    }
    let labels = load::labels(&spec, &args.spec, &graph)?;
    let input = load::input(&args.input, &spec, &graph)?;
    let mut net = load::net(&graph, &args.weights, &args.common, &args.compile, &args.device)?;
    let dims = net.compiled.program.output_dims.clone();
    let mut output = vec![0.0f32; dims.iter().product()];
    net.session.run(&input, &mut output)?;
    if let Some(path) = &args.output {
        npy::write(path, &dims, &output)?;
    }

    let images = dims[0];
    let classes = output.len() / images;
    let probability = graph.nodes.last().is_some_and(|node| node.op == Op::Softmax);
    let ranking: Vec<Vec<usize>> = output.chunks(classes).map(|o| top(o, args.topk)).collect();
    let name = |class: usize| labels.as_ref().and_then(|l| l.get(class)).map(String::as_str);
    if args.common.json {
        let images: Vec<_> = ranking
            .iter()
            .zip(output.chunks(classes))
            .map(|(best, values)| {
                let best: Vec<_> = best
                    .iter()
                    .map(|&c| json!({"class": c, "label": name(c), "value": number(values[c])}))
                    .collect();
                json!({ "top": best })
            })
            .collect();
        return print_json(&json!({
            "model": graph.name,
            "output_shape": dims,
            "probabilities": probability,
            "images": images,
        }));
    }
    if args.common.quiet {
        return Ok(());
    }
    let mut text = String::new();
    for (image, (best, values)) in ranking.iter().zip(output.chunks(classes)).enumerate() {
        if images > 1 {
            text.push_str(&format!("image {image}\n"));
        }
        for &class in best {
            let value = if probability {
                format!("{:6.2} %", values[class] * 100.0)
            } else {
                format!("{:9.4}", values[class])
            };
            text.push_str(&format!("{value}  {class:4}  {}\n", name(class).unwrap_or("")));
        }
    }
    print(&text)
}

/// The classes with the largest values, largest first; among equals the first, NaN last.
fn top(values: &[f32], count: usize) -> Vec<usize> {
    let key = |class: usize| match values[class] {
        value if value.is_nan() => f32::NEG_INFINITY,
        value => value,
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    order.truncate(count);
    order
}

/// JSON has no infinities and no NaN.
fn number(value: f32) -> serde_json::Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}
