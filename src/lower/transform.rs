//! Products with small constant matrices, in registers, sharing what the matrix lets share.

use crate::winograd::Matrix;
use alexc_codegen::builder::Builder;
use alexc_codegen::ir::{Binary, Reg, Unary};

/// `matrix` times the column of `values`.
///
/// Interpolation points come in pairs of opposite sign. Two rows that agree in some columns and
/// are opposite in the others share both partial sums; two columns that agree in some rows and
/// are opposite in the others are added and subtracted first.
pub(super) fn apply(b: &mut Builder, matrix: &Matrix, values: &[Reg]) -> Vec<Reg> {
    let mut rows: Vec<Vec<(f64, Reg)>> = merge_columns(b, matrix, values);
    let mut results: Vec<Option<Reg>> = vec![None; rows.len()];
    for i in 0..rows.len() {
        if results[i].is_some() {
            continue;
        }
        let partner = (i + 1..rows.len()).find(|&k| splits(&rows[i], &rows[k]));
        if let Some(k) = partner {
            let (same, opposite): (Vec<_>, Vec<_>) =
                rows[i].iter().copied().partition(|term| rows[k].contains(term));
            let even = sum(b, &same);
            let odd = sum(b, &opposite);
            results[i] = Some(b.binary(Binary::Add, even, odd));
            results[k] = Some(b.binary(Binary::Sub, even, odd));
        } else {
            let terms = std::mem::take(&mut rows[i]);
            results[i] = Some(sum(b, &terms));
        }
    }
    results.into_iter().flatten().collect()
}

/// Terms of each row after pairs of columns were replaced by their sum and difference.
fn merge_columns(b: &mut Builder, matrix: &Matrix, values: &[Reg]) -> Vec<Vec<(f64, Reg)>> {
    let mut rows: Vec<Vec<(f64, Reg)>> = vec![Vec::new(); matrix.rows];
    let mut done = vec![false; matrix.columns];
    for j in 0..matrix.columns {
        if done[j] {
            continue;
        }
        let column = |j: usize| (0..matrix.rows).map(move |i| matrix.at(i, j));
        let pairs = |k: usize| {
            let same = column(j).zip(column(k)).all(|(x, y)| x == y || x == -y);
            let differs = column(j).zip(column(k)).any(|(x, y)| x == -y && x != 0.0);
            let agrees = column(j).zip(column(k)).any(|(x, y)| x == y && x != 0.0);
            same && differs && agrees
        };
        match (j + 1..matrix.columns).find(|&k| !done[k] && pairs(k)) {
            Some(k) => {
                done[k] = true;
                let total = b.binary(Binary::Add, values[j], values[k]);
                let difference = b.binary(Binary::Sub, values[j], values[k]);
                for (i, row) in rows.iter_mut().enumerate() {
                    let x = matrix.at(i, j);
                    if x != 0.0 {
                        row.push((x, if x == matrix.at(i, k) { total } else { difference }));
                    }
                }
            }
            None => {
                for (i, row) in rows.iter_mut().enumerate() {
                    if matrix.at(i, j) != 0.0 {
                        row.push((matrix.at(i, j), values[j]));
                    }
                }
            }
        }
    }
    rows
}

/// Both rows have the same columns, some with equal and some with opposite coefficients.
fn splits(a: &[(f64, Reg)], b: &[(f64, Reg)]) -> bool {
    let opposite = |&(c, r): &(f64, Reg)| b.contains(&(-c, r));
    let same = |term: &(f64, Reg)| b.contains(term);
    a.len() == b.len()
        && a.iter().all(|term| same(term) || opposite(term))
        && a.iter().any(same)
        && a.iter().any(opposite)
}

/// Sum of coefficient times register.
fn sum(b: &mut Builder, terms: &[(f64, Reg)]) -> Reg {
    // A term that needs no multiplication goes first.
    let mut terms = terms.to_vec();
    terms.sort_by_key(|&(c, _)| {
        if c == 1.0 {
            0
        } else if c == -1.0 {
            2
        } else {
            1
        }
    });
    let mut total: Option<Reg> = None;
    for (coefficient, reg) in terms {
        let lanes = b.lanes(reg);
        total = Some(match (total, coefficient) {
            (None, 1.0) => reg,
            (None, -1.0) => b.unary(Unary::Neg, reg),
            (None, c) => {
                let c = b.constant(lanes, c as f32);
                b.binary(Binary::Mul, reg, c)
            }
            (Some(total), 1.0) => b.binary(Binary::Add, total, reg),
            (Some(total), -1.0) => b.binary(Binary::Sub, total, reg),
            (Some(total), c) => {
                let c = b.constant(lanes, c as f32);
                b.fma(reg, c, total)
            }
        });
    }
    match total {
        Some(total) => total,
        // A row of zeros: never in these matrices.
        None => b.constant(4, 0.0),
    }
}
