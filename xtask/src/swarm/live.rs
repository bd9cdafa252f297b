//! Progress while the swarm runs: a bar for each leecher on a terminal, else a line now and then. All on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::node::{Node, Role};
use crate::units::show_size;

/// Without a terminal: often enough to see life, seldom enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What is shown while it runs.
pub(crate) enum Live {
    /// A bar for each node that carries data.
    Bars(MultiProgress, Vec<(usize, ProgressBar)>),
    /// Lines; when the last one was printed.
    Lines(Instant),
}

impl Live {
    /// Bars where stderr is a terminal.
    pub(crate) fn new(nodes: &[Node], total_length: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Instant::now());
        }
        let multi = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:<12} {bar:36.green} {percent:>3}% {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.role != Role::Tracker)
            .map(|(index, node)| {
                let bar = multi.add(ProgressBar::new(total_length.max(1)));
                bar.set_style(style.clone());
                bar.set_prefix(node.name.clone());
                (index, bar)
            })
            .collect();
        Self::Bars(multi, bars)
    }

    /// Shows where everybody is.
    pub(crate) fn show(&mut self, nodes: &[Node], total_length: u64, since: Duration) {
        match self {
            Self::Bars(_, bars) => {
                for (index, bar) in bars {
                    if let Some(node) = nodes.get(*index) {
                        bar.set_position(bytes_done(node, total_length));
                        bar.set_message(message(node));
                    }
                }
            }
            Self::Lines(last) if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                eprintln!("{}", line(nodes, total_length, since));
            }
            Self::Lines(_) => {}
        }
    }

    /// Says something between the bars.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bars(multi, _) => {
                // A terminal that is gone takes the message with it.
                let _ = multi.println(text);
            }
            Self::Lines(_) => eprintln!("{text}"),
        }
    }

    /// Takes the bars away: the table says it all.
    pub(crate) fn finish(self) {
        if let Self::Bars(multi, bars) = self {
            for (_, bar) in bars {
                bar.finish_and_clear();
            }
            let _ = multi.clear();
        }
    }
}

fn bytes_done(node: &Node, total_length: u64) -> u64 {
    if node.role == Role::Seeder || node.is_complete() {
        return total_length.max(1);
    }
    node.lives.last().map_or(0, |life| life.progress.bytes_done)
}

fn message(node: &Node) -> String {
    let progress = node
        .lives
        .last()
        .map(|life| life.progress)
        .unwrap_or_default();
    let state = match (node.is_running(), node.took) {
        (false, _) => " killed".to_owned(),
        (true, Some(took)) => format!(" done in {:.1} s", took.as_secs_f64()),
        (true, None) => String::new(),
    };
    let (down, up) = (show_size(progress.down_rate), show_size(progress.up_rate));
    format!("↓ {down}/s ↑ {up}/s{state}")
}

fn line(nodes: &[Node], total_length: u64, since: Duration) -> String {
    let leechers: Vec<&Node> = nodes
        .iter()
        .filter(|node| node.role == Role::Leecher)
        .collect();
    let done = leechers.iter().filter(|node| node.is_complete()).count();
    let percents = leechers
        .iter()
        .map(|node| bytes_done(node, total_length).saturating_mul(100) / total_length.max(1));
    let (low, high) = (
        percents.clone().min().unwrap_or(0),
        percents.max().unwrap_or(0),
    );
    let rate: u64 = leechers
        .iter()
        .filter_map(|node| node.lives.last())
        .map(|life| life.progress.down_rate)
        .sum();
    format!(
        "{:6.1} s  {low:>3}–{high} %  {done} of {} done  ↓ {}/s together",
        since.as_secs_f64(),
        leechers.len(),
        show_size(rate),
    )
}
