//! What is known of a torrent, for a person or as JSON. The keys are a contract with scripts.

use crate::exit::Failure;
use crate::output::Output;
use crate::text::escape;
use crate::units::format_size;
use bt_metainfo::{Magnet, Metainfo, Node};
use serde::Serialize;

/// The keys of `show --json`; what the torrent does not have is absent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash_v2: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    piece_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pieces: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_length: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trackers: Vec<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    web_seeds: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    magnet: String,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    length: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    attributes: String,
}

impl From<&Metainfo> for Description {
    fn from(metainfo: &Metainfo) -> Self {
        let info = &metainfo.info;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let files = info.files().iter().map(|file| File {
            // Components joined by `/` on every platform.
            path: file
                .path
                .iter()
                .map(|part| part.to_string_lossy())
                .collect::<Vec<_>>()
                .join("/"),
            length: file.length,
            attributes: file.attributes.letters(),
        });
        Self {
            name: Some(info.name().to_owned()),
            info_hash: Some(metainfo.info_hash.to_string()),
            info_hash_v2: None,
            format: Some(info.format().as_str()),
            piece_length: Some(info.layout().piece_length_max()),
            pieces: Some(info.layout().pieces_count()),
            total_length: Some(info.layout().total_length()),
            files: files.collect(),
            private: info.is_private().then_some(true),
            trackers: metainfo.trackers.clone(),
            web_seeds: [metainfo.web_seeds(), metainfo.http_seeds()].concat(),
            nodes: metainfo.nodes().iter().map(node).collect(),
            comment: owned(metainfo.comment()),
            created_by: owned(metainfo.created_by()),
            creation_date: metainfo.creation_date(),
            source: owned(info.source()),
            magnet: metainfo.magnet().to_string(),
        }
    }
}

impl From<&Magnet> for Description {
    fn from(magnet: &Magnet) -> Self {
        let hex = |hash: [u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            name: magnet.name.clone(),
            info_hash: magnet.info_hash.map(|hash| hash.to_string()),
            info_hash_v2: magnet.info_hash_v2.map(hex),
            total_length: magnet.length,
            // A link has no tiers: each tracker is one.
            trackers: magnet
                .trackers
                .iter()
                .map(|url| vec![url.clone()])
                .collect(),
            web_seeds: magnet.web_seeds.clone(),
            magnet: magnet.to_string(),
            ..Self::default()
        }
    }
}

fn node(node: &Node) -> String {
    if node.host.contains(':') {
        format!("[{}]:{}", node.host, node.port)
    } else {
        format!("{}:{}", node.host, node.port)
    }
}

impl Description {
    /// Prints it for a person: the facts, then the files if they are wanted, and the magnet link last.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub(crate) fn print(&self, output: Output, with_files: bool) -> Result<(), Failure> {
        let fact = |key: &str, value: Option<String>| -> Result<(), Failure> {
            value.map_or(Ok(()), |value| {
                output.line(format!("{key:<13} {}", escape(&value)))
            })
        };
        fact("name", self.name.clone())?;
        fact("info hash", self.info_hash.clone())?;
        fact("info hash v2", self.info_hash_v2.clone())?;
        fact("size", self.total_length.map(size))?;
        let piece_length = self.piece_length.map(|length| format_size(length.into()));
        let pieces = self.pieces.zip(piece_length);
        fact(
            "pieces",
            pieces.map(|(count, length)| format!("{count} of {length}")),
        )?;
        fact("files", self.format.map(|_| self.files.len().to_string()))?;
        fact(
            "private",
            self.private
                .map(|_| "yes: peers from its trackers only".to_owned()),
        )?;
        for tier in &self.trackers {
            fact("tracker", Some(tier.join("  ")))?;
        }
        for url in &self.web_seeds {
            fact("web seed", Some(url.clone()))?;
        }
        for node in &self.nodes {
            fact("node", Some(node.clone()))?;
        }
        fact("comment", self.comment.clone())?;
        fact("created by", self.created_by.clone())?;
        fact("created on", self.creation_date.map(date))?;
        fact("source", self.source.clone())?;
        if with_files && !self.files.is_empty() {
            output.line("")?;
            for file in &self.files {
                output.line(format!(
                    "{:>13}  {}",
                    format_size(file.length),
                    escape(&file.path)
                ))?;
            }
            output.line("")?;
        }
        output.line(&self.magnet)
    }
}

fn size(bytes: u64) -> String {
    if bytes < 1024 {
        format!("{bytes} bytes")
    } else {
        format!("{} ({bytes} bytes)", format_size(bytes))
    }
}

/// `2026-11-22 14:31:00 UTC`, by the proleptic Gregorian calendar; a number no calendar reaches stays one.
fn date(unix_seconds: i64) -> String {
    const DAY_SECONDS: i64 = 86_400;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH_DAYS: i64 = 719_468;
    const ERA_DAYS: i64 = 146_097;
    if !(0..=253_402_300_799).contains(&unix_seconds) {
        return format!("{unix_seconds} seconds after 1970");
    }
    let (days, second) = (
        unix_seconds / DAY_SECONDS + EPOCH_DAYS,
        unix_seconds % DAY_SECONDS,
    );
    // Years of this reckoning begin in March, so that the leap day is their last.
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let rows = [
            (0, "1970-01-01 00:00:00 UTC"),
            (68_169_599, "1972-02-28 23:59:59 UTC"),
            (68_169_600, "1972-02-29 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_795_357_860, "2026-11-22 14:31:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (253_402_300_800, "253402300800 seconds after 1970"),
            (-1, "-1 seconds after 1970"),
            (i64::MAX, "9223372036854775807 seconds after 1970"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(date(seconds), expected);
        }
    }
}
