//! The OpenCL functions that a session needs, each made safe: handles release themselves, statuses
//! become errors. The `ocl` crate gives the declarations; its own wrappers are not used, because
//! they panic at a status that they do not know and cannot make sub-devices.

mod queue;

pub(super) use queue::Span;

use std::{
    ffi::{CStr, CString, c_void},
    fmt, ptr,
};

use ocl::ffi;

/// What an OpenCL function returned instead of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub i32);

/// Declares the names of statuses once.
macro_rules! statuses {
    ($($code:literal $name:ident,)*) => {
        /// As in the OpenCL headers, without `CL_`.
        fn name(code: i32) -> Option<&'static str> {
            match code {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

statuses! {
    -1 DEVICE_NOT_FOUND,
    -2 DEVICE_NOT_AVAILABLE,
    -3 COMPILER_NOT_AVAILABLE,
    -4 MEM_OBJECT_ALLOCATION_FAILURE,
    -5 OUT_OF_RESOURCES,
    -6 OUT_OF_HOST_MEMORY,
    -7 PROFILING_INFO_NOT_AVAILABLE,
    -11 BUILD_PROGRAM_FAILURE,
    -12 MAP_FAILURE,
    -13 MISALIGNED_SUB_BUFFER_OFFSET,
    -14 EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST,
    -15 COMPILE_PROGRAM_FAILURE,
    -16 LINKER_NOT_AVAILABLE,
    -17 LINK_PROGRAM_FAILURE,
    -18 DEVICE_PARTITION_FAILED,
    -30 INVALID_VALUE,
    -32 INVALID_PLATFORM,
    -33 INVALID_DEVICE,
    -34 INVALID_CONTEXT,
    -35 INVALID_QUEUE_PROPERTIES,
    -36 INVALID_COMMAND_QUEUE,
    -37 INVALID_HOST_PTR,
    -38 INVALID_MEM_OBJECT,
    -42 INVALID_BINARY,
    -43 INVALID_BUILD_OPTIONS,
    -44 INVALID_PROGRAM,
    -45 INVALID_PROGRAM_EXECUTABLE,
    -46 INVALID_KERNEL_NAME,
    -47 INVALID_KERNEL_DEFINITION,
    -48 INVALID_KERNEL,
    -49 INVALID_ARG_INDEX,
    -50 INVALID_ARG_VALUE,
    -51 INVALID_ARG_SIZE,
    -52 INVALID_KERNEL_ARGS,
    -54 INVALID_WORK_GROUP_SIZE,
    -55 INVALID_WORK_ITEM_SIZE,
    -58 INVALID_EVENT,
    -59 INVALID_OPERATION,
    -61 INVALID_BUFFER_SIZE,
    -63 INVALID_GLOBAL_WORK_SIZE,
    -68 INVALID_DEVICE_PARTITION_COUNT,
    -1001 PLATFORM_NOT_FOUND_KHR,
}

impl Status {
    /// No driver is installed.
    pub(super) const NO_PLATFORM: Status = Status(-1001);
    /// No device of the wanted kind.
    pub(super) const NO_DEVICE: Status = Status(-1);
    const BUILD_FAILED: Status = Status(-11);

    /// The device, or the system, has no more memory.
    pub(super) fn is_memory(self) -> bool {
        matches!(self.0, -4 | -5 | -6 | -61)
    }

    /// The driver refuses the program; it may say why in a log.
    pub(super) fn is_build(self) -> bool {
        matches!(self, Status::BUILD_FAILED | Status(-15 | -17 | -43))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "status {}", self.0),
        }
    }
}

/// An OpenCL function that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{function}: {status}")]
pub struct CallError {
    /// Its name.
    pub function: &'static str,
    /// What it returned.
    pub status: Status,
}

fn checked(function: &'static str, status: i32) -> Result<(), CallError> {
    if status == 0 { Ok(()) } else { Err(CallError { function, status: Status(status) }) }
}

/// Declares a handle that is released when it is dropped.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $release:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name($raw);

        impl $name {
            /// A handle that a creating function returned.
            fn new(function: &'static str, raw: $raw, status: i32) -> Result<$name, CallError> {
                checked(function, status)?;
                if raw.is_null() {
                    return Err(CallError { function, status: Status(-6) });
                }
                Ok($name(raw))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the handle is valid, because a creating function returned it, and is
                // released once. A failure can only mean a broken driver: nothing is to be done.
                unsafe { ffi::$release(self.0) };
            }
        }

        // SAFETY: OpenCL handles may be used from any thread.
        unsafe impl Send for $name {}
    };
}

handle!(
    /// Devices that share memory objects.
    Context,
    ffi::cl_context,
    clReleaseContext
);
handle!(
    /// An in-order queue of one device.
    Queue,
    ffi::cl_command_queue,
    clReleaseCommandQueue
);
handle!(
    /// Memory of a device.
    Mem,
    ffi::cl_mem,
    clReleaseMemObject
);
handle!(
    /// Kernels, built or not.
    Program,
    ffi::cl_program,
    clReleaseProgram
);
handle!(
    /// A kernel with its arguments.
    Kernel,
    ffi::cl_kernel,
    clReleaseKernel
);
handle!(
    /// A command that was queued.
    Event,
    ffi::cl_event,
    clReleaseEvent
);

/// A driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Platform(ffi::cl_platform_id);

/// A device of a platform, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceId(ffi::cl_device_id);

// SAFETY: identifiers of platforms stay valid for the life of the process, on any thread.
unsafe impl Send for Platform {}
// SAFETY: as for platforms; parts of devices are never released here.
unsafe impl Send for DeviceId {}
// SAFETY: nothing changes through an identifier.
unsafe impl Sync for Platform {}
// SAFETY: nothing changes through an identifier.
unsafe impl Sync for DeviceId {}

/// All drivers, in the order of the loader.
pub(super) fn platforms() -> Result<Vec<Platform>, CallError> {
    let function = "clGetPlatformIDs";
    let mut count = 0;
    // SAFETY: asks for the count alone.
    checked(function, unsafe { ffi::clGetPlatformIDs(0, ptr::null_mut(), &mut count) })?;
    let mut raw = vec![ptr::null_mut(); count as usize];
    if count > 0 {
        // SAFETY: there is room for `count` identifiers.
        checked(function, unsafe {
            ffi::clGetPlatformIDs(count, raw.as_mut_ptr(), ptr::null_mut())
        })?;
    }
    Ok(raw.into_iter().map(Platform).collect())
}

impl Platform {
    /// A text about it.
    pub(super) fn text(self, what: u32) -> Result<String, CallError> {
        let bytes = info("clGetPlatformInfo", |size, value, needed| {
            // SAFETY: `value` has room for `size` bytes; the platform is one of `platforms`.
            unsafe { ffi::clGetPlatformInfo(self.0, what, size, value, needed) }
        })?;
        Ok(text(&bytes))
    }

    /// All its devices of all types.
    pub(super) fn devices(self) -> Result<Vec<DeviceId>, CallError> {
        let function = "clGetDeviceIDs";
        let all = ffi::CL_DEVICE_TYPE_ALL;
        let mut count = 0;
        // SAFETY: asks for the count alone.
        let status = unsafe { ffi::clGetDeviceIDs(self.0, all, 0, ptr::null_mut(), &mut count) };
        if Status(status) == Status::NO_DEVICE {
            return Ok(Vec::new());
        }
        checked(function, status)?;
        let mut raw = vec![ptr::null_mut(); count as usize];
        if count > 0 {
            // SAFETY: there is room for `count` identifiers.
            checked(function, unsafe {
                ffi::clGetDeviceIDs(self.0, all, count, raw.as_mut_ptr(), ptr::null_mut())
            })?;
        }
        Ok(raw.into_iter().map(DeviceId).collect())
    }
}

impl DeviceId {
    fn info(self, what: u32) -> Result<Vec<u8>, CallError> {
        info("clGetDeviceInfo", |size, value, needed| {
            // SAFETY: `value` has room for `size` bytes; the device is one of a platform's.
            unsafe { ffi::clGetDeviceInfo(self.0, what, size, value, needed) }
        })
    }

    /// A text about it.
    pub(super) fn text(self, what: u32) -> Result<String, CallError> {
        Ok(text(&self.info(what)?))
    }

    /// A number about it, of four or eight bytes.
    pub(super) fn number(self, what: u32) -> Result<u64, CallError> {
        Ok(number(&self.info(what)?))
    }

    /// Splits it into parts with so many compute units each, which live as long as the process.
    pub(super) fn split(self, units: u64) -> Result<Vec<DeviceId>, CallError> {
        let function = "clCreateSubDevices";
        let properties = [ffi::CL_DEVICE_PARTITION_EQUALLY as isize, units as isize, 0];
        let mut count = 0;
        // SAFETY: the list of properties ends with a zero; asks for the count alone.
        checked(function, unsafe {
            ffi::clCreateSubDevices(self.0, properties.as_ptr(), 0, ptr::null_mut(), &mut count)
        })?;
        let mut raw = vec![ptr::null_mut(); count as usize];
        // SAFETY: the list of properties ends with a zero; there is room for `count` parts.
        checked(function, unsafe {
            ffi::clCreateSubDevices(
                self.0,
                properties.as_ptr(),
                count,
                raw.as_mut_ptr(),
                ptr::null_mut(),
            )
        })?;
        Ok(raw.into_iter().map(DeviceId).collect())
    }
}

/// Asks for the length, then for so many bytes.
fn info(
    function: &'static str,
    ask: impl Fn(usize, *mut c_void, *mut usize) -> i32,
) -> Result<Vec<u8>, CallError> {
    let mut needed = 0;
    checked(function, ask(0, ptr::null_mut(), &mut needed))?;
    let mut bytes = vec![0u8; needed];
    if needed > 0 {
        checked(function, ask(needed, bytes.as_mut_ptr().cast(), ptr::null_mut()))?;
    }
    Ok(bytes)
}

/// Up to its end or its first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

/// Little-endian machines alone have OpenCL drivers.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl Context {
    pub(super) fn of(devices: &[DeviceId]) -> Result<Context, CallError> {
        let raw: Vec<ffi::cl_device_id> = devices.iter().map(|device| device.0).collect();
        let mut status = 0;
        // SAFETY: the devices exist; there is no callback.
        let context = unsafe {
            ffi::clCreateContext(
                ptr::null(),
                raw.len() as u32,
                raw.as_ptr(),
                None,
                ptr::null_mut(),
                &mut status,
            )
        };
        Context::new("clCreateContext", context, status)
    }

    /// An in-order queue that keeps the times of its commands where `profiled`.
    pub(super) fn queue(&self, device: DeviceId, profiled: bool) -> Result<Queue, CallError> {
        let properties = if profiled { ffi::CL_QUEUE_PROFILING_ENABLE } else { 0 };
        let mut status = 0;
        // SAFETY: context and device exist.
        let queue = unsafe { ffi::clCreateCommandQueue(self.0, device.0, properties, &mut status) };
        Queue::new("clCreateCommandQueue", queue, status)
    }

    /// Memory of the device's own that kernels read and write. At least a byte, because OpenCL
    /// knows no empty buffers.
    pub(super) fn memory(&self, bytes: usize) -> Result<Mem, CallError> {
        let mut status = 0;
        // SAFETY: no memory of the host is given.
        let mem = unsafe {
            ffi::clCreateBuffer(
                self.0,
                ffi::CL_MEM_READ_WRITE,
                bytes.max(1),
                ptr::null_mut(),
                &mut status,
            )
        };
        Mem::new("clCreateBuffer", mem, status)
    }

    /// Memory of the host that kernels only read, without a copy where the device can.
    ///
    /// # Safety
    /// The bytes must stay where they are, unchanged, while the result lives.
    pub(super) unsafe fn borrowed(&self, bytes: &[u8]) -> Result<Mem, CallError> {
        let mut status = 0;
        let flags = ffi::CL_MEM_READ_ONLY | ffi::CL_MEM_USE_HOST_PTR;
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: the caller keeps the bytes; they are only read.
        let mem = unsafe { ffi::clCreateBuffer(self.0, flags, bytes.len(), start, &mut status) };
        Mem::new("clCreateBuffer", mem, status)
    }

    pub(super) fn program(&self, source: &str) -> Result<Program, CallError> {
        let (start, len) = (source.as_ptr().cast(), source.len());
        let mut status = 0;
        // SAFETY: one text with its length; it is copied.
        let program =
            unsafe { ffi::clCreateProgramWithSource(self.0, 1, &start, &len, &mut status) };
        Program::new("clCreateProgramWithSource", program, status)
    }

    pub(super) fn program_of_binary(
        &self,
        device: DeviceId,
        binary: &[u8],
    ) -> Result<Program, CallError> {
        let function = "clCreateProgramWithBinary";
        let (start, len) = (binary.as_ptr(), binary.len());
        let (mut accepted, mut status) = (0, 0);
        // SAFETY: one device and one binary with its length; it is copied.
        let program = unsafe {
            ffi::clCreateProgramWithBinary(
                self.0,
                1,
                &device.0,
                &len,
                &start,
                &mut accepted,
                &mut status,
            )
        };
        let program = Program::new(function, program, status)?;
        checked(function, accepted)?;
        Ok(program)
    }
}

impl Program {
    pub(super) fn build(&self, device: DeviceId, options: &CStr) -> Result<(), CallError> {
        // SAFETY: the device is one of the program's context; there is no callback, so the call
        // returns when all is built.
        let status = unsafe {
            ffi::clBuildProgram(self.0, 1, &device.0, options.as_ptr(), None, ptr::null_mut())
        };
        checked("clBuildProgram", status)
    }

    /// What the compiler said.
    pub(super) fn log(&self, device: DeviceId) -> Result<String, CallError> {
        let bytes = info("clGetProgramBuildInfo", |size, value, needed| {
            // SAFETY: `value` has room for `size` bytes.
            unsafe {
                ffi::clGetProgramBuildInfo(
                    self.0,
                    device.0,
                    ffi::CL_PROGRAM_BUILD_LOG,
                    size,
                    value,
                    needed,
                )
            }
        })?;
        Ok(text(&bytes))
    }

    /// What was built for the only device of the program's context; empty where the driver gives
    /// nothing away.
    pub(super) fn binary(&self) -> Result<Vec<u8>, CallError> {
        let ask = |what: u32, size: usize, value: *mut c_void, needed: *mut usize| {
            // SAFETY: `value` has room for `size` bytes.
            unsafe { ffi::clGetProgramInfo(self.0, what, size, value, needed) }
        };
        let function = "clGetProgramInfo";
        let sizes = info(function, |size, value, needed| {
            ask(ffi::CL_PROGRAM_BINARY_SIZES, size, value, needed)
        })?;
        if sizes.len() != size_of::<usize>() {
            return Ok(Vec::new());
        }
        let mut binary = vec![0u8; number(&sizes) as usize];
        if !binary.is_empty() {
            let mut start = binary.as_mut_ptr();
            // The one address that is asked for leads to as many bytes as the driver named.
            let place = (&raw mut start).cast();
            checked(
                function,
                ask(ffi::CL_PROGRAM_BINARIES, size_of::<*mut u8>(), place, ptr::null_mut()),
            )?;
        }
        Ok(binary)
    }

    pub(super) fn kernel(&self, name: &CString) -> Result<Kernel, CallError> {
        let mut status = 0;
        // SAFETY: the name ends with a zero.
        let kernel = unsafe { ffi::clCreateKernel(self.0, name.as_ptr(), &mut status) };
        Kernel::new("clCreateKernel", kernel, status)
    }
}

impl Kernel {
    /// Sets an argument to a block of memory.
    pub(super) fn set_memory(&self, index: u32, mem: &Mem) -> Result<(), CallError> {
        // SAFETY: the value is a handle, as long as one.
        checked("clSetKernelArg", unsafe {
            ffi::clSetKernelArg(self.0, index, size_of::<ffi::cl_mem>(), (&raw const mem.0).cast())
        })
    }

    /// Sets an argument of OpenCL's type `ulong`.
    pub(super) fn set_ulong(&self, index: u32, value: u64) -> Result<(), CallError> {
        // SAFETY: the value is a plain number, as long as it is said to be; it is copied.
        checked("clSetKernelArg", unsafe {
            ffi::clSetKernelArg(self.0, index, size_of::<u64>(), (&raw const value).cast())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_names_or_numbers() {
        assert_eq!(Status(-54).to_string(), "INVALID_WORK_GROUP_SIZE");
        assert_eq!(Status(-9999).to_string(), "status -9999");
        let error = checked("clFinish", -5).unwrap_err();
        assert_eq!(error.to_string(), "clFinish: OUT_OF_RESOURCES");
        assert!(error.status.is_memory() && !error.status.is_build());
    }

    #[test]
    fn texts_and_numbers() {
        assert_eq!(text(b"pthread \0rest"), "pthread");
        assert_eq!(text(b""), "");
        assert_eq!(number(&[1, 2, 0, 0]), 513);
        assert_eq!(number(&[0xFF; 8]), u64::MAX);
    }
}
