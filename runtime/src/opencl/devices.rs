//! What OpenCL devices there are, and how a user names one.

use super::api::{self, CallError, DeviceId, Platform, Status};
use ocl::ffi;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What kind of processor a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// This machine's processor, or one like it.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// Anything else that computes.
    Accelerator,
}

impl DeviceKind {
    /// In lower case, as in `gpu`.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
            DeviceKind::Accelerator => "accelerator",
        }
    }
}

/// What a driver tells about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// As in `opencl:0`; of half a device as in `opencl:0.1`.
    pub label: String,
    /// Its name.
    pub name: String,
    /// Who made it.
    pub vendor: String,
    /// The driver's name.
    pub platform: String,
    /// Version of the driver's platform.
    pub platform_version: String,
    /// What it is.
    pub kind: DeviceKind,
    /// The OpenCL that it speaks.
    pub version: String,
    /// Version of the driver.
    pub driver: String,
    /// Compute units: cores of a processor, multiprocessors of a graphics processor.
    pub units: u64,
    /// Its memory.
    pub memory_bytes: u64,
    /// The largest block of it.
    pub allocation_bytes: u64,
    /// f32 lanes of its vector registers; 1 where vectors gain nothing.
    pub vector_width: u64,
    /// Fused multiply-add is one instruction.
    pub fma: bool,
    /// Memory that the work-items of a group share.
    pub local_bytes: u64,
    /// Optional features.
    pub extensions: String,
    /// It is ready, and its driver has a compiler.
    pub usable: bool,
}

/// A device that can be used.
#[derive(Debug, Clone)]
pub struct Device {
    pub(super) id: DeviceId,
    pub(super) platform: Platform,
    /// What is known of it.
    pub about: About,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About { label, name, platform, .. } = &self.about;
        write!(f, "{label} ({name}, {platform})")
    }
}

/// Why there is no such device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Nothing is installed.
    #[error(
        "no OpenCL driver is installed; a GPU's comes with its vendor's software, and Debian's and \
         Ubuntu's pocl-opencl-icd makes the CPU a device"
    )]
    NoPlatform,
    /// A driver without devices.
    #[error("the OpenCL drivers that are installed ({platforms}) find no device")]
    NoDevice {
        /// Their names.
        platforms: String,
    },
    /// Another name or number.
    #[error("there is no OpenCL device `{wish}`; there is {found}")]
    NotFound {
        /// What was wanted.
        wish: String,
        /// What there is.
        found: String,
    },
    /// The part of a name fits several.
    #[error("`{wish}` is a part of more than one OpenCL device's name: {found}; name it by number")]
    Ambiguous {
        /// What was wanted.
        wish: String,
        /// What it fits.
        found: String,
    },
    /// Cannot be divided.
    #[error("{device} cannot be divided into halves: {reason}")]
    Indivisible {
        /// The whole device.
        device: String,
        /// Why.
        reason: String,
    },
    /// There, but not for use.
    #[error("{device} is not available, or its driver has no compiler")]
    Unusable {
        /// The device.
        device: String,
    },
    /// A driver that answers with an error.
    #[error("an OpenCL driver fails: {0}")]
    Call(#[from] CallError),
}

/// A driver with its devices.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Its name.
    pub name: String,
    /// The OpenCL that it speaks, and its own version.
    pub version: String,
    /// What it makes usable; may be empty.
    pub devices: Vec<Device>,
}

/// Loaders and drivers start up at the first question, and not all of them expect two threads to
/// ask it.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ASKING: Mutex<()> = Mutex::new(());
    ASKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every driver with its devices, which are numbered from one driver to the next. None where no
/// driver is installed.
pub fn drivers() -> Result<Vec<Driver>, DeviceError> {
    let _guard = one_at_a_time();
    let platforms = match api::platforms() {
        Err(CallError { status: Status::NO_PLATFORM, .. }) => Vec::new(),
        found => found?,
    };
    let mut index = 0..;
    let driver = |platform: Platform| {
        let ids = platform.devices()?.into_iter().zip(&mut index);
        let devices = ids.map(|(id, index)| {
            Ok(Device { id, platform, about: about(platform, id, format!("opencl:{index}"))? })
        });
        Ok(Driver {
            devices: devices.collect::<Result<_, CallError>>()?,
            name: platform.text(ffi::CL_PLATFORM_NAME)?,
            version: platform.text(ffi::CL_PLATFORM_VERSION)?,
        })
    };
    Ok(platforms.into_iter().map(driver).collect::<Result<_, CallError>>()?)
}

fn about(platform: Platform, id: DeviceId, label: String) -> Result<About, CallError> {
    let kind = id.number(ffi::CL_DEVICE_TYPE)?;
    Ok(About {
        label,
        name: id.text(ffi::CL_DEVICE_NAME)?,
        vendor: id.text(ffi::CL_DEVICE_VENDOR)?,
        platform: platform.text(ffi::CL_PLATFORM_NAME)?,
        platform_version: platform.text(ffi::CL_PLATFORM_VERSION)?,
        kind: match kind {
            kind if kind & ffi::CL_DEVICE_TYPE_CPU != 0 => DeviceKind::Cpu,
            kind if kind & ffi::CL_DEVICE_TYPE_GPU != 0 => DeviceKind::Gpu,
            _ => DeviceKind::Accelerator,
        },
        version: id.text(ffi::CL_DEVICE_VERSION)?,
        driver: id.text(ffi::CL_DRIVER_VERSION)?,
        units: id.number(ffi::CL_DEVICE_MAX_COMPUTE_UNITS)?,
        memory_bytes: id.number(ffi::CL_DEVICE_GLOBAL_MEM_SIZE)?,
        allocation_bytes: id.number(ffi::CL_DEVICE_MAX_MEM_ALLOC_SIZE)?,
        vector_width: id.number(ffi::CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT)?,
        fma: id.number(ffi::CL_DEVICE_SINGLE_FP_CONFIG)? & ffi::CL_FP_FMA != 0,
        local_bytes: id.number(ffi::CL_DEVICE_LOCAL_MEM_SIZE)?,
        extensions: id.text(ffi::CL_DEVICE_EXTENSIONS)?,
        usable: id.number(ffi::CL_DEVICE_AVAILABLE)? != 0
            && id.number(ffi::CL_DEVICE_COMPILER_AVAILABLE)? != 0,
    })
}

/// The device that a user names: nothing (the first GPU, or else the first device), a number, a
/// number with `.0` or `.1` for one half of its compute units, or a part of a name in any case.
pub fn choose(wish: &str) -> Result<Device, DeviceError> {
    let drivers = drivers()?;
    let names: Vec<String> = drivers.iter().map(|driver| driver.name.clone()).collect();
    let found: Vec<Device> = drivers.into_iter().flat_map(|driver| driver.devices).collect();
    if found.is_empty() {
        return Err(match names.is_empty() {
            true => DeviceError::NoPlatform,
            false => DeviceError::NoDevice { platforms: names.join(", ") },
        });
    }
    let abouts: Vec<&About> = found.iter().map(|device| &device.about).collect();
    let (index, half) = position(&abouts, wish)?;
    let device = found[index].clone();
    if !device.about.usable {
        return Err(DeviceError::Unusable { device: device.to_string() });
    }
    match half {
        None => Ok(device),
        Some(half) => divide(device, half),
    }
}

/// Where a wish is in the list, and which half of the device is wanted.
fn position(found: &[&About], wish: &str) -> Result<(usize, Option<usize>), DeviceError> {
    let list = |chosen: &[usize]| {
        let one = |&index: &usize| format!("{} ({})", found[index].label, found[index].name);
        chosen.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let all: Vec<usize> = (0..found.len()).collect();
    let not_found = || DeviceError::NotFound { wish: wish.to_owned(), found: list(&all) };
    if wish.is_empty() {
        let gpu = found.iter().position(|about| about.kind == DeviceKind::Gpu);
        return Ok((gpu.unwrap_or(0), None));
    }
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (number, half) = match wish.split_once('.') {
        Some((number, half)) if numeric(number) && numeric(half) => (number, Some(half)),
        _ => (wish, None),
    };
    if numeric(number) {
        let index = number.parse().ok().filter(|&index| index < found.len());
        let half = match half {
            None => None,
            Some("0") => Some(0),
            Some("1") => Some(1),
            Some(_) => return Err(not_found()),
        };
        return Ok((index.ok_or_else(not_found)?, half));
    }
    let wanted = wish.to_lowercase();
    let named = |name: fn(&About) -> &str| -> Vec<usize> {
        all.iter().copied().filter(|&i| name(found[i]).to_lowercase().contains(&wanted)).collect()
    };
    let exact: Vec<usize> =
        all.iter().copied().filter(|&i| found[i].name.to_lowercase() == wanted).collect();
    let by = [exact, named(|about| &about.name), named(|about| &about.platform)];
    match by.into_iter().find(|list| !list.is_empty()).as_deref() {
        None => Err(not_found()),
        Some([index]) => Ok((*index, None)),
        Some(several) => {
            Err(DeviceError::Ambiguous { wish: wish.to_owned(), found: list(several) })
        }
    }
}

/// One half of a device's compute units.
fn divide(whole: Device, half: usize) -> Result<Device, DeviceError> {
    let fault = |reason: String| DeviceError::Indivisible { device: whole.to_string(), reason };
    if whole.about.units < 2 {
        return Err(fault("it has one compute unit".to_owned()));
    }
    let units = whole.about.units / 2;
    let _guard = one_at_a_time();
    let parts = whole.id.split(units).map_err(|error| fault(error.to_string()))?;
    let id = *parts.get(half).ok_or_else(|| fault(format!("it has {} parts", parts.len())))?;
    let label = format!("{}.{half}", whole.about.label);
    let Device { platform, about, .. } = whole;
    Ok(Device { id, platform, about: About { label, units, ..about } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(index: usize, name: &str, kind: DeviceKind) -> About {
        About {
            label: format!("opencl:{index}"),
            name: name.to_owned(),
            vendor: String::new(),
            platform: "Portable Computing Language".to_owned(),
            platform_version: String::new(),
            kind,
            version: String::new(),
            driver: String::new(),
            units: 2,
            memory_bytes: 0,
            allocation_bytes: 0,
            vector_width: 8,
            fma: true,
            local_bytes: 0,
            extensions: String::new(),
            usable: true,
        }
    }

    #[test]
    fn wishes() {
        let list = [
            about(0, "pthread-AMD EPYC", DeviceKind::Cpu),
            about(1, "NVIDIA H100 PCIe", DeviceKind::Gpu),
            about(2, "NVIDIA H100", DeviceKind::Gpu),
        ];
        let list: Vec<&About> = list.iter().collect();
        let at = |wish: &str| position(&list, wish).unwrap();
        assert_eq!(at(""), (1, None), "the first GPU");
        assert_eq!(position(&list[..1], "").unwrap(), (0, None), "or else the first");
        assert_eq!(at("2"), (2, None));
        assert_eq!(at("0.1"), (0, Some(1)));
        assert_eq!(at("epyc"), (0, None));
        assert_eq!(at("nvidia h100"), (2, None), "the whole name goes before a part");
        assert_eq!(position(&list[..1], "portable").unwrap(), (0, None), "the driver's name");
        assert_eq!(
            position(&list, "h1").unwrap_err().to_string(),
            "`h1` is a part of more than one OpenCL device's name: opencl:1 (NVIDIA H100 PCIe), \
             opencl:2 (NVIDIA H100); name it by number"
        );
        for missing in ["3", "0.2", "radeon", "99999999999999999999", "1.x", "-1"] {
            assert_eq!(
                position(&list[..1], missing).unwrap_err().to_string(),
                format!(
                    "there is no OpenCL device `{missing}`; there is opencl:0 (pthread-AMD EPYC)"
                )
            );
        }
    }
}
