//! Reads `input` and `preprocess`.

use super::Located;
use super::table::{Table, count};
use super::yaml::{Content, Node};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::graph::shape_error::MAX_ELEMENTS;
use crate::shape::Shape;
use alexc_runtime::preprocess::{Color, Preprocess, Resize};

/// Longest side of a picture that is made.
const MAX_SIDE: usize = 1 << 16;

pub(super) fn shape(node: &Node, diagnostics: &mut Diagnostics) -> Option<Located<Shape>> {
    let what = "the input";
    // `input: [1, 3, 224, 224]` is clear enough to say what is missing.
    if let Content::List(_) = node.content {
        diagnostics.push(
            Diagnostic::error("the input is a mapping with the key `shape`, not a list")
                .at(node.span, "")
                .help("write {shape: [...]}"),
        );
        return None;
    }
    let mut table = Table::new(node, what, diagnostics)?;
    table.refuse_unknown(&["shape"], &[("size", "shape"), ("dims", "shape")], diagnostics);
    let node = table.required("shape", diagnostics)?;
    let field = table.field("shape");
    let wanted = "[N, C, H, W] or [N, features]";
    let result = field.dims(node, MAX_ELEMENTS).and_then(|dims| match *dims.as_slice() {
        [n, c, h, w] => Ok(Shape::map(n, c, h, w)),
        [n, features] => Ok(Shape::vector(n, features)),
        [c, h, w] => Err(field
            .wrong(node, wanted)
            .note(count(3))
            .help(format!("state the batch too: [1, {c}, {h}, {w}]"))),
        _ => Err(field.wrong(node, wanted).note(count(dims.len()))),
    });
    match result {
        Ok(value) => Some(Located { value, span: node.span }),
        Err(diagnostic) => {
            diagnostics.push(diagnostic);
            None
        }
    }
}

pub(super) fn preprocess(
    node: &Node,
    input: Option<Shape>,
    diagnostics: &mut Diagnostics,
) -> Option<Preprocess> {
    let mut table = Table::new(node, "preprocess", diagnostics)?;
    table.refuse_unknown(
        &["resize", "crop", "color", "mean", "std"],
        &[("colour", "color"), ("scale", "std"), ("size", "resize")],
        diagnostics,
    );
    let mut failed = false;
    let mut keep = |error: Diagnostic, diagnostics: &mut Diagnostics| {
        diagnostics.push(error);
        failed = true;
    };
    let mut resize = None;
    if let Some(node) = table.get("resize") {
        match table.field("resize").pair(node, 1, MAX_SIDE) {
            Ok(size) if matches!(node.content, Content::List(_)) => {
                resize = Some(Resize::Exact(size));
            }
            Ok([side, _]) => resize = Some(Resize::Shorter(side)),
            Err(error) => keep(error, diagnostics),
        }
    }
    let mut crop = None;
    if let Some(node) = table.get("crop") {
        match table.field("crop").pair(node, 1, MAX_SIDE) {
            Ok(size) => crop = Some(size),
            Err(error) => keep(error, diagnostics),
        }
    }
    let channels = input.map(|shape| shape.c());
    let mut color = match channels {
        Some(1) => Color::Gray,
        _ => Color::Rgb,
    };
    if let Some(node) = table.get("color") {
        match node.text() {
            Some("rgb") => color = Color::Rgb,
            Some("bgr") => color = Color::Bgr,
            Some("gray") => color = Color::Gray,
            other => {
                let error = table.field("color").wrong(node, "rgb, bgr or gray");
                let grey = other == Some("grey");
                keep(if grey { error.help("write gray") } else { error }, diagnostics);
            }
        }
    }
    let wants = color.channels();
    let mut per_channel = |key: &str, default: f64, positive: bool| {
        let Some(node) = table.get(key) else { return vec![default; wants] };
        let field = table.field(key);
        let kind = if positive { "a number above 0" } else { "a number" };
        let accepts = |value: f64| !positive || value > 0.0;
        let read = match &node.content {
            Content::List(list) if list.len() == wants => {
                list.iter().map(|node| field.number(node, kind, accepts)).collect()
            }
            Content::List(list) => Err(field
                .wrong(node, &format!("one number for each of the {wants} channels"))
                .note(count(list.len()))),
            _ => field.number(node, kind, accepts).map(|value| vec![value; wants]),
        };
        read.unwrap_or_else(|error| {
            keep(error, diagnostics);
            Vec::new()
        })
    };
    let mean = per_channel("mean", 0.0, false);
    let std = per_channel("std", 1.0, true);
    let preprocess = Preprocess { resize, crop, color, mean, std };
    if failed {
        return None;
    }
    if let Some(error) = input.and_then(|input| mismatch(&table, node.span, &preprocess, input)) {
        diagnostics.push(error);
        return None;
    }
    Some(preprocess)
}

/// Where the picture that `preprocess` makes would not be the input.
fn mismatch(
    table: &Table<'_>,
    span: Span,
    preprocess: &Preprocess,
    input: Shape,
) -> Option<Diagnostic> {
    let Shape::Map { c, h, w, .. } = input else {
        let error = Diagnostic::error("preprocess makes a map, but the input is a vector");
        return Some(error.at(span, "").help("remove `preprocess`"));
    };
    let place = |key: &str| table.get(key).map_or(span, |node| node.span);
    let channels = preprocess.color.channels();
    if channels != c {
        let error = Diagnostic::error(format!(
            "preprocess makes {channels} channel{}, but the input has {c}",
            if channels == 1 { "" } else { "s" }
        ));
        let help = match c {
            1 => "write color: gray",
            3 => "write color: rgb or color: bgr",
            _ => "remove `preprocess`: pictures have 1 or 3 channels",
        };
        return Some(error.at(place("color"), "").help(help));
    }
    let (key, [rows, columns]) = match (preprocess.crop, preprocess.resize) {
        (Some(crop), _) => ("crop", crop),
        (None, Some(Resize::Exact(size))) => ("resize", size),
        (None, Some(Resize::Shorter(_))) => {
            let error = Diagnostic::error(
                "preprocess: `resize` with one number fits the shorter side alone, so `crop` has \
                 to cut the rest off",
            );
            let help = format!("add crop: [{h}, {w}], or write resize: [{h}, {w}]");
            return Some(error.at(place("resize"), "").help(help));
        }
        (None, None) => return None,
    };
    if [rows, columns] != [h, w] {
        let error = Diagnostic::error(format!(
            "preprocess: `{key}` makes {rows}x{columns} pictures, but the input is {h}x{w}"
        ));
        return Some(error.at(place(key), "").help(format!("write {key}: [{h}, {w}]")));
    }
    None
}
