//! What was measured, as a table for each count, or as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::bench::report::{Spread, noisy};
use crate::interop::client::Client;

/// One client with its torrents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) client: Client,
    /// How many torrents.
    pub(super) count: u32,
    /// From the first start until all torrents were seeded.
    pub(super) added: Duration,
    /// What that took.
    pub(super) add_cpu: Duration,
    /// How long the client took to end.
    pub(super) stopped: Duration,
    /// From the second start until all were seeded.
    pub(super) restarted: Duration,
    /// What that took.
    pub(super) restart_cpu: Duration,
    /// Of the second process, idle.
    pub(super) resident_bytes: u64,
    /// Likewise.
    pub(super) open_files: usize,
    /// Likewise.
    pub(super) threads: u64,
    /// How long it was watched.
    pub(super) idle: Duration,
    /// What it used meanwhile.
    pub(super) idle_cpu: Duration,
    /// Cores that other programs used meanwhile.
    pub(super) others: f64,
}

impl Sample {
    /// For who waits for the table.
    pub(super) fn line(&self) -> String {
        format!(
            "{} with {} torrents: {:.2} s, again {:.2} s",
            self.client.name(),
            self.count,
            self.added.as_secs_f64(),
            self.restarted.as_secs_f64()
        )
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "event": "torrents",
            "client": self.client.name(),
            "count": self.count,
            "add_seconds": self.added.as_secs_f64(),
            "add_cpu_seconds": self.add_cpu.as_secs_f64(),
            "stop_seconds": self.stopped.as_secs_f64(),
            "restart_seconds": self.restarted.as_secs_f64(),
            "restart_cpu_seconds": self.restart_cpu.as_secs_f64(),
            "resident_bytes": self.resident_bytes,
            "open_files": self.open_files,
            "threads": self.threads,
            "idle_seconds": self.idle.as_secs_f64(),
            "idle_cpu_seconds": self.idle_cpu.as_secs_f64(),
            "others_cores": self.others,
        })
    }
}

/// A table for each count, with a row for each client.
pub(super) fn tables(samples: &[Sample]) -> String {
    let mut cases: BTreeMap<u32, BTreeMap<Client, Vec<&Sample>>> = BTreeMap::new();
    for sample in samples {
        let clients = cases.entry(sample.count).or_default();
        clients.entry(sample.client).or_default().push(sample);
    }
    let mut text = String::new();
    for (count, clients) in &cases {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
            "client",
            "first start s",
            "CPU s",
            "stop s",
            "restart s",
            "CPU s",
            "RSS MiB",
            "open files",
            "threads",
            "idle CPU s",
            "noisy",
        ]);
        for (client, samples) in clients {
            table.add_row(row(*client, samples));
        }
        text += &format!("{count} torrents\n{table}\n");
    }
    if let Some(sample) = samples.first() {
        let seconds = sample.idle.as_secs();
        text +=
            &format!("idle CPU of {seconds} s; medians, with the least and the most in brackets\n");
    }
    text
}

fn row(client: Client, samples: &[&Sample]) -> Vec<String> {
    let of = |value: &dyn Fn(&Sample) -> f64, decimals| {
        Spread::of(samples.iter().map(|sample| value(sample))).show(decimals)
    };
    let seconds = |span: fn(&Sample) -> Duration| of(&|it| span(it).as_secs_f64(), 2);
    vec![
        client.name().to_owned(),
        seconds(|it| it.added),
        seconds(|it| it.add_cpu),
        seconds(|it| it.stopped),
        seconds(|it| it.restarted),
        seconds(|it| it.restart_cpu),
        of(&|it| it.resident_bytes as f64 / f64::from(1 << 20), 0),
        of(&|it| it.open_files as f64, 0),
        of(&|it| it.threads as f64, 0),
        seconds(|it| it.idle_cpu),
        noisy(samples.iter().map(|it| it.others)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_a_table_of_medians() {
        let sample = |client, count, restart| Sample {
            client,
            count,
            added: Duration::from_secs(2),
            add_cpu: Duration::from_secs(1),
            stopped: Duration::from_millis(100),
            restarted: Duration::from_millis(restart),
            restart_cpu: Duration::from_millis(500),
            resident_bytes: 82 << 20,
            open_files: 9,
            threads: 4,
            idle: Duration::from_secs(20),
            idle_cpu: Duration::from_millis(130),
            others: 0.5,
        };
        let samples = [
            sample(Client::Bt, 10, 300),
            sample(Client::Bt, 10, 500),
            sample(Client::Libtorrent, 20, 900),
        ];
        let text = tables(&samples);
        assert!(text.contains("10 torrents\n") && text.contains("20 torrents\n"));
        let line = text.lines().find(|line| line.contains("bt ")).unwrap();
        for cell in ["0.40 (0.30–0.50)", " 82 ", " 0.13 ", "2 of 2"] {
            assert!(line.contains(cell), "{cell} in {line}");
        }
        assert_eq!(samples[0].json()["restart_seconds"], 0.3);
        assert_eq!(
            samples[0].line(),
            "bt with 10 torrents: 2.00 s, again 0.30 s"
        );
    }
}
