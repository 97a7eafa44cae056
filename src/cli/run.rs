//! `alexc run`: one input through the net.

use super::args::RunArgs;
use super::failure::{Failure, print, print_json};
use super::net::{self, Wish};
use crate::npy;
use crate::report::classes::top;
use serde_json::json;

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut net = net::open(&Wish {
        path: &args.spec,
        weights: args.weights.as_deref(),
        input: Some(&args.input),
        logits: args.logits,
        once: true,
        common: &args.common,
        compile: &args.compile,
        device: &args.device,
    })?;
    let dims = net.program().output_dims.clone();
    let mut output = net.output();
    net.session.run(&net.input, &mut output)?;
    if let Some(path) = &args.output {
        npy::write(path, &dims, &output)?;
    }

    let images = dims[0];
    let classes = output.len() / images;
    let probability = net.probabilities;
    let ranking: Vec<Vec<usize>> = output.chunks(classes).map(|o| top(o, args.topk)).collect();
    let name = |class: usize| net.labels.as_ref().and_then(|l| l.get(class)).map(String::as_str);
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
            "model": net.model,
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

/// JSON has no infinities and no NaN.
fn number(value: f32) -> serde_json::Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}
