//! The Rust side of a static library: a file for `include!` with a type that knows the net's
//! shapes, so that wrong lengths do not compile, and keeps all unsafe code to itself.

use super::Artifact;
use alexc_codegen::object::{self, Memory};
use alexc_runtime::container::HEADER_BYTES;
use alexc_runtime::parallel::MAX_THREADS;
use alexc_runtime::program::Program;

/// The file, with holes (`$name`) and parts that are not always there (`//? part` to `//? end`).
const TEMPLATE: &str = include_str!("net.rs.in");

impl Artifact<'_> {
    /// The text of the file.
    pub(super) fn rust(&self) -> String {
        let program = self.program();
        let symbols = object::exports(program, &self.object_options());
        let prepares = symbols.contains(&format!("{}_preprocess", program.name));
        let there = |part: &str| match part {
            "embedded" => self.embed,
            "apart" => !self.embed,
            "preprocess" => prepares,
            "self_test" => self.self_test.is_some(),
            _ => false,
        };
        let mut text = String::new();
        let mut skipped = false;
        for line in TEMPLATE.lines() {
            match line.strip_prefix("//? ") {
                Some("end") => skipped = false,
                Some(part) => skipped = !there(part),
                None if skipped => {}
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        let text = self
            .holes(program)
            .into_iter()
            .fold(text, |text, (hole, value)| text.replace(hole, &value));
        // Last, because names of classes may hold anything.
        let labels = format!("{:#?}", self.labels).replace('\n', "\n    ");
        text.replace("$label_count", &self.labels.len().to_string()).replace("$labels", &labels)
    }

    /// What goes where. A hole whose name begins as another's comes before that one.
    fn holes(&self, program: &Program) -> [(&'static str, String); 25] {
        let options = self.object_options();
        let memory = Memory::of(program, &options);
        let least = options.lesser.first().map_or(program, |variant| variant.program);
        let net = type_name(&program.name);
        let (lifetime, weights, anonymous) =
            if self.embed { ("", "'static", "") } else { ("<'w>", "'w", "<'_>") };
        let len = |dims: &[usize]| dims.iter().product::<usize>().to_string();
        let axes = match program.input_dims.len() {
            4 => "batch, channels, height, width",
            _ => "batch first",
        };
        [
            ("$input_axes", axes.to_owned()),
            ("$input_rank", program.input_dims.len().to_string()),
            ("$input_dims", format!("{:?}", program.input_dims)),
            ("$input_len", len(&program.input_dims)),
            ("$image_len", len(program.input_dims.get(1..).unwrap_or_default())),
            ("$output_rank", program.output_dims.len().to_string()),
            ("$output_dims", format!("{:?}", program.output_dims)),
            ("$output_len", len(&program.output_dims)),
            ("$workspace_bytes", memory.workspace_bytes().to_string()),
            ("$thread_bytes", memory.thread_stride().to_string()),
            ("$max_threads", MAX_THREADS.to_string()),
            ("$weights_bytes", program.weights_bytes.to_string()),
            ("$file_bytes", program.weights_bytes.saturating_add(HEADER_BYTES).to_string()),
            ("$header_bytes", HEADER_BYTES.to_string()),
            ("$probabilities", self.compiled.fused.ends_with_softmax().to_string()),
            ("$compiler", super::COMPILER.to_owned()),
            ("$cpu_needed", cpu(least)),
            ("$cpu", cpu(least)),
            ("$model", self.compiled.fused.name.clone()),
            ("$abi", format!("{}_abi", program.name.to_ascii_lowercase())),
            ("$anonymous", anonymous.to_owned()),
            ("$lifetime", lifetime.to_owned()),
            ("$static", weights.to_owned()),
            ("$name", program.name.clone()),
            ("$Net", net),
        ]
    }
}

/// What the processor must be.
fn cpu(program: &Program) -> String {
    let features: Vec<_> = program.features.iter().map(|feature| feature.name()).collect();
    match features.as_slice() {
        [] => program.arch.name().to_owned(),
        _ => format!("{} with {}", program.arch.name(), features.join(", ")),
    }
}

/// `alexnet_2gpu` becomes `Alexnet2gpu`.
fn type_name(identifier: &str) -> String {
    let mut name = String::new();
    for part in identifier.split('_') {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.extend(letters);
    }
    if !name.starts_with(|c: char| c.is_ascii_uppercase()) || name == "Self" {
        name.insert_str(0, "Net");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_that_rust_takes() {
        for (identifier, name) in [
            ("digits", "Digits"),
            ("alexnet_2gpu", "Alexnet2gpu"),
            ("VGG_16", "VGG16"),
            ("_3d", "Net3d"),
            ("self", "NetSelf"),
            ("_", "Net"),
        ] {
            assert_eq!(type_name(identifier), name);
        }
    }
}
