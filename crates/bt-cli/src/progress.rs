//! Bars on stderr, if it is a terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::LazyLock;

/// All bars of the program. indicatif itself draws nothing where stderr is no terminal.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
    &BARS
}

/// A bar that counts bytes: what is done, how fast, and how long it will take.
pub(crate) fn bytes(quiet: bool, what: &'static str, total_bytes: u64) -> ProgressBar {
    if quiet {
        return ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template(
        "{prefix} {percent:>3}% [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    );
    let bar = ProgressBar::new(total_bytes).with_prefix(what);
    let bar = bars().add(bar);
    bar.set_style(
        style
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> "),
    );
    bar
}
