//! Runs the files `kernels/*.kir` through the parser and the verifier.
//!
//! A line with an error ends in `; error: ...`; more errors of the same line stand in comments
//! below it. Each kernel of a file is read by itself, so a file may hold many that do not parse.
//! A file without errors must look exactly as its kernels print, below its first comment.
//! `ALEXC_BLESS=1 cargo test` writes the files anew.

use alexc_codegen::{text, verify};
use std::path::{Path, PathBuf};

const MARK: &str = "; error: ";

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
    let entries = std::fs::read_dir(&folder).expect("the folder of kernels can be read");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("its entries too").path())
        .filter(|path| path.extension().is_some_and(|e| e == "kir"))
        .collect();
    files.sort();
    files
}

/// The file without expected errors.
fn without_errors(content: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in content.lines() {
        match line.split_once(MARK) {
            None => lines.push(line.to_owned()),
            // Nothing but errors: the line goes.
            Some((code, _)) if code.trim().is_empty() => {}
            Some((code, _)) => lines.push(code.trim_end().to_owned()),
        }
    }
    lines
}

/// The errors of one kernel, whose first line has the number `first`, with their lines; or how
/// it prints.
fn check(source: &str, first: usize) -> Result<String, Vec<(usize, String)>> {
    let parsed = text::parse_all(source)
        .map_err(|e| vec![(first + e.line - 1, format!("column {}: {}", e.column, e.what))])?;
    let [parsed] = parsed.as_slice() else { panic!("one kernel begins with `kernel`") };
    let verified = verify::verify(parsed.kernel.clone()).map_err(|errors| {
        let error =
            |e: &verify::VerifyError| (first + parsed.line(&e.place) - 1, e.problem.to_string());
        errors.iter().map(error).collect::<Vec<_>>()
    })?;
    Ok(verified.to_string())
}

/// The file as it should be.
fn expected(content: &str) -> String {
    let mut lines = without_errors(content);
    let starts: Vec<_> = (0..lines.len()).filter(|&i| lines[i].starts_with("kernel ")).collect();
    assert!(!starts.is_empty(), "no kernel in the file");
    let mut errors = Vec::new();
    let mut printed = Vec::new();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(lines.len());
        match check(&lines[start..end].join("\n"), start) {
            Ok(text) => printed.push(text),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        let comment: String = lines[..starts[0]].iter().map(|line| format!("{line}\n")).collect();
        return comment + &printed.join("\n");
    }
    // From the last line up, so that insertions leave the other numbers as they are.
    errors.sort_by_key(|e| e.0);
    while let Some((line, message)) = errors.pop() {
        let line = line.min(lines.len() - 1);
        let only_error = errors.last().is_none_or(|e| e.0 != line);
        if only_error {
            lines[line] += &format!("  {MARK}{message}");
        } else {
            lines.insert(line + 1, format!("{MARK}{message}"));
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn kernels_of_the_files_parse_and_verify_as_stated() {
    let bless = std::env::var_os("ALEXC_BLESS").is_some();
    let files = files();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for path in files {
        let content = std::fs::read_to_string(&path).expect("the file can be read");
        let expected = expected(&content);
        if expected == content {
            continue;
        }
        if bless {
            std::fs::write(&path, expected).expect("the file can be written");
        } else {
            let first = expected
                .lines()
                .zip(content.lines())
                .position(|(a, b)| a != b)
                .unwrap_or_else(|| expected.lines().count().min(content.lines().count()));
            wrong.push(format!(
                "{}:{}\n  should be {:?}\n  is        {:?}",
                path.display(),
                first + 1,
                expected.lines().nth(first).unwrap_or_default(),
                content.lines().nth(first).unwrap_or_default()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nALEXC_BLESS=1 writes the files as they should be",
        wrong.join("\n")
    );
}
