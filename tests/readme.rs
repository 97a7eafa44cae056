//! What README.md shows is what the command prints. UPDATE_EXPECT=1 writes it anew.

use assert_cmd::Command;
use std::path::Path;

/// What a console block's command prints; `wrong.yaml` is the README's yaml block.
fn printed(command: &str, wrong: &str) -> Vec<String> {
    let arguments =
        command.strip_prefix("$ alexc ").expect("a console block begins with a command");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wrong.yaml"), wrong).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = if arguments.contains("wrong.yaml") { folder.path() } else { repository };
    let mut alexc = Command::new(env!("CARGO_BIN_EXE_alexc"));
    let output = alexc.args(arguments.split(' ')).current_dir(folder).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    std::iter::once(command).chain(text.lines()).map(str::to_owned).collect()
}

#[test]
fn console_blocks_are_what_is_printed() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let mut wrong = String::new();
    let mut now: Vec<String> = Vec::new();
    let mut commands = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        now.push(line.to_owned());
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match language {
            "console" => {
                now.extend(printed(block[0], &wrong));
                commands += 1;
            }
            _ => now.extend(block.iter().map(|line| (*line).to_owned())),
        }
        if language == "yaml" {
            wrong = block.join("\n");
        }
        now.push("```".to_owned());
    }
    assert!(commands >= 3);
    let now = now.join("\n") + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&page, now).unwrap();
    } else if now != text {
        let differs = now.lines().zip(text.lines()).find(|(now, before)| now != before);
        panic!("README.md differs from what is printed (UPDATE_EXPECT=1 blesses): {differs:?}");
    }
}
