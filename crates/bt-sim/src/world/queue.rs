//! What is going to happen, in order of time and, within one moment, of its being planned.

use bt_core::Time;
use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of things planned for moments.
///
/// The heap holds places only, so that ordering it moves a few words and not what is planned.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    serial: u64,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            serial: 0,
        }
    }

    /// Plans something for a moment, behind all that is planned for it already.
    pub(super) fn push(&mut self, at: Time, item: T) {
        self.serial += 1;
        let place = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(place) {
            Some(slot) => *slot = Some(item),
            None => self.slots.push(Some(item)),
        }
        self.heap.push(Reverse((at, self.serial, place)));
    }

    /// Takes what comes next, if it comes by `end`.
    pub(super) fn pop(&mut self, end: Time) -> Option<(Time, T)> {
        let Reverse((at, _, place)) = *self.heap.peek()?;
        if at > end {
            return None;
        }
        self.heap.pop();
        self.free.push(place);
        let item = self.slots.get_mut(place)?.take()?;
        Some((at, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_and_then_in_order() {
        let mut queue = Queue::new();
        for (number, second) in [3, 1, 2, 1, 3].into_iter().enumerate() {
            queue.push(Time::from_secs(second), number);
        }
        let end = Time::from_secs(2);
        let mut came = Vec::new();
        while let Some((at, number)) = queue.pop(end) {
            assert!(at <= end);
            came.push(number);
            // A place that became free is used again, and disturbs no order.
            queue.push(Time::from_secs(9), 100 + number);
        }
        assert_eq!(came, [1, 3, 2]);
        while let Some((_, number)) = queue.pop(Time::MAX) {
            came.push(number);
        }
        assert_eq!(came, [1, 3, 2, 0, 4, 101, 103, 102]);
        assert_eq!(queue.slots.len(), 5);
    }
}
