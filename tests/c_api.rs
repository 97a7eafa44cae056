//! The C and C++ interface of a library: variants, an app's threads, pictures, labels, and how it
//! treats memory and files.

mod common;

use common::artifact::{
    WEIGHTS, build, classifier, digits_program, floats, ppm, prepared, there, undefined,
};
use common::command::{failure, stdout};
use common::golden::path;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs every variant that the processor can, or is told to; writes the outputs one after another.
const VARIANTS: &str = r#"
#include "digits.h"
#include <stdio.h>
#include <stdlib.h>
static float input[DIGITS_INPUT_LEN], output[DIGITS_OUTPUT_LEN];
int main(int count, char **arguments) {
    int variant, best = digits_variant();
    void *workspace = aligned_alloc(DIGITS_ALIGNMENT, DIGITS_WORKSPACE_BYTES);
    FILE *in = fopen(arguments[1], "rb"), *out = fopen(arguments[2], "wb");
    if (count != 3 || !in || !out || fread(input, 4, DIGITS_INPUT_LEN, in) != DIGITS_INPUT_LEN)
        return 1;
    printf("%d of %d, run %d, check %d, none %d %d\n", best, DIGITS_VARIANTS,
           digits_run(input, output, workspace, digits_weights), digits_check_cpu(),
           digits_run_variant(-1, input, output, workspace, digits_weights),
           digits_run_variant(DIGITS_VARIANTS, input, output, workspace, digits_weights));
    for (variant = 0; variant <= best; variant++) {
        if (digits_run_variant(variant, input, output, workspace, digits_weights) != DIGITS_OK)
            return 2;
        fwrite(output, 4, DIGITS_OUTPUT_LEN, out);
    }
    return fclose(in) || fclose(out);
}
"#;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn variants_share_weights_and_answer_alike() {
    let folder = tempfile::tempdir().unwrap();
    let [all, again, alone] = ["all", "again", "alone"].map(|name| folder.path().join(name));
    let [input, output] = ["input.f32", "output.f32"].map(|name| folder.path().join(name));
    fs::write(&input, prepared("specs/digits/four.png")).unwrap();
    let embedded = [&["--embed-weights", "--target-cpu"], &WEIGHTS[..]].concat();
    let embedded = |cpus| {
        let (first, rest) = (&embedded[..2], &embedded[2..]);
        [first, &[cpus], rest].concat()
    };
    let levels = ["x86-64-v2", "x86-64-v3", "x86-64-v4"];
    // Whatever the order, and however often.
    build("digits", &all, &embedded("x86-64-v3,x86-64-v4,x86-64-v2,x86-64-v3"));
    build("digits", &again, &embedded("x86-64-v2,x86-64-v3,x86-64-v4"));
    for name in ["libdigits.a", "digits.h", "digits.hpp", "digits.json"] {
        let [one, other] = [&all, &again].map(|folder| fs::read(folder.join(name)).unwrap());
        assert!(one == other, "{name}");
    }
    assert_eq!(undefined(&all.join("libdigits.a")), [""; 0]);
    let manifest = fs::read_to_string(all.join("digits.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["target"]["level"], "x86-64-v2");
    let variants = manifest["target"]["variants"].as_array().unwrap();
    assert!(variants.iter().map(|variant| variant["level"].as_str().unwrap()).eq(levels));

    let program = digits_program(&all, VARIANTS, &[]);
    let best = alexc_runtime::cpu::Cpu::detect().level().unwrap();
    let best = levels.iter().position(|level| *level == best.name()).unwrap();
    let printed = stdout(Command::new(&program).args([&input, &output]));
    assert_eq!(printed, format!("{best} of 3, run 0, check 0, none 8 8\n"));
    let found = fs::read(&output).unwrap();
    assert_eq!(found.len(), 40 * (best + 1));

    // Each gives the bits that a library of its own gives.
    for (number, level) in levels.iter().enumerate().take(best + 1) {
        build("digits", &alone, &embedded(level));
        let program = digits_program(&alone, VARIANTS, &[]);
        stdout(Command::new(program).args([&input, &output]));
        let of_variant = &found[40 * number..40 * (number + 1)];
        assert_eq!(of_variant, fs::read(&output).unwrap(), "{level}");
        for (x, y) in floats(of_variant).into_iter().zip(floats(&found[..40])) {
            assert!((x - y).abs() <= 2e-6, "{level}: {x} {y}");
        }
    }

    // Processors with less, the first with too little.
    if there("qemu-x86_64", "qemu-user") {
        for (model, best) in [("Conroe", -1), ("Nehalem", 0), ("Haswell", 1)] {
            let mut qemu = Command::new("qemu-x86_64");
            let qemu = qemu.args(["-cpu", model]).arg(&program).args([&input, &output]).output();
            let status = if best < 0 { 8 } else { 0 };
            let expected = format!("{best} of 3, run {status}, check {status}, none 8 8\n");
            assert_eq!(String::from_utf8(qemu.unwrap().stdout).unwrap(), expected, "{model}");
            let bytes = 40 * usize::try_from(best + 1).unwrap();
            // qemu's x87 and SSE arithmetic is that of the processor.
            assert_eq!(fs::read(&output).unwrap(), found[..bytes], "{model}");
        }
    }
}

#[test]
fn one_file_of_weights_fits_every_target() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |name: &str, flags: &[&str]| {
        let folder = folder.path().join(name);
        build("digits", &folder, &[&["--emit", "weights"], flags, &WEIGHTS].concat());
        fs::read(folder.join("digits.weights")).unwrap()
    };
    let x86 = ["--target", "x86_64-unknown-linux-gnu"];
    let arm = weights("arm", &["--target", "aarch64-unknown-linux-gnu"]);
    for cpus in ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v2,x86-64-v4"] {
        assert!(weights(cpus, &[&x86[..], &["--target-cpu", cpus]].concat()) == arm, "{cpus}");
    }
}

/// Else no object would be made of the three.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn every_net_packs_its_weights_alike_for_every_level() {
    let folder = tempfile::tempdir().unwrap();
    let cpus = "x86-64-v2,x86-64-v3,x86-64-v4";
    let target = ["--target", "x86_64-unknown-linux-gnu", "--target-cpu", cpus];
    let mut count = 0;
    for entry in fs::read_dir(path("specs")).unwrap() {
        let spec = entry.unwrap().path();
        if spec.extension().is_some_and(|extension| extension == "yaml") {
            let name = spec.file_stem().unwrap().to_str().unwrap();
            build(name, folder.path(), &[&["--emit", "object,manifest"], &target[..]].concat());
            count += 1;
        }
    }
    assert!(count >= 10);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let object = entry.unwrap().path();
        if object.extension().is_some_and(|extension| extension == "o") {
            assert_eq!(undefined(&object), [""; 0], "{}", object.display());
            count -= 1;
        }
    }
    assert_eq!(count, 0);
}

#[test]
fn lists_of_cpus_that_cannot_be() {
    let refused = |flags: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = common::command::alexc();
        command.args(["build", "specs/digits.yaml", "-o"]).arg(folder.path()).args(flags);
        failure(&mut command)
    };
    let x86 = "x86_64-unknown-linux-gnu";
    let (code, message) =
        refused(&["--target", "aarch64-unknown-linux-gnu", "--target-cpu", "generic,generic"]);
    assert!(code == 2 && message.contains("x86-64 only"), "{message}");
    let (code, message) = refused(&["--target", x86, "--target-cpu", "x86-64-v3,pentium"]);
    assert!(code == 2 && message.contains("`pentium` is no CPU"), "{message}");
    let several = ["--target", x86, "--target-cpu", "x86-64-v2,x86-64-v3", "--emit", "module"];
    let (code, message) = refused(&several);
    assert!(code == 2 && message.contains("a module holds the code for one CPU"), "{message}");
}

/// Threads that run for every call anew, and two ways to call tasks one after another.
const PARALLEL: &str = r#"
#include "digits.h"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float input[DIGITS_INPUT_LEN], alone[DIGITS_OUTPUT_LEN], output[DIGITS_OUTPUT_LEN];
static int calls;

struct job { digits_task task; void *run; unsigned index; };
static void *work(void *job) {
    struct job *j = job;
    j->task(j->run, j->index);
    return NULL;
}
static void on_threads(void *context, digits_task task, void *run, unsigned count) {
    pthread_t threads[64];
    struct job jobs[64];
    unsigned i;
    *(int *)context += 1;
    for (i = 0; i < count; i++) {
        jobs[i].task = task, jobs[i].run = run, jobs[i].index = i;
        if (pthread_create(&threads[i], NULL, work, &jobs[i]) != 0)
            abort();
    }
    for (i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}
static void forwards(void *context, digits_task task, void *run, unsigned count) {
    unsigned i;
    *(int *)context += 1;
    for (i = 0; i < count; i++)
        task(run, i);
}
static void backwards(void *context, digits_task task, void *run, unsigned count) {
    *(int *)context += 1;
    while (count-- > 0)
        task(run, count);
}

int main(int count, char **arguments) {
    static const unsigned numbers[] = {1, 2, 3, 7, 8, 64};
    static const digits_parallel_for ways[] = {on_threads, forwards, backwards};
    void *workspace = aligned_alloc(DIGITS_ALIGNMENT, DIGITS_WORKSPACE_BYTES);
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    size_t i, way;
    if (!file || fread(input, sizeof(float), DIGITS_INPUT_LEN, file) != DIGITS_INPUT_LEN)
        return 1;
    fclose(file);
    if (digits_run(input, alone, workspace, digits_weights) != DIGITS_OK)
        return 2;
    printf("%d %d %d %d\n",
           digits_run_parallel(input, output, workspace, digits_weights, NULL, &calls, 1),
           digits_run_parallel(input, output, workspace, digits_weights, forwards, &calls, 0),
           digits_run_parallel(input, output, workspace, digits_weights, forwards, &calls,
                               DIGITS_MAX_THREADS + 1),
           digits_run_parallel(input, output, NULL, digits_weights, forwards, &calls, 1));
    free(workspace);
    if (calls != 0)
        return 3;
    for (way = 0; way < 3; way++)
        for (i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            unsigned threads = numbers[i];
            workspace = aligned_alloc(DIGITS_ALIGNMENT, DIGITS_PARALLEL_WORKSPACE_BYTES(threads));
            memset(workspace, 0xff, DIGITS_PARALLEL_WORKSPACE_BYTES(threads));
            memset(output, 0xff, sizeof output);
            if (digits_run_parallel(input, output, workspace, digits_weights, ways[way], &calls,
                                    threads) != DIGITS_OK)
                return 4;
            free(workspace);
            if (memcmp(output, alone, sizeof alone) != 0)
                return 5;
        }
    printf("%d\n", calls > 0 && calls % 18 == 0);
    return 0;
}
"#;

/// The same bits on any number of threads; the sanitizers watch the memory around.
#[test]
fn threads_of_the_app_share_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("input.f32"), prepared("specs/digits/six.png")).unwrap();
    build("digits", folder, &[&["--embed-weights"], &WEIGHTS[..]].concat());
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let program = digits_program(folder, PARALLEL, &sanitizers);
    let printed = stdout(Command::new(program).arg(folder.join("input.f32")));
    assert_eq!(printed, "1 9 9 1\n1\n");

    // No share of a stage reads what another one writes. valgrind knows no AVX-512.
    if there("valgrind", "valgrind") && cfg!(target_arch = "x86_64") {
        let cpu = narrower_cpu();
        build(
            "digits",
            folder,
            &[&["--embed-weights", "--target-cpu", cpu], &WEIGHTS[..]].concat(),
        );
        let few = PARALLEL.replace("{1, 2, 3, 7, 8, 64}", "{2, 5}");
        let program = digits_program(folder, &few.replace("% 18", "% 6"), &[]);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=helgrind", "--quiet", "--error-exitcode=9"]).arg(program);
        assert_eq!(stdout(valgrind.arg(folder.join("input.f32"))), "1 9 9 1\n1\n");
    }
}

/// At most AVX2, and no more than this machine has.
fn narrower_cpu() -> &'static str {
    match alexc_runtime::cpu::Cpu::detect().level() {
        Some(level) if level >= alexc_runtime::cpu::Level::V3 => "x86-64-v3",
        _ => "generic",
    }
}

#[test]
fn the_c_example_under_the_address_sanitizer_and_valgrind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // valgrind knows no AVX-512.
    let cpu = narrower_cpu();
    build("digits", folder, &[&["--target-cpu", cpu], &WEIGHTS[..]].concat());
    let example = path("examples/c/classify.c");
    let picture = folder.join("picture.ppm");
    fs::write(&picture, ppm("specs/digits/eight.png")).unwrap();
    let run =
        |command: &mut Command| stdout(command.arg(folder.join("digits.weights")).arg(&picture));
    let mut cc = Command::new("cc");
    cc.current_dir(folder).args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-g", "-I."]);
    cc.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]).arg(example);
    stdout(cc.args(["libdigits.a", "-o", "sanitized"]));
    let printed = run(&mut Command::new(folder.join("sanitized")));
    assert!(printed.starts_with("8 eight "), "{printed}");

    if there("valgrind", "valgrind") {
        let program = classifier("cc", folder);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--error-exitcode=9", "--leak-check=full"]).arg(program);
        assert_eq!(run(&mut valgrind), printed);
    }
}

/// Changes bits, cuts, lengthens. The file ends at a page that cannot be read.
const MUTATIONS: &str = r#"
#include "digits.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
static unsigned long long state = 1;
static size_t below(size_t end) {
    state = state * 6364136223846793005ull + 1;
    return (size_t)(state >> 33) % end;
}
int main(int count, char **arguments) {
    enum { BYTES = DIGITS_WEIGHTS_FILE_BYTES, ROOM = (BYTES / 4096 + 2) * 4096 };
    static unsigned char whole[BYTES];
    int counts[16] = {0}, turn, i;
    char *memory = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fread(whole, 1, BYTES, file) != BYTES || memory == MAP_FAILED
        || mprotect(memory + ROOM, 4096, PROT_NONE) != 0)
        return 1;
    for (turn = 0; turn < 10000; turn++) {
        /* Mostly where a mistake would be worst: in the header. */
        size_t reach = below(2) ? DIGITS_WEIGHTS_FILE_OFFSET : BYTES, length = BYTES;
        int kind = (int)below(6), status, quick;
        char *copy;
        if (kind == 0)
            length = below(reach);
        if (kind == 1)
            length += 1 + below(64);
        copy = memory + (ROOM - length) / 64 * 64;
        memcpy(copy, whole, length < BYTES ? length : BYTES);
        if (length > BYTES)
            memset(copy + BYTES, (int)below(256), length - BYTES);
        for (i = (int)below(3); kind > 1 && i >= 0; i--) {
            size_t at = below(reach);
            unsigned char old = (unsigned char)copy[at];
            copy[at] = (char)(kind == 2 ? old ^ (1 << below(8)) : kind == 3 ? ~old : kind == 4 ? 0 : old + 1);
        }
        status = digits_check_weights(copy, length);
        quick = digits_check_weights_header(copy, length);
        if (status < 0 || status > 15 || (quick != DIGITS_OK && quick != status))
            return 2;
        if ((status == DIGITS_OK) != (length == BYTES && memcmp(copy, whole, BYTES) == 0))
            return 3;
        counts[status]++;
    }
    printf("%d %d %d %d\n", counts[DIGITS_NOT_WEIGHTS] > 100, counts[DIGITS_OTHER_BUILD] > 100,
           counts[DIGITS_WRONG_LENGTH] > 100, counts[DIGITS_DAMAGED] > 100);
    return 0;
}
"#;

#[cfg(unix)]
#[test]
fn ten_thousand_damaged_files_of_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    build("digits", folder, &WEIGHTS);
    let program = digits_program(folder, MUTATIONS, &["-O1"]);
    let printed = stdout(Command::new(program).arg(folder.join("digits.weights")));
    assert_eq!(printed, "1 1 1 1\n");
}

fn cpp(folder: &Path, source: &Path) -> std::path::PathBuf {
    let program = folder.join("cpp");
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pthread"]);
    compiler.arg("-I").arg(folder).arg(source).arg(folder.join("libdigits.a"));
    stdout(compiler.arg("-o").arg(&program));
    program
}

#[test]
fn a_cpp_program_classifies_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !there("c++", "g++") {
        return;
    }
    build("digits", folder, &[&["--embed-weights"], &WEIGHTS[..]].concat());
    let program = cpp(folder, &path("examples/cpp/classify.cpp"));
    let picture = folder.join("picture.ppm");
    for (number, label) in [(5, "five"), (7, "seven")] {
        fs::write(&picture, ppm(&format!("specs/digits/{label}.png"))).unwrap();
        let printed = stdout(Command::new(&program).arg(&picture));
        assert!(printed.starts_with(&format!("{number} {label} 0.9")), "{printed}");
    }
    fs::write(&picture, b"P6 3 3 255\nx").unwrap();
    let (code, message) = failure(Command::new(&program).arg(&picture));
    assert_eq!((code, message), (1, format!("{}: no PPM picture\n", picture.display())));
    // The picture of the documentation is the one of the tests.
    let committed = fs::read(path("specs/digits/seven.ppm")).unwrap();
    assert!(committed == ppm("specs/digits/seven.png"));
}

/// Weights from a file, moved nets, and all that throws.
const CPP: &str = r#"
#include "digits.hpp"
#include <array>
#include <fstream>
#include <iostream>
#include <memory>
#include <vector>

template <class Function> void expect(int status, Function &&function) {
    try {
        function();
    } catch (const digits::error &error) {
        if (error.status() == status) return;
        std::cout << error.what() << ", not " << digits::message(status) << '\n';
        return;
    }
    std::cout << "no error, but " << digits::message(status) << " was expected\n";
}

int main(int, char **arguments) {
    std::ifstream in(arguments[1], std::ios::binary);
    constexpr std::size_t bytes = DIGITS_WEIGHTS_FILE_BYTES;
    struct alignas(64) Memory { std::byte bytes[DIGITS_WEIGHTS_FILE_BYTES]; };
    auto memory = std::make_unique<Memory>();
    in.read(reinterpret_cast<char *>(memory->bytes), bytes);
    const std::span<const std::byte> file(memory->bytes);

    auto first = digits::network::from_file(file);
    auto net = std::move(first);
    std::array<float, digits::input_len> input{};
    std::array<float, digits::output_len> output{}, other{};
    static_assert(digits::input_dims[2] == 16 && digits::output_dims[1] == 10);
    net.self_test();
    net.run(input, output);
    digits::network(file.subspan(DIGITS_WEIGHTS_FILE_OFFSET)).run(input, other);
    std::cout << (output == other) << ' ' << digits::network::label(3) << ' '
              << (digits::network::label(10) == nullptr && digits::network::label(-1) == nullptr)
              << '\n';

    auto serial = [](unsigned count, auto task) { for (unsigned i = 0; i < count; i++) task(i); };
    expect(DIGITS_BAD_THREADS, [&] { net.run_parallel(input, output, 2, serial); });
    net.run(input, output);
    if (net.try_run_parallel(input, other, 1, serial) != DIGITS_OK || output != other)
        std::cout << "shared runs differ\n";
    expect(DIGITS_BAD_THREADS, [&] { (void)digits::network::from_file(file, 0); });
    expect(DIGITS_WRONG_LENGTH, [&] { (void)digits::network::from_file(file.first(bytes - 1)); });
    expect(DIGITS_WRONG_LENGTH, [&] { digits::network{file}; });
    std::vector<unsigned char> rgb(3 * 20 * 30);
    expect(DIGITS_BAD_PICTURE, [&] { digits::network::preprocess(rgb, 20, 31, input); });
    expect(DIGITS_BAD_PICTURE, [&] { digits::network::preprocess(rgb, -1, 30, input); });
    digits::network::preprocess(rgb, 20, 30, input);
    memory->bytes[bytes - 1] ^= std::byte{1};
    expect(DIGITS_DAMAGED, [&] { (void)digits::network::from_file(file); });
    (void)digits::network::from_file(file, 1, false);
    memory->bytes[20] ^= std::byte{1};
    expect(DIGITS_DAMAGED, [&] { (void)digits::network::from_file(file, 1, false); });
}
"#;

#[test]
fn the_cpp_class_throws_what_the_functions_return() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !there("c++", "g++") {
        return;
    }
    build("digits", folder, &WEIGHTS);
    let source = folder.join("main.cpp");
    fs::write(&source, CPP).unwrap();
    let program = cpp(folder, &source);
    let printed = stdout(Command::new(program).arg(folder.join("digits.weights")));
    assert_eq!(printed, "1 three 1\n");
}
