//! What tests of small swarms share.

use bt_core::Layout;
use bt_sim::World;
use std::cell::Cell;
use std::rc::Rc;

pub(super) fn layout(mebibytes: u64) -> Layout {
    Layout::new(mebibytes << 20, 64 * 1024).unwrap()
}

/// Counts the lines of the trace that `fit` from here on.
pub(super) fn counted(world: &mut World, fits: impl Fn(&str) -> bool + 'static) -> Rc<Cell<usize>> {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    world.tell(move |line| counter.set(counter.get() + usize::from(fits(line))));
    count
}
