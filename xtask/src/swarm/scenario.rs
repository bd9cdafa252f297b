//! What a swarm test is about: the data, the processes, their limits. And the presets that cover real input.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::units::show_size;

/// Where the shared data comes from.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// One random file of so many bytes.
    File(u64),
    /// A made tree of so many files.
    Tree(u32),
    /// Something that is there already; it is only read.
    Path(PathBuf),
}

/// One swarm.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// What the tables call it.
    pub(crate) name: String,
    /// The data.
    pub(crate) payload: Payload,
    /// `None`: as `bt create` chooses.
    pub(crate) piece_length: Option<u64>,
    /// Processes that have everything from the start.
    pub(crate) seeders: u32,
    /// Processes that have nothing at the start.
    pub(crate) leechers: u32,
    /// Upload limit of each process in bytes per second.
    pub(crate) up_limit: Option<u64>,
    /// SIGKILLs for each leecher.
    pub(crate) kills_per_leecher: u32,
    /// Of all that is random here.
    pub(crate) seed: u64,
    /// The whole must be over by then.
    pub(crate) timeout: Duration,
}

/// Sets of scenarios that cover real input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// Every preset below, one after the other
    All,
    /// One file of 2 GiB
    Big,
    /// A tree of 12,000 files: empty, deep, in many scripts, many to a piece
    Tree,
    /// The folder of the Rust toolchain that built this, if it has more than 10,000 files
    Toolchain,
    /// A file of one byte
    Tiny,
    /// A file that is an exact multiple of the piece length
    Exact,
    /// Piece lengths from 16 KiB to 16 MiB
    Pieces,
    /// Twenty leechers at once
    Twenty,
    /// Leechers killed at random moments
    Churn,
}

impl Preset {
    /// The scenarios of this preset; `base` lends what a preset does not set.
    pub(crate) fn scenarios(self, base: &Scenario) -> Vec<Scenario> {
        let one = |name: &str, payload: Payload, leechers: u32| Scenario {
            name: name.to_owned(),
            payload,
            leechers,
            ..base.clone()
        };
        match self {
            Self::All => [
                Self::Tiny,
                Self::Exact,
                Self::Pieces,
                Self::Tree,
                Self::Toolchain,
                Self::Big,
                Self::Twenty,
                Self::Churn,
            ]
            .iter()
            .flat_map(|preset| preset.scenarios(base))
            .collect(),
            Self::Big => vec![one("2 GiB file", Payload::File(2 << 30), 3)],
            Self::Tree => vec![one("12,000 files", Payload::Tree(12_000), 3)],
            Self::Toolchain => toolchain()
                .map(|path| one("toolchain", Payload::Path(path), 2))
                .into_iter()
                .collect(),
            Self::Tiny => vec![one("1 byte", Payload::File(1), 3)],
            Self::Exact => vec![Scenario {
                piece_length: Some(1 << 20),
                ..one("64 × 1 MiB", Payload::File(64 << 20), 3)
            }],
            Self::Pieces => (14..=24)
                .step_by(2)
                .map(|power| Scenario {
                    piece_length: Some(1 << power),
                    ..one(
                        &format!("pieces of {}", show_size(1 << power)),
                        Payload::File(96_123_457),
                        3,
                    )
                })
                .collect(),
            Self::Twenty => vec![one("20 leechers", Payload::File(64 << 20), 20)],
            Self::Churn => vec![
                Scenario {
                    kills_per_leecher: KILLS_PER_LEECHER,
                    ..one("churn", Payload::File(96 << 20), 4)
                }
                .with_time_to_kill(),
            ],
        }
    }
}

/// Enough that some kill hits a first piece, some the middle and some the end.
pub(crate) const KILLS_PER_LEECHER: u32 = 3;

/// A churned swarm must last, or it is done before the first kill.
const CHURN_SECONDS_MIN: u64 = 10;

/// A piece takes many blocks and, at the rate of a churned swarm, a good part of a second: nearly every kill catches one
/// half written. The short pieces that `bt create` gives small data are written whole, and no kill would ever meet one.
const CHURN_PIECE_LENGTH: u64 = 1 << 20;

impl Scenario {
    /// Slows the processes down so that the transfer lasts long enough to be killed in the middle of it, and takes pieces
    /// long enough to be killed in the middle of one; what was asked for stays.
    pub(crate) fn with_time_to_kill(mut self) -> Self {
        self.piece_length.get_or_insert(CHURN_PIECE_LENGTH);
        if let (None, Some(len)) = (self.up_limit, self.payload_bytes()) {
            self.up_limit = Some((self.bytes_through_a_process(len) / CHURN_SECONDS_MIN).max(1));
        }
        self
    }

    /// The lower bound of the time until the last leecher is done, if uploads are limited:
    /// `max(F / Σ seeders, N·F / Σ all)`. No scheme can be faster: the seeders must send each byte once, and all
    /// processes together must send N copies.
    pub(crate) fn time_min(&self, total_length: u64) -> Option<Duration> {
        let limit = self.up_limit? as f64;
        Some(Duration::from_secs_f64(
            self.bytes_through_a_process(total_length) as f64 / limit,
        ))
    }

    fn bytes_through_a_process(&self, total_length: u64) -> u64 {
        let (seeders, leechers) = (self.seeders.max(1), self.leechers);
        least_sent(total_length, u64::from(seeders), u64::from(leechers))
    }

    fn payload_bytes(&self) -> Option<u64> {
        match &self.payload {
            Payload::File(len) => Some(*len),
            Payload::Tree(_) => None,
            Payload::Path(path) => crate::compare::list(path)
                .ok()
                .map(|files| files.values().sum()),
        }
    }
}

/// What the busiest process must send at least: the seeders each byte once, and all together a copy for each leecher.
pub(crate) fn least_sent(length: u64, seeders: u64, leechers: u64) -> u64 {
    let by_seeders = length / seeders;
    let by_all = length.saturating_mul(leechers) / (seeders + leechers);
    by_seeders.max(by_all)
}

/// The toolchain's folder: tens of thousands of real files, where its documentation is installed.
fn toolchain() -> Option<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    has_many_files(&path).then_some(path)
}

fn has_many_files(path: &Path) -> bool {
    crate::compare::list(path).is_ok_and(|files| files.len() > 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(seeders: u32, leechers: u32, up_limit: Option<u64>) -> Scenario {
        Scenario {
            name: String::new(),
            payload: Payload::File(1000),
            piece_length: None,
            seeders,
            leechers,
            up_limit,
            kills_per_leecher: 0,
            seed: 0,
            timeout: Duration::ZERO,
        }
    }

    #[test]
    fn the_bound_is_that_of_the_slower_of_seeders_and_swarm() {
        let rows = [
            // One seeder must send every byte once; eight leechers could take part of the rest.
            (1, 8, Some(100), Some(10_000)),
            // Two seeders: each sends half; one leecher adds nothing to anybody.
            (2, 1, Some(100), Some(5_000)),
            // Four seeders, eight leechers: 8000 bytes through 12 processes.
            (4, 8, Some(100), Some(6_660)),
            (1, 8, None, None),
        ];
        for (seeders, leechers, limit, millis) in rows {
            let found = scenario(seeders, leechers, limit).time_min(1000);
            assert_eq!(
                found,
                millis.map(Duration::from_millis),
                "{seeders} + {leechers}"
            );
        }
    }

    #[test]
    fn churn_gets_a_limit_that_lasts_and_long_pieces_unless_they_are_given() {
        let slow = scenario(1, 4, None).with_time_to_kill();
        assert_eq!(
            slow.time_min(1000),
            Some(Duration::from_secs(CHURN_SECONDS_MIN))
        );
        assert_eq!(
            scenario(1, 4, Some(7)).with_time_to_kill().up_limit,
            Some(7)
        );
        assert_eq!(slow.piece_length, Some(CHURN_PIECE_LENGTH));
        let short = Scenario {
            piece_length: Some(16 << 10),
            ..scenario(1, 4, None)
        };
        assert_eq!(short.with_time_to_kill().piece_length, Some(16 << 10));
    }

    #[test]
    fn the_presets_cover_what_they_promise() {
        let base = scenario(1, 2, None);
        let all = Preset::All.scenarios(&base);
        let lengths: Vec<_> = all
            .iter()
            .filter_map(|scenario| scenario.piece_length)
            .collect();
        assert!(
            lengths.contains(&(16 << 10)) && lengths.contains(&(16 << 20)),
            "{lengths:?}"
        );
        assert!(all.iter().any(|scenario| scenario.leechers == 20));
        let churned = all.iter().find(|scenario| scenario.kills_per_leecher > 0);
        assert!(churned.is_some_and(|scenario| scenario.piece_length == Some(CHURN_PIECE_LENGTH)));
        assert!(
            all.iter()
                .any(|scenario| matches!(scenario.payload, Payload::File(1)))
        );
        assert!(
            all.iter()
                .any(|scenario| matches!(scenario.payload, Payload::File(0x8000_0000)))
        );
    }
}
