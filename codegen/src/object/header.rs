//! The C header of an object.

use super::check::{DAMAGED, NOT_WEIGHTS, OTHER_BUILD, WRONG_LENGTH};
use super::entry::{BAD_THREADS, MISALIGNED, NULL_POINTER, OK, UNSUPPORTED_CPU};
use super::preprocess::{BAD_PICTURE, MOST_SHRINKING};
use super::self_test::SELF_TEST_FAILED;
use super::{ALIGNMENT, MAX_THREADS, Memory, ObjectOptions};
use alexc_runtime::container::HEADER_BYTES;
use alexc_runtime::preprocess::{Preprocess, Resize};
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
    let memory = Memory::of(program, options);
    writeln!(
        f,
        "/* {name}: a neural net compiled by alexc {version}.
 *
 * {name}_run computes {output} from {input}. The code is for {cpu}.{variants}
 */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>

#ifdef __cplusplus
extern \"C\" {{
#endif
",
        version = env!("CARGO_PKG_VERSION"),
        cpu = cpu(options.lesser.first().map_or(program, |lesser| lesser.program)),
        variants = variants(program, options),
        input = c_type(&program.input_dims),
        output = c_type(&program.output_dims),
    )?;
    tensor(f, &upper, "INPUT", &program.input_dims)?;
    tensor(f, &upper, "OUTPUT", &program.output_dims)?;
    let image: usize = program.input_dims.iter().skip(1).product();
    writeln!(
        f,
        "/* One image of the input: image i of a batch begins at i * {upper}_IMAGE_LEN. */"
    )?;
    writeln!(f, "#define {upper}_IMAGE_LEN {image}\n")?;
    writeln!(
        f,
        "/* Bytes of the workspace: activations and scratch of one call. Its contents mean nothing
 * between calls. */
#define {upper}_WORKSPACE_BYTES {workspace}

/* The same for {name}_run_parallel on up to so many threads. */
#define {upper}_PARALLEL_WORKSPACE_BYTES(threads) \\
    ((size_t){arena} + (size_t){stride} * (size_t)(threads))
#define {upper}_MAX_THREADS {MAX_THREADS}

/* Bytes of the packed weights. */
#define {upper}_WEIGHTS_BYTES {weights}

/* In the file that alexc writes the packed weights begin at this byte. Where the file is mapped,
 * they are aligned as they must be. */
#define {upper}_WEIGHTS_FILE_OFFSET {HEADER_BYTES}
#define {upper}_WEIGHTS_FILE_BYTES {file}
{embedded}
/* Workspace and weights begin at a multiple of this many bytes. */
#define {upper}_ALIGNMENT {ALIGNMENT}

/* What every function may return that returns a status. */
#define {upper}_OK {OK}
#define {upper}_NULL_POINTER {NULL_POINTER}
#define {upper}_MISALIGNED {MISALIGNED}
/* This processor lacks instructions that the code needs. */
#define {upper}_UNSUPPORTED_CPU {UNSUPPORTED_CPU}

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
 * Returns {upper}_OK; {upper}_NULL_POINTER; {upper}_MISALIGNED for the workspace or the
 * weights; or {upper}_UNSUPPORTED_CPU. Nothing is written unless it returns {upper}_OK. It
 * allocates nothing and keeps nothing: calls with a workspace and an output of their own may run
 * at the same time. The thread's floating-point settings (rounding, denormals) make no difference
 * and are kept. */
int {name}_run(const float *input, float *output, void *workspace, const void *weights);

/* Threads of your own can share the work of a run: {name}_run_parallel calls `parallel_for` again
 * and again, which shall call task(run, i) for every i from 0 to count - 1, in any order and on any
 * threads, and return when all these calls have returned. `context` is handed through. The bits of
 * the output are the same for any number of threads.
 *
 * workspace  {upper}_PARALLEL_WORKSPACE_BYTES(threads) bytes, aligned to {upper}_ALIGNMENT
 * threads    1 to {upper}_MAX_THREADS, the `count` of all calls; more than can run at the same
 *            time are no gain
 *
 * Returns what {name}_run returns, or {upper}_BAD_THREADS. */
#define {upper}_BAD_THREADS {BAD_THREADS}
typedef void (*{name}_task)(void *run, unsigned index);
typedef void (*{name}_parallel_for)(void *context, {name}_task task, void *run, unsigned count);
int {name}_run_parallel(const float *input, float *output, void *workspace, const void *weights,
                        {name}_parallel_for parallel_for, void *context, unsigned threads);

/* The code exists in {upper}_VARIANTS variants, for processors with more and more instructions:
 * {names}.
 * {name}_variant asks the processor and returns the number of the best one that it can run, from
 * 0 on, or -1 if there is none. {name}_run asks each time, which takes some hundred cycles, and
 * some microseconds in a virtual machine. Programs to which that matters ask once and call
 * {name}_run_variant, which returns {upper}_UNSUPPORTED_CPU for numbers of no variant; a variant
 * with a higher number than {name}_variant returned ends the program. */
#define {upper}_VARIANTS {count}
int {name}_variant(void);
int {name}_run_variant(int variant, const float *input, float *output, void *workspace,
                       const void *weights);

/* Whether this processor can run any variant: {upper}_OK or {upper}_UNSUPPORTED_CPU. */
int {name}_check_cpu(void);

/* Reads a whole file of packed weights, all its bytes in memory from a multiple of
 * {upper}_ALIGNMENT on (as they are where it is mapped). Returns {upper}_OK where it is the one
 * that belongs to this library and nothing in it has changed. The weights for {name}_run begin
 * {upper}_WEIGHTS_FILE_OFFSET bytes after `file`. */
int {name}_check_weights(const void *file, size_t bytes);

/* The same without reading the weights themselves: only the file's length and its header, which
 * says what they belong to. Enough where the file was checked as a whole before, or is trusted as
 * the program itself is; takes no time. */
int {name}_check_weights_header(const void *file, size_t bytes);

/* Name of a class, or NULL where there is none of this number. */
#define {upper}_LABELS {labels}
const char *{name}_label(int class_index);
{preprocess}{self_test}
#ifdef __cplusplus
}}
#endif

#endif",
        workspace = memory.workspace_bytes(),
        arena = memory.scratch_offset,
        stride = memory.thread_stride(),
        count = options.lesser.len() + 1,
        names = variant_names(program, options),
        labels = options.labels.len(),
        preprocess = match options.preprocess_of(program) {
            Some(preprocess) => preprocess_function(name, &upper, preprocess),
            None => String::new(),
        },
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
        workspace_null = null_note(memory.workspace_bytes()),
        weights_null = null_note(program.weights_bytes),
    )
}

/// What each variant needs, in a comment.
fn variants(program: &Program, options: &ObjectOptions<'_>) -> String {
    if options.lesser.is_empty() {
        return String::new();
    }
    let lines = options.variants(program).into_iter().enumerate().skip(1);
    let lines =
        lines.map(|(number, variant)| format!("\n * Variant {number}: {}.", cpu(variant.program)));
    lines.collect()
}

/// The levels of the variants.
fn variant_names(program: &Program, options: &ObjectOptions<'_>) -> String {
    let variants = options.variants(program);
    let names = variants.iter().enumerate().map(|(number, variant)| {
        let level = variant.target.level().map(|level| level.name());
        format!("{number} is {}", level.unwrap_or(variant.program.arch.name()))
    });
    names.collect::<Vec<_>>().join(", ")
}

/// The declaration of `NET_preprocess`.
fn preprocess_function(name: &str, upper: &str, preprocess: &Preprocess) -> String {
    let resize = match preprocess.resize {
        None => "not scaled".to_owned(),
        Some(Resize::Shorter(side)) => format!("scaled to a shorter side of {side}"),
        Some(Resize::Exact([height, width])) => format!("scaled to {height} x {width}"),
    };
    let crop = match preprocess.crop {
        None => String::new(),
        Some([height, width]) => format!(",\n * cut to {height} x {width} around its middle"),
    };
    format!(
        "
/* Makes one image of the input of a picture: {resize}{crop}, as {color},
 * then (x / 255 - mean) / std for each channel.
 *
 * rgb     height * width * 3 bytes: red, green and blue of each pixel, row after row, no gaps
 * input   {upper}_IMAGE_LEN floats, written
 *
 * Returns {upper}_OK; {upper}_NULL_POINTER; or {upper}_BAD_PICTURE where a side is less than 1 or
 * the picture more than {MOST_SHRINKING} times as large as what it is scaled to, or where it is not
 * cut and does not become as large as the input. */
#define {upper}_BAD_PICTURE {BAD_PICTURE}
int {name}_preprocess(const unsigned char *rgb, int height, int width, float *input);
",
        color = preprocess.color,
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
