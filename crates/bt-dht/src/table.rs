//! The routing table (BEP 5, "routing table"): buckets of eight nodes, finer towards our own id.
//!
//! Bucket `i` holds nodes that share exactly `i` leading bits with us; the last one all that share more, and is split
//! when it is full. A node that answered within 15 minutes is *good*, or one that once answered and asked us within
//! 15 minutes; then it is *questionable*; after two unanswered queries in a row *bad*, and gives way to the next comer.
//!
//! **Invariants:** only nodes that answered us are in a bucket; each id, each address, and of public addresses each IP
//! is in the table once; a bucket has one node of a public /24 (IPv6: /64) at most.

use crate::id::{ID_BITS, NodeId, is_local, is_of_address, subnet};
use crate::krpc::Contact;
use bt_core::{Rng, Time};
use core::time::Duration;
use std::net::SocketAddr;

/// Nodes of a bucket, and how many nodes a search comes down to: `K` of BEP 5.
pub const K: usize = 8;
/// How long a node is good after it was heard of, and a bucket fresh after it changed (BEP 5).
pub const FRESH: Duration = Duration::from_secs(15 * 60);
/// Unanswered queries in a row after which a node is bad (BEP 5: "multiple").
const FAILURES_MAX: u8 = 2;
/// How long after a first silence a node is asked once more (BEP 5: "try once more before discarding").
const RECHECK: Duration = Duration::from_secs(60);
/// Nodes that wait for a place in a full bucket: as many as could ever be needed at once.
const SPARES_MAX: usize = K;

/// What BEP 5 calls a node's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// Heard of within 15 minutes.
    Good,
    /// Not heard of for longer.
    Questionable,
    /// It does not answer.
    Bad,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    contact: Contact,
    answered: Time,
    asked_us: Option<Time>,
    /// When we last asked whether it is still there.
    checked: Time,
    failures: u8,
    /// Its id fits its address (BEP 42).
    verified: bool,
}

impl Entry {
    fn heard(&self) -> Time {
        self.answered.max(self.asked_us.unwrap_or(Time::ZERO))
    }

    /// When it should be asked whether it is still there; never, if we know that it is not.
    fn check_at(&self) -> Time {
        match self.failures {
            0 => (self.heard() + FRESH).max(self.checked + RECHECK),
            n if n < FAILURES_MAX => self.checked + RECHECK,
            _ => Time::MAX,
        }
    }

    fn quality(&self, now: Time) -> Quality {
        if self.failures >= FAILURES_MAX {
            Quality::Bad
        } else if self.failures == 0 && now.since(self.heard()) < FRESH {
            Quality::Good
        } else {
            Quality::Questionable
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    entries: Vec<Entry>,
    /// Nodes that answered while the bucket was full, newest last.
    spares: Vec<Entry>,
    changed: Time,
}

/// The nodes of one family that we know.
#[derive(Clone, Debug)]
pub struct Table {
    own: NodeId,
    buckets: Vec<Bucket>,
}

impl Table {
    /// An empty table around our own id.
    #[must_use]
    pub fn new(now: Time, own: NodeId) -> Self {
        let first = Bucket {
            changed: now,
            ..Bucket::default()
        };
        Self {
            own,
            buckets: vec![first],
        }
    }

    /// Nodes in buckets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.entries.len()).sum()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.entries.is_empty())
    }

    /// How many nodes are good, questionable and bad.
    #[must_use]
    pub fn count(&self, now: Time) -> [usize; 3] {
        let mut counts = [0; 3];
        for entry in self.entries() {
            match entry.quality(now) {
                Quality::Good => counts[0] += 1,
                Quality::Questionable => counts[1] += 1,
                Quality::Bad => counts[2] += 1,
            }
        }
        counts
    }

    /// All nodes but the bad, nearest buckets first.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> {
        let buckets = self.buckets.iter().rev();
        buckets
            .flat_map(|bucket| &bucket.entries)
            .filter(|entry| entry.failures < FAILURES_MAX)
            .map(|entry| entry.contact)
    }

    /// A node answered us. Returns whom to ping, if that could make room for it.
    pub fn answered(&mut self, now: Time, contact: Contact) -> Option<Contact> {
        if contact.id == self.own {
            return None;
        }
        let index = self.index(&contact.id);
        let bucket = self.buckets.get_mut(index)?;
        let known = |entry: &&mut Entry| entry.contact.id == contact.id;
        if let Some(entry) = bucket.entries.iter_mut().find(known) {
            // An address is changed only if the old one is silent: an id can be stolen, a place that answers cannot.
            if entry.contact.addr != contact.addr {
                if entry.failures == 0 {
                    return None;
                }
                entry.contact = contact;
                entry.verified = is_of_address(&contact.id, contact.addr.ip());
            }
            entry.answered = now;
            entry.failures = 0;
            bucket.changed = now;
            return None;
        }
        self.forget_other_ids(&contact);
        let entry = Entry {
            contact,
            answered: now,
            asked_us: None,
            checked: Time::ZERO,
            failures: 0,
            verified: is_of_address(&contact.id, contact.addr.ip()),
        };
        self.insert(now, entry)
    }

    /// A node asked us something. True if it is unknown and a ping may win it for the table.
    pub fn asked(&mut self, now: Time, contact: Contact) -> bool {
        if contact.id == self.own {
            return false;
        }
        let index = self.index(&contact.id);
        let last = index + 1 == self.buckets.len();
        let Some(bucket) = self.buckets.get_mut(index) else {
            return false;
        };
        let entries = bucket.entries.iter_mut().chain(&mut bucket.spares);
        let known = entries.filter(|entry| entry.contact.addr == contact.addr);
        let mut count = 0;
        for entry in known {
            count += 1;
            entry.asked_us = Some(now);
        }
        let room = bucket.entries.len() < K
            || (last
                && self.own.shared_bits(&contact.id) >= index
                && bucket.spares.len() < SPARES_MAX)
            || bucket.entries.iter().any(|entry| entry.failures > 0);
        count == 0 && room
    }

    /// A node did not answer.
    pub fn failed(&mut self, now: Time, addr: SocketAddr) {
        for bucket in &mut self.buckets {
            bucket.spares.retain(|spare| spare.contact.addr != addr);
            let failed = |entry: &&mut Entry| entry.contact.addr == addr;
            let Some(entry) = bucket.entries.iter_mut().find(failed) else {
                continue;
            };
            entry.failures = entry.failures.saturating_add(1);
            if entry.quality(now) == Quality::Bad
                && let Some(spare) = bucket.spares.pop()
            {
                *entry = spare;
                bucket.changed = now;
            }
        }
    }

    /// The nodes nearest to a target that others may be told of: none that is bad.
    #[must_use]
    pub fn closest(&self, target: &NodeId, count: usize) -> Vec<Contact> {
        self.nearest(target, count, |entry| entry.failures == 0)
    }

    /// The nodes nearest to a target to begin a search with; bad ones only if there are no others.
    #[must_use]
    pub fn seeds(&self, target: &NodeId, count: usize) -> Vec<Contact> {
        let seeds = self.nearest(target, count, |entry| entry.failures < FAILURES_MAX);
        if seeds.is_empty() {
            return self.nearest(target, count, |_| true);
        }
        seeds
    }

    /// An id in the range of a bucket that has not changed for 15 minutes, which is taken to change now.
    pub fn stale(&mut self, now: Time, rng: &mut Rng) -> Option<NodeId> {
        let stale = |bucket: &Bucket| now.since(bucket.changed) >= FRESH;
        let index = self.buckets.iter().position(stale)?;
        let bucket = self.buckets.get_mut(index)?;
        bucket.changed = now;
        Some(self.own.sibling(index, rng))
    }

    /// When a bucket will have gone unchanged for 15 minutes.
    #[must_use]
    pub fn stale_at(&self) -> Time {
        let oldest = self.buckets.iter().map(|bucket| bucket.changed).min();
        oldest.unwrap_or(Time::ZERO) + FRESH
    }

    /// A questionable node to ask whether it is still there, which is taken to be asked now.
    pub fn questionable(&mut self, now: Time) -> Option<Contact> {
        let entries = self
            .buckets
            .iter_mut()
            .flat_map(|bucket| &mut bucket.entries);
        let due = entries.filter(|entry| entry.check_at() <= now);
        let entry = due.min_by_key(|entry| entry.check_at())?;
        entry.checked = now;
        Some(entry.contact)
    }

    /// When the next node will be due to be asked; [`Time::MAX`] if none ever.
    #[must_use]
    pub fn questionable_at(&self) -> Time {
        let due = self.entries().map(Entry::check_at);
        due.min().unwrap_or(Time::MAX)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    fn index(&self, id: &NodeId) -> usize {
        self.own
            .shared_bits(id)
            .min(self.buckets.len().saturating_sub(1))
    }

    /// Who is at this address under another id has changed it, or lies to one of us: the old one is no more.
    fn forget_other_ids(&mut self, contact: &Contact) {
        for bucket in &mut self.buckets {
            let other = |entry: &Entry| entry.contact.addr != contact.addr;
            bucket.entries.retain(other);
            bucket.spares.retain(other);
        }
    }

    fn insert(&mut self, now: Time, entry: Entry) -> Option<Contact> {
        if !self.has_room_for_network(&entry) {
            return None;
        }
        loop {
            let index = self.index(&entry.contact.id);
            let buckets = self.buckets.len();
            let bucket = self.buckets.get_mut(index)?;
            if bucket.entries.len() < K {
                bucket.entries.push(entry);
                bucket.changed = now;
                return None;
            }
            if index + 1 == buckets && buckets < ID_BITS {
                self.split(now);
                continue;
            }
            return replace(bucket, now, entry);
        }
    }

    /// One node of an IP in the table, and one of a network in a bucket; at home anything goes.
    fn has_room_for_network(&mut self, new: &Entry) -> bool {
        let ip = new.contact.addr.ip();
        if is_local(ip) {
            return true;
        }
        let index = self.index(&new.contact.id);
        for (at, bucket) in self.buckets.iter_mut().enumerate() {
            let same = |entry: &Entry| {
                let other = entry.contact.addr.ip();
                other == ip || (at == index && subnet(other) == subnet(ip))
            };
            // A node that does not answer holds no place for its network.
            let silent = |entry: &Entry| entry.failures > 0 || (new.verified && !entry.verified);
            if bucket
                .entries
                .iter()
                .any(|entry| same(entry) && !silent(entry))
            {
                return false;
            }
            bucket.entries.retain(|entry| !same(entry));
            bucket.spares.retain(|entry| !same(entry));
        }
        true
    }

    fn split(&mut self, now: Time) {
        let bits = self.buckets.len();
        let Some(last) = self.buckets.pop() else {
            return;
        };
        let own = self.own;
        let near = |entry: &Entry| own.shared_bits(&entry.contact.id) >= bits;
        let (near_entries, far_entries) = last.entries.into_iter().partition(near);
        let (near_spares, far_spares) = last.spares.into_iter().partition(near);
        let far = Bucket {
            entries: far_entries,
            spares: far_spares,
            changed: last.changed,
        };
        let near = Bucket {
            entries: near_entries,
            spares: near_spares,
            changed: now,
        };
        self.buckets.extend([far, near]);
    }

    fn nearest(&self, target: &NodeId, count: usize, is: impl Fn(&Entry) -> bool) -> Vec<Contact> {
        // The target's own bucket comes first, then all finer ones, whose nodes are equally far from it, then the
        // coarser ones one by one: so only as many nodes are sorted as are needed.
        let home = self.index(target);
        let finer = self.buckets.get(home + 1..).unwrap_or_default();
        let own = self.buckets.get(home..=home).unwrap_or_default();
        let coarser = self.buckets.get(..home).unwrap_or_default();
        let groups = [own, finer].into_iter().chain(coarser.chunks(1).rev());
        let mut nearest = Vec::with_capacity(count + K);
        for group in groups {
            let begin = nearest.len();
            let entries = group.iter().flat_map(|bucket| &bucket.entries);
            nearest.extend(entries.filter(|entry| is(entry)).map(|entry| entry.contact));
            let added = nearest.get_mut(begin..).unwrap_or_default();
            added.sort_unstable_by_key(|contact| contact.id.distance(target));
            if nearest.len() >= count {
                break;
            }
        }
        nearest.truncate(count);
        nearest
    }
}

/// Finds a place in a full bucket: that of a bad node, or of one whose id is not of its address if the new one's is.
/// Else the newcomer waits, and the questionable node that was silent for longest is to be pinged.
fn replace(bucket: &mut Bucket, now: Time, new: Entry) -> Option<Contact> {
    let worse = |entry: &&mut Entry| {
        entry.quality(now) == Quality::Bad || (new.verified && !entry.verified)
    };
    if let Some(entry) = bucket.entries.iter_mut().find(worse) {
        *entry = new;
        bucket.changed = now;
        return None;
    }
    bucket
        .spares
        .retain(|spare| spare.contact.id != new.contact.id);
    if bucket.spares.len() >= SPARES_MAX {
        bucket.spares.remove(0);
    }
    bucket.spares.push(new);
    let questionable = bucket
        .entries
        .iter()
        .filter(|entry| entry.quality(now) == Quality::Questionable);
    questionable
        .min_by_key(|entry| entry.answered)
        .map(|entry| entry.contact)
}

#[cfg(test)]
mod tests;
