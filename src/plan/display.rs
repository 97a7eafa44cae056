//! The plan as text: what lies where and when, and a chart of the arena over time.

use super::Plan;
use std::fmt;

/// Columns of the chart.
const WIDTH: usize = 64;

/// Marks of the items in the chart, used again from the start where there are more items.
const MARKS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn mark(index: usize) -> char {
    char::from(MARKS[index % MARKS.len()])
}

/// `1234567` as `1 234 567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.lower_bound_bytes == 0 {
            0.0
        } else {
            (self.arena_bytes as f64 / self.lower_bound_bytes as f64 - 1.0) * 100.0
        };
        writeln!(
            f,
            "arena   {:>14} bytes, lower bound {} (+{over:.1}%)",
            grouped(self.arena_bytes),
            grouped(self.lower_bound_bytes)
        )?;
        writeln!(f, "weights {:>14} bytes", grouped(self.weights_bytes))?;
        writeln!(f, "scratch {:>14} bytes a thread", grouped(self.local_bytes))?;
        writeln!(f)?;

        let names = self.slots.iter().map(|slot| slot.name.chars().count());
        let width = names.max().unwrap_or(0).max(5);
        writeln!(f, "  {:width$} {:>14} {:>14}  steps", "value", "bytes", "offset")?;
        for (index, slot) in self.slots.iter().enumerate() {
            writeln!(
                f,
                "{} {:width$} {:>14} {:>14}  {}..{}",
                mark(index),
                slot.name,
                grouped(slot.bytes),
                grouped(slot.offset_bytes),
                slot.lifetime.first,
                slot.lifetime.last,
            )?;
        }
        writeln!(f)?;

        let column = self.arena_bytes.div_ceil(WIDTH).max(1);
        let width = self.calls.iter().map(|call| call.chars().count()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:>4} {:width$} the arena, {} bytes a column",
            "step",
            "call",
            grouped(column)
        )?;
        for (index, call) in self.calls.iter().enumerate() {
            let mut row = vec!['.'; self.arena_bytes.div_ceil(column)];
            for (number, slot) in self.slots.iter().enumerate() {
                if !slot.lifetime.contains(index) {
                    continue;
                }
                // An item smaller than a column still shows where the column is free.
                let columns = slot.offset_bytes / column..slot.end().div_ceil(column);
                for cell in &mut row[columns] {
                    if *cell == '.' || slot.bytes >= column {
                        *cell = mark(number);
                    }
                }
            }
            writeln!(f, "{index:>4} {call:width$} {}", row.iter().collect::<String>())?;
        }
        Ok(())
    }
}
