//! OpenCL C as text: one kernel with everything as it should look, and for random kernels that
//! every name is declared once, in scope, before it is used. That the text computes the right
//! thing is tested where there is a device (`tests/opencl_kernels.rs` of the compiler).

mod common;

use alexc_codegen::ir::Kernel;
use alexc_codegen::opencl::{Arg, MultiplyAdd, Options, Source, Warps, emit, prelude};
use alexc_codegen::text::parse;
use alexc_codegen::verify::verify;
use expect_test::expect_file;
use proptest::prelude::*;
use std::collections::HashMap;

fn source(kernel: Kernel, options: &Options) -> Source {
    emit(&verify(kernel).unwrap(), options).unwrap()
}

#[test]
fn every_instruction() {
    let kernel = parse(include_str!("kernels/every_instruction.kir")).unwrap();
    let source = source(kernel, &Options::CPU);
    expect_file!["opencl/every_instruction.cl"].assert_eq(&source.text);
    assert_eq!(source.kernel_name, "alexc_every");
    assert_eq!((source.global, source.local), ([4, 1, 1], Some([1, 1, 1])));
    assert_eq!(source.scratch_bytes, 0);
    let pairs = (0..6).flat_map(|buffer| [Arg::Base(buffer), Arg::First(buffer)]);
    assert_eq!(source.args, pairs.collect::<Vec<_>>());
}

#[test]
fn scratch_that_is_too_large_for_private_memory_is_sliced() {
    let text = "kernel k {
        buffer y: f32[30] write
        buffer t: f32[20] local
        buffer u: f32[8] local
        parallel i in 0..3, j in 0..10 {
          v0:f32 = const 1.5
          store t[19], v0
          store u[7], v0
          store y[10*i + j], v0
        }
      }";
    let options = Options {
        private_bytes: 100,
        work_group: 8,
        multiply_add: MultiplyAdd::Any,
        aligned: false,
        warps: Warps::Ptx,
    };
    let source = source(parse(text).unwrap(), &options);
    // 20 floats take two lines of 64 bytes, 8 take one.
    assert_eq!(source.scratch_bytes, 192);
    assert_eq!((source.global, source.local), ([32, 1, 1], Some([8, 1, 1])));
    assert_eq!(source.args, [Arg::Base(0), Arg::First(0), Arg::Scratch]);
    expect_test::expect![[r#"
        kernel __attribute__((reqd_work_group_size(8, 1, 1)))
        void alexc_k(
            global float *y_base, ulong y_first,  // f32[30] write
            global float *scratch) {  // local
          global float *y = y_base + y_first;
          global float *t = scratch + get_global_id(0) * 48 + 0;
          global float *u = scratch + get_global_id(0) * 48 + 32;
          for (int item = (int)get_global_id(0); item < 30; item += (int)get_global_size(0)) {
            int i = (uint)item / 10;
            int j = (uint)item % 10;
            float v0 = 1.5f;
            t[19] = v0;
            u[7] = v0;
            y[10 * i + j] = v0;
          }
        }
    "#]]
    .assert_eq(&source.text);
}

#[test]
fn items_beyond_the_iterations_do_nothing() {
    let text = "kernel k {
        buffer y: f32[3000000000] write
        parallel i in 0..3000 {
          v0:f32x4 = const nan(0xff800001)
          store y[1000000*i], v0
        }
      }";
    let source = source(parse(text).unwrap(), &Options::GPU);
    assert_eq!(source.global, [3008, 1, 1]);
    assert!(source.text.contains("  long item = (long)get_global_id(0);\n"), "{}", source.text);
    assert!(source.text.contains("  if (item >= 3000) return;\n"), "{}", source.text);
    assert!(source.text.contains("float4 v0 = (float4)(as_float(0xff800001u));"));
}

/// Checks declarations and uses, line by line; gives the text's registers with their types.
fn check_scopes(text: &str) -> Result<HashMap<String, String>, String> {
    let mut scopes: Vec<HashMap<String, String>> = vec![HashMap::new()];
    let mut registers = HashMap::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        if code == "}" {
            scopes.pop();
            continue;
        }
        if code.ends_with('{') {
            scopes.push(HashMap::new());
        }
        let words: Vec<&str> =
            code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let is_register = |word: &str| {
            word.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.parse::<u32>().is_ok())
        };
        let declares = words.first().is_some_and(|word| word.starts_with("float"))
            && words.get(1).is_some_and(|word| is_register(word));
        let listed = declares && !code.contains('=');
        for (position, word) in words.iter().enumerate().filter(|(_, word)| is_register(word)) {
            let known = scopes.iter().any(|scope| scope.contains_key(*word));
            if declares && (listed || position == 1) {
                if known || registers.contains_key(*word) {
                    return Err(format!("{word} is declared twice: {code}"));
                }
                registers.insert((*word).to_owned(), words[0].to_owned());
                if let Some(scope) = scopes.last_mut() {
                    scope.insert((*word).to_owned(), words[0].to_owned());
                }
            } else if !known {
                return Err(format!("{word} is used out of scope: {code}"));
            }
        }
    }
    if scopes.len() == 1 { Ok(registers) } else { Err("blocks do not close".to_owned()) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn names_are_declared_once_and_in_scope(kernel in common::kernels(), group in 1..100_usize) {
        let options = Options { work_group: group, private_bytes: 300, ..Options::CPU };
        let source = source(kernel.clone(), &options);
        let registers = check_scopes(&source.text)
            .map_err(|what| TestCaseError::fail(format!("{what}\n{}", source.text)))?;
        for (name, dtype) in registers {
            let lanes = kernel.regs[name[1..].parse::<usize>().unwrap()];
            let expected = if lanes == 1 { "float".to_owned() } else { format!("float{lanes}") };
            prop_assert_eq!(dtype, expected);
        }
        prop_assert!(source.global[0] as u64 >= kernel.extent());
        prop_assert!(source.global[0].is_multiple_of(group));
    }
}

#[test]
fn the_prelude_stands_by_itself() {
    assert!(prelude(&[]).lines().all(|line| !line.contains("kernel")));
    assert_eq!(prelude(&[]).matches('{').count(), prelude(&[]).matches('}').count());
}
