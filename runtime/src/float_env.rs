//! The caller's floating-point settings. An app may run with denormals flushed to zero or with
//! another rounding direction (some libraries switch that on when they are loaded); generated
//! code must give the same bits there, and the same as on the pool's own threads.

/// Holds the default settings on this thread: round to nearest, denormals kept, no traps. The
/// thread's own come back when it is dropped.
pub(crate) struct Defaults {
    before: Register,
    /// Settings are the thread's that made them.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Defaults {
    pub(crate) fn set() -> Defaults {
        let before = read();
        if before != DEFAULT {
            write(DEFAULT);
        }
        Defaults { before, _not_send: std::marker::PhantomData }
    }
}

impl Drop for Defaults {
    fn drop(&mut self) {
        if self.before != DEFAULT {
            write(self.before);
        }
    }
}

#[cfg(target_arch = "x86_64")]
use mxcsr::{DEFAULT, Register, read, write};

#[cfg(target_arch = "x86_64")]
mod mxcsr {
    use std::arch::asm;

    pub(super) type Register = u32;

    /// All exceptions masked, nothing else.
    pub(super) const DEFAULT: Register = 0x1F80;

    /// Without the six sticky bits that tell which exceptions happened.
    pub(super) fn read() -> Register {
        let mut value: Register = 0;
        // SAFETY: stores the register at this address.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value & !0x3F
    }

    pub(super) fn write(value: Register) {
        // SAFETY: the value was read from the register or is its default, so no reserved bit is
        // set. Between `Defaults::set` and its drop only generated code computes with floats.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, readonly, preserves_flags));
        }
    }
}

#[cfg(target_arch = "aarch64")]
use fpcr::{DEFAULT, Register, read, write};

#[cfg(target_arch = "aarch64")]
mod fpcr {
    use std::arch::asm;

    pub(super) type Register = u64;

    pub(super) const DEFAULT: Register = 0;

    pub(super) fn read() -> Register {
        let value: Register;
        // SAFETY: reads a register that programs may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nostack, nomem)) };
        value
    }

    pub(super) fn write(value: Register) {
        // SAFETY: the value was read from the register or is its default. Between
        // `Defaults::set` and its drop only generated code computes with floats.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use unknown::{DEFAULT, Register, read, write};

/// Nothing to set: RISC-V keeps denormals always and names the rounding in the instruction.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod unknown {
    pub(super) type Register = ();

    pub(super) const DEFAULT: Register = ();

    pub(super) fn read() -> Register {}

    pub(super) fn write(_: Register) {}
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Half of the smallest normal number is a denormal, or 0 where those are flushed. By the
    /// processor, not by the compiler.
    fn half_of_smallest() -> f32 {
        let mut value = f32::MIN_POSITIVE;
        // SAFETY: one multiplication in a register.
        unsafe { std::arch::asm!("mulss {}, {}", inout(xmm_reg) value, in(xmm_reg) 0.5_f32) };
        value
    }

    #[test]
    fn denormals_live_inside_and_the_callers_settings_come_back() {
        const FLUSH_TO_ZERO: u32 = 1 << 15;
        write(DEFAULT | FLUSH_TO_ZERO);
        assert_eq!(half_of_smallest(), 0.0);
        {
            let _defaults = Defaults::set();
            assert_eq!(half_of_smallest().to_bits(), 1 << 22);
        }
        assert_eq!(half_of_smallest(), 0.0);
        write(DEFAULT);
        let _defaults = Defaults::set();
        assert_eq!(half_of_smallest().to_bits(), 1 << 22);
    }
}
