//! `alexc compare`: every value that the compiled net stores against the reference executor, or
//! against the values that another program saved.
//!
//! What is compared is the very program that `run` executes, looked at between its steps; nothing
//! is compiled otherwise for it. Values inside fused nodes are never stored, so a row stands for
//! all layers that its node computes; compile without fusion to see each of them.

use super::difference::{Difference, Place, Tolerance, difference};
use crate::arrays::{Arrays, ArraysError};
use crate::compile::Prepared;
use crate::graph::Graph;
use crate::plan::Item;
use crate::reference::{self, ReferenceError};
use crate::session::{RunError, Session};
use crate::weights::TensorSource;
use ndarray::{ArrayD, IxDyn};
use serde_json::{Value as Json, json};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A value that the compiled net made.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundary {
    /// Name of the value: that of the last layer in it.
    pub value: String,
    /// The layers of the spec that the node which made it computes.
    pub layers: Vec<String>,
    /// The value, `[N, C, H, W]` or `[N, F]`.
    pub array: ArrayD<f32>,
}

/// Runs the program of a compiled net and gives what every node of the fused graph made, in
/// order. The last one, the net's output, is what the caller of the net gets.
///
/// # Errors
/// Where the session is another net's.
pub fn boundaries(
    net: &Prepared,
    session: &mut dyn Session,
    input: &[f32],
) -> Result<Vec<Boundary>, RunError> {
    let Prepared { fused, layouts, plan, .. } = net;
    let mut arrays: HashMap<usize, Vec<f32>> = HashMap::new();
    let mut output = vec![0.0; fused.values[fused.output.index()].shape.len()];
    session.run_observed(input, &mut output, &mut |step, arena| {
        for slot in plan.slots.iter().filter(|slot| slot.made == step) {
            if let Item::Value(value) = slot.item {
                let start = slot.offset_bytes / size_of::<f32>();
                let layout = &layouts[value.index()];
                let data = &arena[start..start + layout.len()];
                arrays.insert(value.index(), layout.to_dense(data));
            }
        }
    })?;
    arrays.insert(fused.output.index(), output);
    let boundary = |node: &crate::graph::Node| {
        let value = &fused.values[node.output.index()];
        let data = arrays.remove(&node.output.index())?;
        let array = ArrayD::from_shape_vec(IxDyn(&value.shape.dims()), data).ok()?;
        Some(Boundary { value: value.name.clone(), layers: node.sources.clone(), array })
    };
    Ok(fused.nodes.iter().filter_map(boundary).collect())
}

/// A row of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// See [`Boundary::value`].
    pub value: String,
    /// See [`Boundary::layers`].
    pub layers: Vec<String>,
    /// Its shape in the compiled net.
    pub shape: Vec<usize>,
    /// How it compares.
    pub outcome: Outcome,
}

/// How a value compares.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Element by element.
    Compared(Difference),
    /// The other side has another shape.
    Shape(Vec<usize>),
    /// The other side has no value of this name.
    Absent,
}

/// A comparison of a whole net.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What it was held against.
    pub against: String,
    /// What counts as rounding.
    pub tolerance: Tolerance,
    /// In the order of the net.
    pub rows: Vec<Row>,
    /// Values of the other side that the compiled net does not store: layers inside fused nodes
    /// and, in a file, anything else.
    pub unused: Vec<String>,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The file cannot be read.
    #[error(transparent)]
    Arrays(#[from] ArraysError),
    /// No name occurs on both sides.
    #[error(
        "{against} has no array named like a value of the net; it has {}, the net has {}",
        some(.theirs), some(.ours)
    )]
    NothingInCommon {
        /// The file.
        against: String,
        /// Names in the file.
        theirs: Vec<String>,
        /// Names in the net.
        ours: Vec<String>,
    },
}

/// The first few names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => text.push_str("none"),
        count if count > SHOWN => text.push_str(&format!(" and {} more", count - SHOWN)),
        _ => {}
    }
    text
}

/// Holds the values of a compiled net against the reference executor in f64 on `graph`, the net as
/// it was before any pass.
///
/// # Errors
/// Where the input is not of the graph's input shape.
pub fn with_reference(
    found: &[Boundary],
    graph: &Graph,
    source: &dyn TensorSource,
    input: &ArrayD<f32>,
    tolerance: Tolerance,
) -> Result<Comparison, ReferenceError> {
    let rows: HashMap<&str, usize> =
        found.iter().enumerate().map(|(row, boundary)| (boundary.value.as_str(), row)).collect();
    let mut outcomes = vec![Outcome::Absent; found.len()];
    let mut unused = Vec::new();
    reference::each::<f64>(graph, source, input, |value, expected| {
        let name = &graph.values[value.index()].name;
        match rows.get(name.as_str()) {
            Some(&row) => outcomes[row] = outcome(&found[row].array, expected),
            None if value == graph.input => {}
            None => unused.push(name.clone()),
        }
    })?;
    let against = "the reference executor in f64".to_owned();
    Ok(Comparison { against, tolerance, rows: rows_of(found, outcomes), unused })
}

/// Holds the values of a compiled net against arrays of a file, by name. Dimensions of one do not
/// matter: `[C, H, W]` is held against `[1, C, H, W]`.
///
/// # Errors
/// Where an array of a value's name cannot be read, or none has such a name.
pub fn with_arrays(
    found: &[Boundary],
    arrays: &mut Arrays,
    against: &str,
    tolerance: Tolerance,
) -> Result<Comparison, CompareError> {
    let mut outcomes = Vec::with_capacity(found.len());
    for Boundary { value, array, .. } in found {
        outcomes.push(match arrays.read(value)? {
            None => Outcome::Absent,
            Some(expected) if same_but_ones(array.shape(), expected.shape()) => {
                let shape = IxDyn(array.shape());
                match expected.to_shape(shape) {
                    Ok(expected) => outcome(array, &expected),
                    Err(_) => Outcome::Shape(expected.shape().to_vec()),
                }
            }
            Some(expected) => Outcome::Shape(expected.shape().to_vec()),
        });
    }
    let ours: HashSet<&str> = found.iter().map(|boundary| boundary.value.as_str()).collect();
    let owned = |name: &str| name.to_owned();
    if outcomes.iter().all(|outcome| *outcome == Outcome::Absent) {
        return Err(CompareError::NothingInCommon {
            against: against.to_owned(),
            theirs: arrays.names().into_iter().map(owned).collect(),
            ours: found.iter().map(|boundary| boundary.value.clone()).collect(),
        });
    }
    let unused =
        arrays.names().into_iter().filter(|name| !ours.contains(name)).map(owned).collect();
    let against = against.to_owned();
    Ok(Comparison { against, tolerance, rows: rows_of(found, outcomes), unused })
}

fn same_but_ones(a: &[usize], b: &[usize]) -> bool {
    let without = |shape: &[usize]| -> Vec<usize> {
        shape.iter().copied().filter(|&size| size != 1).collect()
    };
    without(a) == without(b)
}

fn outcome<E, S>(found: &ArrayD<f32>, expected: &ndarray::ArrayBase<S, IxDyn>) -> Outcome
where
    E: Into<f64> + Copy,
    S: ndarray::Data<Elem = E>,
{
    match difference(found, expected) {
        Ok(difference) => Outcome::Compared(difference),
        Err((_, expected)) => Outcome::Shape(expected),
    }
}

fn rows_of(found: &[Boundary], outcomes: Vec<Outcome>) -> Vec<Row> {
    let row = |(boundary, outcome): (&Boundary, Outcome)| Row {
        value: boundary.value.clone(),
        layers: boundary.layers.clone(),
        shape: boundary.array.shape().to_vec(),
        outcome,
    };
    found.iter().zip(outcomes).map(row).collect()
}

impl Comparison {
    /// True where a row is within the tolerance; nothing where the other side has no such value.
    pub fn row_agrees(&self, row: &Row) -> Option<bool> {
        match &row.outcome {
            Outcome::Compared(difference) => Some(self.tolerance.allows(difference)),
            Outcome::Shape(_) => Some(false),
            Outcome::Absent => None,
        }
    }

    /// True where every value that both sides have is within the tolerance.
    pub fn agrees(&self) -> bool {
        self.rows.iter().all(|row| self.row_agrees(row) != Some(false))
    }

    /// The comparison with stable keys. Numbers that are not finite are `null`.
    pub fn json(&self) -> Json {
        let rows: Vec<Json> = self.rows.iter().map(|row| self.row_json(row)).collect();
        json!({
            "against": self.against,
            "agrees": self.agrees(),
            "tolerance": {
                "rel_l2": self.tolerance.rel_l2,
                "max_rel": self.tolerance.max_rel,
            },
            "rows": rows,
            "unused": self.unused,
        })
    }

    fn row_json(&self, row: &Row) -> Json {
        let place = |place: &Option<Place>| {
            place.as_ref().map(|Place { index, found, expected }| {
                json!({ "index": index, "found": found, "expected": expected })
            })
        };
        let mut object = json!({
            "value": row.value,
            "layers": row.layers,
            "shape": row.shape,
            "agrees": self.row_agrees(row),
        });
        match &row.outcome {
            Outcome::Compared(difference) => {
                object["elements"] = json!(difference.elements);
                object["max_abs"] = json!(difference.max_abs);
                object["max_abs_at"] = json!(place(&difference.max_abs_at));
                object["max_rel"] = json!(difference.max_rel);
                object["max_rel_at"] = json!(place(&difference.max_rel_at));
                object["rel_l2"] = json!(difference.rel_l2);
                object["not_finite"] = json!(difference.not_finite);
            }
            Outcome::Shape(shape) => object["expected_shape"] = json!(shape),
            Outcome::Absent => {}
        }
        object
    }
}

/// The comparison as a table, and a sentence on the whole.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads =
            ["value", "layers", "max abs", "max rel", "rel L2", "worst at (found, expected)"];
        let mut lines = vec![heads.map(str::to_owned)];
        for row in &self.rows {
            let mark = if self.row_agrees(row) == Some(false) { "  DIFFERS" } else { "" };
            let mut line = [const { String::new() }; 6];
            line[0].clone_from(&row.value);
            if row.layers != [row.value.as_str()] {
                line[1] = row.layers.join(" ");
            }
            match &row.outcome {
                Outcome::Compared(difference) => {
                    line[2] = format!("{:.1e}", difference.max_abs);
                    line[3] = format!("{:.1e}", difference.max_rel);
                    line[4] = format!("{:.1e}", difference.rel_l2);
                    let place = |place: &Place| {
                        let index: Vec<String> = place.index.iter().map(usize::to_string).collect();
                        let index = index.join(",");
                        format!("{index} ({:.7e}, {:.7e})", place.found, place.expected)
                    };
                    line[5] = difference.max_abs_at.as_ref().map_or("equal".to_owned(), place);
                    if difference.not_finite > 0 {
                        line[5] += &format!(", {} not finite", difference.not_finite);
                    }
                }
                Outcome::Shape(shape) => line[5] = format!("{:?}, not {shape:?}", row.shape),
                Outcome::Absent => line[5] = "not there".to_owned(),
            }
            line[5] += mark;
            lines.push(line);
        }
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        let [value, layers, abs, rel, l2] = [0, 1, 2, 3, 4].map(width);
        for [a, b, c, d, e, rest] in &lines {
            writeln!(f, "{a:value$}  {b:layers$}  {c:>abs$}  {d:>rel$}  {e:>l2$}  {rest}")?;
        }
        let verdicts: Vec<bool> = self.rows.iter().filter_map(|row| self.row_agrees(row)).collect();
        writeln!(
            f,
            "{} of {} values agree with {} to {:.0e} (L2 of a value) and {:.0e} (one element)",
            verdicts.iter().filter(|&&agrees| agrees).count(),
            verdicts.len(),
            self.against,
            self.tolerance.rel_l2,
            self.tolerance.max_rel,
        )
    }
}

#[cfg(test)]
mod tests;
