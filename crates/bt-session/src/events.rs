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
    /// Where the owner waits, if he follows more torrents than this.
    gathered: Option<Call>,
}

/// A torrent's number among those that are followed together.
#[derive(Debug)]
struct Call {
    number: usize,
    ready: Arc<Ready>,
    /// It stands in line.
    called: bool,
}

/// The torrents that have something to tell, each once.
#[derive(Debug, Default)]
struct Ready {
    line: Mutex<VecDeque<usize>>,
    changed: Notify,
}

/// The events of many torrents: to follow ten thousand this way takes no task for each.
///
/// **Invariant:** a torrent that has something to tell, or has ended, stands in line. Who tells an event goes to its end.
#[derive(Debug, Default)]
pub struct GatheredEvents {
    torrents: Vec<Option<TorrentEvents>>,
    ready: Arc<Ready>,
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
        if !can_wait {
            ring.wake(state);
        }
        true
    }

    /// Wakes the owner if anything waits.
    pub(crate) fn wake(&self) {
        let Entrance(ring) = &*self.0;
        let state = ring.lock();
        if !state.waiting.is_empty() {
            ring.wake(state);
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        self.0.wake(state);
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
        state.gathered = None;
    }
}

impl GatheredEvents {
    /// Follows one more torrent. Returns its number: they count from 0.
    pub fn add(&mut self, events: TorrentEvents) -> usize {
        let number = self.torrents.len();
        let mut state = events.0.lock();
        state.gathered = Some(Call {
            number,
            ready: Arc::clone(&self.ready),
            called: false,
        });
        if !state.waiting.is_empty() || state.closed {
            events.0.wake(state);
        } else {
            drop(state);
        }
        self.torrents.push(Some(events));
        number
    }

    /// The next event of any torrent, and the torrent's number; `None` once that torrent is gone. For ever pending if all
    /// are. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> (usize, Option<TorrentEvent>) {
        loop {
            while let Some(number) = self.ready.next() {
                if let Some(told) = self.tell(number) {
                    return (number, told);
                }
            }
            // A permit is kept for us if something changes before we wait.
            self.ready.changed.notified().await;
        }
    }

    /// What the torrent has to tell, whose turn it is.
    fn tell(&mut self, number: usize) -> Option<Option<TorrentEvent>> {
        let place = self.torrents.get_mut(number)?;
        let ring = &place.as_ref()?.0;
        let mut state = ring.lock();
        if let Some(call) = &mut state.gathered {
            call.called = false;
        }
        let Some(event) = state.waiting.pop_front() else {
            let is_over = state.closed;
            drop(state);
            if is_over {
                *place = None;
            }
            return is_over.then_some(None);
        };
        if state.waiting.is_empty() {
            // Nobody knows when the next one comes.
            state.waiting = VecDeque::new();
        }
        if !state.waiting.is_empty() || state.closed {
            ring.wake(state);
        }
        Some(Some(event))
    }
}

impl Ready {
    fn push(&self, number: usize) {
        self.line().push_back(number);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<usize> {
        self.line().pop_front()
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Wakes the owner, wherever he waits.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let Some(call) = &mut state.gathered else {
            drop(state);
            self.changed.notify_one();
            return;
        };
        if core::mem::replace(&mut call.called, true) {
            return;
        }
        let (ready, number) = (Arc::clone(&call.ready), call.number);
        drop(state);
        ready.push(number);
    }

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

    #[tokio::test]
    async fn torrents_that_are_followed_together_tell_in_turn_all_that_one_alone_would() {
        let mut gathered = GatheredEvents::default();
        let (early, its) = events();
        assert!(early.send(warning(1)));
        assert_eq!(gathered.add(its), 0);
        let (late, its) = events();
        assert_eq!(gathered.add(its), 1);
        let (gone, its) = events();
        drop(gone);
        assert_eq!(gathered.add(its), 2);
        for number in [2, 3] {
            assert!(early.send(warning(number)));
        }
        assert!(late.send(warning(4)));
        drop(late);
        let mut told = Vec::new();
        for _ in 0..6 {
            told.push(gathered.next().await);
        }
        let expected = [
            (0, Some(warning(1))),
            (2, None),
            (1, Some(warning(4))),
            (0, Some(warning(2))),
            (1, None),
            (0, Some(warning(3))),
        ];
        assert_eq!(told, expected);
        // Now nobody stands in line.
        let owner = tokio::spawn(async move { (gathered.next().await, gathered.next().await) });
        tokio::task::yield_now().await;
        assert!(early.send(warning(5)));
        tokio::task::yield_now().await;
        assert!(!owner.is_finished());
        drop(early);
        assert_eq!(owner.await.unwrap(), ((0, Some(warning(5))), (0, None)));
    }

    #[tokio::test]
    async fn pieces_of_a_torrent_that_is_followed_with_others_wait_for_the_tick() {
        let layout = bt_core::Layout::new(1 << 30, 1 << 20).unwrap();
        let piece = |index| {
            let piece = layout.piece(index).unwrap();
            TorrentEvent::Engine(Event::PieceDone { piece })
        };
        let mut gathered = GatheredEvents::default();
        let (sender, its) = events();
        gathered.add(its);
        for index in 0..2 {
            assert!(sender.send(piece(index)));
        }
        assert_eq!(gathered.ready.next(), None);
        sender.wake();
        sender.wake();
        for index in 0..2 {
            assert_eq!(gathered.next().await, (0, Some(piece(index))));
        }
        assert_eq!(gathered.ready.next(), None);
        drop(gathered);
        assert!(!sender.send(warning(1)));
    }

    #[test]
    fn nothing_is_kept_for_an_owner_that_is_gone() {
        let (sender, events) = events();
        drop(events);
        assert!(!sender.send(warning(1)));
        assert_eq!(sender.0.0.lock().waiting.capacity(), 0);
    }
}
