//! What stands in the documents.

use super::golden::path;

/// The contents of the fenced blocks of a language.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let parts = text.split("\n```").skip(1).step_by(2);
    let wanted = parts.filter_map(|part| part.strip_prefix(&format!("{language}\n")));
    wanted.map(|block| format!("{block}\n")).collect()
}

/// docs/embedding.md.
pub fn embedding() -> String {
    std::fs::read_to_string(path("docs/embedding.md")).unwrap()
}
