//! A compiled net by the interpreter: every step's kernel over buffers taken out of the blocks
//! of memory that it is bound to. What nothing has written yet is NaN.

use alexc::compile::Prepared;
use alexc_codegen::interp::{self, Data};
use alexc_codegen::ir::DType;
use alexc_runtime::program::{Base, Binding};

/// The bytes that a program works on.
struct Blocks<'a> {
    input: &'a [f32],
    output: Vec<f32>,
    arena: Vec<f32>,
    weights: &'a [u8],
}

impl Blocks<'_> {
    fn read(&self, binding: &Binding, dtype: DType) -> Data {
        let bytes = binding.offset_bytes..binding.offset_bytes + binding.len_bytes;
        let floats = bytes.start / 4..bytes.end / 4;
        match binding.base {
            Base::Input => Data::F32(self.input[floats].to_vec()),
            Base::Output => Data::F32(self.output[floats].to_vec()),
            Base::Arena => Data::F32(self.arena[floats].to_vec()),
            Base::Weights => numbers(&self.weights[bytes], dtype),
            Base::Local => Data::zeros(dtype, binding.len_bytes / dtype.bytes()),
        }
    }

    fn write(&mut self, binding: &Binding, data: &Data) {
        let block = match binding.base {
            Base::Output => &mut self.output,
            Base::Arena => &mut self.arena,
            Base::Input | Base::Weights | Base::Local => return,
        };
        if let Data::F32(values) = data {
            let start = binding.offset_bytes / 4;
            block[start..start + values.len()].copy_from_slice(values);
        }
    }
}

fn numbers(bytes: &[u8], dtype: DType) -> Data {
    let halves = || -> Vec<u16> {
        bytes.as_chunks::<2>().0.iter().map(|b| u16::from_ne_bytes(*b)).collect()
    };
    match dtype {
        DType::F32 => {
            Data::F32(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect())
        }
        DType::F16 => Data::F16(halves()),
        DType::Bf16 => Data::Bf16(halves()),
        DType::I16 => Data::I16(halves().iter().map(|bits| bits.cast_signed()).collect()),
        DType::I8 => Data::I8(bytes.iter().map(|&b| b.cast_signed()).collect()),
    }
}

/// The output of a compiled net for an input; `weights` are packed for it.
pub fn run(net: &Prepared, weights: &[u8], input: &[f32]) -> Vec<f32> {
    let mut blocks = Blocks {
        input,
        output: vec![f32::NAN; net.dims(net.fused.output).iter().product()],
        arena: vec![f32::NAN; net.plan.arena_bytes / 4],
        weights,
    };
    for step in &net.steps {
        let kernel = &net.kernels[step.kernel];
        let mut data: Vec<Data> = kernel
            .buffers
            .iter()
            .zip(&step.params)
            .map(|(buffer, binding)| blocks.read(binding, buffer.dtype))
            .collect();
        interp::run(kernel, &mut data, 0..step.extent).unwrap();
        for (binding, data) in step.params.iter().zip(&data).filter(|(binding, _)| binding.writes) {
            blocks.write(binding, data);
        }
    }
    blocks.output
}
