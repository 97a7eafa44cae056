//! `alexc devices`: what nets can run on here.

use super::args::DevicesArgs;
use super::failure::{Failure, print, print_json};
use crate::compile::{Emitter, Options};
use crate::report::table::bytes;
use alexc_codegen::target::Target;
use alexc_runtime::caches::caches;
use alexc_runtime::cpu::Cpu;
use alexc_runtime::parallel::available_threads;
use serde_json::{Value, json};
use std::env::consts::{ARCH, OS};

pub(super) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let cpu = Cpu::detect();
    // Where no code can be made the reason says why.
    let emitter = Target::host().map(|target| Options::new(target).emitter());
    if args.json { print_json(&to_json(&cpu, emitter.ok())) } else { print(&text(&cpu, emitter)) }
}

fn to_json(cpu: &Cpu, emitter: Option<Emitter>) -> Value {
    let features: Vec<&str> = cpu.features().iter().map(|feature| feature.name()).collect();
    let caches: Vec<Value> = caches()
        .iter()
        .map(|cache| {
            json!({
                "level": cache.level,
                "kind": cache.kind.name(),
                "bytes": cache.bytes,
                "shared_by": cache.shared_by,
            })
        })
        .collect();
    json!({
        "cpu": {
            "device": "cpu",
            "arch": ARCH,
            "os": OS,
            "level": cpu.level().map(|level| level.name()),
            "features": features,
            "threads": available_threads(),
            "caches": caches,
            "vector_bits": emitter.map(|emitter| 32 * u64::from(emitter.vectors().lanes)),
            "emitter": emitter.map(|emitter| emitter.to_string()),
        },
        "opencl": {"in_build": false, "platforms": []},
    })
}

fn text<E: std::fmt::Display>(cpu: &Cpu, emitter: Result<Emitter, E>) -> String {
    let level = cpu.level().map_or(String::new(), |level| format!(", {level}"));
    let mut text = format!("cpu         {ARCH} {OS}{level}, {} threads\n", available_threads());
    let features: Vec<&str> = cpu.features().iter().map(|feature| feature.name()).collect();
    for (index, line) in features.chunks(12).enumerate() {
        let head = if index == 0 { "features" } else { "" };
        text.push_str(&format!("  {head:10}{}\n", line.join(" ")));
    }
    for cache in caches() {
        let shared = match cache.shared_by {
            1 => String::new(),
            count => format!(", shared by {count} threads"),
        };
        let (size, kind) = (bytes(cache.bytes as u64), cache.kind.name());
        text.push_str(&format!("  L{}        {size} {kind}{shared}\n", cache.level));
    }
    match emitter {
        Ok(emitter) => text.push_str(&format!("  code      {emitter}\n")),
        Err(reason) => text.push_str(&format!("  code      none: {reason}\n")),
    }
    text.push_str("opencl      no OpenCL in this build\n");
    text
}
