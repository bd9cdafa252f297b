//! The events of one torrent on their way to its owner.
//!
//! **Invariant:** at most [`EVENTS_MAX`] wait, and the oldest is dropped for a newer one; none wait for an owner that is
//! gone, and an idle torrent's take no room. The last event is followed by the end.
//!
//! The owner is woken at once, except for a piece: a fast download has a thousand a second, and waking a thread for each
//! costs 3 % of its processor time. They wait for another event, the torrent's next tick, or [`PIECES_MAX`] of them.

use crate::handle::{EVENTS_MAX, TorrentEvent};
use bt_peer::Event;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Events that wait at most before the owner is woken, whatever they are: so few that none is dropped meanwhile.
const PIECES_MAX: usize = EVENTS_MAX / 4;

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
        let is_piece = matches!(event, TorrentEvent::Engine(Event::PieceDone { .. }));
        state.waiting.push_back(event);
        let can_wait = is_piece && state.waiting.len() < PIECES_MAX;
        drop(state);
        if !can_wait {
            ring.changed.notify_one();
        }
        true
    }

    /// Wakes the owner if anything waits.
    pub(crate) fn wake(&self) {
        let Entrance(ring) = &*self.0;
        if !ring.lock().waiting.is_empty() {
            ring.changed.notify_one();
        }
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

    type Wake = fn(&EventsIn);

    #[tokio::test]
    async fn pieces_wait_for_company() {
        let piece = |index| {
            let layout = bt_core::Layout::new(1 << 30, 1 << 20).unwrap();
            let piece = layout.piece(index).unwrap();
            TorrentEvent::Engine(Event::PieceDone { piece })
        };
        // How many of them wait when the owner is woken, and by what.
        let rows: [(&str, u32, Wake); 3] = [
            ("a tick", 3, EventsIn::wake),
            ("another event", 3, |events| {
                assert!(events.send(warning(1)))
            }),
            ("many", u32::try_from(PIECES_MAX).unwrap(), |_| ()),
        ];
        for (what, pieces, wake) in rows {
            let (sender, mut events) = events();
            let owner = tokio::spawn(async move { (events.next().await, events) });
            tokio::task::yield_now().await;
            for index in 0..pieces {
                assert!(sender.send(piece(index)));
                tokio::task::yield_now().await;
                let is_last = index + 1 == u32::try_from(PIECES_MAX).unwrap();
                assert_eq!(owner.is_finished(), is_last, "{what}");
            }
            wake(&sender);
            let (first, mut events) = owner.await.unwrap();
            assert_eq!(first, Some(piece(0)));
            for index in 1..pieces {
                assert_eq!(events.next().await, Some(piece(index)));
            }
        }
    }

    #[test]
    fn nothing_is_kept_for_an_owner_that_is_gone() {
        let (sender, events) = events();
        drop(events);
        assert!(!sender.send(warning(1)));
        assert_eq!(sender.0.0.lock().waiting.capacity(), 0);
    }
}
