//! How much memory this process can ever have. Linux promises more than that and ends the process
//! without a word when the promise falls due, so large nets are refused beforehand.

use std::{fs, path::Path};

/// Bytes of memory and swap of this machine, or the limit of the container or control group that
/// the process runs in, where that is less. `None` where the system does not tell.
pub fn machine_bytes() -> Option<u64> {
    let machine = of_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        // `max` is no number, and no limit.
        fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse().ok()
    });
    Some(limits.fold(machine, u64::min))
}

/// Memory and swap in /proc/meminfo, which counts in KiB.
fn of_meminfo(text: &str) -> Option<u64> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(bytes("MemTotal:")? + bytes("SwapTotal:").unwrap_or(0))
}

/// The files that may hold a limit of the process, below /sys/fs/cgroup: of its group and of all
/// groups around it. Inside a container the outermost of them is the container's.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (folder, file) = match fields.next() {
            Some("") => ("", "memory.max"),
            Some(controllers) if controllers.split(',').any(|name| name == "memory") => {
                ("memory/", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = fields.next().unwrap_or("").trim_matches('/');
        while !group.is_empty() {
            files.push(format!("{folder}{group}/{file}"));
            group = group.rsplit_once('/').map_or("", |(around, _)| around);
        }
        files.push(format!("{folder}{file}"));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_swap_count() {
        let text =
            "MemTotal:       24605236 kB\nMemFree:        1 kB\nSwapTotal:             8 kB\n";
        assert_eq!(of_meminfo(text), Some((24_605_236 + 8) * 1024));
        assert_eq!(of_meminfo("MemTotal: 2 kB\n"), Some(2048));
        assert_eq!(of_meminfo("MemFree: 2 kB\n"), None);
        assert_eq!(of_meminfo("MemTotal: much\n"), None);
    }

    #[test]
    fn limits_of_every_group_around() {
        let v1 = "5:cpu,cpuacct:/a\n3:memory:/docker/12\n0::/\n";
        assert_eq!(
            limit_files(v1),
            [
                "memory/docker/12/memory.limit_in_bytes",
                "memory/docker/memory.limit_in_bytes",
                "memory/memory.limit_in_bytes",
                "memory.max"
            ]
        );
        assert_eq!(
            limit_files("0::/user.slice/a"),
            ["user.slice/a/memory.max", "user.slice/memory.max", "memory.max"]
        );
        assert!(limit_files("nonsense\n\n7:cpu:/").is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some() {
        let bytes = machine_bytes().unwrap();
        assert!((64 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
