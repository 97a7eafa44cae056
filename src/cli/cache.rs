//! `alexc cache`: what `--tune` has kept for processors and devices, and the programs of OpenCL
//! devices.

use super::args::{CacheAction, CacheArgs};
use super::failure::{Failure, print, print_json};
use crate::report::table::{Align, Table, bytes};
use crate::tune::cache::{Cache, DeviceChoice, Entry, Removed};
use alexc_runtime::opencl::kept::Kept;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(super) fn run(args: &CacheArgs) -> Result<(), Failure> {
    let cache = Cache::of_user().ok_or_else(|| {
        Failure::Usage("no folder for the cache is known; name one with ALEXC_CACHE_DIR".to_owned())
    })?;
    match args.action {
        CacheAction::List => list(&cache, args.json),
        CacheAction::Clear => clear(&cache, args.json),
    }
}

fn list(cache: &Cache, as_json: bool) -> Result<(), Failure> {
    let (found, devices, programs) = (cache.list()?, cache.devices()?, cache.programs()?);
    if as_json {
        let files: Vec<Value> = found
            .iter()
            .map(|(path, entry)| {
                let choices = entry.as_ref().map(|entry| {
                    let pairs = entry.choices.iter();
                    pairs.map(|o| (o.layer.clone(), json!(o.algorithm.to_string()))).collect()
                });
                json!({
                    "path": path.to_string_lossy(),
                    "tuned_ms": entry.as_ref().map(|entry| entry.tuned_ms),
                    "untuned_ms": entry.as_ref().map(|entry| entry.untuned_ms),
                    "algorithms": choices.map(Value::Object),
                })
            })
            .collect();
        let programs: Vec<Value> = programs
            .iter()
            .map(|(path, kept)| {
                json!({
                    "path": path.to_string_lossy(),
                    "device": kept.as_ref().map(|kept| &kept.device),
                    "binary_bytes": kept.as_ref().map(|kept| kept.binary_bytes),
                })
            })
            .collect();
        let devices: Vec<Value> = devices
            .iter()
            .map(|(path, kept)| {
                json!({
                    "path": path.to_string_lossy(),
                    "device": kept.as_ref().and_then(DeviceChoice::device),
                    "choice": kept.as_ref().map(|kept| &kept.choice),
                    "tuned_ms": kept.as_ref().map(|kept| kept.milliseconds),
                })
            })
            .collect();
        let folder = cache.folder().to_string_lossy();
        let all = json!({
            "folder": folder,
            "files": files,
            "devices": devices,
            "programs": programs,
        });
        return print_json(&all);
    }
    if found.is_empty() && devices.is_empty() && programs.is_empty() {
        return print(&format!("nothing is kept in {}\n", cache.folder().display()));
    }
    let mut text = format!("{}\n", cache.folder().display());
    if !found.is_empty() {
        text.push_str(&format!("\n{}", measurements(&found)));
    }
    if !devices.is_empty() {
        text.push_str(&format!("\n{}", device_table(&devices)));
    }
    if !programs.is_empty() {
        text.push_str(&format!("\n{}", program_table(&programs)));
    }
    print(&text)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn device_table(devices: &[(PathBuf, Option<DeviceChoice>)]) -> Table {
    let mut table = Table::new(&[
        ("file", Align::Left),
        ("tuned ms", Align::Right),
        ("kernels", Align::Left),
        ("for", Align::Left),
    ]);
    for (path, kept) in devices {
        table.row(match kept {
            Some(kept) => vec![
                file_name(path),
                format!("{:.3}", kept.milliseconds),
                kept.choice.clone(),
                kept.device().unwrap_or_default().to_owned(),
            ],
            None => vec![file_name(path), String::new(), "not readable".to_owned(), String::new()],
        });
    }
    table
}

fn program_table(programs: &[(PathBuf, Option<Kept>)]) -> Table {
    let mut table =
        Table::new(&[("file", Align::Left), ("built", Align::Right), ("for", Align::Left)]);
    for (path, kept) in programs {
        table.row(match kept {
            Some(kept) => {
                vec![file_name(path), bytes(kept.binary_bytes as u64), kept.device.clone()]
            }
            None => vec![file_name(path), String::new(), "not readable".to_owned()],
        });
    }
    table
}

fn measurements(found: &[(PathBuf, Option<Entry>)]) -> Table {
    let mut table = Table::new(&[
        ("file", Align::Left),
        ("tuned ms", Align::Right),
        ("untuned ms", Align::Right),
        ("algorithms", Align::Left),
    ]);
    for (path, entry) in found {
        let name = file_name(path);
        table.row(match entry {
            Some(entry) => {
                let pairs = entry.choices.iter().map(|o| format!("{} {}", o.layer, o.algorithm));
                vec![
                    name,
                    format!("{:.3}", entry.tuned_ms),
                    format!("{:.3}", entry.untuned_ms),
                    pairs.collect::<Vec<_>>().join(", "),
                ]
            }
            None => vec![name, String::new(), String::new(), "not readable".to_owned()],
        });
    }
    table
}

fn clear(cache: &Cache, as_json: bool) -> Result<(), Failure> {
    let removed = cache.clear()?;
    let folder = cache.folder();
    let Removed { algorithms, devices, programs } = removed;
    if as_json {
        return print_json(&json!({
            "folder": folder.to_string_lossy(),
            "removed": removed.all(),
            "removed_algorithms": algorithms,
            "removed_devices": devices,
            "removed_programs": programs,
        }));
    }
    let kinds = [
        (algorithms, "of algorithms"),
        (devices, "of kernels for a device"),
        (programs, "of built programs"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count > 0);
    let kinds: Vec<String> = kinds.map(|(count, kind)| format!("{count} {kind}")).collect();
    let what = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    let files = if removed.all() == 1 { "file" } else { "files" };
    print(&format!("removed {} {files} from {}{what}\n", removed.all(), folder.display()))
}
