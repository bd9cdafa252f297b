//! Keeping the routing table alive (BEP 5, "routing table"): finding our neighbours, and buckets that nobody touches.

use super::{Node, Purpose};
use crate::contract::Event;
use crate::id::{NodeId, is_of_address, of_address};
use crate::krpc::Method;
use crate::lookup::UNKNOWN_MAX;
use crate::table::{K, Table};
use bt_core::Time;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

/// How soon the neighbours are looked for again while there are fewer than eight nodes; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// And how seldom it gets. In a network of five nodes that is how often one looks for a sixth.
const RETRY_MAX: Duration = Duration::from_secs(10 * 60);
/// Searches for the table's sake at a time: there is no hurry.
const UPKEEPS_MAX: usize = 2;
/// From one check of a questionable node to the next. A hundred nodes in a quarter of an hour are one in nine seconds.
const CHECK_SPACING: Duration = Duration::from_secs(2);
/// Places that are remembered, where nodes may be.
const BOOTSTRAP_MAX: usize = 200;

/// What is still to be done for the table.
#[derive(Clone, Debug)]
pub(super) struct Upkeep {
    bootstrap: Vec<SocketAddr>,
    /// When to look for neighbours again if there are too few.
    retry_at: Time,
    retry_after: Duration,
    /// When another questionable node may be checked.
    check_at: Time,
    first: bool,
}

impl Upkeep {
    pub(super) fn new(mut bootstrap: Vec<SocketAddr>) -> Self {
        bootstrap.truncate(BOOTSTRAP_MAX);
        Self {
            bootstrap,
            retry_at: Time::ZERO,
            retry_after: RETRY_MIN,
            check_at: Time::ZERO,
            first: true,
        }
    }

    /// More places. They are looked at as soon as there is need.
    pub(super) fn remember(&mut self, now: Time, places: Vec<SocketAddr>) {
        let new = |place: &SocketAddr| !self.bootstrap.contains(place);
        let mut new: Vec<SocketAddr> = places.into_iter().filter(new).collect();
        // The newest are the likeliest to be there.
        new.append(&mut self.bootstrap);
        new.truncate(BOOTSTRAP_MAX);
        self.bootstrap = new;
        (self.retry_at, self.retry_after) = (now, RETRY_MIN);
    }

    /// Where nodes may be.
    pub(super) fn bootstrap(&self) -> &[SocketAddr] {
        &self.bootstrap
    }

    /// True once.
    pub(super) fn first(&mut self) -> bool {
        core::mem::take(&mut self.first)
    }
}

impl Node {
    /// Does what is due.
    pub(super) fn keep_up(&mut self, now: Time) {
        if now >= self.upkeep.check_at
            && let Some(contact) = self.table.questionable(now)
        {
            self.ask(now, contact.addr, Method::Ping, Purpose::Meet);
            self.upkeep.check_at = now + CHECK_SPACING;
        }
        while self.searches.upkeeps() < UPKEEPS_MAX {
            if self.is_lonely() && now >= self.upkeep.retry_at {
                self.find_neighbours(now);
                self.upkeep.retry_at = now + self.upkeep.retry_after;
                self.upkeep.retry_after = (self.upkeep.retry_after * 2).min(RETRY_MAX);
            } else if !self.table.is_empty()
                && let Some(target) = self.table.stale(now, &mut self.rng)
            {
                self.search_for_table(now, target, &[]);
            } else {
                return;
            }
        }
    }

    /// When something will be due.
    pub(super) fn upkeep_at(&self) -> Option<Time> {
        let check = self.table.questionable_at().max(self.upkeep.check_at);
        let check = (check < Time::MAX).then_some(check);
        check.into_iter().chain(self.search_due_at()).min()
    }

    fn search_due_at(&self) -> Option<Time> {
        if self.searches.upkeeps() >= UPKEEPS_MAX {
            // The end of one of them comes first, and brings us here again.
            return None;
        }
        let retry = self.is_lonely().then_some(self.upkeep.retry_at);
        let stale = (!self.table.is_empty()).then(|| self.table.stale_at());
        [retry, stale].into_iter().flatten().min()
    }

    fn is_lonely(&self) -> bool {
        let known = !self.upkeep.bootstrap.is_empty() || !self.table.is_empty();
        known && self.table.len() < K
    }

    fn find_neighbours(&mut self, now: Time) {
        let mut places = self.upkeep.bootstrap.clone();
        places.retain(|addr| addr.is_ipv6() == self.ipv6);
        // Not always the same few of an old list.
        self.rng.shuffle(&mut places);
        places.truncate(UNKNOWN_MAX);
        self.search_for_table(now, self.id, &places);
    }

    /// Others see us at `ip`. If our id does not fit it, we get one that does (BEP 42, "bootstrapping").
    pub(super) fn seen_at(&mut self, now: Time, ip: IpAddr) {
        if ip.is_ipv6() != self.ipv6 {
            return;
        }
        if !is_of_address(&self.id, ip) {
            let id = of_address(ip, &mut self.rng);
            self.change_id(now, id);
        }
        let id = self.id;
        self.emit(Event::ExternalAddress { ip, id });
    }

    fn change_id(&mut self, now: Time, id: NodeId) {
        self.id = id;
        let known: Vec<_> = self.table.contacts().collect();
        self.table = Table::new(now, id);
        for contact in known {
            // Whoever finds no room now will be met again.
            let _ = self.table.answered(now, contact);
        }
        self.find_neighbours(now);
    }
}
