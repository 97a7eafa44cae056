//! YAML to a tree in which every node knows its place.
//!
//! Two parsers walk the text side by side: serde_yaml says what the nodes mean (numbers, words,
//! aliases), granit-parser says where they stand, for serde_yaml tells positions only of errors.
//! granit-parser goes first and alone bounds the depth and what aliases expand to, so no text can
//! exhaust the stack or the memory. Merge keys (`<<`) are applied here; duplicate keys are kept for
//! the reader to complain about.

use crate::diagnostic::{Diagnostic, Source, Span};
use granit_parser::{Event, Marker, Parser, ScanError};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Deepest nesting; the format needs four levels.
const MAX_DEPTH: usize = 32;
/// Most nodes, aliases counted as what they stand for.
const MAX_NODES: usize = 1_000_000;

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Node,
    pub(super) value: Node,
}

impl Node {
    /// What it is, for messages: `a list`, `the number 3`.
    pub(super) fn kind(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::Bool(value) => format!("the word {value}"),
            Content::Int(value) => format!("the number {value}"),
            Content::Float(value) => format!("the number {value:?}"),
            Content::Text(text) => format!("the text \"{}\"", shortened(text)),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// At most 40 characters of a text that may be of any length.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Parses `text`, bytes of `source` from `offset` on. `Ok(None)` where it holds no node.
pub(super) fn parse(
    source: &Source,
    index: usize,
    offset: usize,
) -> Result<Option<Node>, Diagnostic> {
    let text = source.text().get(offset..).unwrap_or_default();
    let outline = Outline::new(text, index, offset)?;
    let Some(root) = outline.root else { return Ok(None) };
    let seed = At { outline: &outline, index: root };
    seed.deserialize(serde_yaml::Deserializer::from_str(text)).map(Some).map_err(|error| {
        let span = match error.location() {
            Some(place) => {
                let at = offset + offset_of(text, place.line(), place.column());
                Span { source: index, start: at, end: at }
            }
            None => outline.nodes.get(root).map_or(Span { source: index, start: 0, end: 0 }, |n| {
                Span { end: n.span.start, ..n.span }
            }),
        };
        Diagnostic::error(format!("not YAML: {}", without_place(&error))).at(span, "")
    })
}

/// Byte offset of a line and column as serde_yaml counts them, both from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => text.match_indices('\n').nth(line - 2).map_or(text.len(), |(at, _)| at + 1),
    };
    let rest = text.get(start..).unwrap_or_default();
    rest.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| start + at)
}

/// serde_yaml's message without its ` at line 3 column 5`, which the drawing shows.
fn without_place(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((message, place))
            if place.chars().all(|c| c.is_ascii_digit() || " column".contains(c)) =>
        {
            message.to_owned()
        }
        _ => message,
    }
}

/// Where every node stands, and which node an alias stands for.
struct Outline {
    nodes: Vec<Place>,
    root: Option<usize>,
}

struct Place {
    span: Span,
    kind: Kind,
    /// Nodes below and this one, aliases expanded.
    size: usize,
    /// Levels below and this one, aliases expanded.
    depth: usize,
}

enum Kind {
    Scalar,
    List(Vec<usize>),
    Map(Vec<usize>),
    Alias(usize),
}

/// A collection that is not closed yet.
struct Open {
    node: usize,
    children: Vec<usize>,
}

impl Outline {
    fn new(text: &str, source: usize, offset: usize) -> Result<Self, Diagnostic> {
        let place = |marker: &Marker| offset + marker.byte_offset().unwrap_or(0);
        let options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let mut outline = Outline { nodes: Vec::new(), root: None };
        let mut open: Vec<Open> = Vec::new();
        let mut anchors: HashMap<usize, usize> = HashMap::new();
        let mut documents = 0;
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| syntax(&error, text, source, offset))?;
            let span = Span { source, start: place(&span.start), end: place(&span.end) };
            if let Some(tag) = event.tag()
                && !tag.is_yaml_core_schema()
            {
                return Err(Diagnostic::error(format!(
                    "the tag {} means nothing here",
                    tag.original()
                ))
                .at(span, "")
                .help("remove the tag"));
            }
            let kind = match &event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Diagnostic::error("a second YAML document begins here")
                            .at(span, "")
                            .help("a spec is one document: move the rest to a file of its own"));
                    }
                    continue;
                }
                Event::Scalar(..) => Kind::Scalar,
                Event::SequenceStart(..) => Kind::List(Vec::new()),
                Event::MappingStart(..) => Kind::Map(Vec::new()),
                Event::Alias(id) => {
                    let target = anchors.get(id).copied();
                    match target.filter(|target| open.iter().all(|open| open.node != *target)) {
                        Some(target) => Kind::Alias(target),
                        None => {
                            return Err(Diagnostic::error(
                                "this alias stands inside of what it stands for",
                            )
                            .at(span, ""));
                        }
                    }
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(closed) = open.pop() {
                        outline.close(closed, span)?;
                    }
                    continue;
                }
                _ => continue,
            };
            let node = outline.nodes.len();
            match open.last_mut() {
                Some(parent) => parent.children.push(node),
                None => outline.root = Some(node),
            }
            if let Some(id) = event.anchor_id() {
                anchors.insert(id, node);
            }
            let (size, depth) = match &kind {
                Kind::Alias(target) => {
                    outline.nodes.get(*target).map_or((1, 1), |node| (node.size, node.depth))
                }
                _ => (1, 1),
            };
            let collection = matches!(kind, Kind::List(_) | Kind::Map(_));
            outline.nodes.push(Place { span, kind, size, depth });
            if collection {
                open.push(Open { node, children: Vec::new() });
            }
        }
        Ok(outline)
    }

    /// Completes a collection at its end event.
    fn close(&mut self, closed: Open, end: Span) -> Result<(), Diagnostic> {
        let children = || closed.children.iter().filter_map(|&child| self.nodes.get(child));
        let size = children().fold(1usize, |sum, child| sum.saturating_add(child.size));
        let depth = children().map(|child| child.depth).max().unwrap_or(0) + 1;
        // The end event of a block collection stands at what follows it; a flow collection's
        // bracket is its end.
        let end = match children().next_back() {
            Some(last) if end.start == end.end => last.span.end,
            _ => end.end,
        };
        let Some(node) = self.nodes.get_mut(closed.node) else { return Ok(()) };
        node.size = size;
        node.depth = depth;
        node.span.end = end.max(node.span.start);
        match &mut node.kind {
            Kind::List(list) | Kind::Map(list) => *list = closed.children,
            Kind::Scalar | Kind::Alias(_) => {}
        }
        let first = Span { end: node.span.start, ..node.span };
        if size > MAX_NODES {
            return Err(Diagnostic::error(format!(
                "this stands for more than {MAX_NODES} values when its aliases are written out"
            ))
            .at(first, ""));
        }
        if depth > MAX_DEPTH {
            return Err(too_deep(first));
        }
        Ok(())
    }

    /// The node that an alias stands for, else the node itself.
    fn target(&self, index: usize) -> Option<&Place> {
        let node = self.nodes.get(index)?;
        match node.kind {
            Kind::Alias(target) => self.nodes.get(target),
            _ => Some(node),
        }
    }
}

fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error(format!("nested more than {MAX_DEPTH} levels deep")).at(span, "")
}

fn syntax(error: &ScanError, text: &str, source: usize, offset: usize) -> Diagnostic {
    let mut at = error.marker().byte_offset().unwrap_or(0);
    let mut message = error.kind().to_string();
    message.truncate(message.floor_char_boundary(300));
    let tab = message.contains("tab");
    if tab {
        // The scanner names the start of what it was reading, not the tab.
        at += text.get(at..).and_then(|rest| rest.find('\t')).unwrap_or(0);
    }
    let span = Span { source, start: offset + at, end: offset + at };
    if matches!(error.kind(), granit_parser::ErrorKind::RecursionLimitExceeded) {
        return too_deep(span);
    }
    let diagnostic = Diagnostic::error(format!("not YAML: {message}")).at(span, "");
    if tab { diagnostic.help("indent with spaces, not tabs") } else { diagnostic }
}

/// Deserialises one node, taking its place from the outline.
#[derive(Clone, Copy)]
struct At<'a> {
    outline: &'a Outline,
    index: usize,
}

impl At<'_> {
    fn node<E: serde::de::Error>(self, content: Content) -> Result<Node, E> {
        let place = self.outline.target(self.index).ok_or_else(out_of_step)?;
        Ok(Node { span: place.span, content })
    }

    /// The children of the outline's node, if it is of the same kind as serde_yaml's.
    fn children<E: serde::de::Error>(&self, list: bool) -> Result<&[usize], E> {
        match self.outline.target(self.index).map(|place| &place.kind) {
            Some(Kind::List(children)) if list => Ok(children),
            Some(Kind::Map(children)) if !list => Ok(children),
            _ => Err(out_of_step()),
        }
    }
}

/// The two parsers read the text differently.
fn out_of_step<E: serde::de::Error>() -> E {
    E::custom("this can be read in two ways; write it in plainer YAML")
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Node;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Node, E> {
        self.node(Content::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Node, E> {
        self.node(Content::Int(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        self.node(Content::Int(value.into()))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.node(Content::Int(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.node(i128::try_from(value).map_or(Content::Float(value as f64), Content::Int))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        self.node(Content::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.node(Content::Text(value.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        self.node(Content::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        self.node(Content::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        for &index in self.children(true)? {
            let item = access.next_element_seed(At { index, ..self })?;
            items.push(item.ok_or_else(out_of_step)?);
        }
        if access.next_element::<serde::de::IgnoredAny>()?.is_some() {
            return Err(out_of_step());
        }
        self.node(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        for pair in self.children(false)?.chunks(2) {
            let [key, value] = *pair else { return Err(out_of_step()) };
            let key = access.next_key_seed(At { index: key, ..self })?.ok_or_else(out_of_step)?;
            let value = access.next_value_seed(At { index: value, ..self })?;
            entries.push(Entry { key, value });
        }
        if access.next_key::<serde::de::IgnoredAny>()?.is_some() {
            return Err(out_of_step());
        }
        self.node(Content::Map(merged(entries)))
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("tags mean nothing here"))
    }
}

/// Applies merge keys: `<<: *base` adds the entries of `base` whose keys are not there. A `<<` that
/// merges something else than mappings stays, and is an unknown key to the reader.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    let merges = |entry: &Entry| {
        entry.key.text() == Some("<<")
            && match &entry.value.content {
                Content::Map(_) => true,
                Content::List(list) => {
                    list.iter().all(|node| matches!(node.content, Content::Map(_)))
                }
                _ => false,
            }
    };
    let (bases, mut entries): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(merges);
    if bases.is_empty() {
        return entries;
    }
    let mut known: HashSet<String> =
        entries.iter().filter_map(|entry| entry.key.text().map(str::to_owned)).collect();
    let mut add = |base: Vec<Entry>| {
        for entry in base {
            if entry.key.text().is_none_or(|key| known.insert(key.to_owned())) {
                entries.push(entry);
            }
        }
    };
    for base in bases {
        match base.value.content {
            Content::Map(base) => add(base),
            Content::List(list) => {
                for node in list {
                    if let Content::Map(base) = node.content {
                        add(base);
                    }
                }
            }
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests;
