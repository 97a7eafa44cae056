//! Executable memory for the kernels of a program. Written first, executable afterwards, never
//! both. With the feature `jit` cranelift-jit keeps it, else a mapping of its own does, so that
//! an app which only loads finished nets contains no compiler.

#[cfg(feature = "jit")]
mod jit;
#[cfg(feature = "jit")]
use jit::Memory;

#[cfg(not(feature = "jit"))]
mod mapping;
#[cfg(not(feature = "jit"))]
use mapping::Memory;

use crate::program::KernelCode;

/// A kernel's first byte; see [`KernelCode`].
#[cfg(target_arch = "x86_64")]
pub(crate) type Entry = unsafe extern "sysv64" fn(params: *const *mut u8, begin: u64, end: u64);
/// A kernel's first byte; see [`KernelCode`].
#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Entry = unsafe extern "C" fn(params: *const *mut u8, begin: u64, end: u64);

/// Code that cannot be made executable.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The system gives no memory, or forbids executable memory.
    #[error("no executable memory for the code: {0}")]
    Memory(String),
}

/// Executable kernels. Freed when dropped: no kernel may be running then, which holds because
/// whoever runs one borrows this.
pub(crate) struct Code {
    entries: Vec<Entry>,
    _memory: Memory,
}

impl Code {
    /// Takes kernels whose names are unique and whose alignments are powers of two up to 4096,
    /// none of them empty.
    pub(crate) fn new(kernels: &[KernelCode]) -> Result<Code, CodeError> {
        let (memory, addresses) = Memory::new(kernels)?;
        let entries = addresses
            .into_iter()
            .map(|address| {
                // SAFETY: a kernel's code begins at this address, and `KernelCode` demands
                // exactly this signature and calling convention of it. Whether to believe that
                // is up to whoever calls the entry, which is unsafe again.
                unsafe { std::mem::transmute::<*const u8, Entry>(address) }
            })
            .collect();
        Ok(Code { entries, _memory: memory })
    }

    /// The entry of the kernel with this index. Valid while `self` lives.
    pub(crate) fn entry(&self, kernel: usize) -> Entry {
        self.entries[kernel]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: `mov rax, [rdi]; mov [rax], rsi; mov [rax+8], rdx; ret`.
    #[cfg(target_arch = "x86_64")]
    const STORE_BEGIN_AND_END: [u8; 11] =
        [0x48, 0x8B, 0x07, 0x48, 0x89, 0x30, 0x48, 0x89, 0x50, 0x08, 0xC3];

    #[cfg(target_arch = "x86_64")]
    fn kernel(name: &str, padding: usize, align: usize) -> KernelCode {
        let mut bytes = STORE_BEGIN_AND_END.to_vec();
        bytes.resize(bytes.len() + padding, 0xCC);
        KernelCode { name: name.to_string(), bytes, align }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn kernels_of_all_sizes_and_alignments_run() {
        let kernels: Vec<KernelCode> = (0..60)
            .map(|i| kernel(&format!("k{i}"), i * i * 7, 1 << (i % 13)))
            .chain([kernel("large", 3 << 20, 4096)])
            .collect();
        let code = Code::new(&kernels).unwrap();
        for (i, kernel) in kernels.iter().enumerate() {
            let entry = code.entry(i);
            assert_eq!(entry as usize % kernel.align, 0);
            let mut words = [0_u64; 2];
            let params = [words.as_mut_ptr().cast::<u8>()];
            // SAFETY: the code stores two words at its first parameter and returns.
            unsafe { entry(params.as_ptr(), 7 + i as u64, u64::MAX) };
            assert_eq!(words, [7 + i as u64, u64::MAX]);
        }
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn memory_is_never_writable_and_executable_and_is_freed() {
        let mapping = |address: usize| {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (begin, end) = range.split_once('-')?;
                let begin = usize::from_str_radix(begin, 16).ok()?;
                let end = usize::from_str_radix(end, 16).ok()?;
                (begin..end).contains(&address).then(|| rest[..4].to_string())
            })
        };
        // Large enough to be a mapping of its own that nothing else reuses at once.
        let code = Code::new(&[kernel("large", 40 << 20, 64)]).unwrap();
        let address = code.entry(0) as usize + (39 << 20);
        assert_eq!(mapping(address).as_deref(), Some("r-xp"));
        drop(code);
        assert_ne!(mapping(address).as_deref(), Some("r-xp"));
    }

    #[test]
    fn no_kernels_at_all() {
        assert_eq!(Code::new(&[]).unwrap().entries.len(), 0);
    }
}
