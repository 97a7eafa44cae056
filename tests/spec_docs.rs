//! docs/spec.md is held to the program: every yaml block is checked by the real command, the text
//! under a block is what the command prints, and every key of every layer has an example.

use alexc::spec::LayerType;
use assert_cmd::Command;
use serde_yaml::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spec.md")
}

/// A yaml block, as a whole spec.
struct Example {
    line: usize,
    spec: String,
    /// The text block that follows it: its first and last line.
    shown: Option<(usize, usize)>,
}

fn examples(lines: &[&str]) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut input = None;
    let mut at = 0;
    while at < lines.len() {
        if let Some(shape) = lines[at].strip_prefix("<!-- input: ") {
            input = shape.strip_suffix(" -->");
        }
        let language = lines[at].strip_prefix("```").unwrap_or("");
        if !lines[at].starts_with("```") {
            at += 1;
            continue;
        }
        let end = at + 1 + lines[at + 1..].iter().position(|line| *line == "```").unwrap();
        let block = &lines[at + 1..end];
        match language {
            "yaml" => {
                let spec = match input.take() {
                    None => block.join("\n"),
                    Some(shape) => format!(
                        "name: example\ninput: {{shape: {shape}}}\nlayers:\n{}",
                        block.join("\n")
                    ),
                };
                examples.push(Example { line: at + 1, spec, shown: None });
            }
            "text" => examples.last_mut().unwrap().shown = Some((at + 1, end)),
            _ => {}
        }
        at = end + 1;
    }
    examples
}

/// What `alexc check` prints for a spec.
fn checked(folder: &Path, spec: &str) -> (bool, String) {
    std::fs::write(folder.join("net.yaml"), spec).unwrap();
    std::fs::write(folder.join("labels.txt"), "cat\ndog\nbird\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_alexc"));
    let output = command.current_dir(folder).args(["check", "net.yaml"]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn blocks_are_right_and_texts_are_what_is_printed() {
    let page = page();
    let text = std::fs::read_to_string(&page).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let folder = tempfile::tempdir().unwrap();
    let mut blessed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let examples = examples(&lines);
    assert!(examples.len() > 15);
    for Example { line, spec, shown } in examples.iter().rev() {
        let (fine, printed) = checked(folder.path(), spec);
        match shown {
            None => assert!(fine, "docs/spec.md:{line}:\n{printed}"),
            Some((start, end)) => {
                let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
                blessed.splice(*start..*end, printed);
            }
        }
    }
    let blessed = blessed.join("\n") + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&page, blessed).unwrap();
    } else if blessed != text {
        let differs = blessed.lines().zip(text.lines()).find(|(now, before)| now != before);
        panic!("docs/spec.md differs from what is printed (UPDATE_EXPECT=1 blesses): {differs:?}");
    }
}

#[test]
fn every_key_has_an_example() {
    let text = std::fs::read_to_string(page()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    let mut top: BTreeSet<String> = BTreeSet::new();
    for Example { spec, .. } in examples(&lines) {
        let mut spec: Value = serde_yaml::from_str(&spec).unwrap();
        spec.apply_merge().unwrap();
        for (key, value) in spec.as_mapping().unwrap() {
            let key = key.as_str().unwrap();
            top.insert(key.to_owned());
            for (inner, _) in value.as_mapping().into_iter().flatten() {
                top.insert(format!("{key}.{}", inner.as_str().unwrap()));
            }
        }
        for layer in spec["layers"].as_sequence().unwrap() {
            let layer_type = layer["type"].as_str().unwrap();
            for (key, _) in layer.as_mapping().unwrap() {
                used.insert((layer_type.to_owned(), key.as_str().unwrap().to_owned()));
            }
        }
    }
    for layer_type in LayerType::ALL {
        for key in layer_type.keys().iter().chain(&["name", "type"]) {
            let name = layer_type.name();
            assert!(
                used.contains(&(name.to_owned(), (*key).to_owned())),
                "docs/spec.md has no example of `{key}` of {name}"
            );
        }
    }
    for key in ["from", "in_shape", "out_shape", "weights"] {
        assert!(used.iter().any(|(_, used)| used == key), "no example of `{key}`");
    }
    for key in [
        "name",
        "input.shape",
        "layers",
        "labels",
        "preprocess.resize",
        "preprocess.crop",
        "preprocess.color",
        "preprocess.mean",
        "preprocess.std",
    ] {
        assert!(top.contains(key), "no example of `{key}`");
    }
}

/// The page's tables state defaults: a layer without optional keys is one with the defaults.
#[test]
fn defaults_are_those_of_the_tables() {
    let net = |layers: &str| {
        let text = format!("name: n\ninput: {{shape: [1, 4, 9, 9]}}\nlayers:\n{layers}");
        alexc::spec::parse("net.yaml", &text).unwrap_or_else(|e| panic!("{e}")).to_string()
    };
    for (short, long) in [
        (
            "- {name: a, type: conv, out_channels: 4, kernel_size: 3}",
            "- {name: a, type: conv, out_channels: 4, kernel_size: [3, 3], stride: 1, padding: 0,
               dilation: 1, groups: 1, bias: true, weights: a}",
        ),
        (
            "- {name: a, type: max_pool, kernel_size: [2, 3]}",
            "- {name: a, type: max_pool, kernel_size: [2, 3], stride: [2, 3], padding: 0, ceil_mode: false}",
        ),
        (
            "- {name: a, type: avg_pool, kernel_size: 2}",
            "- {name: a, type: avg_pool, kernel_size: 2, stride: 2, padding: {}, ceil_mode: false,
               count_include_pad: true}",
        ),
        (
            "- {name: a, type: linear, out_features: 2}",
            "- {name: a, type: linear, out_features: 2, bias: true}",
        ),
        ("- {name: a, type: batch_norm}", "- {name: a, type: batch_norm, eps: 1.0e-5}"),
    ] {
        assert_eq!(net(short), net(long));
    }
}
