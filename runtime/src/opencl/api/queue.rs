//! Commands in queues, and their events.

use super::{CallError, Context, Event, Kernel, Mem, Queue, checked, info, number};
use crate::opencl::Rect;
use ocl::ffi;
use std::ffi::c_void;
use std::ptr;

/// A part of a block of memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::opencl) struct Span<'a> {
    pub(in crate::opencl) mem: &'a Mem,
    pub(in crate::opencl) offset: usize,
}

/// A rectangle as OpenCL takes it: the origin in bytes, rows and slices, and the size.
struct Corners {
    origin: [usize; 3],
    region: [usize; 3],
}

impl Corners {
    fn of(rect: &Rect) -> Corners {
        // All of the beginning counts as bytes of a row: it is added up in any case.
        Corners { origin: [rect.start, 0, 0], region: [rect.len, rect.rows, rect.slices] }
    }
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
        self.queued("clEnqueueWriteBuffer", &[], None, |queue, count, list, event| {
            // SAFETY: the caller keeps the bytes until they are read.
            unsafe {
                ffi::clEnqueueWriteBuffer(
                    queue,
                    to.mem.0,
                    ffi::CL_FALSE,
                    to.offset,
                    bytes.len(),
                    bytes.as_ptr().cast(),
                    count,
                    list,
                    event,
                )
            }
        })
    }

    /// Queues a copy of parts of a block to the host, where they lie one behind the other.
    ///
    /// # Safety
    /// There is room for the bytes at `to`, which stays where it is until the queue has finished,
    /// and nobody touches it but commands that wait for this one.
    pub(in crate::opencl) unsafe fn read_later(
        &self,
        from: (&Mem, &Rect),
        to: *mut u8,
        after: &[&Event],
        event: Option<&mut Option<Event>>,
    ) -> Result<(), CallError> {
        let (mem, rect) = from;
        let Corners { origin, region } = Corners::of(rect);
        self.queued("clEnqueueReadBufferRect", after, event, |queue, count, list, event| {
            // SAFETY: origins and sizes have three numbers; the caller keeps the bytes until they
            // are written.
            unsafe {
                ffi::clEnqueueReadBufferRect(
                    queue,
                    mem.0,
                    ffi::CL_FALSE,
                    origin.as_ptr(),
                    [0; 3].as_ptr(),
                    region.as_ptr(),
                    rect.row_pitch,
                    rect.slice_pitch,
                    rect.len,
                    rect.len * rect.rows,
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
    /// As for [`Queue::read_later`]; `after` holds the event of that copy, or one that follows it.
    pub(in crate::opencl) unsafe fn write_later(
        &self,
        to: (&Mem, &Rect),
        from: *const u8,
        after: &[&Event],
        event: Option<&mut Option<Event>>,
    ) -> Result<(), CallError> {
        let (mem, rect) = to;
        let Corners { origin, region } = Corners::of(rect);
        self.queued("clEnqueueWriteBufferRect", after, event, |queue, count, list, event| {
            // SAFETY: origins and sizes have three numbers; the caller keeps the bytes until they
            // are read.
            unsafe {
                ffi::clEnqueueWriteBufferRect(
                    queue,
                    mem.0,
                    ffi::CL_FALSE,
                    origin.as_ptr(),
                    [0; 3].as_ptr(),
                    region.as_ptr(),
                    rect.row_pitch,
                    rect.slice_pitch,
                    rect.len,
                    rect.len * rect.rows,
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

impl Context {
    /// An event that stands for one of another context, see [`Event::completes`].
    pub(in crate::opencl) fn stand_in(&self) -> Result<Event, CallError> {
        let mut status = 0;
        // SAFETY: the context exists.
        let event = unsafe { ffi::clCreateUserEvent(self.0, &mut status) };
        Event::new("clCreateUserEvent", event, status)
    }
}

/// Completes the stand-in that the last argument is, and gives it back.
extern "C" fn complete(_: ffi::cl_event, status: i32, stand_in: *mut c_void) {
    // SAFETY: `completes` kept the stand-in for this call. It has no other way to hear of a failure
    // than its status.
    unsafe {
        ffi::clSetUserEventStatus(stand_in, status.min(ffi::CL_COMPLETE));
        ffi::clReleaseEvent(stand_in);
    }
}

impl Event {
    /// Lets commands of another context wait for this event: its stand-in there is completed as soon
    /// as this one is, or fails with it. That takes a flush of this event's queue.
    pub(in crate::opencl) fn completes(&self, stand_in: &Event) -> Result<(), CallError> {
        // SAFETY: both events exist; the stand-in is kept until `complete` gives it back, here or
        // when the driver calls it, which it does once.
        unsafe {
            checked("clRetainEvent", ffi::clRetainEvent(stand_in.0))?;
            let done = ffi::CL_COMPLETE;
            let status = ffi::clSetEventCallback(self.0, done, Some(complete), stand_in.0);
            if status != 0 {
                complete(self.0, status, stand_in.0);
            }
            checked("clSetEventCallback", status)
        }
    }

    /// Whether the command of a queue that has finished did what it should.
    pub(in crate::opencl) fn succeeded(&self) -> Result<(), CallError> {
        let bytes = info("clGetEventInfo", |size, value, needed| {
            let what = ffi::CL_EVENT_COMMAND_EXECUTION_STATUS;
            // SAFETY: `value` has room for `size` bytes.
            unsafe { ffi::clGetEventInfo(self.0, what, size, value, needed) }
        })?;
        // Of four bytes; a failure is negative.
        checked("a copy between devices", (number(&bytes) as u32 as i32).min(0))
    }

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
