//! `cargo xtask bench`: how fast ours is beside foreign programs and beside the least that the work can cost.

mod abuse;
mod announces;
mod create;
mod data;
mod fixed;
mod floor;
mod load;
mod magnet;
mod party;
mod report;
mod sockets;
mod stage;
mod swarm;
mod torrents;
mod tracker;
mod transfer;

use anyhow::Result;

/// What is measured.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Whole transfers on loopback: the floor, ours, and each foreign client that is installed
    Transfer(transfer::Args),
    /// Swarms on loopback, limited and not: ours, and each foreign client that is installed, each with itself
    Swarm(swarm::Args),
    /// From a link to a copy on loopback: ours, and each foreign client that is installed
    Magnet(magnet::Args),
    /// Announces and scrapes on loopback: ours, and each foreign tracker that is installed
    Tracker(tracker::Args),
    /// Hashing a large file in memory: ours, and each foreign program that is installed
    Create(create::Args),
    /// Thousands of seeding torrents in one process: ours, and each foreign client that is installed
    Torrents(torrents::Args),
    /// Honest peers and everything that strangers do to a tracker, at once, for minutes: is each answer right, and memory flat?
    Abuse(abuse::Args),
    /// The sending half of the floor, as a program of its own
    #[command(hide = true)]
    FloorSend(floor::SendArgs),
    /// The floor of trackers: always the same answer
    #[command(hide = true)]
    FloorAnswer(fixed::Args),
    /// The receiving half
    #[command(hide = true)]
    FloorReceive(floor::ReceiveArgs),
}

/// Runs one benchmark.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Transfer(args) => transfer::run(args),
        Bench::Swarm(args) => swarm::run(args),
        Bench::Magnet(args) => magnet::run(args),
        Bench::Tracker(args) => tracker::run(args),
        Bench::Create(args) => create::run(args),
        Bench::Torrents(args) => torrents::run(args),
        Bench::Abuse(args) => abuse::run(args),
        Bench::FloorSend(args) => floor::send(args),
        Bench::FloorAnswer(args) => fixed::run(args),
        Bench::FloorReceive(args) => floor::receive(args),
    }
}
