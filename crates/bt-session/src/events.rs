//! The events of one torrent on their way to its owner.
//!
//! **Invariant:** at most [`EVENTS_MAX`] wait, and the oldest is dropped for a newer one; none wait for an owner that is
//! gone, and an idle torrent's take no room. The last event is followed by the end.

use crate::handle::{EVENTS_MAX, TorrentEvent};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Where a torrent puts its events. When the last clone is dropped, they end.
#[derive(Clone, Debug)]
pub(crate) struct EventsIn(Arc<Entrance>);

#[derive(Debug)]
struct Entrance(Arc<Ring>);

/// The events of one torrent, from its start on.
#[derive(Debug)]
pub struct TorrentEvents(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<TorrentEvent>,
    /// One of the two ends is gone.
    closed: bool,
}

/// The two ends.
pub(crate) fn events() -> (EventsIn, TorrentEvents) {
    let ring = Arc::<Ring>::default();
    let entrance = Arc::new(Entrance(Arc::clone(&ring)));
    (EventsIn(entrance), TorrentEvents(ring))
}

impl EventsIn {
    /// Returns whether anybody is there to hear it.
    pub(crate) fn send(&self, event: TorrentEvent) -> bool {
        let Entrance(ring) = &*self.0;
        let mut state = ring.lock();
        if state.closed {
            return false;
        }
        if state.waiting.len() == EVENTS_MAX {
            state.waiting.pop_front();
        }
        state.waiting.push_back(event);
        drop(state);
        ring.changed.notify_one();
        true
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl TorrentEvents {
    /// The next event; `None` once the torrent is gone. Who asks too rarely misses the oldest.
    pub async fn next(&mut self) -> Option<TorrentEvent> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(event) = state.waiting.pop_front() {
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
                // Once they are all told, nobody knows when the next one comes.
                state.waiting = VecDeque::new();
            }
            // A permit is kept for us if something changes before we wait.
            self.0.changed.notified().await;
        }
    }
}

impl Drop for TorrentEvents {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting = VecDeque::new();
    }
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(number: usize) -> TorrentEvent {
        TorrentEvent::Warning {
            message: number.to_string(),
        }
    }

    #[tokio::test]
    async fn a_slow_owner_misses_the_oldest_and_nothing_else() {
        let (sender, mut events) = events();
        for number in 0..EVENTS_MAX + 2 {
            assert!(sender.send(warning(number)));
        }
        drop(sender);
        for number in 2..EVENTS_MAX + 2 {
            assert_eq!(events.next().await, Some(warning(number)));
        }
        assert_eq!(events.next().await, None);
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_an_event_and_by_the_end() {
        let (sender, mut events) = events();
        let owner = tokio::spawn(async move { (events.next().await, events.next().await) });
        tokio::task::yield_now().await;
        assert!(sender.clone().send(warning(1)));
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(owner.await.unwrap(), (Some(warning(1)), None));
    }

    #[test]
    fn nothing_is_kept_for_an_owner_that_is_gone() {
        let (sender, events) = events();
        drop(events);
        assert!(!sender.send(warning(1)));
        assert_eq!(sender.0.0.lock().waiting.capacity(), 0);
    }
}
