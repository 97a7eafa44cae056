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

#[cfg(feature = "opencl")]
use alexc_runtime::opencl::{self, Device, Driver};

pub(super) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let cpu = Cpu::detect();
    // Where no code can be made the reason says why.
    let emitter = Target::host().map(|target| Options::new(target).emitter());
    match args.json {
        true => print_json(&to_json(&cpu, emitter.ok())?),
        false => print(&(text(&cpu, emitter) + &opencl_text()?)),
    }
}

fn to_json(cpu: &Cpu, emitter: Option<Emitter>) -> Result<Value, Failure> {
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
    Ok(json!({
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
        "opencl": {
            "in_build": cfg!(feature = "opencl"),
            "platforms": opencl_json()?,
        },
    }))
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
    text
}

#[cfg(not(feature = "opencl"))]
fn opencl_json() -> Result<Vec<Value>, Failure> {
    Ok(Vec::new())
}

#[cfg(not(feature = "opencl"))]
fn opencl_text() -> Result<String, Failure> {
    Ok("opencl      no OpenCL in this build (cargo build --features opencl)\n".to_owned())
}

#[cfg(feature = "opencl")]
fn opencl_json() -> Result<Vec<Value>, Failure> {
    let device = |Device { about, .. }: &Device| {
        json!({
            "device": about.label,
            "name": about.name,
            "vendor": about.vendor,
            "type": about.kind.name(),
            "version": about.version,
            "driver": about.driver,
            "compute_units": about.units,
            "memory_bytes": about.memory_bytes,
            "largest_buffer_bytes": about.allocation_bytes,
            "local_bytes": about.local_bytes,
            "vector_width": about.vector_width,
            "usable": about.usable,
        })
    };
    let driver = |driver: &Driver| {
        let devices: Vec<Value> = driver.devices.iter().map(device).collect();
        json!({"name": driver.name, "version": driver.version, "devices": devices})
    };
    Ok(opencl::drivers()?.iter().map(driver).collect())
}

#[cfg(feature = "opencl")]
fn opencl_text() -> Result<String, Failure> {
    let drivers = opencl::drivers()?;
    if drivers.is_empty() {
        return Ok("opencl      no driver is installed\n".to_owned());
    }
    let mut text = String::new();
    for driver in &drivers {
        if driver.devices.is_empty() {
            text.push_str(&format!("opencl      no device of {}\n", driver.name));
        }
        for Device { about, .. } in &driver.devices {
            let usable = if about.usable { "" } else { ", not usable" };
            let (memory, units) = (bytes(about.memory_bytes), about.units);
            let lines = [
                ("type", format!("{}, {units} compute units, {memory}{usable}", about.kind.name())),
                ("platform", format!("{}, {}", driver.name, driver.version)),
                ("version", format!("{}, driver {}", about.version, about.driver)),
            ];
            text.push_str(&format!("{:12}{}\n", about.label, about.name));
            text.extend(lines.map(|(what, line)| format!("  {what:10}{line}\n")));
        }
    }
    Ok(text)
}
