//! A bar on stderr for work that may take longer than a second; only on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// A bar over `total` bytes.
pub(super) fn bytes(what: &str, total: u64, quiet: bool) -> ProgressBar {
    bar(what, total, "{msg} {wide_bar} {bytes}/{total_bytes} {elapsed}", quiet)
}

/// A bar over steps, whose number is set later.
pub(super) fn steps(what: &str, quiet: bool) -> ProgressBar {
    bar(what, 0, "{msg} {wide_bar} {pos}/{len} {elapsed}", quiet)
}

fn bar(what: &str, total: u64, template: &str, quiet: bool) -> ProgressBar {
    let visible = !quiet && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
