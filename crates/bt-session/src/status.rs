//! A torrent's numbers on their way to its owner: one value that is overwritten.
//!
//! **Invariant:** whoever watches them hears of each change after the last that he saw, and of the end. A channel for that
//! takes 440 bytes, and of ten thousand torrents hardly one is watched, so it is made for who does.

use crate::handle::Status;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Where the torrent shows its numbers. When the last clone is dropped, there will be no others.
#[derive(Clone, Debug)]
pub(crate) struct StatusIn(Arc<Entrance>);

#[derive(Debug)]
struct Entrance(Arc<Shown>);

/// Where its owner sees them.
#[derive(Debug)]
pub(crate) struct Shown(Mutex<State>);

#[derive(Debug)]
struct State {
    status: Status,
    watched: Option<watch::Sender<Status>>,
    /// There will be no others.
    closed: bool,
}

/// The two ends.
pub(crate) fn status(first: Status) -> (StatusIn, Arc<Shown>) {
    let shown = Arc::new(Shown(Mutex::new(State {
        status: first,
        watched: None,
        closed: false,
    })));
    let entrance = Arc::new(Entrance(Arc::clone(&shown)));
    (StatusIn(entrance), shown)
}

impl StatusIn {
    /// The numbers that were shown last.
    pub(crate) fn get(&self) -> Status {
        self.0.0.get()
    }

    /// Changes them. Who watches is told if they are others then.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut state = self.0.0.lock();
        let before = state.status;
        change(&mut state.status);
        let now = state.status;
        if now == before {
            return;
        }
        if state.watched.as_ref().is_some_and(watch::Sender::is_closed) {
            // Nobody watches any more.
            state.watched = None;
        }
        if let Some(watched) = &state.watched {
            watched.send_replace(now);
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.watched = None;
    }
}

impl Shown {
    pub(crate) fn get(&self) -> Status {
        self.lock().status
    }

    /// The numbers as they change. The channel ends with the torrent.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        let mut state = self.lock();
        let status = state.status;
        if state.closed {
            return watch::channel(status).1;
        }
        let sender = || watch::Sender::new(status);
        state.watched.get_or_insert_with(sender).subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Phase;

    fn phase(phase: Phase) -> impl FnOnce(&mut Status) {
        move |status| status.phase = phase
    }

    #[tokio::test]
    async fn who_watches_hears_of_changes_and_of_the_end() {
        let (shown_in, shown) = status(Status::default());
        shown_in.update(phase(Phase::Running));
        assert_eq!(shown.get().phase, Phase::Running);
        let (mut first, mut second) = (shown.watch(), shown.watch());
        assert_eq!(first.borrow_and_update().phase, Phase::Running);
        shown_in.update(phase(Phase::Running));
        assert!(!first.has_changed().unwrap(), "nothing is new");
        shown_in.clone().update(phase(Phase::Stopping));
        for watching in [&mut first, &mut second] {
            watching.changed().await.unwrap();
            assert_eq!(watching.borrow_and_update().phase, Phase::Stopping);
        }
        drop(shown_in);
        assert!(first.changed().await.is_err() && second.changed().await.is_err());
        let mut late = shown.watch();
        assert_eq!(late.borrow().phase, Phase::Stopping);
        assert!(late.changed().await.is_err());
    }

    #[test]
    fn the_channel_is_there_as_long_as_somebody_watches() {
        let (shown_in, shown) = status(Status::default());
        let is_watched = || shown.lock().watched.is_some();
        assert!(!is_watched());
        let watching = shown.watch();
        shown_in.update(phase(Phase::Running));
        assert!(is_watched());
        drop(watching);
        shown_in.update(phase(Phase::Stopping));
        assert!(!is_watched());
        assert_eq!(shown.watch().borrow().phase, Phase::Stopping);
    }
}
