//! What a torrent's owner and strangers leave for its task: commands, and connections whose handshake is done.
//!
//! **Invariant:** nobody who leaves something waits, and what waits is bounded: of the commands of a kind the last one, and
//! [`ACCEPTED_MAX`] connections. A torrent of which nobody wants anything keeps nothing here but some pointers.

use crate::handshake::Greeted;
use bt_peer::Command;
use core::mem::discriminant;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Connections that wait for the torrent's task. It takes them before what their peers send; one that is too busy for so
/// many has no use for more.
const ACCEPTED_MAX: usize = 64;

/// Something that was left.
#[derive(Debug)]
pub(crate) enum Item {
    /// By the owner.
    Command(Command),
    /// A peer dialled us.
    Accepted(Greeted),
}

/// Where it is left. Only the torrent's task takes from it.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Command>,
    accepted: VecDeque<Greeted>,
    /// The torrent is gone.
    closed: bool,
}

impl Inbox {
    /// Leaves a command. The last one of a kind holds.
    pub(crate) fn command(&self, command: Command) {
        let mut waiting = self.lock();
        let is_other = |other: &Command| discriminant(other) != discriminant(&command);
        waiting.commands.retain(is_other);
        waiting.commands.push_back(command);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Leaves a connection. If too many wait, the one that waited longest is closed: of a flood that is over, what comes
    /// behind it is not the victim.
    pub(crate) fn accept(&self, greeted: Greeted) {
        let mut waiting = self.lock();
        let mut oldest = None;
        if !waiting.closed {
            if waiting.accepted.len() >= ACCEPTED_MAX {
                oldest = waiting.accepted.pop_front();
            }
            waiting.accepted.push_back(greeted);
        }
        drop(waiting);
        drop(oldest);
        self.changed.notify_one();
    }

    /// The next thing that was left, commands first.
    pub(crate) async fn next(&self) -> Item {
        loop {
            if let Some(item) = self.take() {
                return item;
            }
            // A permit is kept for us if something comes before we wait.
            self.changed.notified().await;
        }
    }

    /// Returns once there is a command to stop, and takes nothing.
    pub(crate) async fn stop(&self) {
        while !self.lock().commands.contains(&Command::Stop) {
            self.changed.notified().await;
        }
    }

    /// The torrent is gone: what waits is thrown away, and connections that come are closed.
    pub(crate) fn close(&self) {
        *self.lock() = Waiting {
            closed: true,
            ..Waiting::default()
        };
    }

    fn take(&self) -> Option<Item> {
        let mut waiting = self.lock();
        if let Some(command) = waiting.commands.pop_front() {
            return Some(Item::Command(command));
        }
        let accepted = waiting.accepted.pop_front().map(Item::Accepted);
        if accepted.is_none() {
            // Nobody knows when the next one comes.
            (waiting.commands, waiting.accepted) = Default::default();
        }
        accepted
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::Bitfield;

    #[tokio::test]
    async fn of_each_kind_of_command_the_last_one_is_heard() {
        let inbox = Inbox::default();
        inbox.command(Command::SetPeersMax(1));
        inbox.command(Command::Want(Bitfield::full(1)));
        inbox.command(Command::SetPeersMax(2));
        let mut heard = Vec::new();
        while let Some(Item::Command(command)) = inbox.take() {
            heard.push(command);
        }
        let want = Command::Want(Bitfield::full(1));
        assert_eq!(heard, [want, Command::SetPeersMax(2)]);
        assert_eq!(inbox.lock().commands.capacity(), 0);
    }

    #[tokio::test]
    async fn a_stop_is_seen_by_who_waits_for_it_and_heard_by_who_comes_later() {
        let inbox = std::sync::Arc::new(Inbox::default());
        let seeing = std::sync::Arc::clone(&inbox);
        let seen = tokio::spawn(async move { seeing.stop().await });
        tokio::task::yield_now().await;
        inbox.command(Command::SetPeersMax(1));
        tokio::task::yield_now().await;
        assert!(!seen.is_finished());
        inbox.command(Command::Stop);
        seen.await.unwrap();
        let first = inbox.next().await;
        assert!(matches!(first, Item::Command(Command::SetPeersMax(1))));
        assert!(matches!(inbox.next().await, Item::Command(Command::Stop)));
    }

    #[tokio::test]
    async fn connections_that_wait_are_bounded_and_the_oldest_gives_way() {
        use bt_core::{InfoHash, PeerId};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let inbox = Inbox::default();
        for number in 0..=u16::try_from(ACCEPTED_MAX).unwrap() {
            let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            let (ours, _) = listener.accept().await.unwrap();
            drop(ours);
            inbox.accept(Greeted {
                stream,
                addr: (addr.ip(), number).into(),
                handshake: crate::handshake::ours(InfoHash([0; 20]), PeerId([0; 20]), false),
            });
        }
        assert_eq!(inbox.lock().accepted.len(), ACCEPTED_MAX);
        let Item::Accepted(greeted) = inbox.next().await else {
            panic!("no command was left")
        };
        assert_eq!(greeted.addr.port(), 1, "the second of all");
        inbox.close();
        inbox.accept(greeted);
        assert!(inbox.take().is_none(), "the torrent is gone");
    }
}
