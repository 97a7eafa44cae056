//! Tables of text: columns as wide as their widest cell.

use std::fmt;
use unicode_width::UnicodeWidthStr;

/// Where a cell stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with heads.
#[derive(Debug, Clone)]
pub struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
    /// A line is drawn before these rows.
    rules: Vec<usize>,
}

impl Table {
    /// A table of these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Table {
            aligns: columns.iter().map(|(_, align)| *align).collect(),
            rows: vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect()],
            rules: vec![1],
        }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Draws a line before the next row.
    pub fn rule(&mut self) {
        self.rules.push(self.rows.len());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max()
        };
        let widths: Vec<usize> =
            (0..self.aligns.len()).map(|column| width(column).unwrap_or(0)).collect();
        for (index, row) in self.rows.iter().enumerate() {
            if self.rules.contains(&index) {
                let lines: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                writeln!(f, "{}", lines.join("  "))?;
            }
            let mut line = String::new();
            for (column, (align, width)) in self.aligns.iter().zip(&widths).enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let space = " ".repeat(width.saturating_sub(cell.width()));
                match align {
                    Align::Left => line.extend([cell, &space, "  "]),
                    Align::Right => line.extend([&space, cell, "  "]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `62378344` as `62,378,344`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that people read: `512 B`, `1.1 MiB`.
pub fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = number as f64;
    if value < 1024.0 {
        return format!("{number} B");
    }
    let mut unit = "";
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_fit_their_cells() {
        let mut table = Table::new(&[("layer", Align::Left), ("n", Align::Right)]);
        table.row(["conv1".to_owned(), grouped(1234567)]);
        table.row(["名前".to_owned()]);
        table.rule();
        table.row(["all".to_owned(), grouped(7)]);
        expect![[r#"
            layer          n
            -----  ---------
            conv1  1,234,567
            名前
            -----  ---------
            all            7
        "#]]
        .assert_eq(&table.to_string());
    }

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 123456].map(grouped), ["0", "999", "1,000", "123,456"]);
        assert_eq!([0, 1023, 1024, 1 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.0 MiB"]);
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }
}
