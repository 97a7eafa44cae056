use super::*;
use crate::algorithm::Math;
use crate::compile::{Emitter, fuse};
use crate::graph::build::{self, BuildOptions};
use alexc_codegen::target::Target;
use std::collections::HashSet;

const NET: &str = "
name: small
input: {shape: [1, 3, 8, 8]}
layers:
  - {name: conv1, type: conv, out_channels: 16, kernel_size: 3}
  - {name: relu1, type: relu}
";

fn options() -> Options {
    Options::new(Target::new(Some("x86_64-unknown-linux-gnu"), "x86-64-v3").unwrap())
}

fn machine() -> Machine {
    Machine { cpu: "x86-64-v3".to_owned(), caches: "L1 data 32768".to_owned(), threads: 2 }
}

fn fused(text: &str, batch: Option<usize>, options: &Options) -> Graph {
    let graph = build::load("small.yaml", text, &BuildOptions { batch, sets: Vec::new() }).unwrap();
    fuse(&graph.1, options).unwrap()
}

fn key() -> Key {
    Key::new(&fused(NET, None, &options()), &options(), &machine())
}

fn entry() -> Entry {
    let algorithm = Algorithm::Winograd { m: 4 };
    let choices = vec![Override { layer: "conv1".to_owned(), algorithm }];
    Entry { choices, untuned_ms: 1.5, tuned_ms: 1.25 }
}

#[test]
fn the_key_covers_everything() {
    let of_net =
        |text: &str, batch| Key::new(&fused(text, batch, &options()), &options(), &machine());
    let of_options = |change: &dyn Fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        Key::new(&fused(NET, None, &options), &options, &machine())
    };
    let of_machine = |change: &dyn Fn(&mut Machine)| {
        let mut machine = machine();
        change(&mut machine);
        Key::new(&fused(NET, None, &options()), &options(), &machine)
    };
    let choice = |algorithm| Override { layer: "conv1".to_owned(), algorithm };
    let keys = [
        key(),
        of_net(&NET.replace("16", "32"), None),
        of_net(&NET.replace("8, 8", "9, 8"), None),
        of_net(NET, Some(2)),
        of_options(&|o| o.math = Math::Strict),
        of_options(&|o| o.weights_dtype = DType::F16),
        of_options(&|o| o.weights_dtype = DType::Bf16),
        of_options(&|o| o.emitter = Some(Emitter::Cranelift)),
        of_options(&|o| o.fuse = false),
        of_options(&|o| {
            o.target = Target::new(Some("x86_64-unknown-linux-gnu"), "x86-64-v4").unwrap()
        }),
        of_options(&|o| o.overrides = vec![choice(Algorithm::Direct)]),
        of_options(&|o| o.overrides = vec![choice(Algorithm::Winograd { m: 2 })]),
        of_machine(&|m| m.cpu.push_str(" (vnni)")),
        of_machine(&|m| m.caches = "L1 data 49152".to_owned()),
        of_machine(&|m| m.threads = 1),
        Key::of_version("0.0.9", &fused(NET, None, &options()), &options(), &machine()),
    ];
    let names: HashSet<String> = keys.iter().map(Key::file_name).collect();
    assert_eq!(names.len(), keys.len());
    let texts: HashSet<&[String]> = keys.iter().map(|key| &key.lines[..]).collect();
    assert_eq!(texts.len(), keys.len());
    // What does not change the code does not change the key.
    assert_eq!(of_options(&|o| (o.texts, o.threads) = (true, 7)), key());
    assert_eq!(of_net(&NET.replace("small", "small # comment"), None), key());
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("a/b"));
    assert_eq!(cache.read(&key()), None);
    assert_eq!(cache.list().unwrap(), []);
    let path = cache.write(&key(), &entry()).unwrap();
    assert_eq!(cache.read(&key()), Some((path.clone(), entry())));
    let changed = Entry { tuned_ms: 1.0, ..entry() };
    assert_eq!(cache.write(&key(), &changed).unwrap(), path);
    assert_eq!(cache.list().unwrap(), [(path, Some(changed))]);
}

#[test]
fn damaged_and_foreign_files_count_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let path = cache.write(&key(), &entry()).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    for damaged in [
        String::new(),
        "{}".to_owned(),
        "\u{0}\u{1}".to_owned(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace("\"format\": 1", "\"format\": 2"),
        whole.replace("winograd4", "winograd9"),
        whole.replace("\"untuned_ms\": 1.5", "\"untuned_ms\": \"1.5\""),
        // Of another key, under this one's name.
        whole.replace("threads 2", "threads 3"),
    ] {
        assert_ne!(damaged, whole);
        fs::write(&path, &damaged).unwrap();
        assert_eq!(cache.read(&key()), None, "{damaged}");
    }
    fs::write(&path, whole.replace("\"key\"", "\"more\": [], \"key\"")).unwrap();
    assert_eq!(cache.read(&key()).unwrap().1, entry(), "further fields do no harm");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(cache.read(&key()), None);
    let error = cache.write(&key(), &entry()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: it is a directory", path.display()));
}

#[test]
fn only_its_own_files_are_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let whole = cache.write(&key(), &entry()).unwrap();
    let damaged = folder.path().join("a.tune.json");
    let other = folder.path().join("notes.json");
    fs::write(&damaged, "?").unwrap();
    fs::write(&other, "mine").unwrap();
    assert_eq!(cache.list().unwrap(), [(damaged.clone(), None), (whole.clone(), Some(entry()))]);
    let choice = DeviceChoice {
        key: vec!["alexc 1".to_owned(), "device a GPU, 4 units".to_owned()],
        choice: "small tiles".to_owned(),
        milliseconds: 2.5,
    };
    let [good, bad] = ["a", "b"].map(|name| folder.path().join(format!("{name}.device.json")));
    choice.write(&good).unwrap();
    fs::write(&bad, "[]").unwrap();
    assert_eq!(choice.device(), Some("a GPU, 4 units"));
    assert_eq!(cache.devices().unwrap(), [(good.clone(), Some(choice)), (bad.clone(), None)]);
    let program = folder.path().join("a.clprogram");
    fs::write(&program, "?").unwrap();
    let removed = cache.clear().unwrap();
    assert_eq!(removed, Removed { algorithms: 2, devices: 2, programs: 1 });
    assert_eq!(removed.all(), 5);
    assert!(other.exists());
    assert!([damaged, whole, good, bad, program].iter().all(|path| !path.exists()));
    assert_eq!(cache.clear().unwrap(), Removed::default());
}

#[test]
fn the_folder() {
    let of = |variables: &[(&str, &str)], home: Option<&str>| {
        let found = |name: &str| {
            let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(OsString::from(value))
        };
        Cache::of(found, home.map(PathBuf::from)).map(|cache| cache.folder)
    };
    let (own, xdg) = (("ALEXC_CACHE_DIR", "here"), ("XDG_CACHE_HOME", "/xdg"));
    let path = |path: &str| Some(PathBuf::from(path));
    assert_eq!(of(&[own, xdg], Some("/home/a")), path("here"));
    assert_eq!(of(&[xdg], Some("/home/a")), path("/xdg/alexc"));
    assert_eq!(of(&[], Some("/home/a")), path("/home/a/.cache/alexc"));
    assert_eq!(of(&[("XDG_CACHE_HOME", "xdg")], Some("/home/a")), path("/home/a/.cache/alexc"));
    assert_eq!(of(&[("ALEXC_CACHE_DIR", ""), ("XDG_CACHE_HOME", "")], None), None);
    assert_eq!(of(&[], Some("")), None);
}

#[test]
fn the_longest_name_is_a_file_name() {
    let net = NET.replace("small", &"n".repeat(200));
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let key = Key::new(&fused(&net, None, &options()), &options(), &machine());
    cache.write(&key, &entry()).unwrap();
    assert_eq!(cache.read(&key).unwrap().1, entry());
}
