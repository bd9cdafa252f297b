//! The engine's trackers: what they are told, and what they answer.

use super::{Engine, Output, Phase};
use crate::announcer::{Action, Identity, Numbers};
use crate::event::TrackerStatus;
use crate::peers::Source;
use crate::{Event, limits};
use bt_core::Time;
use bt_tracker::announce::{AnnounceFailure, AnnounceResponse};
use bt_tracker::client;

impl Engine {
    pub(super) fn announced(
        &mut self,
        now: Time,
        id: u64,
        result: Result<AnnounceResponse, AnnounceFailure>,
    ) {
        self.announce(now, client::Input::Answer { id, result });
    }

    /// Passes a fact to the announcer, and does what it then says.
    pub(super) fn announce(&mut self, now: Time, input: client::Input) {
        self.announcer.handle(now, input);
        while let Some(action) = self.announcer.poll(&self.identity(), self.numbers()) {
            match action {
                Action::Ask { id, url, request } => {
                    self.out.push_back(Output::Announce { id, url, request });
                }
                Action::Answered { url, result } => self.answered(now, url, result),
                Action::Stopped => {
                    if let Phase::Stopping { announced, .. } = &mut self.phase {
                        *announced = true;
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        now: Time,
        url: String,
        result: Result<AnnounceResponse, AnnounceFailure>,
    ) {
        let status = match &result {
            Ok(response) => TrackerStatus::Ok {
                peers: response.peers.len(),
                complete: response.complete,
                incomplete: response.incomplete,
                warning: response.warning.clone(),
            },
            Err(failure) => TrackerStatus::Failed {
                message: failure.to_string(),
            },
        };
        self.emit(Event::Tracker { url, status });
        if let Ok(response) = result {
            self.upload.sparing.told_of_seeders(response.complete);
            let own = self.config.peer_id;
            let peers = response.peers.into_iter().take(limits::TRACKER_PEERS_MAX);
            let others = peers.filter(|peer| peer.peer_id != Some(own));
            self.peers_found(now, others.map(|peer| peer.addr).collect(), Source::Tracker);
            // An answer ends the wish, satisfied or not, and a torrent that has nobody to dial has no tick to renew it.
            self.need_peers(now);
        }
    }

    const fn identity(&self) -> Identity {
        Identity {
            info_hash: self.info_hash,
            peer_id: self.config.peer_id,
            port: self.config.listen_port,
            key: self.config.key,
            ip: self.config.announce_ip,
        }
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            uploaded: self.counters.up.total(),
            downloaded: self.counters.down.total(),
            left: if self.info.is_known() {
                self.layout.total_length() - self.counters.bytes_done
            } else {
                limits::LEFT_UNKNOWN
            },
        }
    }
}
