//! What the command tells of this machine: `devices`, and the limits in `profile`.

mod common;

use alexc_runtime::cpu::Cpu;
use common::command::{alexc, stdout};
use serde_json::Value;

#[test]
fn devices() {
    let json: Value = serde_json::from_str(&stdout(alexc().args(["devices", "--json"]))).unwrap();
    let cpu = Cpu::detect();
    let features: Vec<&str> = cpu.features().iter().map(|feature| feature.name()).collect();
    assert_eq!(json["cpu"]["features"], serde_json::json!(features));
    assert_eq!(json["cpu"]["level"], serde_json::json!(cpu.level().map(|level| level.name())));
    let threads = std::thread::available_parallelism().unwrap().get();
    assert_eq!(json["cpu"]["threads"], threads);
    let text = stdout(alexc().arg("devices"));
    let platforms = json["opencl"]["platforms"].as_array().unwrap();
    if cfg!(feature = "opencl") {
        // The command that runs the tests installs a driver where there is none.
        let devices = platforms.iter().flat_map(|p| p["devices"].as_array().unwrap());
        let devices: Vec<&Value> = devices.collect();
        assert!(!devices.is_empty(), "no OpenCL device; see tests/run");
        for (index, device) in devices.iter().enumerate() {
            assert_eq!(device["device"], format!("opencl:{index}"));
            assert!(device["memory_bytes"].as_u64().unwrap() > 1 << 20, "{device}");
            assert!(["cpu", "gpu", "accelerator"].contains(&device["type"].as_str().unwrap()));
            for key in ["device", "name", "version"] {
                assert!(text.contains(device[key].as_str().unwrap()), "{key}: {text}");
            }
        }
    } else {
        assert!(platforms.is_empty() && text.contains("no OpenCL in this build"), "{text}");
    }
    assert!(features.iter().all(|feature| text.contains(feature)), "{text}");
}

#[test]
fn profile() {
    let mut command = alexc();
    command.args(["profile", "specs/digits.yaml", "--iters", "3", "--threads", "1", "--json"]);
    let json: Value = serde_json::from_str(&stdout(&mut command)).unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    assert!(number(&json["limits"]["fma_gflops"]) > 0.01);
    assert!(number(&json["limits"]["read_gbps"]) > 0.01);
    assert_eq!((&json["iters"], &json["threads"]), (&3.into(), &1.into()));
    let layers = json["layers"].as_array().unwrap();
    let names: Vec<&str> = layers.iter().map(|layer| layer["layer"].as_str().unwrap()).collect();
    for name in ["conv1", "conv2", "conv3", "fc4", "fc5", "prob"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let shares: f64 = layers.iter().map(|layer| number(&layer["share"])).sum();
    // Medians of parts do not add up to the median of the whole, but nearly.
    assert!((0.5..2.0).contains(&shares), "{shares}");
    for layer in layers.iter().filter(|layer| !layer["limit"].is_null()) {
        assert!(number(&layer["of_limit"]) > 0.0, "{layer}");
    }
}
