//! Commands in queues, and their events.

use super::{CallError, Event, Kernel, Mem, Queue, checked, info, number};
use ocl::ffi;
use std::ptr;

/// A part of a block of memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::opencl) struct Span<'a> {
    pub(in crate::opencl) mem: &'a Mem,
    pub(in crate::opencl) offset: usize,
}

impl Queue {
    /// Queues a kernel over its whole index space.
    ///
    /// # Safety
    /// The kernel's arguments are set, and it stays inside of them.
    pub(in crate::opencl) unsafe fn run(
        &self,
        kernel: &Kernel,
        global: [usize; 3],
        local: [usize; 3],
        after: &[&Event],
        event: Option<&mut Option<Event>>,
    ) -> Result<(), CallError> {
        self.queued("clEnqueueNDRangeKernel", after, event, |queue, count, list, event| {
            // SAFETY: both sizes have three dimensions; the rest is the caller's promise.
            unsafe {
                ffi::clEnqueueNDRangeKernel(
                    queue,
                    kernel.0,
                    3,
                    ptr::null(),
                    global.as_ptr(),
                    local.as_ptr(),
                    count,
                    list,
                    event,
                )
            }
        })
    }

    /// Queues a copy from the host.
    ///
    /// # Safety
    /// The bytes stay where they are, unchanged, until the queue has finished.
    pub(in crate::opencl) unsafe fn write(
        &self,
        to: Span<'_>,
        bytes: &[u8],
    ) -> Result<(), CallError> {
        // SAFETY: the caller keeps the bytes until they are read.
        unsafe { self.write_later(to, bytes.as_ptr(), bytes.len(), &[], None) }
    }

    /// Queues a copy to the host.
    ///
    /// # Safety
    /// There is room for `len` bytes at `to`, which stays where it is until the queue has finished,
    /// and nobody touches it but commands that wait for this one.
    pub(in crate::opencl) unsafe fn read_later(
        &self,
        from: Span<'_>,
        to: *mut u8,
        len: usize,
        after: &[&Event],
        event: Option<&mut Option<Event>>,
    ) -> Result<(), CallError> {
        self.queued("clEnqueueReadBuffer", after, event, |queue, count, list, event| {
            // SAFETY: the caller keeps the bytes until they are written.
            unsafe {
                ffi::clEnqueueReadBuffer(
                    queue,
                    from.mem.0,
                    ffi::CL_FALSE,
                    from.offset,
                    len,
                    to.cast(),
                    count,
                    list,
                    event,
                )
            }
        })
    }

    /// Queues a copy of what [`Queue::read_later`] has brought to the host.
    ///
    /// # Safety
    /// As for [`Queue::read_later`]; `after` holds the event of that copy.
    pub(in crate::opencl) unsafe fn write_later(
        &self,
        to: Span<'_>,
        from: *const u8,
        len: usize,
        after: &[&Event],
        event: Option<&mut Option<Event>>,
    ) -> Result<(), CallError> {
        self.queued("clEnqueueWriteBuffer", after, event, |queue, count, list, event| {
            // SAFETY: the caller keeps the bytes until they are read.
            unsafe {
                ffi::clEnqueueWriteBuffer(
                    queue,
                    to.mem.0,
                    ffi::CL_FALSE,
                    to.offset,
                    len,
                    from.cast(),
                    count,
                    list,
                    event,
                )
            }
        })
    }

    /// Copies to the host; returns when that and everything before is done.
    pub(in crate::opencl) fn read(
        &self,
        from: Span<'_>,
        bytes: &mut [u8],
    ) -> Result<(), CallError> {
        self.queued("clEnqueueReadBuffer", &[], None, |queue, count, list, event| {
            // SAFETY: the bytes are borrowed until the call returns, which it does when they are
            // written.
            unsafe {
                ffi::clEnqueueReadBuffer(
                    queue,
                    from.mem.0,
                    ffi::CL_TRUE,
                    from.offset,
                    bytes.len(),
                    bytes.as_mut_ptr().cast(),
                    count,
                    list,
                    event,
                )
            }
        })
    }

    /// Lets the device begin with what was queued.
    pub(in crate::opencl) fn flush(&self) -> Result<(), CallError> {
        // SAFETY: the queue exists.
        checked("clFlush", unsafe { ffi::clFlush(self.0) })
    }

    /// Waits for everything that was queued.
    pub(in crate::opencl) fn finish(&self) -> Result<(), CallError> {
        // SAFETY: the queue exists.
        checked("clFinish", unsafe { ffi::clFinish(self.0) })
    }

    /// Queues a command behind other ones, and gives its event where one is wanted.
    fn queued(
        &self,
        function: &'static str,
        after: &[&Event],
        event: Option<&mut Option<Event>>,
        command: impl FnOnce(
            ffi::cl_command_queue,
            u32,
            *const ffi::cl_event,
            *mut ffi::cl_event,
        ) -> i32,
    ) -> Result<(), CallError> {
        let list: Vec<ffi::cl_event> = after.iter().map(|event| event.0).collect();
        // OpenCL wants no list rather than an empty one.
        let start = if list.is_empty() { ptr::null() } else { list.as_ptr() };
        let mut raw = ptr::null_mut();
        let place = if event.is_some() { &raw mut raw } else { ptr::null_mut() };
        let status = command(self.0, list.len() as u32, start, place);
        match event {
            None => checked(function, status),
            Some(event) => {
                *event = Some(Event::new(function, raw, status)?);
                Ok(())
            }
        }
    }
}

impl Event {
    /// When the command began and ended, in nanoseconds of the device's clock.
    pub(in crate::opencl) fn times(&self) -> Result<[u64; 2], CallError> {
        let time = |what: u32| {
            let bytes = info("clGetEventProfilingInfo", |size, value, needed| {
                // SAFETY: `value` has room for `size` bytes.
                unsafe { ffi::clGetEventProfilingInfo(self.0, what, size, value, needed) }
            })?;
            Ok(number(&bytes))
        };
        Ok([time(ffi::CL_PROFILING_COMMAND_START)?, time(ffi::CL_PROFILING_COMMAND_END)?])
    }
}
