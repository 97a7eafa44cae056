//! `NAME_preprocess` against the reader of pictures of `alexc run`, bit for bit, and what it
//! refuses.

mod common;

use alexc::picture::{self, Color, Preprocess, Resize};
use alexc::shape::Shape;
use alexc_codegen::object::{self, ObjectOptions};
use alexc_codegen::target::Target;
use alexc_runtime::cpu::Arch;
use alexc_runtime::program::Program;
use common::command::stdout;
use common::golden::path;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A net that does nothing, for the sake of its input.
fn program(name: &str, [channels, height, width]: [usize; 3]) -> Program {
    Program {
        name: name.to_owned(),
        arch: Arch::host().unwrap(),
        features: Vec::new(),
        kernels: Vec::new(),
        steps: Vec::new(),
        input_dims: vec![1, channels, height, width],
        output_dims: vec![1, 1],
        arena_bytes: 0,
        weights_bytes: 0,
        local_bytes: 0,
        weights_key: 0,
    }
}

struct Case {
    preprocess: Preprocess,
    input: [usize; 3],
    picture: PathBuf,
}

fn case(
    resize: Option<Resize>,
    crop: Option<[usize; 2]>,
    color: Color,
    input: [usize; 2],
    picture: PathBuf,
) -> Case {
    let (mean, std) = if color == Color::Gray {
        (vec![0.3], vec![0.35])
    } else {
        (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225])
    };
    let channels = color.channels();
    let preprocess = Preprocess { resize, crop, color, mean, std };
    Case { preprocess, input: [channels, input[0], input[1]], picture }
}

/// Numbers that only need to be the same in each run.
fn noise(folder: &Path, [height, width]: [usize; 2]) -> PathBuf {
    let path = folder.join(format!("{height}x{width}.png"));
    let mut state = (height * 31 + width) as u64;
    image::RgbImage::from_fn(width as u32, height as u32, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(channel + 1);
            // Edges between noise and flat parts.
            if (x / 9 + y / 7) % 3 == 0 { 255 } else { (state >> 56) as u8 }
        }))
    })
    .save(&path)
    .unwrap();
    path
}

fn cases(folder: &Path) -> Vec<Case> {
    let colors = [Color::Rgb, Color::Bgr, Color::Gray];
    let golden = |name| path("tests/golden/pictures").join(name);
    let mut cases = Vec::new();
    for picture in ["rgb.png", "gray.png", "palette.png", "rgb.jpg"].map(golden) {
        for color in colors {
            let shorter = Some(Resize::Shorter(24));
            cases.push(case(shorter, Some([20, 19]), color, [20, 19], picture.clone()));
        }
    }
    let sizes = [[1, 1], [1, 700], [700, 1], [37, 1001], [480, 640], [16, 16], [17, 15], [999, 31]];
    for (index, size) in sizes.into_iter().enumerate() {
        let picture = noise(folder, size);
        let color = colors[index % 3];
        for crop in [[16, 16], [17, 40], [5, 1]] {
            for resize in [Resize::Shorter(16), Resize::Shorter(50), Resize::Exact([23, 9])] {
                cases.push(case(Some(resize), Some(crop), color, crop, picture.clone()));
            }
            cases.push(case(None, Some(crop), color, crop, picture.clone()));
        }
        cases.push(case(None, None, color, size, picture.clone()));
        cases.push(case(Some(Resize::Exact([13, 29])), None, color, [13, 29], picture));
    }
    cases
}

const MAIN: &str = r#"
struct net { int (*preprocess)(const unsigned char *, int, int, float *); int len; };
static const struct net nets[] = {
NETS};
int main(void) {
    int net, height, width;
    /* The thread's settings make no difference. */
    fesetround(FE_UPWARD);
    for (net = 0; net < (int)(sizeof nets / sizeof *nets); net++) {
        unsigned char *rgb;
        float *input = malloc((size_t)nets[net].len * sizeof(float));
        if (fread(&height, 4, 1, stdin) != 1 || fread(&width, 4, 1, stdin) != 1)
            return 1;
        rgb = malloc((size_t)height * (size_t)width * 3);
        if (fread(rgb, 3, (size_t)height * (size_t)width, stdin) != (size_t)height * (size_t)width)
            return 2;
        if (nets[net].preprocess(rgb, height, width, input) != 0)
            return 3;
        fwrite(input, sizeof(float), (size_t)nets[net].len, stdout);
        free(input);
        free(rgb);
    }
    return fegetround() == FE_UPWARD ? 0 : 4;
}
"#;

fn cc(folder: &Path) -> Command {
    let mut cc = Command::new("cc");
    cc.current_dir(folder).args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", "main"]);
    cc
}

#[test]
fn to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let target = Target::host().unwrap();
    let mut compiler = cc(folder);
    compiler.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "main.c"]);
    let (mut includes, mut table) = (String::new(), String::new());
    let (mut pictures, mut expected) = (Vec::new(), Vec::new());
    for (index, case) in cases(folder).iter().enumerate() {
        let program = program(&format!("net{index}"), case.input);
        let options = ObjectOptions {
            preprocess: Some(&case.preprocess),
            ..ObjectOptions::new(target.clone())
        };
        let object = object::write(&program, &options).unwrap();
        fs::write(folder.join(format!("net{index}.o")), object).unwrap();
        let header = object::header(&program, &options);
        fs::write(folder.join(format!("net{index}.h")), header).unwrap();
        writeln!(includes, "#include \"net{index}.h\"").unwrap();
        writeln!(table, "    {{net{index}_preprocess, NET{index}_IMAGE_LEN}},").unwrap();
        compiler.arg(format!("net{index}.o"));

        let [channels, height, width] = case.input;
        let shape = Shape::map(1, channels, height, width);
        let values = picture::load(&case.picture, Some(&case.preprocess), &shape);
        let name = case.picture.display();
        expected.push((index, values.unwrap_or_else(|e| panic!("{name}: {e}"))));
        let rgb = image::open(&case.picture).unwrap().to_rgb8();
        pictures.extend(rgb.height().to_le_bytes());
        pictures.extend(rgb.width().to_le_bytes());
        pictures.extend(rgb.into_raw());
    }
    assert!(expected.len() > 100);
    let std = "#include <fenv.h>\n#include <stdio.h>\n#include <stdlib.h>\n";
    fs::write(folder.join("main.c"), [std, &includes, &MAIN.replace("NETS", &table)].concat())
        .unwrap();
    stdout(compiler.arg("-lm"));
    fs::write(folder.join("pictures"), pictures).unwrap();
    let mut main = Command::new(folder.join("main"));
    let output = main.stdin(fs::File::open(folder.join("pictures")).unwrap()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {errors}", output.status);
    let mut rest = &output.stdout[..];
    for (index, values) in expected {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let found;
        (found, rest) = rest.split_at(bytes.len());
        assert!(found == bytes, "case {index}");
    }
    assert!(rest.is_empty());
}

const REFUSED: &str = r#"
#include "net.h"
#include "whole.h"
#include <limits.h>
#include <stdio.h>
int main(void) {
    static unsigned char rgb[3 * 16 * 16001];
    static float input[NET_IMAGE_LEN];
    printf("%d %d %d %d %d %d\n", net_preprocess(NULL, 1, 1, input), net_preprocess(rgb, 1, 1, NULL),
           net_preprocess(rgb, 0, 5, input), net_preprocess(rgb, 5, 0, input),
           net_preprocess(rgb, -1, INT_MIN, input), net_preprocess(rgb, 16, 16001, input));
    printf("%d %d %d %d\n", net_preprocess(rgb, 16, 16000, input), net_preprocess(rgb, 4001, 4, input),
           whole_preprocess(rgb, 16, 8, input), whole_preprocess(rgb, 8, 8, input));
    printf("%s %s %d %d\n", net_label(0), net_label(1), !net_label(2), !net_label(-1));
    printf("%d\n", !whole_label(0));
    return 0;
}
"#;

#[test]
fn pictures_that_cannot_be_and_labels_that_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let target = Target::host().unwrap();
    let labels = ["Katze".to_owned(), "größerer Hund".to_owned()];
    let exact = case(Some(Resize::Exact([16, 16])), None, Color::Rgb, [16, 16], PathBuf::new());
    let whole = case(None, None, Color::Rgb, [8, 8], PathBuf::new());
    let mut compiler = cc(folder);
    compiler.arg("main.c");
    for (name, case, labels) in [("net", &exact, &labels[..]), ("whole", &whole, &[])] {
        let program = program(name, case.input);
        let preprocess = Some(&case.preprocess);
        let options = ObjectOptions { preprocess, labels, ..ObjectOptions::new(target.clone()) };
        let object = object::write(&program, &options).unwrap();
        fs::write(folder.join(format!("{name}.o")), object).unwrap();
        fs::write(folder.join(format!("{name}.h")), object::header(&program, &options)).unwrap();
        compiler.arg(format!("{name}.o"));
    }
    fs::write(folder.join("main.c"), REFUSED).unwrap();
    stdout(&mut compiler);
    let printed = stdout(&mut Command::new(folder.join("main")));
    assert_eq!(printed, "1 1 10 10 10 10\n0 0 10 0\nKatze größerer Hund 1 1\n1\n");
}

#[test]
fn there_is_no_function_where_the_spec_contradicts_itself() {
    let target = Target::host().unwrap();
    let declared = |input, change: &dyn Fn(&mut Preprocess)| {
        let mut case = case(None, Some([8, 8]), Color::Rgb, [8, 8], PathBuf::new());
        change(&mut case.preprocess);
        let options = ObjectOptions {
            preprocess: Some(&case.preprocess),
            ..ObjectOptions::new(target.clone())
        };
        let program = program("net", input);
        let header = object::header(&program, &options).contains("net_preprocess");
        let exported = object::exports(&program, &options).contains(&"net_preprocess".to_owned());
        assert_eq!(header, exported);
        assert_eq!(object::cpp_header(&program, &options).contains("net_preprocess"), header);
        header
    };
    assert!(declared([3, 8, 8], &|_| ()));
    assert!(!declared([1, 8, 8], &|_| ()));
    assert!(!declared([3, 8, 9], &|_| ()));
    assert!(!declared([3, 8, 8], &|p| p.mean = vec![0.0; 2]));
    assert!(!declared([3, 8, 8], &|p| p.std[1] = 1e-60));
    assert!(!declared([3, 8, 8], &|p| p.resize = Some(Resize::Shorter(0))));
}
