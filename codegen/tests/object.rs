//! Objects, linked by the C compiler and run.

use alexc_codegen::clif;
use alexc_codegen::object::{self, ObjectOptions};
use alexc_codegen::target::Target;
use alexc_codegen::text::parse;
use alexc_codegen::verify::verify;
use alexc_runtime::cpu::{Arch, Feature};
use alexc_runtime::program::{Base, Binding, KernelCode, Program, Step};
use std::path::Path;
use std::process::Command;

/// squares: arena[i] = x[i]^2, 4 at a time.
const SQUARES: &str = "kernel squares {
  buffer x: f32[8] read
  buffer y: f32[8] write
  parallel half in 0..2 {
    v0:f32x4 = load x[4*half]
    v1:f32x4 = mul v0, v0
    store y[4*half], v1
  }
}";

/// out[j] = sum of arena[i] * w[j][i], the products kept in scratch.
const SUMS: &str = "kernel sums {
  buffer x: f32[8] read
  buffer w: f32[24] read
  buffer t: f32[8] local
  buffer y: f32[3] write
  parallel j in 0..3 {
    for i in 0..8 {
      v0:f32 = load x[i]
      v1:f32 = load w[8*j + i]
      v2:f32 = mul v0, v1
      store t[i], v2
    }
    v3:f32x8 = load t[0]
    v4:f32 = reduce_add v3
    store y[j], v4
  }
}";

fn code(text: &str, target: &Target) -> KernelCode {
    let kernel = verify(parse(text).unwrap()).unwrap();
    clif::emit(&kernel, target, false).unwrap().code
}

fn binding(base: Base, offset_bytes: usize, len_bytes: usize, writes: bool) -> Binding {
    Binding { base, offset_bytes, len_bytes, writes }
}

/// x -> squares -> (the same squares again, elsewhere in the arena) -> sums.
fn program(target: &Target) -> Program {
    let step = |name: &str, kernel, extent, params| Step {
        name: name.to_owned(),
        kernel,
        extent,
        barrier: true,
        params,
    };
    Program {
        name: "tiny_net".to_owned(),
        arch: Arch::host().unwrap(),
        features: vec![Feature::Sse41, Feature::Sse42],
        kernels: vec![code(SQUARES, target), code(SUMS, target)],
        steps: vec![
            step(
                "square",
                0,
                2,
                vec![binding(Base::Input, 0, 32, false), binding(Base::Arena, 64, 32, true)],
            ),
            step(
                "square_again",
                0,
                2,
                vec![binding(Base::Arena, 64, 32, false), binding(Base::Arena, 0, 32, true)],
            ),
            step(
                "sum",
                1,
                3,
                vec![
                    binding(Base::Arena, 0, 32, false),
                    binding(Base::Weights, 64, 96, false),
                    binding(Base::Local, 32, 32, true),
                    binding(Base::Output, 0, 12, true),
                ],
            ),
        ],
        input_dims: vec![1, 2, 2, 2],
        output_dims: vec![1, 3],
        arena_bytes: 100,
        weights_bytes: 160,
        local_bytes: 64,
        weights_key: 5,
    }
}

/// Prints the outputs exactly, and refuses to go on when a status is not the expected one.
const MAIN: &str = r#"
#include "tiny_net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <xmmintrin.h>
#endif

static void expect(int status, int expected, int line) {
    if (status != expected) {
        fprintf(stderr, "line %d: status %d, not %d\n", line, status, expected);
        exit(1);
    }
}

int main(int count, char **args) {
    static const int dims[TINY_NET_INPUT_RANK] = TINY_NET_INPUT_DIMS;
    static float input[TINY_NET_INPUT_LEN] = {1, -2, 3, -4, 0.5, 0, 1, 2};
    static float output[TINY_NET_OUTPUT_LEN + 1];
    static char memory[TINY_NET_WORKSPACE_BYTES + TINY_NET_WEIGHTS_BYTES + 4 * TINY_NET_ALIGNMENT];
    char *workspace = memory + (TINY_NET_ALIGNMENT - (size_t)memory % TINY_NET_ALIGNMENT);
    char *end = workspace + TINY_NET_WORKSPACE_BYTES;
    char *weights = end + TINY_NET_ALIGNMENT - (size_t)end % TINY_NET_ALIGNMENT;
    FILE *file = count == 2 ? fopen(args[1], "rb") : NULL;
    int i;

    if (!file || fread(weights, 1, TINY_NET_WEIGHTS_BYTES, file) != TINY_NET_WEIGHTS_BYTES)
        return 1;
    fclose(file);
    if (dims[0] * dims[1] * dims[2] * dims[3] != TINY_NET_INPUT_LEN)
        return 1;
    memset(workspace, 0xff, TINY_NET_WORKSPACE_BYTES);
    memset(end, 0x55, weights - end);
    output[TINY_NET_OUTPUT_LEN] = -7;

    expect(tiny_net_run(NULL, output, workspace, weights), TINY_NET_NULL_POINTER, __LINE__);
    expect(tiny_net_run(input, NULL, workspace, weights), TINY_NET_NULL_POINTER, __LINE__);
    expect(tiny_net_run(input, output, NULL, weights), TINY_NET_NULL_POINTER, __LINE__);
    expect(tiny_net_run(input, output, workspace, NULL), TINY_NET_NULL_POINTER, __LINE__);
    expect(tiny_net_run(input, output, workspace + 4, weights), TINY_NET_MISALIGNED, __LINE__);
    expect(tiny_net_run(input, output, workspace, weights + 32), TINY_NET_MISALIGNED, __LINE__);
    for (i = 0; i < TINY_NET_OUTPUT_LEN; i++)
        if (output[i] != 0)
            return 1;

    expect(tiny_net_run(input, output, workspace, weights), TINY_NET_OK, __LINE__);
    for (i = 0; i < (int)(weights - end); i++)
        if (end[i] != 0x55)
            return 1;
    for (i = 0; i <= TINY_NET_OUTPUT_LEN; i++)
        printf("%.9g\n", output[i]);

#ifdef __x86_64__
    /* Inexact sums, and 5 * 2^-140: the same bits where the thread rounds up and flushes
     * denormals to zero. */
    for (i = 0; i < 2; i++) {
        static float other[TINY_NET_OUTPUT_LEN];
        unsigned usual = _mm_getcsr() & ~_MM_EXCEPT_MASK;
        unsigned unusual = usual | _MM_FLUSH_ZERO_ON | _MM_ROUND_UP;
        memset(input, 0, sizeof input);
        if (i == 0) {
            input[1] = 1.1f;
            input[2] = 1.3f;
            input[3] = 1.7f;
        } else {
            input[5] = 1.0f / 1024 / 1024 / 1024 / 32;
        }
        expect(tiny_net_run(input, output, workspace, weights), TINY_NET_OK, __LINE__);
        _mm_setcsr(unusual);
        expect(tiny_net_run(input, other, workspace, weights), TINY_NET_OK, __LINE__);
        if ((_mm_getcsr() & ~_MM_EXCEPT_MASK) != unusual)
            return 1;
        _mm_setcsr(usual);
        if (output[0] == 0 || memcmp(output, other, sizeof other))
            return 1;
    }
#endif
    return 0;
}
"#;

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    assert_eq!(errors, "", "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_c_program_links_and_runs_the_object() {
    let target = Target::host().unwrap();
    let program = program(&target);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let options = ObjectOptions::new(target);
    write(folder, "tiny_net.o", object::write(&program, &options).unwrap());
    write(folder, "tiny_net.h", object::header(&program, &options));
    write(folder, "main.c", MAIN);
    // 64 bytes that nothing reads, then w[j][i] = i + j.
    let weights = [f32::NAN; 16]
        .into_iter()
        .chain((0_u8..24).map(|at| f32::from(at % 8 + at / 8)))
        .flat_map(f32::to_ne_bytes);
    write(folder, "weights.bin", weights.collect::<Vec<_>>());

    let cc = || {
        let mut command = Command::new("cc");
        command.current_dir(folder);
        command
    };
    run(cc().args(["-std=c89", "-pedantic", "-Wall", "-Wextra", "-Werror", "-c", "main.c"]));
    run(cc().args(["-o", "main", "main.o", "tiny_net.o"]));
    let printed = run(Command::new(folder.join("main")).current_dir(folder).arg("weights.bin"));
    let printed: Vec<f64> = printed.lines().map(|line| line.parse().unwrap()).collect();

    // Fourth powers 1, 16, 81, 256, 1/16, 0, 1, 16: weighted by their index, and their sum.
    let first = 16.0 + 2.0 * 81.0 + 3.0 * 256.0 + 4.0 / 16.0 + 6.0 + 7.0 * 16.0;
    let sum = 371.0625;
    assert_eq!(printed, [first, first + sum, first + 2.0 * sum, -7.0]);
}

#[test]
fn the_object_needs_nothing_and_keeps_its_kernels_to_itself() {
    let target = Target::host().unwrap();
    let bytes = object::write(&program(&target), &ObjectOptions::new(target)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "net.o", bytes);
    let mut nm = Command::new("nm");
    nm.current_dir(folder.path()).args(["-f", "posix", "net.o"]);
    let symbols: Vec<(String, String)> = run(&mut nm)
        .lines()
        .map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            (words.next().unwrap_or_default(), words.next().unwrap_or_default())
        })
        .collect();
    let expected = [
        ("tiny_net_check_cpu", "T"),
        ("tiny_net_check_weights", "T"),
        ("tiny_net_check_weights_header", "T"),
        ("tiny_net_kernel_squares", "t"),
        ("tiny_net_kernel_sums", "t"),
        ("tiny_net_label", "T"),
        ("tiny_net_labels", "r"),
        ("tiny_net_load_float_settings", "t"),
        ("tiny_net_run", "T"),
        ("tiny_net_run_parallel", "T"),
        ("tiny_net_run_variant", "T"),
        ("tiny_net_save_float_settings", "t"),
        ("tiny_net_share_0", "t"),
        ("tiny_net_share_1", "t"),
        ("tiny_net_share_2", "t"),
        ("tiny_net_variant", "T"),
        ("tiny_net_xxh64", "t"),
    ]
    .into_iter()
    .filter(|(name, _)| Arch::host() != Some(Arch::Riscv64) || !name.ends_with("settings"))
    .map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(symbols, expected.collect::<Vec<_>>());
}

#[test]
fn the_object_holds_the_very_code_of_the_kernels() {
    let target = Target::host().unwrap();
    let program = program(&target);
    let bytes = object::write(&program, &ObjectOptions::new(target)).unwrap();
    for kernel in &program.kernels {
        let found = bytes.windows(kernel.bytes.len()).any(|window| window == kernel.bytes);
        assert!(found, "{}", kernel.name);
    }
}

#[test]
fn the_same_program_gives_the_same_bytes() {
    let once = || {
        let target = Target::host().unwrap();
        object::write(&program(&target), &ObjectOptions::new(target)).unwrap()
    };
    assert!(once() == once());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn other_systems_get_their_formats() {
    for (triple, magic) in [
        ("x86_64-unknown-linux-gnu", &b"\x7fELF"[..]),
        ("x86_64-pc-windows-msvc", &0x8664_u16.to_le_bytes()),
        ("x86_64-apple-darwin", &0xfeed_facf_u32.to_le_bytes()),
    ] {
        let target = Target::new(Some(triple), "generic").unwrap();
        let bytes = object::write(&program(&target), &ObjectOptions::new(target)).unwrap();
        assert_eq!(&bytes[..magic.len()], magic, "{triple}");
    }
}

#[test]
fn programs_that_contradict_themselves_are_refused() {
    let target = Target::host().unwrap();
    let message = |spoil: &dyn Fn(&mut Program)| {
        let mut program = program(&target);
        spoil(&mut program);
        let options = ObjectOptions::new(target.clone());
        object::write(&program, &options).unwrap_err().to_string()
    };
    assert_eq!(
        message(&|p| p.steps[1].kernel = 2),
        "step 1 (`square_again`) calls kernel number 2 of 2"
    );
    let other = if Arch::host() == Some(Arch::Aarch64) { Arch::X86_64 } else { Arch::Aarch64 };
    let text = message(&|p| p.arch = other);
    let expected = format!("code for {other} cannot go into an object for ");
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn blocks_of_no_bytes_may_be_null_and_the_header_says_so() {
    let target = Target::host().unwrap();
    let mut program = program(&target);
    assert!(!object::header(&program, &ObjectOptions::new(target.clone())).contains("may be NULL"));
    program.weights_bytes = 0;
    assert!(object::header(&program, &ObjectOptions::new(target.clone())).contains(
        " * weights    TINY_NET_WEIGHTS_BYTES bytes, aligned to TINY_NET_ALIGNMENT, only read, \
         may be NULL\n"
    ));
    // 100 bytes of arena, up to the next multiple of 64, then the scratch.
    assert!(
        object::header(&program, &ObjectOptions::new(target.clone()))
            .contains("#define TINY_NET_WORKSPACE_BYTES 192\n")
    );
}
