//! The snapshot on disk: read when the tracker starts, written at intervals and when it stops.
//!
//! **Invariant:** the file at the path is always whole: a new one is written beside it, synced and renamed, and the one before
//! stays as `….old`. What cannot be read is renamed to `….bad`, said, and the one before it read instead; so a damaged file
//! costs what happened in two intervals, and a killed process what happened in one. A server that was dropped changes nothing
//! there any more, even if it was in the middle of writing.

use crate::shard::Shards;
use crate::state::{Secrets, State};
use bt_core::Time;
use bt_tracker::server::snapshot::{FRAME_MAX_BYTES, Header, Part, Reader, SnapshotError, Writer};
use bt_tracker::server::{Config, connection_id};
use core::time::Duration;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tracing::{info, warn};

/// The operator's alone: a snapshot tells who shares what, and holds the secret of the connection ids.
const MODE: u32 = 0o600;

/// What is read at a time: a frame and what stands around it.
const BUFFER_BYTES: usize = 2 * FRAME_MAX_BYTES;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// What a tracker begins with.
pub(crate) struct Begun {
    pub(crate) shards: Shards,
    pub(crate) secrets: Secrets,
    /// What its clock says at the start.
    pub(crate) clock: Time,
}

impl Begun {
    /// With nothing.
    pub(crate) fn empty(config: &Config, secrets: &Secrets) -> Self {
        Self {
            shards: Shards::new(config, secrets.seed),
            secrets: secrets.clone(),
            clock: Time::ZERO,
        }
    }

    /// With what a snapshot says, in the state of `now`, which is the time of the system: asked once its beginning is there, as
    /// whoever hands over writes it later than this waits for it. Nothing is read behind its end.
    pub(crate) fn read(
        from: &mut dyn Read,
        config: &Config,
        secrets: &Secrets,
        now: &dyn Fn() -> SystemTime,
    ) -> Result<Self, ReadError> {
        let mut begun = Self::empty(config, secrets);
        let mut with_peers = true;
        let mut parts = |part: Part<'_>| match part {
            Part::Header(header) => {
                let down = down_for(&header, now());
                // Who was silent because there was nobody to announce to is not blamed for it, unless all have gone.
                with_peers = down.unwrap_or_default() <= config.expiry;
                begun.clock = header.clock + down.unwrap_or_default();
                if down.is_some_and(|down| down < connection_id::LIFE_MAX) {
                    begun.secrets.connections = header.secret;
                }
            }
            Part::Swarms(records) => {
                for record in records {
                    begun.shards.restore(begun.clock, record, with_peers);
                }
            }
            Part::End => {}
        };
        let (mut reader, mut held) = (Reader::default(), Vec::new());
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let mut used = 0;
            while let Some(rest) = held.get(used..).filter(|rest| !rest.is_empty())
                && let Some((part, more)) = reader.read(rest)?
            {
                used += more;
                parts(part);
            }
            held.drain(..used);
            if reader.is_at_end() {
                return Ok(begun);
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => held.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        reader.finish()?;
        Ok(begun)
    }
}

fn nothing_follows(file: &mut File) -> Result<(), ReadError> {
    match file.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(SnapshotError::Trailing.into()),
    }
}

/// How long nobody was there, if the system's clock can tell.
fn down_for(header: &Header, now: SystemTime) -> Option<Duration> {
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(header.written_unix_secs);
    now.duration_since(written).ok()
}

/// Writes what the tracker keeps. Requests are answered meanwhile; returns how many bytes it was.
pub(crate) fn write(state: &State, to: &mut dyn Write) -> io::Result<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let header = Header {
        written_unix_secs: now.map_or(0, |now| now.as_secs()),
        clock: state.now(),
        secret: state.connection_secret,
    };
    let (mut out, mut total) = (Vec::new(), 0);
    let mut writer = Writer::begin(&header, &mut out);
    state.shards.export(&|| state.now(), &mut |portion| {
        writer.records(portion, &mut out);
        total += u64::try_from(out.len()).unwrap_or(0);
        let written = to.write_all(&out);
        out.clear();
        written
    })?;
    writer.end(&mut out);
    to.write_all(&out)?;
    to.flush()?;
    Ok(total + u64::try_from(out.len()).unwrap_or(0))
}

/// The file of snapshots.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    /// Held while one is written, so that two never write at once.
    turn: Mutex<()>,
    /// Whether a server is there whose snapshots these are; held while files are made, renamed or removed.
    in_service: Mutex<bool>,
    last: Mutex<Last>,
}

/// As long as this lives, snapshots are written.
#[derive(Debug)]
pub(crate) struct Service(Arc<State>);

impl Service {
    pub(crate) fn begin(state: Arc<State>) -> Self {
        if let Some(keeper) = &state.keeper {
            *keeper.in_service() = true;
        }
        Self(state)
    }
}

/// A thread that writes cannot be stopped. It finds out, and leaves the files to whoever begins next at the same path. This
/// waits for two renames at most.
impl Drop for Service {
    fn drop(&mut self) {
        if let Some(keeper) = &self.0.keeper {
            *keeper.in_service() = false;
        }
    }
}

/// What became of the snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Last {
    pub(crate) written: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    /// The tracker's clock.
    pub(crate) at: Option<Time>,
}

impl Keeper {
    /// Keeps snapshots at `path`.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        // Now, and not with the first snapshot minutes later. What is there is left alone: the tracker that this one takes
        // over from may be writing it.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(MODE);
        options.open(beside(path, ".new"))?;
        Ok(Self {
            path: path.to_owned(),
            turn: Mutex::default(),
            in_service: Mutex::default(),
            last: Mutex::default(),
        })
    }

    /// What the last snapshot says, or the one before it.
    ///
    /// # Errors
    /// The system does not let the file be read.
    pub(crate) fn read(&self, config: &Config, secrets: &Secrets) -> io::Result<Option<Begun>> {
        for path in [self.path.clone(), beside(&self.path, ".old")] {
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let begun = Begun::read(&mut file, config, secrets, &SystemTime::now);
            match begun.and_then(|begun| nothing_follows(&mut file).map(|()| begun)) {
                Ok(begun) => {
                    let totals = begun.shards.totals();
                    let peers = totals.seeders + totals.leechers;
                    info!(
                        "{}: {} torrents and {peers} peers are known from before",
                        path.display(),
                        totals.torrents
                    );
                    return Ok(Some(begun));
                }
                Err(ReadError::Io(error)) => return Err(error),
                Err(ReadError::Snapshot(error)) => {
                    let aside = beside(&self.path, ".bad");
                    warn!("{}: {error}; it is now {}", path.display(), aside.display());
                    fs::rename(&path, &aside)?;
                }
            }
        }
        Ok(None)
    }

    /// Writes a snapshot, and says so if it cannot.
    pub(crate) fn write(&self, state: &State) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.try_write(state);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                last.written += 1;
                last.bytes = bytes;
                last.at = Some(state.now());
                info!("snapshot written: {bytes} bytes");
            }
            Err(error) => {
                last.failed += 1;
                warn!("{}: no snapshot was written: {error}", self.path.display());
            }
        }
    }

    /// Returns how many bytes it was; `None` if the server has gone.
    fn try_write(&self, state: &State) -> io::Result<Option<u64>> {
        let Some(mut file) = self.make()? else {
            return Ok(None);
        };
        let written = write(state, &mut file).and_then(|bytes| file.sync_all().map(|()| bytes));
        let is_put = self.put(written.is_ok());
        let bytes = written?;
        Ok(is_put?.then_some(bytes))
    }

    /// A file of our own beside the path: whoever still writes to one of that name does not write to this.
    fn make(&self) -> io::Result<Option<File>> {
        let in_service = self.in_service();
        if !*in_service {
            return Ok(None);
        }
        let fresh = self.fresh();
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(MODE);
        options.open(&fresh).map(Some)
    }

    /// Puts the file in the place of the last one, if it is whole; else removes it. False if the server has gone meanwhile.
    fn put(&self, is_whole: bool) -> io::Result<bool> {
        let in_service = self.in_service();
        if !*in_service {
            return Ok(false);
        }
        let fresh = self.fresh();
        if !is_whole {
            // On a full disk it would only be in the way.
            let _ = fs::remove_file(&fresh);
            return Ok(true);
        }
        match fs::rename(&self.path, beside(&self.path, ".old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&fresh, &self.path)?;
        drop(in_service);
        // The names have to last too.
        let folder = self.path.parent().filter(|path| path.as_os_str() != "");
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(true)
    }

    fn fresh(&self) -> PathBuf {
        beside(&self.path, ".new")
    }

    fn in_service(&self) -> MutexGuard<'_, bool> {
        self.in_service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How it went.
    pub(crate) fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    fn set(keeper: &Keeper, in_service: bool) {
        *keeper.in_service() = in_service;
    }

    #[test]
    fn who_is_dropped_while_it_writes_leaves_the_files_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swarms");
        let read = |path: &Path| fs::read(path).unwrap();
        let first = Keeper::new(&path).unwrap();
        set(&first, true);
        let mut lost = first.make().unwrap().unwrap();
        lost.write_all(b"lost").unwrap();
        set(&first, false);

        let second = Keeper::new(&path).unwrap();
        set(&second, true);
        for said in [b"one", b"two"] {
            let mut file = second.make().unwrap().unwrap();
            lost.write_all(b"lost").unwrap();
            file.write_all(said).unwrap();
            // Neither half of it nor all.
            for is_whole in [false, true] {
                assert!(!first.put(is_whole).unwrap());
            }
            assert!(first.make().unwrap().is_none());
            assert!(second.put(true).unwrap());
            assert_eq!(read(&path), said);
        }
        assert_eq!(read(&beside(&path, ".old")), b"one");
        assert!(!beside(&path, ".new").exists());
    }

    #[test]
    fn who_comes_to_take_over_disturbs_no_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swarms");
        let old = Keeper::new(&path).unwrap();
        set(&old, true);
        let mut file = old.make().unwrap().unwrap();
        file.write_all(b"half").unwrap();
        let _new = Keeper::new(&path).unwrap();
        file.write_all(b" and half").unwrap();
        assert!(old.put(true).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"half and half");
    }

    /// Bytes that come at a certain time.
    struct Waiting<'a> {
        bytes: &'a [u8],
        until: u64,
        time: &'a Cell<u64>,
    }

    impl Read for Waiting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.time.set(self.until);
            self.bytes.read(buffer)
        }
    }

    #[test]
    fn how_long_nobody_was_there_decides_what_is_taken_over() {
        use bt_core::{InfoHash, PeerId};
        use bt_tracker::announce::{AnnounceRequest, Event};
        use bt_tracker::server::{Picked, Scope, Wanted};

        let config = Config::default();
        let written = Time::from_secs(1_000);
        let before = Begun::empty(
            &config,
            &Secrets {
                seed: 1,
                connections: [1; 16],
            },
        );
        let torrent = InfoHash([7; 20]);
        let mut request = AnnounceRequest::new(torrent, PeerId([1; 20]), 6881, 0);
        request.event = Event::Completed;
        let wanted = Wanted {
            scope: Scope::Both,
            ids: false,
            most: 0,
        };
        let source = "192.0.2.1:1".parse().unwrap();
        let shards = &before.shards;
        let answered =
            shards.announce_into(written, source, &request, wanted, &mut Picked::default());
        answered.unwrap();
        let header = Header {
            written_unix_secs: 1_000_000,
            clock: written,
            secret: before.secrets.connections,
        };
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&header, &mut bytes);
        let exported = shards.export(&|| written, &mut |portion| {
            writer.records(portion, &mut bytes);
            Ok(())
        });
        exported.unwrap();
        writer.end(&mut bytes);

        let fresh = Secrets {
            seed: 2,
            connections: [2; 16],
        };
        let (expiry, life) = (config.expiry.as_secs(), connection_id::LIFE_MAX.as_secs());
        // When it is read, in seconds since 1970; what the clock then says; whether peers and connection ids are still good.
        for (at, clock, peers, ids) in [
            (1_000_000, 1_000, 1, true),
            (1_000_000 + life - 1, 999 + life, 1, true),
            (1_000_000 + life, 1_000 + life, 1, false),
            (1_000_000 + expiry, 1_000 + expiry, 1, false),
            (1_000_000 + expiry + 1, 1_001 + expiry, 0, false),
            // The system's clock was set back: nobody knows how long it was.
            (999_999, 1_000, 1, false),
        ] {
            // Until the snapshot comes, it is earlier.
            let time = Cell::new(0);
            let mut from = Waiting {
                bytes: &bytes,
                until: at,
                time: &time,
            };
            let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(time.get());
            let begun = Begun::read(&mut from, &config, &fresh, &now).unwrap();
            assert_eq!(begun.clock, Time::from_secs(clock), "{at}");
            let totals = begun.shards.totals();
            assert_eq!((totals.seeders, totals.downloaded), (peers, 1), "{at}");
            let secret = if ids { [1; 16] } else { [2; 16] };
            assert_eq!(begun.secrets.connections, secret, "{at}");
        }
    }
}
