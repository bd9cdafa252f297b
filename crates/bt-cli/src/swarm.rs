//! Torrents on their way: what their session tells, shown to a person or as JSON, until what was asked for is done.
//!
//! **Invariant:** each torrent that was added ends with the event `stopped`, or `error` if it had to, and the program
//! ends with the first failure's exit code, after all torrents have taken leave of their swarms.

mod bar;
mod event;
mod told;

use crate::commands::Context;
use crate::commands::get::share;
use crate::exit::{Exit, Failure, OrExit as _};
use crate::network::NetworkArgs;
use crate::output::Output;
use crate::save;
use crate::stop::Stop;
use crate::text::escape;
use anyhow::Context as _;
use bar::Bar;
use bt_core::InfoHash;
use bt_core::disk::DiskError;
use bt_metainfo::{Magnet, Metainfo};
use bt_session::{
    Command, GatheredEvents, Session, SessionError, TorrentEvents, TorrentHandle, TorrentOptions,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often numbers are shown.
const TICK: Duration = Duration::from_secs(1);

/// How long after a signal the program waits for trackers and the disk: trackers have five seconds, and a healthy disk
/// is done meanwhile. Whatever state is not saved by then costs a check of the data at the next start, and no data.
const STOP_PATIENCE: Duration = Duration::from_secs(7);

/// When it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Goal {
    /// Nothing is to be downloaded: what is there is all there is.
    pub(crate) only_seed: bool,
    /// Go on after completion.
    pub(crate) seed: bool,
    /// … until so many times the length is uploaded, of a torrent whose length is known later only.
    pub(crate) seed_ratio: Option<f64>,
    /// … for so long.
    pub(crate) seed_time: Option<Duration>,
    /// Give up if nothing comes for so long.
    pub(crate) timeout: Option<Duration>,
}

/// The torrents of one command.
pub(crate) struct Swarm {
    session: Session,
    output: Output,
    quiet: bool,
    goal: Goal,
    torrents: Vec<Torrent>,
    /// Where the first torrent that peers describe is to be saved, and whether a file that is there is replaced.
    save_torrent: Option<(PathBuf, bool)>,
    /// What torrents tell, by their place in `torrents`.
    events: GatheredEvents,
    /// What the program ends with, unless all is well.
    failure: Option<Failure>,
    /// Why nothing may be coming, for the message when time is up.
    last_trouble: Option<String>,
    /// Bytes and pieces that came so far, and when that last changed.
    progress: (u64, Instant),
}

struct Torrent {
    handle: TorrentHandle,
    name: String,
    bar: Bar,
    started: Instant,
    state: State,
    /// The disk's trouble, while it lasts.
    disk: Option<DiskError>,
    /// Trackers of which nothing was heard yet.
    unheard: Vec<String>,
    /// The numbers that were shown last.
    shown: Option<bt_session::Status>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Checking or downloading.
    Going,
    /// All that is wanted is there, since then.
    Complete(Instant),
    /// Told to stop; complete before or not.
    Stopping {
        complete: bool,
    },
    Ended {
        complete: bool,
    },
}

impl State {
    const fn is_complete(self) -> bool {
        match self {
            Self::Going => false,
            Self::Complete(_) => true,
            Self::Stopping { complete } | Self::Ended { complete } => complete,
        }
    }
}

impl Torrent {
    /// Why nothing may be coming.
    fn cause(&self, trouble: Option<&str>) -> String {
        let unheard = match &self.unheard[..] {
            [] => None,
            [url] => Some(format!("no answer yet from {}", escape(url))),
            [url, others @ ..] => Some(format!(
                "no answer yet from {} and {} more trackers",
                escape(url),
                others.len()
            )),
        };
        let known = [trouble.map(str::to_owned), unheard];
        let known: Vec<String> = known.into_iter().flatten().collect();
        match (known.is_empty(), self.handle.status().stats.peers) {
            (false, _) => known.join("; "),
            (true, 0) => "no peer could be reached".to_owned(),
            (true, _) => "no connected peer sent what is missing".to_owned(),
        }
    }
}

/// The trackers that are going to be asked.
fn unheard<'a>(
    trackers: impl Iterator<Item = &'a String>,
    options: &TorrentOptions,
) -> Vec<String> {
    trackers.filter(|_| !options.no_tracker).cloned().collect()
}

/// Runs `work` on a runtime of its own, of one thread: torrents have others, and so has what would block it.
///
/// # Errors
/// Those of `work`.
pub(crate) fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .or_exit(Exit::Failed)?;
    let result = runtime.block_on(work);
    // Lookups of names and reads of a dead disk may hang; nobody waits for them any more.
    runtime.shutdown_background();
    result
}

/// Does the work of a command that tells events, and tells of its failure too, unless that was done or a signal is why.
/// All that was told is written when it is done, or nobody reads it.
///
/// # Errors
/// Those of `work`.
pub(crate) async fn telling(
    output: Output,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let result = work.await;
    if let Err(failure) = &result
        && !failure.told
        && !matches!(
            failure.exit,
            Exit::Interrupted | Exit::Terminated | Exit::HungUp
        )
    {
        let message = &failure.to_string();
        // If this cannot be told either, the exit code still speaks.
        let _told = output.event("error", None, &event::Words { message });
    }
    let finished = output.finish();
    result.and(finished)
}

/// Does `work` that a signal may interrupt: what comes before a swarm, which sees to signals itself.
///
/// # Errors
/// Those of `work`, or what the signal means.
pub(crate) async fn unless_stopped<T>(
    context: &Context,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut stop = context.stop.clone();
    tokio::select! {
        result = work => result,
        _ = stop.wait() => Err(context.stop.failure()),
    }
}

impl Swarm {
    /// A swarm without torrents. Says where it listens.
    ///
    /// # Errors
    /// If the port is taken, or stdout cannot be written.
    pub(crate) fn new(
        network: &NetworkArgs,
        output: Output,
        quiet: bool,
        goal: Goal,
    ) -> Result<Self, Failure> {
        let session =
            Session::new(network.session()).map_err(|error| Failure::new(Exit::Failed, error))?;
        for addr in session.local_addrs() {
            tracing::info!("listening on {addr}");
            output.event(
                "listening",
                None,
                &event::Listening {
                    addr: addr.to_string(),
                },
            )?;
        }
        Ok(Self {
            session,
            output,
            quiet,
            goal,
            torrents: Vec::new(),
            save_torrent: None,
            events: GatheredEvents::default(),
            failure: None,
            last_trouble: None,
            progress: (0, Instant::now()),
        })
    }

    /// Starts a torrent whose data is or will be in `dir`.
    ///
    /// # Errors
    /// If it was named twice, or stdout cannot be written.
    pub(crate) fn add(
        &mut self,
        metainfo: Metainfo,
        dir: &Path,
        options: TorrentOptions,
    ) -> Result<(), Failure> {
        let name = escape(metainfo.info.name());
        let total_length = metainfo.info.layout().total_length();
        let info_hash = Some(metainfo.info_hash);
        let metadata = event::Metadata {
            name: metainfo.info.name(),
            total_length,
        };
        self.output.event("metadata", info_hash, &metadata)?;
        let unheard = unheard(metainfo.trackers.iter().flatten(), &options);
        let added = self.session.add(metainfo, dir, options);
        let added = added.map_err(|error| Failure::new(Exit::Usage, format!("{name}: {error}")))?;
        self.follow(name, total_length, unheard, added);
        Ok(())
    }

    /// Starts a torrent of which only a magnet link is known.
    ///
    /// # Errors
    /// If it was named twice, or has no info hash that is of use.
    pub(crate) fn add_magnet(
        &mut self,
        magnet: Magnet,
        dir: &Path,
        options: TorrentOptions,
    ) -> Result<(), Failure> {
        let hash = magnet.info_hash.map(|hash| hash.to_string());
        let name = magnet.name.as_deref().map(escape).or(hash);
        let name = name.unwrap_or_default();
        let unheard = unheard(magnet.trackers.iter(), &options);
        let added = self.session.add_magnet(magnet, dir, options);
        let added = added.map_err(|error| {
            let exit = match error {
                SessionError::V2Only => Exit::Invalid,
                SessionError::Listen { .. } | SessionError::Duplicate { .. } | _ => Exit::Usage,
            };
            Failure::new(exit, format!("{name}: {error}"))
        })?;
        self.follow(name, 0, unheard, added);
        Ok(())
    }

    /// Where to save the first torrent that peers describe, and whether a file that is there is replaced.
    pub(crate) fn save_torrent_as(&mut self, path: PathBuf, force: bool) {
        self.save_torrent = Some((path, force));
    }

    fn follow(
        &mut self,
        name: String,
        total_length: u64,
        unheard: Vec<String>,
        (handle, events): (TorrentHandle, TorrentEvents),
    ) {
        let index = self.events.add(events);
        debug_assert_eq!(index, self.torrents.len());
        let is_shown = !self.quiet && !self.output.is_json() && index < bar::BARS_MAX;
        self.torrents.push(Torrent {
            bar: if is_shown {
                Bar::new(&name, total_length)
            } else {
                Bar::hidden()
            },
            handle,
            name,
            started: Instant::now(),
            state: State::Going,
            disk: None,
            unheard,
            shown: None,
        });
    }

    /// Peers said what the torrent is.
    fn described(&mut self, index: usize, metainfo: &Metainfo) -> Result<(), Failure> {
        let Some(torrent) = self.torrents.get_mut(index) else {
            return Ok(());
        };
        torrent.name = escape(metainfo.info.name());
        let total_length = metainfo.info.layout().total_length();
        torrent.bar.rename(&torrent.name, total_length);
        let metadata = event::Metadata {
            name: metainfo.info.name(),
            total_length,
        };
        let info_hash = torrent.handle.info_hash();
        if let Some(ratio) = self.goal.seed_ratio {
            let goal = Command::SetUploadGoal(Some(share(ratio, total_length)));
            torrent.handle.command(goal);
        }
        self.output.event("metadata", Some(info_hash), &metadata)?;
        if let Some((path, force)) = self.save_torrent.take()
            && let Err(failure) = save::save(&path, metainfo.bytes(), force)
        {
            self.error(info_hash, &format!("{:#}", failure.error))?;
            self.fail(failure);
        }
        Ok(())
    }

    /// Goes on until every torrent is done, or the person or the system wants to stop.
    ///
    /// # Errors
    /// The first failure of a torrent; [`Exit::Network`] if time ran out; what the signal means if a torrent was not
    /// complete when it came.
    pub(crate) async fn run(mut self, mut stop: Stop) -> Result<(), Failure> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leave_at = None;
        while self
            .torrents
            .iter()
            .any(|torrent| !matches!(torrent.state, State::Ended { .. }))
        {
            let shown = tokio::select! {
                exit = stop.wait(), if leave_at.is_none() => {
                    leave_at = Some(Instant::now() + STOP_PATIENCE);
                    self.signalled(exit);
                    Ok(())
                }
                (index, event) = self.events.next() => self.event(index, event),
                _ = tick.tick() => self.tick(),
            };
            if let Err(failure) = shown {
                // Nobody reads on. Trackers are told and the state is saved all the same.
                self.fail(failure);
                leave_at.get_or_insert(Instant::now() + STOP_PATIENCE);
                self.stop_all();
            }
            if leave_at.is_some_and(|at| Instant::now() >= at) {
                let message = "the disk takes too long to save the last state; the data is checked at the next start";
                tracing::warn!("{message}");
                if let Err(failure) = self
                    .output
                    .event("warning", None, &event::Words { message })
                {
                    self.fail(failure);
                }
                return self.failure.map_or(Ok(()), Err);
            }
        }
        self.session.shutdown().await;
        self.failure.map_or(Ok(()), Err)
    }

    fn signalled(&mut self, exit: Exit) {
        if self
            .torrents
            .iter()
            .any(|torrent| !torrent.state.is_complete())
        {
            let message = "stopped before it was done; what was verified is kept";
            self.fail(Failure::new(exit, message));
        }
        self.stop_all();
    }

    fn stop_all(&mut self) {
        (0..self.torrents.len()).for_each(|index| self.stop(index));
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// A torrent cannot go on. That counts even if it cannot be told.
    fn fatal(&mut self, info_hash: InfoHash, exit: Exit, message: String) -> Result<(), Failure> {
        let told = self.error(info_hash, &message);
        let mut failure = Failure::new(exit, message);
        failure.told = true;
        self.fail(failure);
        told
    }

    /// Tells one torrent to stop. Its last event follows.
    fn stop(&mut self, index: usize) {
        let Some(torrent) = self.torrents.get_mut(index) else {
            return;
        };
        if matches!(torrent.state, State::Stopping { .. } | State::Ended { .. }) {
            return;
        }
        torrent.state = State::Stopping {
            complete: torrent.state.is_complete(),
        };
        torrent.handle.command(Command::Stop);
    }

    fn tick(&mut self) -> Result<(), Failure> {
        self.output.overtake()?;
        let mut came = 0_u64;
        for torrent in &mut self.torrents {
            let status = torrent.handle.status();
            came += status.stats.bytes_done + u64::from(status.pieces_checked);
            // What is fetched to see whether the disk works again, and is lost, is no progress.
            if torrent.disk.is_none() {
                came += status.stats.downloaded;
            }
            // Of ten thousand torrents that are seeded most do nothing.
            let is_news = torrent.shown.replace(status) != Some(status);
            if !is_news && torrent.state != State::Going {
                continue;
            }
            torrent.bar.show(&status);
            if !matches!(torrent.state, State::Ended { .. }) {
                let progress = event::Progress::from(&status.stats);
                self.output
                    .progress(torrent.handle.info_hash(), &progress)?;
            }
        }
        if came != self.progress.0 {
            self.progress = (came, Instant::now());
        }
        for index in 0..self.torrents.len() {
            if self.has_seeded_enough(index) {
                self.stop(index);
            }
        }
        self.check_timeout()
    }

    fn has_seeded_enough(&self, index: usize) -> bool {
        let Some(torrent) = self.torrents.get(index) else {
            return false;
        };
        let State::Complete(since) = torrent.state else {
            return false;
        };
        self.goal
            .seed_time
            .is_some_and(|wanted| since.elapsed() >= wanted)
    }

    /// Gives up what is not complete if nothing came for too long.
    fn check_timeout(&mut self) -> Result<(), Failure> {
        let Some(timeout) = self.goal.timeout else {
            return Ok(());
        };
        if self.progress.1.elapsed() < timeout {
            return Ok(());
        }
        for index in 0..self.torrents.len() {
            let Some(torrent) = self.torrents.get(index) else {
                continue;
            };
            if torrent.state != State::Going {
                continue;
            }
            let (name, seconds) = (&torrent.name, timeout.as_secs());
            let (exit, message) = match (&torrent.disk, &self.last_trouble) {
                (Some(error), _) => (Exit::Disk, format!("{name}: {error}")),
                (None, trouble) => {
                    let cause = torrent.cause(trouble.as_deref());
                    let message = format!("{name}: nothing came for {seconds} s; {cause}");
                    (Exit::Network, message)
                }
            };
            let info_hash = torrent.handle.info_hash();
            self.stop(index);
            self.fatal(info_hash, exit, message)?;
        }
        Ok(())
    }
}
