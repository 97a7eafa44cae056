//! The artifact's own check of weights, and weights inside of it, against files that the runtime
//! writes.

use alexc_codegen::clif;
use alexc_codegen::object::{self, ObjectOptions};
use alexc_codegen::target::Target;
use alexc_codegen::text::parse;
use alexc_codegen::verify::verify;
use alexc_runtime::container::PIECE_BYTES;
use alexc_runtime::cpu::Arch;
use alexc_runtime::memory::Buffer;
use alexc_runtime::program::{Base, Binding, Program, Step};
use alexc_runtime::weights::Weights;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The output is the last weight.
const LAST: &str = "kernel last {
  buffer x: f32[1] read
  buffer w: f32[LEN] read
  buffer y: f32[1] write
  parallel once in 0..1 {
    v0:f32 = load w[AT]
    store y[0], v0
  }
}";

fn program(name: &str, weights_bytes: usize, target: &Target) -> Program {
    let len = weights_bytes / 4;
    let text = LAST.replace("LEN", &len.to_string()).replace("AT", &(len - 1).to_string());
    let kernel = verify(parse(&text).unwrap()).unwrap();
    let binding = |base, len_bytes, writes| Binding { base, offset_bytes: 0, len_bytes, writes };
    Program {
        name: name.to_owned(),
        arch: Arch::host().unwrap(),
        features: Vec::new(),
        kernels: vec![clif::emit(&kernel, target, false).unwrap().code],
        steps: vec![Step {
            name: "last.last".to_owned(),
            kernel: 0,
            extent: 1,
            barrier: false,
            params: vec![
                binding(Base::Input, 4, false),
                binding(Base::Weights, 4 * len, false),
                binding(Base::Output, 4, true),
            ],
        }],
        input_dims: vec![1],
        output_dims: vec![1],
        arena_bytes: 0,
        weights_bytes,
        local_bytes: 0,
        weights_key: 9,
    }
}

fn weights(bytes: usize) -> Weights {
    let mut buffer = Buffer::zeroed(bytes).unwrap();
    for (at, byte) in buffer.as_mut_bytes().iter_mut().enumerate() {
        *byte = (at * 7 + at / 1000) as u8;
    }
    // The last whole float.
    let last = bytes / 4 * 4;
    buffer.as_mut_bytes()[last - 4..last].copy_from_slice(&1.5_f32.to_ne_bytes());
    buffer.into()
}

/// Sizes around everything that the sum treats in its own way: bytes, words, lanes, pieces, and
/// four pieces.
const SIZES: [usize; 11] = [
    4,
    31,
    96,
    109,
    PIECE_BYTES,
    PIECE_BYTES + 13,
    3 * PIECE_BYTES + 4,
    4 * PIECE_BYTES - 1,
    4 * PIECE_BYTES,
    6 * PIECE_BYTES + 7,
    9 * PIECE_BYTES,
];

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    assert_eq!(errors, "", "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn cc(folder: &Path) -> Command {
    let mut command = Command::new("cc");
    command.current_dir(folder).args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o", "main"]);
    command
}

/// Checks the file of each net with that net's function: the number of the net and the path of
/// the file, a line each, come from stdin.
fn checker() -> String {
    let mut text = String::from(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <stddef.h>\n",
    );
    for index in 0..SIZES.len() {
        writeln!(text, "#include \"net{index}.h\"").unwrap();
    }
    text.push_str("static int (*const checks[])(const void *, size_t) = {\n");
    for index in 0..SIZES.len() {
        writeln!(text, "    net{index}_check_weights,").unwrap();
    }
    text.push_str(
        r#"};
int main(void) {
    int net;
    char path[200];
    char *memory = aligned_alloc(64, 16 << 20);
    printf("%d %d\n", checks[0](NULL, 0), checks[0](memory + 8, 100));
    while (scanf("%d %199s", &net, path) == 2) {
        FILE *file = fopen(path, "rb");
        size_t bytes = fread(memory, 1, 16 << 20, file);
        fclose(file);
        memset(memory + bytes, 0x5a, 100);
        printf("%d\n", checks[net](memory, bytes));
    }
    free(memory);
    return 0;
}
"#,
    );
    text
}

#[test]
fn files_are_told_apart() {
    let target = Target::host().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut cc = cc(folder);
    cc.arg("main.c");
    std::fs::write(folder.join("main.c"), checker()).unwrap();
    let mut cases: Vec<(usize, Vec<u8>, i32)> = Vec::new();
    for (index, size) in SIZES.into_iter().enumerate() {
        let program = program(&format!("net{index}"), size, &target);
        let options = ObjectOptions::new(target.clone());
        std::fs::write(
            folder.join(format!("net{index}.o")),
            object::write(&program, &options).unwrap(),
        )
        .unwrap();
        let header = object::header(&program, &options);
        for (status, value) in [
            ("OK", 0),
            ("NULL_POINTER", 1),
            ("MISALIGNED", 2),
            ("NOT_WEIGHTS", 3),
            ("OTHER_BUILD", 4),
            ("WRONG_LENGTH", 5),
            ("DAMAGED", 6),
        ] {
            assert!(header.contains(&format!("#define NET{index}_{status} {value}\n")), "{header}");
        }
        std::fs::write(folder.join(format!("net{index}.h")), header).unwrap();
        cc.arg(format!("net{index}.o"));

        let mut whole = Vec::new();
        weights(size).write(&program, &mut whole).unwrap();
        let changed = |at: usize| {
            let mut file = whole.clone();
            file[at] ^= 4;
            file
        };
        for at in [0, 7] {
            cases.push((index, changed(at), 3));
        }
        cases.push((index, changed(8), 4));
        for at in [16, 24, 31, 32, 40, 56, 63, 64, 64 + size / 2, 63 + size] {
            cases.push((index, changed(at), 6));
        }
        for (len, status) in [(0, 3), (15, 3), (16, 5), (63, 5), (64, 5), (63 + size, 5)] {
            cases.push((index, whole[..len].to_vec(), status));
        }
        cases.push((index, [&whole[..], b"x"].concat(), 5));
        cases.push(((index + 1) % SIZES.len(), whole.clone(), 4));
        cases.push((index, whole, 0));
    }
    run(&mut cc);
    let mut list = String::new();
    for (number, (net, file, _)) in cases.iter().enumerate() {
        std::fs::write(folder.join(format!("{number}.weights")), file).unwrap();
        writeln!(list, "{net} {number}.weights").unwrap();
    }
    std::fs::write(folder.join("list"), list).unwrap();
    let list = std::fs::File::open(folder.join("list")).unwrap();
    let printed = run(Command::new(folder.join("main")).current_dir(folder).stdin(list));
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some("1 2"));
    for ((net, file, expected), found) in cases.iter().zip(lines.by_ref()) {
        let (size, bytes) = (SIZES[*net], file.len());
        assert_eq!(found, expected.to_string(), "{size} bytes of weights, file of {bytes}");
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn weights_in_the_object_are_used() {
    const MAIN: &str = r#"
#include "net.h"
#include <stdint.h>
#include <stdio.h>
int main(void) {
    float input = 0, output = 0;
    int status = net_run(&input, &output, NULL, net_weights);
    printf("%d %g %d %d\n", status, output, (int)sizeof net_weights,
           (int)((uintptr_t)net_weights % NET_ALIGNMENT));
    return 0;
}
"#;
    let target = Target::host().unwrap();
    let program = program("net", 100, &target);
    let weights = weights(100);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let options =
        ObjectOptions { weights: Some(weights.as_bytes()), ..ObjectOptions::new(target.clone()) };
    std::fs::write(folder.join("net.o"), object::write(&program, &options).unwrap()).unwrap();
    std::fs::write(folder.join("net.h"), object::header(&program, &options)).unwrap();
    std::fs::write(folder.join("main.c"), MAIN).unwrap();
    run(cc(folder).args(["main.c", "net.o"]));
    assert_eq!(run(Command::new(folder.join("main")).current_dir(folder)), "0 1.5 100 0\n");
    assert!(run(Command::new("nm").arg("-u").arg(folder.join("net.o"))).trim().is_empty());

    let wrong =
        ObjectOptions { weights: Some(&weights.as_bytes()[1..]), ..ObjectOptions::new(target) };
    let message = object::write(&program, &wrong).unwrap_err().to_string();
    assert_eq!(message, "the net has 100 bytes of packed weights, and 99 are to be embedded");
}
