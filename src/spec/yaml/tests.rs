//! The two parsers agree on what stands where, and no text is too wild.

use super::*;
use crate::diagnostic::{Diagnostics, Sources};
use proptest::prelude::*;
use std::sync::Arc;

fn tree(text: &str) -> Result<Option<Node>, String> {
    let source = Source::new("f", text);
    parse(&source, 0, 0).map_err(|diagnostic| {
        let mut sources = Sources::default();
        sources.add(source);
        let mut all = Diagnostics::new(Arc::new(sources));
        all.push(diagnostic);
        all.to_string()
    })
}

/// The tree in one line, each node with the text at its place.
fn shown(text: &str) -> String {
    fn show(out: &mut String, text: &str, node: &Node) {
        let place = &text[node.span.start..node.span.end];
        match &node.content {
            Content::List(list) => {
                out.push_str(&format!("[{place:?}:"));
                list.iter().for_each(|node| show(out, text, node));
                out.push(']');
            }
            Content::Map(map) => {
                out.push_str(&format!("{{{place:?}:"));
                for entry in map {
                    show(out, text, &entry.key);
                    out.push('=');
                    show(out, text, &entry.value);
                }
                out.push('}');
            }
            scalar => out.push_str(&format!("({place:?} {scalar:?})")),
        }
    }
    let mut out = String::new();
    show(&mut out, text, &tree(text).unwrap().unwrap());
    out
}

#[test]
fn block_and_flow_style() {
    assert_eq!(
        shown("a: {b: 1, \"c\": [x, 2.5]} # note\nd:\n  - true\n  -\n"),
        concat!(
            r#"{"a: {b: 1, \"c\": [x, 2.5]} # note\nd:\n  - true\n  -":("a" Text("a"))="#,
            r#"{"{b: 1, \"c\": [x, 2.5]}":("b" Text("b"))=("1" Int(1))("\"c\"" Text("c"))="#,
            r#"["[x, 2.5]":("x" Text("x"))("2.5" Float(2.5))]}("d" Text("d"))="#,
            r#"["- true\n  -":("true" Bool(true))("" Null)]}"#
        )
    );
}

#[test]
fn byte_order_mark_and_line_ends_keep_places() {
    let source = Source::new("f", "\u{feff}a: é\r\nb: x\r\n");
    let node = parse(&source, 0, 0).unwrap().unwrap();
    let Content::Map(entries) = node.content else { panic!() };
    let position = source.position(entries[1].value.span.start);
    assert_eq!((position.line, position.column), (2, 4));
}

#[test]
fn scalars() {
    let value = |text: &str| match tree(&format!("[{text}]")).unwrap().unwrap().content {
        Content::List(mut list) => list.remove(0).content,
        _ => panic!(),
    };
    assert_eq!(value("1e-4"), Content::Float(1e-4));
    assert_eq!(value("1.0e-4"), Content::Float(1e-4));
    assert_eq!(value("-3"), Content::Int(-3));
    assert_eq!(value("0x10"), Content::Int(16));
    assert_eq!(value(".inf"), Content::Float(f64::INFINITY));
    assert!(matches!(value(".nan"), Content::Float(x) if x.is_nan()));
    assert_eq!(value("99999999999999999999"), Content::Int(99999999999999999999));
    assert_eq!(value("1000000000000000000000000000000000000000000"), Content::Float(1e42));
    assert_eq!(value("007"), Content::Text("007".into()));
    assert_eq!(value("yes"), Content::Text("yes".into()));
    assert_eq!(value("'1'"), Content::Text("1".into()));
    assert_eq!(value("!!str 1"), Content::Text("1".into()));
    assert_eq!(value("~"), Content::Null);
}

#[test]
fn aliases_and_merge_keys() {
    let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\nd: {<<: [*a, {z: 4, x: 9}]}\n";
    let Content::Map(entries) = tree(text).unwrap().unwrap().content else { panic!() };
    let keys = |index: usize| match &entries[index].value.content {
        Content::Map(map) => map
            .iter()
            .map(|entry| format!("{}={:?}", entry.key.text().unwrap(), entry.value.content))
            .collect::<Vec<_>>()
            .join(" "),
        _ => panic!(),
    };
    assert_eq!(keys(1), "y=Int(3) x=Int(1)");
    assert_eq!(keys(2), "x=Int(1) y=Int(2)");
    assert_eq!(keys(3), "x=Int(1) y=Int(2) z=Int(4)");
    // A merged or aliased node stands where it was written.
    assert_eq!(entries[2].value.span, entries[0].value.span);
}

#[test]
fn what_is_not_yaml_is_told_with_its_place() {
    for (text, message, place) in [
        ("a: [1, 2\n", "unclosed bracket", "f:"),
        ("a: 1\n\tb: 2\n", "spaces, not tabs", "f:2:"),
        ("a: b: c\n", "not YAML", "f:1:"),
        ("a: *nowhere\n", "nowhere", "f:1:4"),
        ("a: &a [*a]\n", "stands inside", "f:1:8"),
        ("a: !!binary x\n", "!!binary", "f:1:"),
        ("a: !point [1]\n", "!point", "f:1:"),
        ("a: 1\n---\nb: 2\n", "second YAML document", "f:2:1"),
        ("a: \u{1}\n", "not YAML", "f:1:"),
    ] {
        let error = tree(text).unwrap_err();
        assert!(error.contains(message) && error.contains(place), "{text:?}:\n{error}");
    }
}

#[test]
fn empty_texts_hold_nothing() {
    for text in ["", "\n", "# only a comment\n", "---\n...\n"] {
        let node = tree(text).unwrap();
        assert!(node.is_none_or(|node| node.content == Content::Null), "{text:?}");
    }
}

#[test]
fn depth_and_aliases_are_bounded() {
    let deep = |open: &str, close: &str, levels: usize| {
        let text = open.repeat(levels) + &close.repeat(levels);
        tree(&text).map(|_| ())
    };
    assert!(deep("[", "]", MAX_DEPTH).is_ok());
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("[", "")] {
        let error = deep(open, close, 200_000).unwrap_err();
        assert!(error.contains("levels deep"), "{open}: {error}");
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(tree(&bomb).unwrap_err().contains("when its aliases are written out"));
    let mut merges = "a0: &a0 {x0: 1}\n".to_owned();
    for level in 1..40 {
        merges.push_str(&format!("a{level}: &a{level} {{<<: [*a{0}, *a{0}]}}\n", level - 1));
    }
    assert!(tree(&merges).is_err());
}

#[test]
fn large_texts_take_linear_time() {
    let mut text = "layers:\n".to_owned();
    for index in 0..20_000 {
        text.push_str(&format!("  - {{name: layer{index}, type: relu, from: layer{index}}}\n"));
    }
    let start = std::time::Instant::now();
    assert!(tree(&text).is_ok());
    // Twenty thousand layers take a fraction of a second; quadratic time would take minutes.
    assert!(start.elapsed().as_secs() < 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_crashes(text in "[-\\[\\]{}:,?&*!|>'\"%@`#a<~1.e \t\n\r\u{85}\u{2028}é]{0,60}") {
        let _ = tree(&text);
    }

    #[test]
    fn places_hold_the_words(words in proptest::collection::vec("[a-z]{1,8}", 1..20), flow: bool) {
        let text = if flow {
            format!("[{}]", words.join(", "))
        } else {
            words.iter().map(|word| format!("- {word}é # \u{1f600}\n")).collect()
        };
        let node = tree(&text).unwrap().unwrap();
        let Content::List(list) = node.content else { panic!() };
        prop_assert_eq!(list.len(), words.len());
        for node in list {
            if let Content::Text(word) = &node.content {
                prop_assert_eq!(word.as_str(), &text[node.span.start..node.span.end]);
            }
        }
    }
}
