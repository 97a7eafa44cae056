//! Names: which layers a layer reads, and whether each is read.

use super::Builder;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::spec::{Kind, Located};
use std::collections::{HashMap, VecDeque};

impl<'a> Builder<'a> {
    /// The values that a layer reads; none after an error.
    pub(super) fn inputs(&mut self, position: usize) -> Option<Vec<usize>> {
        let layer = &self.spec.layers[position];
        let Some(from) = &layer.from else {
            self.read[position] = true;
            // A `from` that could not be read has been told.
            if layer.kind == Kind::Invalid && layer.written("from").is_some() {
                self.lost = true;
                return None;
            }
            return Some(vec![position]);
        };
        let mut inputs = Some(Vec::new());
        for name in from {
            let found = match name.value.as_str() {
                "input" => Some(0),
                other => self.index.get(other).copied(),
            };
            match found {
                Some(value) => {
                    self.read[value] = true;
                    if let Some(inputs) = &mut inputs {
                        inputs.push(value);
                    }
                }
                None => {
                    let error = self.unresolved(position, name);
                    self.diagnostics.push(error);
                    self.lost = true;
                    inputs = None;
                }
            }
        }
        inputs
    }

    /// `from` names no layer above.
    fn unresolved(&self, position: usize, name: &Located<String>) -> Diagnostic {
        let layers = &self.spec.layers;
        let layer = &layers[position].name.value;
        let wanted = &name.value;
        let below = layers.iter().enumerate().skip(position).find(|(_, l)| l.name.value == *wanted);
        let Some((below, target)) = below else {
            let mut error =
                Diagnostic::error(format!("layer `{layer}`: there is no layer `{wanted}`"))
                    .at(name.span, "");
            let above = layers[..position].iter().map(|layer| layer.name.value.as_str());
            if let Some(meant) = did_you_mean(wanted, above.chain(["input"])) {
                error = error.help(format!("did you mean `{meant}`?"));
            }
            return error;
        };
        if below == position {
            return Diagnostic::error(format!("layer `{layer}` reads itself"))
                .at(name.span, "")
                .help("name a layer above it");
        }
        let error = match self.path(below, position) {
            Some(path) => Diagnostic::error(format!("layer `{layer}`: `from` makes a cycle"))
                .note(format!("{layer} reads {}", path.join(", which reads "))),
            None => Diagnostic::error(format!(
                "layer `{layer}` reads `{wanted}`, which stands below it"
            )),
        };
        error
            .at(name.span, "")
            .also(target.name.span, format!("`{wanted}` stands here"))
            .help("a layer reads layers above it: reorder them")
    }

    /// The layers by which `start` reads `end`, both included.
    fn path(&self, start: usize, end: usize) -> Option<Vec<&'a str>> {
        let layers = &self.spec.layers;
        let mut positions: HashMap<&str, usize> = HashMap::new();
        for (position, layer) in layers.iter().enumerate() {
            positions.entry(&layer.name.value).or_insert(position);
        }
        // Breadth first; `came[p]` is the layer that reads p.
        let mut came: Vec<Option<usize>> = vec![None; layers.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(position) = queue.pop_front() {
            if position == end {
                let mut path = vec![end];
                let mut at = end;
                while at != start {
                    at = came[at]?;
                    path.push(at);
                }
                return Some(path.iter().rev().map(|&at| &*layers[at].name.value).collect());
            }
            let read: Vec<usize> = match &layers[position].from {
                Some(from) => {
                    from.iter().filter_map(|name| positions.get(&*name.value).copied()).collect()
                }
                None => position.checked_sub(1).into_iter().collect(),
            };
            for next in read {
                if next != start && came[next].is_none() {
                    came[next] = Some(position);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// A layer that nothing reads is most likely a slip in a `from`.
    pub(super) fn refuse_unread(&mut self) {
        // Where a `from` led nowhere, that layer may be the one it was meant to name.
        if self.lost {
            return;
        }
        let last = self.spec.layers.len();
        for (position, layer) in self.spec.layers.iter().enumerate() {
            if position + 1 == last || self.read[position + 1] {
                continue;
            }
            let name = &layer.name.value;
            // The second of two layers of one name cannot be read: that has been told.
            if self.index.get(name.as_str()) != Some(&(position + 1)) {
                continue;
            }
            self.diagnostics.push(
                Diagnostic::error(format!("layer `{name}`: nothing reads what it makes"))
                    .at(layer.name.span, "")
                    .note("the net's output is what the last layer makes")
                    .help("read it with `from`, or remove the layer"),
            );
        }
    }
}
