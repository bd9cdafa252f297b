//! Bugs to plant: small changes of the engine that a test or the simulation must find.
//!
//! **Invariant:** each text stands in its file exactly once. `cargo xtask tidy` looks, so that a change of the sources
//! takes its plants along: give the plant the new text, or another bug of the same kind.

use std::path::Path;

use anyhow::{Context, Result};

/// A bug.
pub(super) struct Plant {
    pub(super) name: &'static str,
    /// The file, from the root.
    pub(super) file: &'static str,
    pub(super) old: &'static str,
    pub(super) new: &'static str,
}

impl Plant {
    /// The crate that it is a bug of.
    pub(super) fn package(&self) -> Result<&'static str> {
        let folder = self.file.split('/').nth(1);
        folder.context("a plant's file lies in a crate")
    }
}

/// The plants whose texts do not stand once in their files, with how often they do.
pub(crate) fn missing(root: &Path) -> Vec<(&'static str, &'static str, usize)> {
    let count = |plant: &Plant| {
        let text = std::fs::read_to_string(root.join(plant.file)).unwrap_or_default();
        text.matches(plant.old).count()
    };
    let counted = PLANTS
        .iter()
        .map(|plant| (plant.file, plant.name, count(plant)));
    counted.filter(|(_, _, count)| *count != 1).collect()
}

macro_rules! plants {
    ($($name:literal in $file:literal: $old:literal => $new:literal;)+) => {
        &[$(Plant {
            name: $name,
            file: $file,
            old: $old,
            new: $new,
        }),+]
    };
}

#[rustfmt::skip]
pub(super) const PLANTS: &[Plant] = plants! {
    // Timeouts.
    "request timeout dropped" in "crates/bt-peer/src/requests.rs":
        "now - self.progress >= REQUEST_TIMEOUT || now - oldest.at >= REQUEST_AGE_MAX" => "oldest.at > now";
    "snub forgotten" in "crates/bt-peer/src/requests.rs":
        "pub const fn snub(&mut self) {\n        self.snubbed = true;" =>
        "pub const fn snub(&mut self) {\n        self.snubbed = false;";
    "snubbed peers ask first" in "crates/bt-peer/src/engine/download.rs":
        "conn.is_some_and(|conn| conn.requests.is_snubbed())" => "conn.is_none()";
    "no keep-alive" in "crates/bt-peer/src/engine/swarm.rs":
        "now - conn.sent_at >= KEEP_ALIVE" => "now - conn.sent_at >= KEEP_ALIVE * 100";
    "silent peers are kept" in "crates/bt-peer/src/engine/swarm.rs":
        "if silent >= SILENCE_MAX || (owing && silent >= SILENCE_OWING_MAX) {" => "if silent >= SILENCE_MAX * 100 {";
    "no pause after a reject" in "crates/bt-peer/src/requests.rs":
        "self.paused_until = now + pause.min(REJECT_PAUSE_MAX);" => "self.paused_until = now;\n            let _ = pause;";
    "failed calls are repeated at once" in "crates/bt-peer/src/peers.rs":
        "let span = BACK_OFF_MIN.saturating_mul(1 << doublings);" => "let span = Duration::from_millis(1 << (doublings / 8));";
    // Requests and their accounting.
    "cancelled request stays counted" in "crates/bt-peer/src/engine/download.rs":
        "if conn.requests.cancel(block) {\n            self.download.outstanding -= 1;" => "if conn.requests.cancel(block) {";
    "cancel not sent" in "crates/bt-peer/src/engine/download.rs":
        "self.cancel_request(now, other, block);" => "let _ = other;";
    "cancelled block is a fault when it comes" in "crates/bt-peer/src/requests.rs":
        "if cancelled {\n            self.remember(block);" => "if !cancelled {\n            self.remember(block);";
    "requests of a lost connection are not given back" in "crates/bt-peer/src/engine/swarm.rs":
        "self.picker.release_all(id);" => "";
    "rejected block is not asked of others" in "crates/bt-peer/src/engine/download.rs":
        "self.picker.release(id, block);\n                self.download.released = true;" => "";
    "endgame does not wait" in "crates/bt-peer/src/engine/download.rs":
        "let patience = patience.clamp(ENDGAME_PATIENCE_MIN, ENDGAME_PATIENCE_MAX);" => "let patience = patience * 0;";
    "a queue is not bounded by a slow disk" in "crates/bt-peer/src/engine/disk.rs":
        "if self.pending_bytes >= WRITES_MAX_BYTES {" => "if self.pending_bytes > WRITES_MAX_BYTES * 1_000 {";
    // What peers are told.
    "have lost" in "crates/bt-peer/src/engine/disk.rs":
        "if !has && !self" => "if !has && conn.peer_interested && !self";
    "interest not told when a have comes" in "crates/bt-peer/src/engine/receive.rs":
        "if needed {\n            self.update_interest(now, id);" => "if needed {";
    "fast extension not negotiated" in "crates/bt-peer/src/engine/receive.rs":
        "if message.is_fast_extension() && !conn.fast {" => "if message.is_fast_extension() && conn.fast && conn.begun && !conn.fast {";
    "a choke under the fast extension drops requests" in "crates/bt-peer/src/engine/receive.rs":
        "if !conn.fast {\n            self.drop_requests(id);" => "if conn.fast {\n            self.drop_requests(id);";
    "a lost piece is not taken back" in "crates/bt-peer/src/engine/dont_have.rs":
        "if let Some(id) = conn.speaks.dont_have\n" => "if let Some(id) = conn.speaks.dont_have.filter(|_| conn.shown.is_some())\n";
    "who greets late hears of no lost piece" in "crates/bt-peer/src/engine/extended.rs":
        "self.withdraw_late(now, id);" => "let _ = &self.out;";
    "who lost a piece is not told that it is here" in "crates/bt-peer/src/engine/dont_have.rs":
        "&& self.disk.trusts(piece) && !self.upload.super_seeding" => "&& self.upload.super_seeding";
    "a lost piece stays queued for peers" in "crates/bt-peer/src/engine/dont_have.rs":
        "conn.uploads.clear(|block| block.piece != piece);" => "conn.uploads.clear(|block| block.length > 0);";
    "what a peer lost is waited for" in "crates/bt-peer/src/engine/dont_have.rs":
        "let blocks = conn.requests.cancel_piece(now, piece);" => "let blocks: Vec<bt_core::Block> = Vec::new();";
    "what a peer lost counts as had by it" in "crates/bt-peer/src/picker/mod.rs":
        "self.availability.remove_piece(had, piece);" => "let _ = had;";
    "a piece is kept for who lost it" in "crates/bt-peer/src/picker/mod.rs":
        "if let Some(partial) = self.partials.get_mut(&piece) {\n            partial.owner = partial.owner.filter(|owner| *owner != conn);" =>
        "if let Some(partial) = self.partials.get_mut(&piece) {\n            partial.owner = partial.owner.or(Some(conn));";
    // Verification and blame.
    "a bad piece counts" in "crates/bt-peer/src/engine/disk.rs":
        "self.picker.checked(piece, false);\n        self.download.released = true;\n        self.ban_all(now, liars);" =>
        "self.picker.checked(piece, true);\n        self.download.released = true;\n        self.ban_all(now, liars);";
    "an unreadable piece is served on" in "crates/bt-peer/src/engine/disk.rs":
        "self.disk.doubted.insert(piece, Recheck::Ordered);" => "let _ = Recheck::Ordered;";
    "a failed disk is never tried again" in "crates/bt-peer/src/engine/disk.rs":
        "&& now >= retry_at" => "&& now >= retry_at + DISK_RETRY_MAX * 1_000";
    "everybody in a bad piece is blamed" in "crates/bt-peer/src/smart_ban.rs":
        "right.is_some_and(|right| *right != record.digest)" => "right.is_some()";
    "a lone liar is not blamed" in "crates/bt-peer/src/smart_ban.rs":
        "guilty.push(*first);" => "let _ = first;";
    "a ban is forgotten" in "crates/bt-peer/src/engine/swarm.rs":
        "if self.peers.is_banned(now, addr.ip()) || self.banned_ids.contains(&peer_id) {" => "if self.peers.is_banned(now, addr.ip()) && peer_id == self.config.peer_id {";
    "parole is open to all" in "crates/bt-peer/src/picker/partial.rs":
        "!self.parole || self.owner.is_none_or(|owner| owner == conn)" => "self.slots.len() < usize::MAX || self.owner == Some(conn)";
    // Choking.
    "choked peers are served" in "crates/bt-peer/src/engine/upload.rs":
        "!conn.am_choking || conn.use_allowance(block)" => "!conn.am_choking || !conn.use_allowance(block)";
    "slots are not counted" in "crates/bt-peer/src/engine/slots.rs":
        "let free = slots.saturating_sub(self.slots_taken(now));" => "let free = slots + 100 - self.slots_taken(now).min(slots);";
    "completion is not told again" in "crates/bt-peer/src/engine/extended.rs":
        "is_some_and(|told| told != self.is_upload_only())" => "is_some_and(|told| told && !self.complete)";
    "what a choked peer asked stays queued" in "crates/bt-peer/src/engine/slots.rs":
        "uploads.clear(|block| conn.fast && conn.use_allowance(block));" => "uploads.clear(|block| block.length > 0);";
    "the optimistic unchoke never rotates" in "crates/bt-peer/src/choker.rs":
        "let rotate = self.rounds.is_multiple_of(OPTIMISTIC_ROUNDS);" => "let rotate = self.rounds == 0 && OPTIMISTIC_ROUNDS > 0;";
    // Connections.
    "both ends close one of two connections" in "crates/bt-peer/src/engine/swarm.rs":
        "race && dialled_by_us == (own < known.peer_id)" => "race && dialled_by_us";
    "seeders stay connected" in "crates/bt-peer/src/engine/swarm.rs":
        "if self.complete && conn.is_some_and(|conn| conn.begun && conn.is_seeder()) {" => "if !self.complete && conn.is_some_and(|conn| conn.begun && conn.is_seeder()) {";
    "who came first keeps the place" in "crates/bt-peer/src/engine/swarm.rs":
        "Some(*lowest) < new" => "Some(*lowest) < new && new.is_none()";
    "addresses are called in any order" in "crates/bt-peer/src/peers.rs":
        ".map_or(lot, |priority| u64::from(!priority) << 32 | lot >> 32)" => ".map_or(lot, |priority| u64::from(priority) >> 32 | lot)";
    // Announces, resume, rates.
    "completed is not announced" in "crates/bt-tracker/src/client/mod.rs":
        "Input::Completed => self.complete = true," => "Input::Completed => {}";
    "nobody is told of leaving" in "crates/bt-tracker/src/client/mod.rs":
        ".position(|tracker| tracker.knows_us() && !tracker.is_asked())" => ".position(|tracker| !tracker.knows_us() && tracker.is_asked())";
    "the resume state is believed of changed files" in "crates/bt-storage/src/resume.rs":
        "if now.as_ref() == Ok(recorded) {" => "if now.is_ok() || now.as_ref() == Ok(recorded) {";
    "what a killed run did not claim is lost" in "crates/bt-storage/src/resume.rs":
        "if !resume.clean {" => "if resume.clean {";
    "the resume state is written before the data" in "crates/bt-storage/src/resume.rs":
        "store.sync()?;\n    let mut have" => "let mut have";
    "a rate limit lets everything pass" in "crates/bt-core/src/rate.rs":
        "self.balance -= i128::from(bytes) * 1_000_000_000;" => "self.balance -= i128::from(bytes) * 500_000_000;";
    "a limit wakes for each block" in "crates/bt-peer/src/engine/upload.rs":
        "self.upload.at = Some(ready_at + GRANT);" => "self.upload.at = Some(ready_at + GRANT * 0);";
    "a bad piece is in nobody's account" in "crates/bt-peer/src/engine/disk.rs":
        "conn.account.bad_pieces += 1;" => "conn.account.bad_pieces = 0;";
    // Order.
    "the order of a hash map" in "crates/bt-peer/src/engine/mod.rs":
        "use std::collections::{BTreeMap, BTreeSet, VecDeque};" => "use std::collections::{BTreeSet, HashMap as BTreeMap, VecDeque};";
};
