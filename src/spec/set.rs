//! `--set LAYER.KEY=VALUE`: changes the tree before it is read, so that a value on the command line
//! is checked like one in the file and complaints point into the command line.

use super::yaml::{self, Content, Entry, Node, shortened};
use crate::diagnostic::{Diagnostic, Source, Span, did_you_mean, listed};

/// One change.
#[derive(Debug)]
pub(super) struct Edit {
    /// Layer, `input`, `preprocess`; none for a key of the spec itself.
    layer: Option<(String, Span)>,
    key: Node,
    value: Node,
}

/// Reads `LAYER.KEY=VALUE` or `KEY=VALUE`.
pub(super) fn parse(source: &Source, index: usize) -> Result<Edit, Diagnostic> {
    let text = source.text();
    let span = |start: usize, end: usize| Span { source: index, start, end };
    let usage = || {
        Diagnostic::error("a change is LAYER.KEY=VALUE")
            .at(span(0, text.len()), "")
            .help("such as --set conv1.stride=2, --set input.shape=[1,3,227,227] or --set name=net")
    };
    let Some((left, _)) = text.split_once('=') else { return Err(usage()) };
    // Layer names may have dots, keys have none.
    let (layer, key_start) = match left.rsplit_once('.') {
        Some((layer, _)) => (Some(layer), layer.len() + 1),
        None => (None, 0),
    };
    let key = left.get(key_start..).unwrap_or_default();
    if key.trim().is_empty() || layer.is_some_and(|layer| layer.trim().is_empty()) {
        return Err(usage());
    }
    let value_start = left.len() + 1;
    let value = yaml::parse(source, index, value_start)?
        .unwrap_or(Node { span: span(value_start, text.len()), content: Content::Null });
    Ok(Edit {
        layer: layer.map(|layer| (layer.to_owned(), span(0, layer.len()))),
        key: Node { span: span(key_start, left.len()), content: Content::Text(key.to_owned()) },
        value,
    })
}

/// Changes the tree. Whether the key exists and the value fits is told when the tree is read.
pub(super) fn apply(root: &mut Node, edit: Edit) -> Result<(), Diagnostic> {
    let Edit { layer, key, value } = edit;
    let Content::Map(top) = &mut root.content else { return Ok(()) };
    let Some((layer, span)) = layer else {
        put(top, key, value);
        return Ok(());
    };
    let mut names: Vec<String> = Vec::new();
    if let Some(list) = child(top, "layers")
        && let Content::List(list) = &mut list.content
    {
        for node in list {
            let Content::Map(map) = &mut node.content else { continue };
            let name = child(map, "name").and_then(|name| name.text().map(str::to_owned));
            if name.as_deref() == Some(layer.as_str()) {
                put(map, key, value);
                return Ok(());
            }
            names.extend(name);
        }
    }
    if matches!(layer.as_str(), "input" | "preprocess") {
        match child(top, &layer) {
            Some(Node { content: Content::Map(map), .. }) => put(map, key, value),
            _ => {
                let name = Node { span, content: Content::Text(layer) };
                let map = Content::Map(vec![Entry { key, value }]);
                put(top, name, Node { span, content: map });
            }
        }
        return Ok(());
    }
    let mut error =
        Diagnostic::error(format!("there is no layer `{}` to change", shortened(&layer)))
            .at(span, "");
    match did_you_mean(&layer, names.iter().map(String::as_str)) {
        Some(meant) => error = error.help(format!("did you mean `{meant}`?")),
        None if names.len() <= 40 => {
            let names = listed(names.iter().map(String::as_str));
            error = error.note(format!("the layers are {names}"));
        }
        None => {}
    }
    Err(error)
}

fn child<'a>(map: &'a mut [Entry], key: &str) -> Option<&'a mut Node> {
    map.iter_mut().find(|entry| entry.key.text() == Some(key)).map(|entry| &mut entry.value)
}

fn put(map: &mut Vec<Entry>, key: Node, value: Node) {
    match map.iter_mut().find(|entry| entry.key.text() == key.text()) {
        Some(entry) => *entry = Entry { key, value },
        None => map.push(Entry { key, value }),
    }
}
