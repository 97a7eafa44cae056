//! The caches of this machine's first core, as the operating system describes them.

use std::fs;
use std::path::Path;

/// A cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// 1 is the nearest to the core.
    pub level: usize,
    /// What it holds.
    pub kind: CacheKind,
    /// Its size.
    pub bytes: usize,
    /// Logical CPUs that share it.
    pub shared_by: usize,
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheKind {
    /// Data alone.
    Data,
    /// Code alone.
    Instruction,
    /// Both.
    Unified,
}

impl CacheKind {
    /// In lower case, as in `data`.
    pub fn name(self) -> &'static str {
        match self {
            CacheKind::Data => "data",
            CacheKind::Instruction => "instruction",
            CacheKind::Unified => "unified",
        }
    }
}

/// All caches, the nearest first; none where the system does not say.
pub fn caches() -> Vec<Cache> {
    read(Path::new("/sys/devices/system/cpu/cpu0/cache"))
}

/// Size of the last level of cache that one core can use, where the system says so.
pub fn last_level_bytes() -> Option<usize> {
    caches().iter().map(|cache| cache.bytes).max()
}

/// From the folder in which Linux describes the caches of a core.
fn read(folder: &Path) -> Vec<Cache> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<Cache> =
        entries.flatten().filter_map(|entry| read_cache(&entry.path())).collect();
    found.sort_by_key(|cache| (cache.level, cache.kind));
    found
}

fn read_cache(folder: &Path) -> Option<Cache> {
    let text = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    Some(Cache {
        level: text("level")?.parse().ok()?,
        kind: match text("type")?.as_str() {
            "Data" => CacheKind::Data,
            "Instruction" => CacheKind::Instruction,
            "Unified" => CacheKind::Unified,
            _ => return None,
        },
        bytes: parse_size(&text("size")?)?,
        shared_by: text("shared_cpu_list").and_then(|list| count(&list)).unwrap_or(1),
    })
}

/// `32768K` or `1M`.
fn parse_size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// The number of CPUs in a list such as `0-3,8`.
fn count(list: &str) -> Option<usize> {
    list.split(',').try_fold(0_usize, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_size("32768K"), Some(32 << 20));
        assert_eq!(parse_size("1M"), Some(1 << 20));
        assert_eq!(parse_size("12"), Some(12));
        for text in ["", "K", "x", "1T", "99999999999999999999K", "18446744073709551615G"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn lists_are_counted() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,8"), Some(5));
        for text in ["", "3-1", "a", "0-18446744073709551615"] {
            assert_eq!(count(text), None, "{text}");
        }
    }

    #[test]
    fn described_as_linux_does() {
        let folder = std::env::temp_dir().join(format!("alexc-caches-{}", std::process::id()));
        let describe = |index: &str, files: [(&str, &str); 4]| {
            fs::create_dir_all(folder.join(index)).unwrap();
            for (name, text) in files {
                fs::write(folder.join(index).join(name), format!("{text}\n")).unwrap();
            }
        };
        let shared = "shared_cpu_list";
        describe(
            "index3",
            [("level", "3"), ("type", "Unified"), ("size", "32768K"), (shared, "0-7")],
        );
        describe("index0", [("level", "1"), ("type", "Data"), ("size", "48K"), (shared, "0,4")]);
        describe("power", [("level", "?"), ("type", "Data"), ("size", "48K"), (shared, "0")]);
        let found = read(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let cache = |level, kind, bytes, shared_by| Cache { level, kind, bytes, shared_by };
        let expected =
            [cache(1, CacheKind::Data, 48 << 10, 2), cache(3, CacheKind::Unified, 32 << 20, 8)];
        assert_eq!(found, expected);
        assert_eq!(read(&folder), []);
    }
}
