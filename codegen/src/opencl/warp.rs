//! Products of matrices by warps, in OpenCL C: functions that stand in front of a program whose
//! kernels have some. A device with PTX has instructions for them; elsewhere the items of a warp
//! exchange their elements through local memory, which is slow and serves to test kernels.

use crate::ir::{Inst, Kernel, Mma};

/// How the items of a warp multiply matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Warps {
    /// NVIDIA's instructions, from compute capability 8.0.
    Ptx,
    /// Through local memory; any device.
    Emulated,
}

/// Floats that an item puts into local memory for the others.
pub(super) const EXCHANGED: usize = 12;

impl Warps {
    /// What stands in front of the kernels.
    pub fn prelude(self) -> &'static str {
        match self {
            Warps::Ptx => include_str!("warp_ptx.cl"),
            Warps::Emulated => include_str!("warp_emulated.cl"),
        }
    }

    /// The call of a product.
    pub(super) fn call(self, kind: Mma, operands: [String; 4]) -> String {
        let exchange = match self {
            Warps::Ptx => "",
            Warps::Emulated => ", alexc_exchange",
        };
        format!("alexc_{}({}{exchange})", kind.name(), operands.join(", "))
    }
}

/// Whether a kernel needs any of this.
pub(super) fn uses_warps(kernel: &Kernel) -> bool {
    let mut found = false;
    kernel.for_each_inst(&mut |inst, _| {
        found |= matches!(inst, Inst::Mma { .. } | Inst::Tf32 { .. });
    });
    found
}

/// A program of one small kernel with every instruction of [`Warps::Ptx`]: a driver that builds it
/// takes kernels with products of warps.
pub fn probe() -> String {
    format!(
        "{}\nkernel __attribute__((reqd_work_group_size(32, 1, 1)))\n\
         void alexc_probe(global float4 *out) {{\n  \
         float4 v = alexc_tf32x4(out[get_local_id(0)]);\n  \
         out[get_local_id(0)] = alexc_mma_f16(v, v, v, alexc_mma_tf32(v, v, v, v));\n}}\n",
        Warps::Ptx.prelude()
    )
}
