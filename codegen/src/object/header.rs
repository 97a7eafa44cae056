//! The C header of an object.

use super::check::{DAMAGED, NOT_WEIGHTS, OTHER_BUILD, WRONG_LENGTH};
use super::cpu::UNSUPPORTED_CPU;
use super::entry::{MISALIGNED, NULL_POINTER, OK};
use super::self_test::SELF_TEST_FAILED;
use super::{ALIGNMENT, ObjectOptions, workspace_bytes};
use alexc_runtime::container::HEADER_BYTES;
use alexc_runtime::program::Program;
use std::fmt::Write;

/// The header, for C89 and later and for C++, of the object that [`super::write`] makes.
pub fn header(program: &Program, options: &ObjectOptions<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_header(&mut text, program, options);
    text
}

fn write_header(
    f: &mut String,
    program: &Program,
    options: &ObjectOptions<'_>,
) -> std::fmt::Result {
    let name = &program.name;
    let upper = name.to_ascii_uppercase();
    writeln!(
        f,
        "/* {name}: a neural net compiled by alexc {version}.
 *
 * {name}_run computes {output} from {input}. The code is for {cpu}.
 */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>

#ifdef __cplusplus
extern \"C\" {{
#endif
",
        version = env!("CARGO_PKG_VERSION"),
        cpu = cpu(program),
        input = c_type(&program.input_dims),
        output = c_type(&program.output_dims),
    )?;
    tensor(f, &upper, "INPUT", &program.input_dims)?;
    tensor(f, &upper, "OUTPUT", &program.output_dims)?;
    writeln!(
        f,
        "/* Bytes of the workspace: activations and scratch of one call. Its contents mean nothing
 * between calls. */
#define {upper}_WORKSPACE_BYTES {workspace}

/* Bytes of the packed weights. */
#define {upper}_WEIGHTS_BYTES {weights}

/* In the file that alexc writes the packed weights begin at this byte. Where the file is mapped,
 * they are aligned as they must be. */
#define {upper}_WEIGHTS_FILE_OFFSET {HEADER_BYTES}
#define {upper}_WEIGHTS_FILE_BYTES {file}
{embedded}
/* Workspace and weights begin at a multiple of this many bytes. */
#define {upper}_ALIGNMENT {ALIGNMENT}

/* What {name}_run returns. */
#define {upper}_OK {OK}
#define {upper}_NULL_POINTER {NULL_POINTER}
#define {upper}_MISALIGNED {MISALIGNED}

/* What {name}_check_weights may also return: the file is no file of packed weights; it was built
 * for another net or by another build; it is shorter or longer than it was; its bits changed. */
#define {upper}_NOT_WEIGHTS {NOT_WEIGHTS}
#define {upper}_OTHER_BUILD {OTHER_BUILD}
#define {upper}_WRONG_LENGTH {WRONG_LENGTH}
#define {upper}_DAMAGED {DAMAGED}

/* Runs the net once on the calling thread.
 *
 * input      {upper}_INPUT_LEN floats, only read
 * output     {upper}_OUTPUT_LEN floats, written; must not overlap the input
 * workspace  {upper}_WORKSPACE_BYTES bytes, aligned to {upper}_ALIGNMENT{workspace_null}
 * weights    {upper}_WEIGHTS_BYTES bytes, aligned to {upper}_ALIGNMENT, only read{weights_null}
 *
 * Returns {upper}_OK, {upper}_NULL_POINTER, or {upper}_MISALIGNED for the workspace or
 * the weights; nothing is written unless it returns {upper}_OK. It allocates nothing and keeps
 * nothing: calls with a workspace and an output of their own may run at the same time. The
 * thread's floating-point settings (rounding, denormals) make no difference and are kept. */
int {name}_run(const float *input, float *output, void *workspace, const void *weights);

/* Whether this processor can run the code. Returns {upper}_OK or {upper}_UNSUPPORTED_CPU; then
 * {name}_run must not be called, as it would end the program. To ask once is enough. */
#define {upper}_UNSUPPORTED_CPU {UNSUPPORTED_CPU}
int {name}_check_cpu(void);

/* Reads a whole file of packed weights, all its bytes in memory from a multiple of
 * {upper}_ALIGNMENT on (as they are where it is mapped). Returns {upper}_OK where it is the one
 * that belongs to this library and nothing in it has changed. The weights for {name}_run begin
 * {upper}_WEIGHTS_FILE_OFFSET bytes after `file`. */
int {name}_check_weights(const void *file, size_t bytes);
{self_test}
#ifdef __cplusplus
}}
#endif

#endif",
        workspace = workspace_bytes(program),
        weights = program.weights_bytes,
        file = program.weights_bytes.saturating_add(HEADER_BYTES),
        embedded = match options.weights {
            Some(_) => embedded_weights(name, &upper, program),
            None => String::new(),
        },
        self_test = match options.self_test {
            Some(_) => self_test(name, &upper),
            None => String::new(),
        },
        workspace_null = null_note(workspace_bytes(program)),
        weights_null = null_note(program.weights_bytes),
    )
}

/// The self test's declaration.
fn self_test(name: &str, upper: &str) -> String {
    format!(
        "
/* Fills the input with numbers of its own, runs the net on them and compares the output with the
 * one that was computed when the net was compiled. Takes what {name}_run takes. Returns
 * {upper}_OK where they agree, {upper}_SELF_TEST_FAILED where they do not (other weights, a
 * faulty machine), or what {name}_run returns where it does not run. */
#define {upper}_SELF_TEST_FAILED {SELF_TEST_FAILED}
int {name}_self_test(float *input, float *output, void *workspace, const void *weights);
"
    )
}

/// The weights' declaration. An array of no elements is no C.
fn embedded_weights(name: &str, upper: &str, program: &Program) -> String {
    let len = if program.weights_bytes == 0 { "1" } else { &format!("{upper}_WEIGHTS_BYTES") };
    format!(
        "\n/* The packed weights, which lie in the library: for {name}_run as they are. */\n\
         extern const unsigned char {name}_weights[{len}];\n"
    )
}

fn cpu(program: &Program) -> String {
    let features: Vec<_> = program.features.iter().map(|feature| feature.name()).collect();
    match features.as_slice() {
        [] => format!("{} processors", program.arch.name()),
        _ => format!("{} processors with {}", program.arch.name(), features.join(", ")),
    }
}

fn null_note(bytes: usize) -> &'static str {
    if bytes == 0 { ", may be NULL" } else { "" }
}

/// The constants of the input or output.
fn tensor(f: &mut String, upper: &str, what: &str, dims: &[usize]) -> std::fmt::Result {
    let list: Vec<_> = dims.iter().map(ToString::to_string).collect();
    let axes = if dims.len() == 4 {
        "batch, channels, height, width; a row's pixels stand side by side"
    } else {
        "batch first, the last dimension's elements side by side"
    };
    writeln!(
        f,
        "/* {}: {}, dense ({axes}). */
#define {upper}_{what}_RANK {}
#define {upper}_{what}_DIMS {{{}}}
#define {upper}_{what}_LEN {}
",
        if what == "INPUT" { "The input" } else { "The output" },
        c_type(dims),
        dims.len(),
        list.join(", "),
        dims.iter().fold(1, |len: usize, &dim| len.saturating_mul(dim))
    )
}

fn c_type(dims: &[usize]) -> String {
    let dims: String = dims.iter().map(|dim| format!("[{dim}]")).collect();
    format!("float{dims}")
}
