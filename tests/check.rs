//! `alexc check` and `alexc dump --stage spec|graph` as a user runs them.

use assert_cmd::Command;
use expect_test::{Expect, expect};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn alexc(args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alexc"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).timeout(Duration::from_secs(60));
    for name in ["ALEXC_DEVICE", "ALEXC_NUM_THREADS", "ALEXC_LOG"] {
        command.env_remove(name);
    }
    let output = command.args(args).output().unwrap();
    Run {
        code: output.status.code().expect("the command ends by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Checks a file of this content, which has a mistake; gives what is told.
fn refused(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.yaml");
    std::fs::write(&file, content).unwrap();
    let path = file.display().to_string();
    let Run { code, stdout, stderr } = alexc(&["check", &path]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    stderr.replace(&path, "net.yaml")
}

fn prints(args: &[&str], expected: Expect) {
    let Run { code, stdout, stderr } = alexc(args);
    assert_eq!((code, stderr.as_str()), (0, ""));
    expected.assert_eq(&stdout);
}

#[test]
fn the_table_of_alexnet() {
    prints(
        &["check", "specs/alexnet.yaml"],
        expect![[r#"
        alexnet, input 1x3x224x224

        layer  type      in         out        parameters    MFLOP  out KiB
        -----  --------  ---------  ---------  ----------  -------  -------
        conv1  conv      3x224x224  96x55x55       34,944    211.1  1,134.4
        relu1  relu      96x55x55   96x55x55                   0.3  1,134.4
        norm1  lrn       96x55x55   96x55x55                   4.1  1,134.4
        pool1  max_pool  96x55x55   96x27x27                   0.6    273.4
        conv2  conv      96x27x27   256x27x27     614,656    896.0    729.0
        relu2  relu      256x27x27  256x27x27                  0.2    729.0
        norm2  lrn       256x27x27  256x27x27                  2.6    729.0
        pool2  max_pool  256x27x27  256x13x13                  0.4    169.0
        conv3  conv      256x13x13  384x13x13     885,120    299.1    253.5
        relu3  relu      384x13x13  384x13x13                  0.1    253.5
        conv4  conv      384x13x13  384x13x13   1,327,488    448.6    253.5
        relu4  relu      384x13x13  384x13x13                  0.1    253.5
        conv5  conv      384x13x13  256x13x13     884,992    299.1    169.0
        relu5  relu      256x13x13  256x13x13                  0.0    169.0
        pool5  max_pool  256x13x13  256x6x6                    0.1     36.0
        fc1    linear    256x6x6    4096       37,752,832     75.5     16.0
        relu6  relu      4096       4096                       0.0     16.0
        drop1  dropout   4096       4096                               16.0
        fc2    linear    4096       4096       16,781,312     33.6     16.0
        relu7  relu      4096       4096                       0.0     16.0
        drop2  dropout   4096       4096                               16.0
        fc3    linear    4096       1000        4,097,000      8.2      3.9
        prob   softmax   1000       1000                       0.0      3.9
        -----  --------  ---------  ---------  ----------  -------  -------
        total                                  62,378,344  2,279.6

        memory in f32: weights 238.0 MiB, activations at most 2.2 MiB at one time (layer by layer)

        padding was read as
          conv1: 1 row above, 2 rows below, 1 column to the left, 2 columns to the right
          conv2: 2 on every side
          conv3, conv4, conv5: 1 on every side
    "#]],
    );
}

#[test]
fn what_notations_were_read_as() {
    prints(
        &["check", "specs/resnet18.yaml", "--batch", "2"],
        expect![[r#"
        resnet18, input 2x3x224x224

        layer                  type        in              out         parameters    MFLOP  out KiB
        ---------------------  ----------  --------------  ----------  ----------  -------  -------
        conv1                  conv        3x224x224       64x112x112       9,408    472.1  6,272.0
        bn1                    batch_norm  64x112x112      64x112x112         128      3.2  6,272.0
        relu                   relu        64x112x112      64x112x112                  1.6  6,272.0
        maxpool                max_pool    64x112x112      64x56x56                    3.6  1,568.0
        layer1.0.conv1         conv        64x56x56        64x56x56        36,864    462.4  1,568.0
        layer1.0.bn1           batch_norm  64x56x56        64x56x56           128      0.8  1,568.0
        layer1.0.relu1         relu        64x56x56        64x56x56                    0.4  1,568.0
        layer1.0.conv2         conv        64x56x56        64x56x56        36,864    462.4  1,568.0
        layer1.0.bn2           batch_norm  64x56x56        64x56x56           128      0.8  1,568.0
        layer1.0.add           add         2 of 64x56x56   64x56x56                    0.4  1,568.0
        layer1.0.relu2         relu        64x56x56        64x56x56                    0.4  1,568.0
        layer1.1.conv1         conv        64x56x56        64x56x56        36,864    462.4  1,568.0
        layer1.1.bn1           batch_norm  64x56x56        64x56x56           128      0.8  1,568.0
        layer1.1.relu1         relu        64x56x56        64x56x56                    0.4  1,568.0
        layer1.1.conv2         conv        64x56x56        64x56x56        36,864    462.4  1,568.0
        layer1.1.bn2           batch_norm  64x56x56        64x56x56           128      0.8  1,568.0
        layer1.1.add           add         2 of 64x56x56   64x56x56                    0.4  1,568.0
        layer1.1.relu2         relu        64x56x56        64x56x56                    0.4  1,568.0
        layer2.0.conv1         conv        64x56x56        128x28x28       73,728    231.2    784.0
        layer2.0.bn1           batch_norm  128x28x28       128x28x28          256      0.4    784.0
        layer2.0.relu1         relu        128x28x28       128x28x28                   0.2    784.0
        layer2.0.conv2         conv        128x28x28       128x28x28      147,456    462.4    784.0
        layer2.0.bn2           batch_norm  128x28x28       128x28x28          256      0.4    784.0
        layer2.0.downsample.0  conv        64x56x56        128x28x28        8,192     25.7    784.0
        layer2.0.downsample.1  batch_norm  128x28x28       128x28x28          256      0.4    784.0
        layer2.0.add           add         2 of 128x28x28  128x28x28                   0.2    784.0
        layer2.0.relu2         relu        128x28x28       128x28x28                   0.2    784.0
        layer2.1.conv1         conv        128x28x28       128x28x28      147,456    462.4    784.0
        layer2.1.bn1           batch_norm  128x28x28       128x28x28          256      0.4    784.0
        layer2.1.relu1         relu        128x28x28       128x28x28                   0.2    784.0
        layer2.1.conv2         conv        128x28x28       128x28x28      147,456    462.4    784.0
        layer2.1.bn2           batch_norm  128x28x28       128x28x28          256      0.4    784.0
        layer2.1.add           add         2 of 128x28x28  128x28x28                   0.2    784.0
        layer2.1.relu2         relu        128x28x28       128x28x28                   0.2    784.0
        layer3.0.conv1         conv        128x28x28       256x14x14      294,912    231.2    392.0
        layer3.0.bn1           batch_norm  256x14x14       256x14x14          512      0.2    392.0
        layer3.0.relu1         relu        256x14x14       256x14x14                   0.1    392.0
        layer3.0.conv2         conv        256x14x14       256x14x14      589,824    462.4    392.0
        layer3.0.bn2           batch_norm  256x14x14       256x14x14          512      0.2    392.0
        layer3.0.downsample.0  conv        128x28x28       256x14x14       32,768     25.7    392.0
        layer3.0.downsample.1  batch_norm  256x14x14       256x14x14          512      0.2    392.0
        layer3.0.add           add         2 of 256x14x14  256x14x14                   0.1    392.0
        layer3.0.relu2         relu        256x14x14       256x14x14                   0.1    392.0
        layer3.1.conv1         conv        256x14x14       256x14x14      589,824    462.4    392.0
        layer3.1.bn1           batch_norm  256x14x14       256x14x14          512      0.2    392.0
        layer3.1.relu1         relu        256x14x14       256x14x14                   0.1    392.0
        layer3.1.conv2         conv        256x14x14       256x14x14      589,824    462.4    392.0
        layer3.1.bn2           batch_norm  256x14x14       256x14x14          512      0.2    392.0
        layer3.1.add           add         2 of 256x14x14  256x14x14                   0.1    392.0
        layer3.1.relu2         relu        256x14x14       256x14x14                   0.1    392.0
        layer4.0.conv1         conv        256x14x14       512x7x7      1,179,648    231.2    196.0
        layer4.0.bn1           batch_norm  512x7x7         512x7x7          1,024      0.1    196.0
        layer4.0.relu1         relu        512x7x7         512x7x7                     0.1    196.0
        layer4.0.conv2         conv        512x7x7         512x7x7      2,359,296    462.4    196.0
        layer4.0.bn2           batch_norm  512x7x7         512x7x7          1,024      0.1    196.0
        layer4.0.downsample.0  conv        256x14x14       512x7x7        131,072     25.7    196.0
        layer4.0.downsample.1  batch_norm  512x7x7         512x7x7          1,024      0.1    196.0
        layer4.0.add           add         2 of 512x7x7    512x7x7                     0.1    196.0
        layer4.0.relu2         relu        512x7x7         512x7x7                     0.1    196.0
        layer4.1.conv1         conv        512x7x7         512x7x7      2,359,296    462.4    196.0
        layer4.1.bn1           batch_norm  512x7x7         512x7x7          1,024      0.1    196.0
        layer4.1.relu1         relu        512x7x7         512x7x7                     0.1    196.0
        layer4.1.conv2         conv        512x7x7         512x7x7      2,359,296    462.4    196.0
        layer4.1.bn2           batch_norm  512x7x7         512x7x7          1,024      0.1    196.0
        layer4.1.add           add         2 of 512x7x7    512x7x7                     0.1    196.0
        layer4.1.relu2         relu        512x7x7         512x7x7                     0.1    196.0
        avgpool                avg_pool    512x7x7         512x1x1                     0.1      4.0
        fc                     linear      512x1x1         1000           513,000      2.1      7.8
        ---------------------  ----------  --------------  ----------  ----------  -------  -------
        total                                                          11,689,512  7,276.0

        memory in f32: weights 44.6 MiB, activations at most 12.2 MiB at one time (layer by layer)

        padding was read as
          conv1: 3 on every side
          maxpool, layer1.0.conv1, layer1.0.conv2 and 14 more: 1 on every side

        left over by the division
          conv1, layer2.0.conv1, layer3.0.conv1, layer4.0.conv1: no window reaches the last 1 row and 1 column of padding
          maxpool: no window reaches the last 1 row and 1 column of padding; ceil_mode: true would make 57x57
          layer2.0.downsample.0, layer3.0.downsample.0, layer4.0.downsample.0: no window reaches the last 1 row and 1 column
    "#]],
    );
}

#[test]
fn every_spec_of_the_repository_is_right() {
    let mut specs = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("specs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let Run { code, stdout, stderr } = alexc(&["check", &path.display().to_string()]);
            assert_eq!((code, stderr.as_str()), (0, ""), "{}", path.display());
            assert!(stdout.contains("total"));
            specs += 1;
        }
    }
    assert!(specs >= 10);
}

#[test]
fn another_number_of_classes() {
    let args = ["check", "specs/alexnet-pytorch.yaml", "--set", "fc3.out_features=10", "--json"];
    let Run { code, stdout, .. } = alexc(&args);
    assert_eq!(code, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["output_shape"], serde_json::json!([1, 10]));
    // 2048 * 10 weights and 10 biases in place of 2048 * 1000 and 1000.
    let before: serde_json::Value =
        serde_json::from_str(&alexc(&["check", "specs/alexnet-pytorch.yaml", "--json"]).stdout)
            .unwrap();
    let parameters = |json: &serde_json::Value| json["parameters"].as_u64().unwrap();
    assert_eq!(parameters(&before) - parameters(&json), 2049 * 990);
}

#[test]
fn json_is_one_document_with_stable_keys() {
    let json: serde_json::Value =
        serde_json::from_str(&alexc(&["check", "specs/alexnet.yaml", "--json"]).stdout).unwrap();
    let keys = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    expect!["model input_shape output_shape batch layers parameters flops weights_bytes activations_alive_bytes tensors"]
        .assert_eq(&keys(&json));
    expect!["name type in_shapes out_shape parameters flops output_bytes padding unused_rows unused_columns"]
        .assert_eq(&keys(&json["layers"][0]));
    assert_eq!(json["tensors"][0]["name"], "features.0.weight");
    assert_eq!(json["tensors"][0]["shape"], serde_json::json!([96, 3, 11, 11]));
    // 2 * 105,415,200 for the weights of conv1 (AlexNet's tables count multiplications) and a bias
    // for each of its 290,400 results.
    assert_eq!(json["layers"][0]["flops"], 2 * 105_415_200 + 290_400);
}

#[test]
fn a_mistake_is_drawn_under_the_very_node() {
    let text = std::fs::read_to_string("specs/alexnet.yaml").unwrap();
    let text = text.replace("kernel_size: 11, stride: 4", "kernel_size: 11, stride: 3");
    expect![[r#"
        error: layer `conv1`: `out_shape` states [96, 55, 55], but [96, 73, 73] follows
          --> net.yaml:10:42
           |
        10 |      in_shape: [3, 224, 224], out_shape: [96, 55, 55], weights: features.0}
           |                                          ^^^^^^^^^^^^ follows as [96, 73, 73]
           = note: what comes in is [3, 224, 224]
           = note: rows: floor((224 - 1*(11-1) - 1 + 1 + 2) / 3) + 1 = 73
           = note: columns: floor((224 - 1*(11-1) - 1 + 1 + 2) / 3) + 1 = 73
           = help: write out_shape: [96, 73, 73], or change `out_channels`, `kernel_size`, `stride`, `padding`, `dilation`
    "#]].assert_eq(&refused(text.as_bytes()));
}

#[test]
fn mistakes_as_json() {
    let args = ["check", "specs/digits.yaml", "--set", "conv1.kernel_size=0", "--json"];
    let Run { code, stdout, stderr } = alexc(&args);
    assert_eq!(code, 1);
    assert!(stderr.contains("kernel_size"), "{stderr}");
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let error = &json["errors"][0];
    assert_eq!((&error["file"], &error["column"]), (&"--set".into(), &19.into()));
    let Run { code, stdout, .. } = alexc(&["check", "specs/none.yaml", "--json"]);
    assert_eq!(code, 1);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["errors"][0]["file"], "specs/none.yaml");
}

#[test]
fn wrong_usage() {
    for args in [
        &["check"][..],
        &["chekc", "specs/alexnet.yaml"],
        &["check", "specs/alexnet.yaml", "--batch", "0"],
        &["check", "specs/alexnet.yaml", "--batch", "many"],
        &["check", "specs/alexnet.yaml", "--set", "conv1.stride"],
        &["check", "specs/alexnet.yaml", "--colour"],
        &["dump", "specs/alexnet.yaml", "--stage", "none"],
    ] {
        let Run { code, stdout, stderr } = alexc(args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains("error") || stderr.contains("Usage"), "{args:?}: {stderr}");
    }
    assert_eq!(alexc(&["--help"]).code, 0);
    assert!(alexc(&["--version"]).stdout.starts_with("alexc "));
}

#[test]
fn machine_code_has_no_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let run = "run specs/digits.yaml --weights random:1 --input specs/digits/seven.png";
    let build = format!("build specs/digits.yaml -o {folder}");
    for command in [run, "dump specs/digits.yaml --stage plan", &build] {
        for schedule in ["cpu", "gpu"] {
            let line = format!("{command} --schedule {schedule}");
            let run = alexc(&line.split(' ').collect::<Vec<_>>());
            assert_eq!(run.code, 2, "{line}: {}", run.stderr);
            assert!(run.stderr.contains("--schedule shapes OpenCL kernels"), "{}", run.stderr);
        }
    }
    for stage in ["opencl", "estimate"] {
        let source = ["dump", "specs/digits.yaml", "--stage", stage, "--schedule", "gpu"];
        assert_eq!(alexc(&source).code, 0, "{stage}");
    }
    let estimate = ["dump", "specs/digits.yaml", "--stage", "estimate"];
    assert!(alexc(&estimate).stdout.starts_with("Not measured"));
    let of_cpu = alexc(&[&estimate[..], &["--schedule", "cpu"]].concat());
    assert!(of_cpu.code == 2 && of_cpu.stderr.contains("--schedule gpu"), "{}", of_cpu.stderr);
    let graph = ["dump", "specs/digits.yaml", "--stage", "graph", "--schedule", "gpu"];
    assert_eq!(alexc(&graph).code, 2);
}

/// Source for a device's driver is for no processor.
#[test]
fn opencl_source_has_no_target() {
    let source = ["dump", "specs/digits.yaml", "--stage", "opencl"];
    for flag in [
        ["--target", "aarch64-unknown-linux-gnu"],
        ["--target-cpu", "x86-64-v2"],
        ["--emitter", "cranelift"],
    ] {
        let run = alexc(&[&source[..], &flag].concat());
        assert_eq!(run.code, 2, "{flag:?}: {}", run.stderr);
        assert!(run.stderr.contains(&format!("{} is for code on the CPU", flag[0])), "{flag:?}");
    }
    let run = alexc(&[&source[..], &["--tune"]].concat());
    assert!(run.code == 2 && run.stderr.contains("--tune measures"), "{}", run.stderr);
    // Stages in front of the code do not look at it, but what is wrong is not passed over.
    for stage in ["spec", "graph"] {
        let dump = ["dump", "specs/digits.yaml", "--stage", stage];
        assert_eq!(alexc(&[&dump[..], &["--target-cpu", "generic"]].concat()).code, 0);
        assert_eq!(alexc(&[&dump[..], &["--target-cpu", "abacus"]].concat()).code, 2);
        assert_eq!(alexc(&[&dump[..], &["--device", "abacus"]].concat()).code, 4);
    }
}

#[test]
fn files_that_are_no_specs() {
    let bomb: String = (0..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        text + &format!("a{0}: &a{0} [*a{level}, *a{level}]\n", level + 1)
    });
    let cycle = "name: n\ninput: {shape: [1, 3, 8, 8]}\nlayers:
  - {name: a, type: add, from: [b, input]}\n  - {name: b, type: relu, from: a}\n";
    let huge = "name: n\ninput: {shape: [1, 3, 8, 8]}\nlayers:
  - {name: a, type: conv, out_channels: 1000000000, kernel_size: 1000000}\n";
    for (content, message) in [
        (&b""[..], "the file holds no spec"),
        (b"\x7fELF\x02\x01\x01\x00\xff", "binary file"),
        (b"\xff\xfen\x00a\x00", "UTF-16"),
        (b"\x00\x00\x00", "not YAML"),
        ("[".repeat(1_000_000).as_bytes(), "levels deep"),
        ("{a: ".repeat(100_000).as_bytes(), "levels deep"),
        ("- ".repeat(100_000).as_bytes(), "levels deep"),
        (bomb.as_bytes(), "when its aliases are written out"),
        (cycle.as_bytes(), "`from` makes a cycle"),
        (huge.as_bytes(), "the kernel covers 1000000 rows, but the padded input has 8"),
        ("x".repeat(5 << 20).as_bytes(), "a spec has at most"),
        ("name: n\n".repeat(100_000).as_bytes(), "and 99951 more messages"),
    ] {
        let start = Instant::now();
        let told = refused(content);
        assert!(told.contains(message), "{message}:\n{}", &told[..told.len().min(2000)]);
        assert!(start.elapsed().as_secs() < 30, "{message}");
    }
}

#[test]
fn results_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.txt");
    let path = file.display().to_string();
    let Run { code, stdout, .. } = alexc(&["check", "specs/digits.yaml", "-o", &path]);
    assert_eq!((code, stdout.as_str()), (0, ""));
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, alexc(&["check", "specs/digits.yaml"]).stdout);
    let missing = folder.path().join("none/table.txt").display().to_string();
    let Run { code, stderr, .. } = alexc(&["check", "specs/digits.yaml", "-o", &missing]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no folder"), "{stderr}");
    // A wrong spec leaves what stood there.
    assert_eq!(alexc(&["check", "specs/digits.yaml", "--set", "conv1.x=1", "-o", &path]).code, 1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_alexc"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["check", "specs/resnet18.yaml", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn labels_fit_the_net() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.yaml");
    let text = "name: n\ninput: {shape: [1, 3]}\nlabels: l.txt\nlayers: [{name: a, type: relu}]\n";
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let told = || alexc(&["check", &path]).stderr;
    assert!(told().contains("l.txt cannot be read: no such file"), "{}", told());
    std::fs::write(folder.path().join("l.txt"), "a\nb\n").unwrap();
    assert!(told().contains("l.txt has 2 lines, but the net has 3 classes"), "{}", told());
    std::fs::write(folder.path().join("l.txt"), "a\r\nb\r\nc\r\n").unwrap();
    assert_eq!(told(), "");
}

#[test]
fn dumps_of_the_first_stages() {
    prints(
        &["dump", "specs/digits.yaml", "--stage", "spec"],
        expect![[r#"
        name: digits
        input: {shape: [1, 1, 16, 16]}
        preprocess: {resize: 16, crop: [16, 16], color: gray, mean: [0.3], std: [0.35]}
        labels: digits/labels.txt
        layers:
          - {name: conv1, type: conv, out_channels: 16, kernel_size: 5, stride: 1, padding: 2, dilation: 1, groups: 1, bias: true, in_shape: [1, 16, 16], out_shape: [16, 16, 16]}
          - {name: relu1, type: relu}
          - {name: norm1, type: lrn, size: 5, alpha: 0.02, beta: 0.75, k: 1.0, alpha_scaling: sum}
          - {name: pool1, type: max_pool, kernel_size: 3, stride: 2, padding: 0, ceil_mode: false, out_shape: [16, 7, 7]}
          - {name: conv2, type: conv, out_channels: 32, kernel_size: 3, stride: 1, padding: 1, dilation: 1, groups: 2, bias: true, out_shape: [32, 7, 7]}
          - {name: relu2, type: relu}
          - {name: norm2, type: lrn, size: 5, alpha: 0.02, beta: 0.75, k: 1.0, alpha_scaling: sum}
          - {name: pool2, type: max_pool, kernel_size: 3, stride: 2, padding: 0, ceil_mode: false, out_shape: [32, 3, 3]}
          - {name: conv3, type: conv, out_channels: 64, kernel_size: 3, stride: 1, padding: 1, dilation: 1, groups: 1, bias: true, out_shape: [64, 3, 3]}
          - {name: relu3, type: relu}
          - {name: fc4, type: linear, out_features: 96, bias: true, in_shape: [64, 3, 3], out_shape: [96]}
          - {name: relu4, type: relu}
          - {name: drop4, type: dropout, p: 0.5}
          - {name: fc5, type: linear, out_features: 10, bias: true, out_shape: [10]}
          - {name: prob, type: softmax}
    "#]],
    );
    prints(
        &["dump", "specs/digits.yaml", "--stage", "graph", "--layer", "conv2"],
        expect![[r#"
            conv2: 1x32x7x7 = conv(pool1)
              kernel 3x3, stride 1x1, padding [1, 1, 1, 1], out_channels 32, groups 2
              weight conv2.weight [32, 8, 3, 3]
              bias conv2.bias [32]
        "#]],
    );
    let spec = alexc(&["dump", "specs/digits.yaml", "--stage", "spec"]).stdout;
    let again = tempfile::tempdir().unwrap();
    let file = again.path().join("again.yaml");
    std::fs::write(&file, spec).unwrap();
    let path = file.display().to_string();
    assert_eq!(
        alexc(&["dump", &path, "--stage", "graph"]).stdout,
        alexc(&["dump", "specs/digits.yaml", "--stage", "graph"]).stdout
    );
    let Run { code, stderr, .. } =
        alexc(&["dump", "specs/digits.yaml", "--stage", "spec", "--layer", "conv7"]);
    assert_ne!(code, 0);
    assert!(stderr.contains("did you mean `conv"), "{stderr}");
}
