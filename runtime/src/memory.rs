//! Large blocks of zeroed memory: arenas, scratch and packed weights.

use std::io;

/// Alignment of every block, in bytes: a cache line, and the widest vector register.
pub const ALIGN: usize = 64;

/// The usual size of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// A block of zeroed memory straight from the system, in huge pages where the system has them,
/// so that touching hundreds of megabytes for the first time costs few page faults. Pages that
/// are never touched cost nothing. Aligned to [`ALIGN`] (in fact to a page).
#[derive(Debug)]
pub struct Buffer {
    map: memmap2::MmapMut,
    len: usize,
}

impl Buffer {
    /// `len` bytes, all zero.
    pub fn zeroed(len: usize) -> io::Result<Buffer> {
        if len > isize::MAX as usize - HUGE_PAGE {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // Rounded up so that the last elements lie in a huge page too.
        let unit = if len >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        let map = memmap2::MmapMut::map_anon(len.max(1).next_multiple_of(unit))?;
        #[cfg(target_os = "linux")]
        if len >= HUGE_PAGE {
            // Kernels without transparent huge pages refuse; the block works all the same.
            map.advise(memmap2::Advice::HugePage).ok();
        }
        Ok(Buffer { map, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The contents.
    pub fn as_bytes(&self) -> &[u8] {
        &self.map[..self.len]
    }

    /// The contents.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }

    /// The contents as f32, without a rest of fewer than four bytes.
    pub fn as_f32(&self) -> &[f32] {
        // SAFETY: every bit pattern is an f32.
        let (before, floats, _) = unsafe { self.as_bytes().align_to::<f32>() };
        debug_assert!(before.is_empty());
        floats
    }

    /// The contents as f32, without a rest of fewer than four bytes.
    pub fn as_mut_f32(&mut self) -> &mut [f32] {
        // SAFETY: every bit pattern is an f32, and every f32 is four bytes.
        let (before, floats, _) = unsafe { self.as_mut_bytes().align_to_mut::<f32>() };
        debug_assert!(before.is_empty());
        floats
    }

    /// First byte, for kernels. Valid for [`Buffer::len`] bytes until the buffer is dropped, but
    /// not while somebody holds the contents borrowed.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.map.as_mut_ptr()
    }
}

/// A part of a buffer as f32, or None where it does not begin at a multiple of four bytes or its
/// length is not one.
pub fn cast_mut_f32(bytes: &mut [u8]) -> Option<&mut [f32]> {
    // SAFETY: every bit pattern is an f32, and every f32 is four bytes.
    match unsafe { bytes.align_to_mut::<f32>() } {
        ([], floats, []) => Some(floats),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zero_and_aligned() {
        for len in [0, 1, 63, 64, 4096, 4097, 5 << 20] {
            let mut buffer = Buffer::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_bytes().len(), len);
            assert_eq!(buffer.as_bytes().as_ptr() as usize % ALIGN, 0);
            assert!(buffer.as_bytes().iter().all(|&byte| byte == 0));
            assert_eq!(buffer.as_f32().len(), len / 4);
            buffer.as_mut_bytes().fill(0xAB);
            assert!(buffer.as_bytes().iter().all(|&byte| byte == 0xAB));
        }
    }

    #[test]
    fn floats_and_bytes_are_the_same_memory() {
        let mut buffer = Buffer::zeroed(10).unwrap();
        buffer.as_mut_f32().copy_from_slice(&[1.0, -2.5]);
        assert_eq!(buffer.as_bytes()[..4], 1.0_f32.to_ne_bytes());
        assert_eq!(buffer.as_bytes()[4..8], (-2.5_f32).to_ne_bytes());
        assert_eq!(cast_mut_f32(&mut buffer.as_mut_bytes()[4..8]).unwrap(), [-2.5]);
        assert!(cast_mut_f32(&mut buffer.as_mut_bytes()[2..6]).is_none());
        assert!(cast_mut_f32(&mut buffer.as_mut_bytes()[4..10]).is_none());
    }

    #[test]
    fn absurd_lengths_are_errors() {
        for len in [usize::MAX, isize::MAX as usize, isize::MAX as usize - HUGE_PAGE] {
            assert!(Buffer::zeroed(len).is_err());
        }
    }
}
