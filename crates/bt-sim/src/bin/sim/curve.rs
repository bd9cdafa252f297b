//! A table of how a swarm goes, one row for each second, for charts.

use bt_sim::{Nature, Scenario, World};
use core::time::Duration;
use std::io::{self, Write};

/// Runs the world until everybody is complete or the scenario's bound is over, and writes a row for each second.
pub(crate) fn write(
    scenario: &Scenario,
    world: &mut World,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(
        out,
        "seconds,complete,slowest_percent,mean_percent,fastest_percent,rarest_copies,mean_copies,seeder_copies,given_out,busy,unwanted,choked,unasked,held"
    )?;
    let start = world.now();
    let pieces = f64::from(scenario.settings.layout.pieces_count().max(1));
    let bytes = scenario.settings.layout.total_length().max(1) as f64;
    let numbers = 0..world.nodes_count();
    let (seeders, leechers): (Vec<usize>, Vec<usize>) = numbers
        .filter(|number| world.host(*number).nature == Nature::Honest)
        .partition(|number| world.host(*number).seeder);
    loop {
        let percent = |number: &usize| f64::from(world.stats(*number).pieces_have) * 100.0 / pieces;
        let percents: Vec<f64> = leechers.iter().map(percent).collect();
        let complete = percents.iter().filter(|percent| **percent >= 100.0).count();
        let mean = percents.iter().sum::<f64>() / percents.len().max(1) as f64;
        let slowest = percents.iter().copied().fold(100.0, f64::min);
        let fastest = percents.iter().copied().fold(0.0, f64::max);
        let sent: u64 = seeders
            .iter()
            .map(|number| world.stats(*number).uploaded)
            .sum();
        let (rarest, copies) = world.copies();
        let lines = world.lines();
        writeln!(
            out,
            "{},{complete},{slowest:.2},{mean:.2},{fastest:.2},{rarest},{copies:.3},{:.3},{:.3},{},{},{},{},{}",
            (world.now() - start).as_secs(),
            sent as f64 / bytes,
            world.given_out() as f64 / bytes,
            lines.busy,
            lines.unwanted,
            lines.choked,
            lines.unasked,
            lines.held,
        )?;
        let over = world.now() - start > scenario.healed_after + scenario.bound;
        if world.is_done() || over {
            return out.flush();
        }
        world.pass(Duration::from_secs(1));
    }
}
