//! `--device`: which processor, or which OpenCL devices, run a net.

use super::failure::Failure;
#[cfg(feature = "opencl")]
use alexc_runtime::opencl::{self, Device};

/// What the user wrote, by its form alone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Cpu,
    /// For each device a number, a part of a name, or nothing.
    OpenCl(Vec<String>),
}

/// Where a net is to run.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// This machine's processor.
    Cpu,
    /// OpenCL devices, at least one.
    #[cfg(feature = "opencl")]
    OpenCl(Vec<Device>),
}

/// Finds what `--device` names.
pub(super) fn find(text: &str) -> Result<Place, Failure> {
    match wish(text)? {
        Wish::Cpu => Ok(Place::Cpu),
        Wish::OpenCl(wishes) => devices(&wishes),
    }
}

#[cfg(not(feature = "opencl"))]
fn devices(_: &[String]) -> Result<Place, Failure> {
    Err(Failure::Device(
        "this alexc was built without OpenCL; build it with `cargo build --release --features \
         opencl`, or run on --device cpu"
            .to_owned(),
    ))
}

#[cfg(feature = "opencl")]
fn devices(wishes: &[String]) -> Result<Place, Failure> {
    let devices: Vec<Device> =
        wishes.iter().map(|wish| opencl::choose(wish)).collect::<Result<_, _>>()?;
    Ok(Place::OpenCl(devices))
}

#[cfg(feature = "opencl")]
impl From<opencl::DeviceError> for Failure {
    fn from(error: opencl::DeviceError) -> Self {
        Failure::Device(error.to_string())
    }
}

fn wish(text: &str) -> Result<Wish, Failure> {
    let mut wishes: Vec<String> = Vec::new();
    let mut cpu = false;
    for part in text.split(',').map(str::trim) {
        let (family, which) = part.split_once(':').unwrap_or((part, ""));
        match family {
            "cpu" if which.is_empty() => cpu = true,
            "opencl" => wishes.push(which.trim().to_owned()),
            // The second of `opencl:0,1`.
            _ if !wishes.is_empty() && !part.is_empty() => wishes.push(part.to_owned()),
            _ => {
                return Err(Failure::Device(format!(
                    "there is no device `{part}`: write cpu, opencl, opencl:NUMBER or opencl:NAME; \
                     `alexc devices` lists them"
                )));
            }
        }
    }
    match (cpu, wishes.is_empty()) {
        (true, false) => Err(Failure::Device(
            "a net runs on the CPU or on OpenCL devices, not on both; a driver such as PoCL makes \
             the CPU an OpenCL device"
                .to_owned(),
        )),
        (true, true) => Ok(Wish::Cpu),
        (false, _) => Ok(Wish::OpenCl(wishes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let opencl =
            |list: &[&str]| Wish::OpenCl(list.iter().map(|&which| which.to_owned()).collect());
        assert_eq!(wish("cpu").unwrap(), Wish::Cpu);
        assert_eq!(wish("opencl").unwrap(), opencl(&[""]));
        assert_eq!(wish("opencl:0").unwrap(), opencl(&["0"]));
        assert_eq!(wish("opencl:0, opencl:H100").unwrap(), opencl(&["0", "H100"]));
        assert_eq!(wish("opencl:0.0,0.1").unwrap(), opencl(&["0.0", "0.1"]));
        for wrong in ["", "gpu", "CPU", "cpu:0", ",opencl", "opencl,", "cpu,opencl", "0,opencl"] {
            assert_eq!(wish(wrong).unwrap_err().code(), 4, "{wrong}");
        }
    }
}
