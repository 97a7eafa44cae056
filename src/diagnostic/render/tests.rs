//! Drawings as the user sees them.

use super::*;
use crate::diagnostic::{Sources, Span};
use expect_test::{Expect, expect};
use std::sync::Arc;

fn span(source: usize, text: &str, part: &str) -> Span {
    let start = text.find(part).unwrap();
    Span { source, start, end: start + part.len() }
}

fn check(texts: &[(&str, &str)], items: impl IntoIterator<Item = Diagnostic>, drawing: Expect) {
    let mut sources = Sources::default();
    for (name, text) in texts {
        sources.add(Source::new(*name, *text));
    }
    let mut all = Diagnostics::new(Arc::new(sources));
    items.into_iter().for_each(|item| all.push(item));
    all.sort();
    drawing.assert_eq(&all.to_string());
}

#[test]
fn caret_notes_and_help() {
    let text = "layers:\n  - {name: p, out_shape: [96, 28, 28]}\n";
    let shape = span(0, text, "[96, 28, 28]");
    check(
        &[("net.yaml", text)],
        [Diagnostic::error("layer `p`: sizes differ")
            .at(shape, "follows as [96, 27, 27]")
            .note("rows: 27\ncolumns: 27")
            .help("write [96, 27, 27]")],
        expect![[r#"
            error: layer `p`: sizes differ
             --> net.yaml:2:26
              |
            2 |   - {name: p, out_shape: [96, 28, 28]}
              |                          ^^^^^^^^^^^^ follows as [96, 27, 27]
              = note: rows: 27
                      columns: 27
              = help: write [96, 27, 27]
        "#]],
    );
}

#[test]
fn two_places_and_two_sources() {
    let text = "a: 1\nb: 2\nc: 3\nd: 4\na: 5\nb: 6\n";
    let again = Span { source: 0, start: 20, end: 21 };
    let set = "x.y=3";
    check(
        &[("net.yaml", text), ("--set", set)],
        [
            Diagnostic::error("twice `a`")
                .at(again, "here again")
                .also(Span { source: 0, start: 0, end: 1 }, "first here"),
            Diagnostic::warning("of two texts")
                .at(span(1, set, "3"), "")
                .also(span(0, text, "c: 3"), "was this"),
        ],
        expect![[r#"
            error: twice `a`
             --> net.yaml:5:1
              |
            1 | a: 1
              | - first here
            ...
            5 | a: 5
              | ^ here again

            warning: of two texts
             --> --set:1:5
              |
            1 | x.y=3
              |     ^
             ::: net.yaml:3:1
              |
            3 | c: 3
              | ---- was this
        "#]],
    );
}

#[test]
fn wide_characters_tabs_and_controls() {
    let text = "名前:\tconv\u{1b}[31m\u{202e} bad";
    check(
        &[("\u{7}name", text)],
        [Diagnostic::error("on a \u{1b} terminal").at(span(0, text, "bad"), "here")],
        expect![[r#"
            error: on a � terminal
             --> �name:1:16
              |
            1 | 名前:    conv�[31m� bad
              |                     ^^^ here
        "#]],
    );
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let text = format!("{}HERE{}", "x".repeat(500), "y".repeat(100_000));
    check(
        &[("f", &text)],
        [Diagnostic::error("far away").at(span(0, &text, "HERE"), "")],
        expect![[r#"
            error: far away
             --> f:1:501
              |
            1 | …xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxHEREyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…
              |                                          ^^^^
        "#]],
    );
}

#[test]
fn places_that_do_not_exist_are_drawn_somewhere() {
    let outside = Span { source: 0, start: 50, end: 90 };
    let nowhere = Span { source: 7, start: 0, end: 1 };
    check(
        &[("f", "ab\n")],
        [
            Diagnostic::error("past the end").at(outside, "end"),
            Diagnostic::error("no text").at(nowhere, ""),
            Diagnostic::error("no place").in_file("weights.safetensors"),
        ],
        expect![[r#"
            error: no place
             --> weights.safetensors

            error: past the end
             --> f:2:1
              |
            2 |
              | ^ end

            error: no text
        "#]],
    );
}

#[test]
fn only_so_many_are_drawn() {
    let mut all = Diagnostics::default();
    for index in 0..DRAWN + 1 {
        all.push(Diagnostic::error(format!("number {index}")));
    }
    assert!(all.to_string().ends_with("\nerror: number 49\n\nand 1 more message\n"));
    let json = all.to_json();
    assert_eq!(json["errors"].as_array().unwrap().len(), DRAWN + 1);
}

#[test]
fn json_has_places() {
    let text = "a: 1\nb: é2\n";
    let mut sources = Sources::default();
    sources.add(Source::new("f", text));
    let mut all = Diagnostics::new(Arc::new(sources));
    all.push(Diagnostic::error("m").at(span(0, text, "2"), "r").note("n").help("h"));
    expect![[r#"
        {"errors":[{"severity":"error","message":"m","file":"f","line":2,"column":5,"end_line":2,"end_column":6,"text":"r","labels":[],"notes":["n"],"help":["h"]}],"omitted":0}"#]]
    .assert_eq(&all.to_json().to_string());
}
