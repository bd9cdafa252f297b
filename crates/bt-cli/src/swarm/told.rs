//! What a session tells of its torrents, shown or written down, and what follows from it.

use super::{State, Swarm, event};
use crate::exit::{Exit, Failure};
use crate::progress;
use crate::text::escape;
use crate::units::format_size;
use bt_core::InfoHash;
use bt_core::disk::DiskErrorKind;
use bt_session::{Account, CloseReason, Event, TorrentEvent, TrackerStatus};
use std::net::SocketAddr;
use tokio::time::Instant;

impl Swarm {
    pub(super) fn event(
        &mut self,
        index: usize,
        event: Option<TorrentEvent>,
    ) -> Result<(), Failure> {
        let Some(torrent) = self.torrents.get_mut(index) else {
            return Ok(());
        };
        let info_hash = torrent.handle.info_hash();
        match event {
            None => {
                let complete = torrent.state.is_complete();
                torrent.state = State::Ended { complete };
                torrent.bar.finish();
                Ok(())
            }
            Some(TorrentEvent::Metadata(metainfo)) => self.described(index, &metainfo),
            Some(TorrentEvent::Checked {
                pieces_have,
                pieces,
                complete,
            }) => {
                let checked = event::Checked {
                    pieces_have,
                    pieces,
                };
                self.output.event("checked", Some(info_hash), &checked)?;
                self.checked(index, checked)?;
                if complete {
                    self.complete(index)
                } else {
                    Ok(())
                }
            }
            Some(TorrentEvent::Engine(Event::Complete)) => self.complete(index),
            Some(TorrentEvent::Engine(event)) => self.engine_event(index, event),
            Some(TorrentEvent::Warning { message }) => self.warn(info_hash, &message),
            Some(TorrentEvent::Failed(failure)) => self.failed(index, failure),
            Some(TorrentEvent::Stopped) => {
                let stats = torrent.handle.status().stats;
                let stopped = event::Stopped {
                    downloaded: stats.downloaded,
                    uploaded: stats.uploaded,
                };
                self.output.event("stopped", Some(info_hash), &stopped)
            }
        }
    }

    /// Whoever only seeds wants to know if there is less than he thinks.
    fn checked(&mut self, index: usize, checked: event::Checked) -> Result<(), Failure> {
        let Some(torrent) = self.torrents.get(index) else {
            return Ok(());
        };
        let (name, info_hash) = (&torrent.name, torrent.handle.info_hash());
        let event::Checked {
            pieces_have,
            pieces,
        } = checked;
        if self.goal.only_seed && pieces_have == 0 && pieces > 0 {
            let message =
                format!("{name}: none of its data is there; does -d name the right folder?");
            self.stop(index);
            self.fatal(info_hash, Exit::Failed, message)?;
        } else if self.goal.only_seed && pieces_have < pieces {
            let message =
                format!("{name}: only {pieces_have} of {pieces} pieces are there and right");
            self.warn(info_hash, &message)?;
        } else {
            tracing::info!("{name}: {pieces_have} of {pieces} pieces are there");
        }
        Ok(())
    }

    fn engine_event(&mut self, index: usize, event: Event) -> Result<(), Failure> {
        let Some(torrent) = self.torrents.get_mut(index) else {
            return Ok(());
        };
        let info_hash = torrent.handle.info_hash();
        match event {
            // Complete is handled where it can stop the torrent; the session says itself when it has stopped.
            Event::PieceDone { .. } | Event::Complete | Event::Stopped => Ok(()),
            Event::Tracker { url, status } => {
                match status {
                    // While one works, no other is asked (BEP 12).
                    TrackerStatus::Ok { .. } => torrent.unheard.clear(),
                    TrackerStatus::Failed { .. } => torrent.unheard.retain(|other| *other != url),
                }
                self.tracker(info_hash, &url, &status)
            }
            Event::Banned { addr, reason } => {
                self.warn(info_hash, &format!("{addr} is banned: {reason}"))
            }
            Event::PeerGone {
                addr,
                client,
                account,
                reason,
            } => self.peer_gone(info_hash, addr, client.as_deref(), account, &reason),
            Event::HashFailure { piece } => {
                let message = format!("piece {piece} came with wrong bytes; it is fetched again");
                self.warn(info_hash, &message)
            }
            Event::UploadFailed { piece, error } => {
                self.warn(info_hash, &format!("piece {piece} cannot be read: {error}"))
            }
            Event::DiskRecovered => {
                torrent.disk = None;
                self.warn(info_hash, "the disk works again")
            }
            Event::UploadGoalReached => {
                self.stop(index);
                Ok(())
            }
            Event::DiskTrouble(error) => {
                let next = match error.kind {
                    DiskErrorKind::Full => "going on when there is space",
                    DiskErrorKind::Denied
                    | DiskErrorKind::Missing
                    | DiskErrorKind::InTheWay
                    | DiskErrorKind::Io => "trying again",
                };
                let message = format!("{error}; {next}");
                torrent.disk = Some(error);
                self.warn(info_hash, &message)
            }
            // The torrent takes leave, and then says that it failed.
            Event::DiskBroken(_) => Ok(()),
        }
    }

    fn complete(&mut self, index: usize) -> Result<(), Failure> {
        let Some(torrent) = self.torrents.get_mut(index) else {
            return Ok(());
        };
        if torrent.state != State::Going {
            return Ok(());
        }
        torrent.state = State::Complete(Instant::now());
        let stats = torrent.handle.status().stats;
        let seconds = torrent.started.elapsed().as_secs_f64();
        let is_whole = stats.bytes_done == stats.total_length;
        let what = if is_whole {
            "complete and verified"
        } else if self.goal.only_seed {
            "what is there is verified, and seeded"
        } else {
            "all that is wanted is there and verified"
        };
        let how = match stats.downloaded {
            0 => String::new(),
            bytes => format!(", {} downloaded in {seconds:.1} s", format_size(bytes)),
        };
        let line = format!("{}: {what}{how}", torrent.name);
        progress::bars().suspend(|| self.output.line(line))?;
        // Who seeds a part has been told how much it is, and never gets the rest.
        if is_whole || !self.goal.only_seed {
            let complete = event::Complete {
                downloaded: stats.downloaded,
                uploaded: stats.uploaded,
                wasted: stats.wasted,
                hash_failures: stats.hash_failures,
                seconds,
            };
            let info_hash = torrent.handle.info_hash();
            self.output.event("complete", Some(info_hash), &complete)?;
        }
        if !self.goal.seed {
            self.stop(index);
        }
        Ok(())
    }

    fn failed(&mut self, index: usize, failure: bt_session::Failure) -> Result<(), Failure> {
        let Some(torrent) = self.torrents.get_mut(index) else {
            return Ok(());
        };
        let hint = match &failure {
            bt_session::Failure::Strange { .. } => {
                "; nothing was changed. -d names another folder, --force replaces what is there"
            }
            bt_session::Failure::InUse { .. } => {
                "; wait for it or stop it, or name another folder with -d"
            }
            bt_session::Failure::Disk(_)
            | bt_session::Failure::Metadata(_)
            | bt_session::Failure::Selection(_)
            | bt_session::Failure::Bug { .. } => "",
        };
        let message = format!("{}: {failure}{hint}", torrent.name);
        let info_hash = torrent.handle.info_hash();
        let exit = match failure {
            bt_session::Failure::Disk(_) => Exit::Disk,
            bt_session::Failure::Metadata(_) => Exit::Invalid,
            bt_session::Failure::Selection(_) => Exit::Usage,
            bt_session::Failure::InUse { .. }
            | bt_session::Failure::Strange { .. }
            | bt_session::Failure::Bug { .. } => Exit::Failed,
        };
        self.fatal(info_hash, exit, message)
    }

    fn tracker(
        &mut self,
        info_hash: InfoHash,
        url: &str,
        status: &TrackerStatus,
    ) -> Result<(), Failure> {
        let shown = escape(url);
        let (status, peers, message) = match status {
            TrackerStatus::Ok { peers, warning, .. } => {
                tracing::info!("{shown}: {peers} peers");
                if let Some(warning) = warning {
                    tracing::warn!("{shown}: {}", escape(warning));
                }
                ("ok", Some(*peers), warning.as_deref())
            }
            TrackerStatus::Failed { message } => {
                tracing::warn!("{shown}: {}", escape(message));
                self.last_trouble = Some(format!("{url}: {message}"));
                ("failed", None, Some(message.as_str()))
            }
        };
        let tracker = event::Tracker {
            url,
            status,
            peers,
            message,
        };
        self.output.event("tracker", Some(info_hash), &tracker)
    }

    fn peer_gone(
        &self,
        info_hash: InfoHash,
        addr: SocketAddr,
        client: Option<&str>,
        account: Account,
        reason: &CloseReason,
    ) -> Result<(), Failure> {
        let Account {
            served,
            uploaded,
            wasted,
            bad_pieces,
            over_claimed,
        } = account;
        tracing::info!(
            "{addr} ({}): {} from it, {} to it, {} in vain, {bad_pieces} bad pieces, \
             {over_claimed} blocks not given; {}",
            client.unwrap_or("unknown program"),
            format_size(served),
            format_size(uploaded),
            format_size(wasted),
            escape(&reason.to_string()),
        );
        let peer = event::Peer {
            addr: addr.to_string(),
            client,
            served,
            uploaded,
            wasted,
            bad_pieces,
            over_claimed,
            reason: reason.to_string(),
        };
        self.output.event("peer", Some(info_hash), &peer)
    }

    pub(super) fn warn(&self, info_hash: InfoHash, message: &str) -> Result<(), Failure> {
        tracing::warn!("{}", escape(message));
        self.output
            .event("warning", Some(info_hash), &event::Words { message })
    }

    /// The person sees it as the program's last words.
    pub(super) fn error(&self, info_hash: InfoHash, message: &str) -> Result<(), Failure> {
        self.output
            .event("error", Some(info_hash), &event::Words { message })
    }
}
