//! `cargo xtask bench magnet`: from a link and one peer to the metadata, and to a copy; ours and each foreign client.
//!
//! Every client gets one copy before the next round begins. Those that take no peer on their command line are told of it
//! by a tracker in their link.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde_json::json;

use super::data;
use super::party::{Party, Payload, Running, Seat, Terms};
use super::report::Spread;
use super::stage::{self, ASK_EVERY, LOOK_EVERY, Stage};
use crate::interop::client::Role;
use crate::units::{parse_duration, parse_size};

/// Everybody who starts from a link on the command line. aria2 does not tell when it has the metadata.
const CLIENTS: [Party; 4] = [Party::Bt, Party::Libtorrent, Party::Rqbit, Party::Aria2];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes of the file to share
    #[arg(long, default_value = "16Mi", value_parser = parse_size)]
    size: u64,
    /// Piece length
    #[arg(long, default_value = "256Ki", value_parser = parse_size)]
    piece: u64,
    /// How often each client makes its copy
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Who has the data
    #[arg(long, value_enum, default_value = "libtorrent")]
    seeder: Party,
    /// Only these, of those that are installed
    #[arg(long, value_enum, value_delimiter = ',')]
    clients: Vec<Party>,
    /// A copy must be made by then
    #[arg(long, value_name = "DUR", default_value = "1m", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    common: stage::Common,
}

/// One copy, from the start of its program.
#[derive(Debug, Clone, Copy)]
struct Sample {
    client: Party,
    metadata: Option<Duration>,
    done: Duration,
}

/// Measures and prints; an error if a copy was not made or differs.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(mut stage) = args.common.stage()? else {
        return Ok(());
    };
    let source = stage.work.path().join("source").join("it.bin");
    std::fs::create_dir_all(source.parent().context("a folder")?).context("a folder")?;
    data::write_file(&source, args.size)?;
    let payload = Payload {
        torrent: stage.make_torrent(&source, args.piece)?,
        source,
        length: args.size,
        piece_length: args.piece,
        files: 1,
    };
    let wanted = |party: &Party| args.clients.is_empty() || args.clients.contains(party);
    let clients = stage.installed(CLIENTS.into_iter().filter(wanted));
    let mut samples = Vec::new();
    for run in 1..=args.runs {
        for client in &clients {
            let sample = copy(&mut stage, *client, args, &payload)
                .with_context(|| client.name().to_owned())?;
            let metadata = sample.metadata.map(|took| took.as_secs_f64());
            let done = sample.done.as_secs_f64();
            eprintln!("{run} {}: {done:.3} s", client.name());
            if args.common.json {
                let name = client.name();
                let line = json!({"client": name, "metadata": metadata, "done": done});
                println!("{line}");
            }
            samples.push(sample);
        }
    }
    if !args.common.json {
        println!("{}", table(&clients, &samples));
        stage.print_versions(&clients);
    }
    Ok(())
}

/// Makes one copy.
fn copy(stage: &mut Stage, client: Party, args: &Args, payload: &Payload) -> Result<Sample> {
    let listen = [stage.address(), stage.address()];
    stage.tracker.expect(&listen);
    let homes = stage.work.path().join("homes");
    let link = stage.link(payload, client == Party::Aria2)?;
    let seat = |party, role, index: usize| -> Result<Seat> {
        let addr = *listen.get(index).context("an address")?;
        let home = homes.join(addr.port().to_string());
        let source = payload.source.parent().context("the source's folder")?;
        let leeches = role == Role::Leech;
        Ok(Seat {
            party,
            role,
            listen: addr,
            peers: if leeches {
                listen.iter().take(1).copied().collect()
            } else {
                Vec::new()
            },
            data: if leeches {
                home.join("data")
            } else {
                source.to_owned()
            },
            home,
            stays: !leeches,
            link: leeches.then(|| link.clone()),
            terms: Terms::default(),
        })
    };
    let mut seeding = [seat(args.seeder, Role::Seed, 0)?.start(payload, &stage.programs)?];
    stage.wait_for_seeders(&mut seeding)?;
    let began = Instant::now();
    let mut leeching = seat(client, Role::Leech, 1)?.start(payload, &stage.programs)?;
    let (metadata, done) = follow(&mut leeching, began, args.timeout)?;
    let copy = leeching.copy(&payload.source);
    leeching.stop()?;
    for seeding in seeding {
        seeding.stop()?;
    }
    stage::verify(&payload.source, &[copy])?;
    std::fs::remove_dir_all(&homes).context("removing the copy")?;
    Ok(Sample {
        client,
        metadata,
        done,
    })
}

/// When the metadata was there, and the copy.
fn follow(
    leeching: &mut Running,
    began: Instant,
    timeout: Duration,
) -> Result<(Option<Duration>, Duration)> {
    let mut metadata = None;
    let pause = match leeching.asked_by_request() {
        true => ASK_EVERY,
        false => LOOK_EVERY,
    };
    loop {
        if metadata.is_none() {
            metadata = leeching.metadata_since(began)?;
        }
        if leeching.is_done()? {
            let done = began.elapsed();
            // Both may come between two looks.
            let known = leeching.metadata_since(began)?;
            return Ok((metadata.or(known), done));
        }
        if began.elapsed() > timeout {
            bail!("no copy in time: {}", leeching.process.obituary());
        }
        std::thread::sleep(pause);
    }
}

fn table(clients: &[Party], samples: &[Sample]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "leecher",
        "metadata, s",
        "done, s",
    ]);
    for client in clients {
        let of = |what: fn(&Sample) -> Option<Duration>| {
            let own = samples.iter().filter(|sample| sample.client == *client);
            let spread = Spread::of(own.filter_map(|it| Some(what(it)?.as_secs_f64())));
            if spread.median.is_nan() {
                return "–".to_owned();
            }
            spread.show(3)
        };
        table.add_row([
            client.name().to_owned(),
            of(|sample| sample.metadata),
            of(|sample| Some(sample.done)),
        ]);
    }
    table
}
