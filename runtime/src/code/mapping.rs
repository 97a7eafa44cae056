//! Executable memory as one anonymous mapping.

use std::io;

use super::CodeError;
use crate::program::KernelCode;

/// All kernels, one after another.
pub(super) struct Memory {
    _map: Option<memmap2::Mmap>,
}

impl Memory {
    /// Returns the kernels' addresses beside the memory.
    pub(super) fn new(kernels: &[KernelCode]) -> Result<(Memory, Vec<*const u8>), CodeError> {
        let mut offsets = Vec::with_capacity(kernels.len());
        let mut len = 0_usize;
        for kernel in kernels {
            let offset = len.next_multiple_of(kernel.align);
            offsets.push(offset);
            len = offset + kernel.bytes.len();
        }
        if len == 0 {
            return Ok((Memory { _map: None }, Vec::new()));
        }
        let error = |error: io::Error| CodeError::Memory(error.to_string());
        let mut map = memmap2::MmapMut::map_anon(len).map_err(error)?;
        for (kernel, &offset) in kernels.iter().zip(&offsets) {
            map[offset..offset + kernel.bytes.len()].copy_from_slice(&kernel.bytes);
        }
        synchronize_instructions(&map).map_err(error)?;
        let map = map.make_exec().map_err(error)?;
        let base = map.as_ptr();
        let addresses = offsets.into_iter().map(|offset| base.wrapping_add(offset)).collect();
        Ok((Memory { _map: Some(map) }, addresses))
    }
}

/// Makes instruction fetches see what was just written.
#[cfg(target_arch = "x86_64")]
fn synchronize_instructions(_code: &[u8]) -> io::Result<()> {
    Ok(()) // The processor does it by itself.
}

/// Makes instruction fetches see what was just written: data caches are cleaned to the point
/// where instruction caches fill from, then those are invalidated, line by line.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
fn synchronize_instructions(code: &[u8]) -> io::Result<()> {
    let cache_type: usize;
    // SAFETY: reads a register that programs may read.
    unsafe {
        std::arch::asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack));
    }
    // Both fields are logarithms of a number of 4-byte words.
    let data_line = 4 << (cache_type >> 16 & 15);
    let instruction_line = 4 << (cache_type & 15);
    let (begin, end) = (code.as_ptr() as usize, code.as_ptr() as usize + code.len());
    for line in (begin & !(data_line - 1)..end).step_by(data_line) {
        // SAFETY: cleans the cache of a line that this mapping owns; contents stay.
        unsafe { std::arch::asm!("dc cvau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: a memory barrier.
    unsafe { std::arch::asm!("dsb ish", options(nostack)) };
    for line in (begin & !(instruction_line - 1)..end).step_by(instruction_line) {
        // SAFETY: drops cached instructions of a line that this mapping owns.
        unsafe { std::arch::asm!("ic ivau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: a memory barrier and an instruction barrier.
    unsafe { std::arch::asm!("dsb ish", "isb", options(nostack)) };
    Ok(())
}

/// Makes instruction fetches see what was just written, by the system's own function.
#[cfg(all(target_arch = "aarch64", target_os = "macos"))]
fn synchronize_instructions(code: &[u8]) -> io::Result<()> {
    unsafe extern "C" {
        fn sys_icache_invalidate(start: *const u8, len: usize);
    }
    // SAFETY: only caches of this memory are touched; contents stay.
    unsafe { sys_icache_invalidate(code.as_ptr(), code.len()) };
    Ok(())
}

/// Makes instruction fetches of all threads see what was just written, by Linux's system call.
#[cfg(all(target_arch = "riscv64", target_os = "linux"))]
fn synchronize_instructions(code: &[u8]) -> io::Result<()> {
    const RISCV_FLUSH_ICACHE: usize = 259;
    let begin = code.as_ptr() as usize;
    let status: isize;
    // SAFETY: a system call that takes two addresses and flags (none: all threads), and changes
    // nothing but its result's register.
    unsafe {
        std::arch::asm!(
            "ecall",
            in("a7") RISCV_FLUSH_ICACHE,
            inlateout("a0") begin => status,
            in("a1") begin + code.len(),
            in("a2") 0_usize,
            options(nostack)
        );
    }
    if status < 0 { Err(io::Error::from_raw_os_error(-status as i32)) } else { Ok(()) }
}

#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", any(target_os = "linux", target_os = "macos")),
    all(target_arch = "riscv64", target_os = "linux")
)))]
fn synchronize_instructions(_code: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
