//! Kernels for groups of items: the interpreter against plain loops, and the races that it finds.

use alexc_codegen::clif;
use alexc_codegen::interp::{Data, InterpError, run};
use alexc_codegen::opencl::{Options, emit};
use alexc_codegen::target::Target;
use alexc_codegen::text::parse;
use alexc_codegen::verify::{InBounds, Verified, in_bounds, verify};

fn kernel(text: &str) -> Verified {
    verify(parse(text).unwrap()).unwrap()
}

#[test]
fn a_group_sums_in_shared_memory() {
    let kernel = kernel(include_str!("kernels/group.kir"));
    // Small whole numbers: every order of the sums is exact.
    let matrix: Vec<f32> = (0..60).map(|i| (i % 7) as f32).collect();
    let vector: Vec<f32> = (0..15).map(|i| (i % 5) as f32 - 1.0).collect();
    let expected: Vec<f32> =
        matrix.chunks(15).map(|row| row.iter().zip(&vector).map(|(a, b)| a * b).sum()).collect();
    let mut data = [
        Data::F32(matrix),
        Data::F32(vector),
        Data::F32(vec![f32::NAN; 4]),
        Data::F32(vec![0.0; 8]),
    ];
    run(&kernel, &mut data, 0..2).unwrap();
    assert_eq!(data[2], Data::F32(expected));
}

#[test]
fn a_group_as_opencl() {
    let source = emit(&kernel(include_str!("kernels/group.kir")), &Options::GPU).unwrap();
    assert_eq!((source.global, source.local), ([16, 1, 1], Some([8, 1, 1])));
    expect_test::expect_file!["opencl/group.cl"].assert_eq(&source.text);
}

#[test]
fn machine_code_has_no_groups() {
    let kernel = kernel(include_str!("kernels/group.kir"));
    let refused = clif::emit(&kernel, &Target::host().unwrap(), false).unwrap_err().to_string();
    assert!(refused.contains("groups of items"), "{refused}");
}

/// The race that the interpreter meets. The verifier must refuse the kernel just then.
fn race_in(text: &str) -> Option<(String, usize, String)> {
    let kernel = in_bounds(parse(text).unwrap()).unwrap();
    let met = met_in(&kernel);
    assert_eq!(verify(parse(text).unwrap()).is_err(), met.is_some(), "{text}");
    met
}

fn met_in(kernel: &InBounds) -> Option<(String, usize, String)> {
    let mut data: Vec<Data> = kernel.buffers.iter().map(|b| Data::zeros(b.dtype, b.len)).collect();
    match run(kernel, &mut data, 0..kernel.extent()) {
        Ok(()) => None,
        Err(InterpError::Race { buffer, element, instruction, .. }) => {
            Some((buffer, element, instruction))
        }
        Err(other) => panic!("{other}"),
    }
}

/// A kernel of two groups of four items around a body.
fn around(body: &str) -> String {
    format!(
        "kernel k {{
           buffer y: f32[64] readwrite
           buffer t: f32[8] shared
           parallel g in 0..2 items i in 0..4 {{
             v0:f32 = const 1.0
             {body}
           }}
         }}"
    )
}

#[test]
fn a_missing_barrier_is_found() {
    let body = |barrier: &str| {
        around(&format!(
            "store t[i], v0\n {barrier}\n v1:f32 = load t[3 - i]\n store y[4*g + i], v1"
        ))
    };
    assert_eq!(race_in(&body("barrier")), None);
    // Item 0 reads what item 3 has stored.
    let (buffer, element, instruction) = race_in(&body("")).unwrap();
    assert_eq!((buffer.as_str(), element), ("t", 3));
    assert!(instruction.contains("load t"), "{instruction}");
}

#[test]
fn a_store_after_others_have_read_is_found() {
    let body = |barrier: &str| {
        around(&format!(
            "store t[i], v0\n barrier\n v1:f32x4 = load t[0]\n {barrier}\n store t[i], v0"
        ))
    };
    assert_eq!(race_in(&body("barrier")), None);
    assert_eq!(race_in(&body("")).unwrap().0, "t");
}

#[test]
fn groups_and_items_that_store_the_same_are_found() {
    assert_eq!(race_in(&around("store y[4*g + i], v0")), None);
    assert_eq!(race_in(&around("store y[i], v0")).unwrap().1, 0);
    assert_eq!(race_in(&around("store y[4*g], v0")).unwrap().1, 0);
    // Conditions count: only one item stores.
    assert_eq!(race_in(&around("store y[8*g] if i < 1, v0")), None);
    // A barrier holds nothing apart in global memory: what other groups do is not known.
    assert_eq!(
        race_in(&around("store y[i] if g < 1, v0\n barrier\n v1:f32 = load y[i]")).unwrap().1,
        0
    );
}
