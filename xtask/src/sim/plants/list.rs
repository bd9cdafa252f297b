//! The bugs themselves, by what they break.

use super::Plant;

macro_rules! plants {
    ($($name:literal $([$alone:ident])? in $file:literal: $old:literal => $new:literal;)+) => {
        &[$(Plant {
            name: $name,
            file: $file,
            old: $old,
            new: $new,
            alone: plants!(@ $($alone)?),
        }),+]
    };
    (@ alone) => { true };
    (@) => { false };
}

#[rustfmt::skip]
pub(super) const PLANTS: &[Plant] = plants! {
    // Timeouts.
    "request timeout dropped" in "crates/bt-peer/src/requests.rs":
        "now - self.progress >= REQUEST_TIMEOUT || now - oldest.at >= REQUEST_AGE_MAX" => "oldest.at > now";
    "snub forgotten" in "crates/bt-peer/src/engine/swarm.rs":
        "conn.requests.snub();" => "";
    "snubbed peers ask first" in "crates/bt-peer/src/engine/download.rs":
        "conn.is_some_and(|conn| conn.requests.is_snubbed())" => "conn.is_none()";
    "no keep-alive" in "crates/bt-peer/src/engine/swarm.rs":
        "now - conn.sent_at >= KEEP_ALIVE" => "now - conn.sent_at >= KEEP_ALIVE * 100";
    "silent peers are kept" in "crates/bt-peer/src/engine/swarm.rs":
        "silent >= SILENCE_MAX || (owing && silent >= SILENCE_OWING_MAX)" => "silent >= SILENCE_MAX * 100";
    "no pause after a reject" in "crates/bt-peer/src/requests.rs":
        "self.paused_until = now + pause.min(REJECT_PAUSE_MAX);" => "self.paused_until = now;\n            let _ = pause;";
    "failed calls are repeated at once" in "crates/bt-peer/src/peers.rs":
        "BACK_OFF_MIN.saturating_mul(1 << doublings)" => "Duration::from_millis(1 << (doublings / 8))";
    // Requests and their accounting.
    "cancelled request stays counted" in "crates/bt-peer/src/engine/download.rs":
        "if conn.requests.cancel(block) {\n            «self.download.outstanding -= 1;»" => "";
    "cancel not sent" in "crates/bt-peer/src/engine/download.rs":
        "self.cancel_request(now, other, block);" => "let _ = other;";
    "cancelled block is a fault when it comes" in "crates/bt-peer/src/requests.rs":
        "if «cancelled» {\n            self.remember(block);" => "!cancelled";
    "requests of a lost connection are not given back" in "crates/bt-peer/src/engine/swarm.rs":
        "self.picker.release_all(id);" => "";
    "rejected block is not asked of others" in "crates/bt-peer/src/engine/download.rs":
        "self.picker.release(id, block);\n                self.download.released = true;" => "";
    "endgame does not wait" in "crates/bt-peer/src/engine/download.rs":
        "patience.clamp(ENDGAME_PATIENCE_MIN, ENDGAME_PATIENCE_MAX)" => "patience * 0";
    "a queue is not bounded by a slow disk" in "crates/bt-peer/src/engine/download.rs":
        "!self.disk.takes_more()" => "self.disk.is_failing()";
    // What peers are told.
    "have lost" in "crates/bt-peer/src/engine/disk.rs":
        "if («!has» || conn.has.is_full()) && !self" => "(!has && conn.peer_interested)";
    "interest not told when a have comes" in "crates/bt-peer/src/engine/receive.rs":
        "if needed {\n            «self.update_interest(now, id);»" => "";
    "fast extension not negotiated" in "crates/bt-peer/src/engine/receive.rs":
        "message.is_fast_extension() && !conn.fast" => "false";
    "a choke under the fast extension drops requests" in "crates/bt-peer/src/engine/receive.rs":
        "if «!conn.fast» {\n            self.drop_requests(id);" => "conn.fast";
    "a lost piece is not taken back" in "crates/bt-peer/src/engine/dont_have.rs":
        "if let Some(id) = «conn.speaks.dont_have»\n" => "None::<u8>";
    "who greets late hears of no lost piece" in "crates/bt-peer/src/engine/extended.rs":
        "self.withdraw_late(now, id);" => "let _ = &self.out;";
    "who lost a piece is not told that it is here" in "crates/bt-peer/src/engine/dont_have.rs":
        "self.disk.trusts(piece) && !self.upload.super_seeding" => "self.upload.super_seeding";
    "a lost piece stays queued for peers" in "crates/bt-peer/src/engine/dont_have.rs":
        "conn.uploads.clear(|block| block.piece != piece)" => "conn.uploads.clear(|block| block.length > 0)";
    "what a peer lost is waited for" in "crates/bt-peer/src/engine/dont_have.rs":
        "conn.requests.cancel_piece(now, piece)" => "Vec::<bt_core::Block>::new()";
    "what a peer lost counts as had by it" in "crates/bt-peer/src/picker/mod.rs":
        "self.availability.remove_piece(had, piece);" => "let _ = had;";
    "a piece is kept for who lost it" in "crates/bt-peer/src/picker/mod.rs":
        "if let Some(partial) = self.partials.get_mut(&piece) {\n            «partial.owner = partial.owner.filter(|owner| *owner != conn);»" => "partial.owner = partial.owner.or(Some(conn));";
    // Verification and blame.
    "a bad piece counts" in "crates/bt-peer/src/engine/disk.rs":
        "«self.picker.checked(piece, false);»\n        self.download.released = true;\n        self.ban_all(now, liars);" =>
        "self.picker.checked(piece, true);";
    "an unreadable piece is served on" in "crates/bt-peer/src/engine/disk.rs":
        "self.disk.doubted.insert(piece, Recheck::Ordered);" => "let _ = Recheck::Ordered;";
    "a failed disk is never tried again" in "crates/bt-peer/src/engine/disk.rs":
        "&& «now >= retry_at»" => "now >= retry_at + DISK_RETRY_MAX * 1_000";
    "everybody in a bad piece is blamed" in "crates/bt-peer/src/smart_ban.rs":
        "right.is_some_and(|right| *right != record.digest)" => "right.is_some()";
    "a lone liar is not blamed" in "crates/bt-peer/src/smart_ban.rs":
        "guilty.push(*first);" => "let _ = first;";
    "a ban is forgotten" in "crates/bt-peer/src/engine/swarm.rs":
        "self.peers.is_banned(now, addr.ip()) || self.banned_ids.contains(&peer_id)" => "false";
    "parole is open to all" in "crates/bt-peer/src/picker/partial.rs":
        "!self.parole || self.owner.is_none_or(|owner| owner == conn)" => "self.slots.len() < usize::MAX || self.owner == Some(conn)";
    // Choking.
    "choked peers are served" in "crates/bt-peer/src/engine/upload.rs":
        "!conn.am_choking || conn.use_allowance(block)" => "!conn.am_choking || !conn.use_allowance(block)";
    "slots are not counted" in "crates/bt-peer/src/engine/slots.rs":
        "slots.saturating_sub(self.slots_taken(now))" => "slots + 100 - self.slots_taken(now).min(slots)";
    "completion is not told again" in "crates/bt-peer/src/engine/extended.rs":
        "is_some_and(|told| «told != self.is_upload_only()»)" => "told && !self.complete";
    "what a choked peer asked stays queued" in "crates/bt-peer/src/engine/slots.rs":
        "uploads.clear(|block| conn.fast && conn.use_allowance(block))" => "uploads.clear(|block| block.length > 0)";
    "the optimistic unchoke never rotates" in "crates/bt-peer/src/choker.rs":
        "self.rounds.is_multiple_of(OPTIMISTIC_ROUNDS)" => "self.rounds == 0";
    // Connections.
    "both ends close one of two connections" in "crates/bt-peer/src/engine/swarm.rs":
        "race && dialled_by_us == (own < known.peer_id)" => "race && dialled_by_us";
    "seeders stay connected" in "crates/bt-peer/src/engine/swarm.rs":
        "self.complete && conn.is_some_and(|conn| conn.begun && conn.is_seeder())" => "false";
    "who came first keeps the place" in "crates/bt-peer/src/engine/swarm.rs":
        "Some(*lowest) < new" => "false";
    "addresses are called in any order" in "crates/bt-peer/src/peers.rs":
        ".map_or(lot, |priority| «u64::from(!priority) << 32 | lot >> 32»)" => "u64::from(priority) >> 32 | lot";
    // Announces, resume, rates.
    "completed is not announced" in "crates/bt-tracker/src/client/mod.rs":
        "Input::Completed => «self.complete = true»," => "";
    "nobody is told of leaving" in "crates/bt-tracker/src/client/mod.rs":
        ".position(|tracker| «tracker.knows_us() && !tracker.is_asked()»)" => "false";
    "the resume state is believed of changed files" in "crates/bt-storage/src/resume.rs":
        "if «now.as_ref() == Ok(recorded)» {" => "now.is_ok() || now.as_ref() == Ok(recorded)";
    "what a killed run did not claim is lost" in "crates/bt-storage/src/resume.rs":
        "if «!resume.clean» {" => "resume.clean";
    "the resume state is written before the data" in "crates/bt-storage/src/resume.rs":
        "«store.sync()?;»\n    let mut have" => "";
    "a rate limit lets everything pass" in "crates/bt-core/src/rate.rs":
        "self.balance -= i128::from(bytes) * 1_000_000_000;" => "self.balance -= i128::from(bytes) * 500_000_000;";
    "a limit wakes for each block" in "crates/bt-peer/src/engine/upload.rs":
        "self.upload.at = Some(ready_at + GRANT);" => "self.upload.at = Some(ready_at + GRANT * 0);";
    "a bad piece is in nobody's account" in "crates/bt-peer/src/engine/disk.rs":
        "conn.account.bad_pieces += 1;" => "conn.account.bad_pieces = 0;";
    // The fast extension (BEP 6).
    "have all is not understood" in "crates/bt-peer/src/engine/receive.rs":
        "self.bitfield_came(now, id, Bitfield::full(pieces_count))?" => "";
    "who has nothing does not say so" in "crates/bt-peer/src/engine/swarm.rs":
        "(true, true, _) => «Message::HaveNone»," => "return";
    "suggestions are passed over" in "crates/bt-peer/src/engine/receive.rs":
        "self.picker.suggested(id, piece)" => "";
    "nothing is suggested" in "crates/bt-peer/src/engine/slots.rs":
        "SUGGESTED_AHEAD + conn.uploads.len() / blocks" => "0";
    "a cancelled request is not answered" in "crates/bt-peer/src/engine/upload.rs":
        "conn.uploads.cancel(block)\n        {\n            «reject(&mut self.out, now, conn, block);»" => "";
    "a choke rejects nothing" in "crates/bt-peer/src/engine/slots.rs":
        "for block in dropped {\n            «reject(&mut self.out, now, conn, block);»" => "let _ = block;";
    "nothing is allowed fast" in "crates/bt-peer/src/engine/receive.rs":
        "if starting {\n            «self.offer_allowed_fast(now, id);»" => "";
    "what is allowed fast is not asked for" in "crates/bt-peer/src/engine/receive.rs":
        "conn.allow_us(piece);" => "";
    "the piece under way at a choke is lost" in "crates/bt-peer/src/engine/slots.rs":
        "conn.allow_rest(piece, rest)" => "false";
    // The endgame.
    "in the endgame blocks are asked of who cannot send them in time" in "crates/bt-peer/src/engine/download.rs":
        "self.since + self.patience«.max(block_time * 2)»" => "";
    "in the endgame everything is asked of everybody" in "crates/bt-peer/src/picker/mod.rs":
        "ENDGAME_QUEUE_MAX.saturating_sub(self.requests.count(conn))" => "usize::MAX / 2";
    // Super-seeding (BEP 16).
    "a super-seeder says that it has everything" in "crates/bt-peer/src/engine/swarm.rs":
        "let have = if «self.is_super_seeding()» {" => "false";
    "a super-seeder shows everything at once" in "crates/bt-peer/src/engine/super_seed.rs":
        "shown.open.len() >= ahead.max(SHOWN_MAX)" => "false";
    "a super-seeder does not see what is passed on" in "crates/bt-peer/src/engine/super_seed.rs":
        "shown.is_open(piece) && passed_on" => "shown.is_open(piece) && passed_on && conn.id == id";
    "a super-seeder waits for who gives nothing" in "crates/bt-peer/src/engine/super_seed.rs":
        "now - since < SHOWN_PATIENCE" => "now >= since";
    "a super-seeder serves what it did not show" in "crates/bt-peer/src/engine/upload.rs":
        "!Self::is_shown(conn, block.piece)" => "false";
    // Partial seeds (BEP 21).
    "who says that it wants nothing is not believed" in "crates/bt-peer/src/engine/extended.rs":
        "conn.upload_only = handshake.upload_only.unwrap_or(conn.upload_only);" => "";
    // Connections, and the addresses known.
    "addresses are kept without bound" in "crates/bt-peer/src/peers.rs":
        "self.known.len() >= ADDRESSES_MAX" => "false";
    "a second connection with a peer is taken" in "crates/bt-peer/src/engine/swarm.rs":
        "if let Some(known) = «self.conns.values_mut().find(|conn| conn.peer_id == peer_id)» {\n            if !replaces" => "None";
    "a connection with oneself is kept" in "crates/bt-peer/src/engine/swarm.rs":
        "if «peer_id == self.config.peer_id» {\n            return" => "false";
    "one's own address is called again" in "crates/bt-peer/src/engine/swarm.rs":
        "self.peers.mark_self(addr);" => "";
    // Evidence.
    "what a peer served is not counted" in "crates/bt-peer/src/engine/download.rs":
        "conn.account.served += u64::from(length);" => "";
    "what came twice is in nobody's account" in "crates/bt-peer/src/engine/download.rs":
        "Receipt::Duplicate => {\n                self.counters.wasted += u64::from(length);\n                «conn.account.wasted += u64::from(length);»" => "";
    "what was promised and never came is in nobody's account" in "crates/bt-peer/src/engine/swarm.rs":
        "conn.account.over_claim(conn.requests.len());" => "";
    // Slots by rate.
    "slots do not grow with the line" in "crates/bt-peer/src/choker.rs":
        "usize::try_from((rate / 1024 * 6 / 100).isqrt()).unwrap_or(UPLOAD_SLOTS_MAX)" => "0";
    "who gives least is served first" in "crates/bt-peer/src/choker.rs":
        "ranked.sort_by_key(|peer| (peer.snubbed, Reverse(peer.rate)))" => "ranked.sort_by_key(|peer| peer.rate)";
    // Haves that nobody needs.
    "a have goes to who has the piece" in "crates/bt-peer/src/engine/disk.rs":
        "if has && was_needed {\n                «conn.interesting -= 1;»" => "conn.interesting -= 1;\n tell(&mut self.out, now, conn, piece);";
    "a have is said twice" in "crates/bt-peer/src/engine/dont_have.rs":
        "if «conn.told.set(piece)» {\n        let message = Message::Have" => "conn.told.set(piece) || piece.get() % 2 == 0";
    // Order.
    "the order of a hash map" [alone] in "crates/bt-peer/src/engine/mod.rs":
        "use std::collections::{BTreeMap, BTreeSet, VecDeque};" => "use std::collections::{BTreeSet, HashMap as BTreeMap, VecDeque};";
    // What is entrusted.
    "who is alone is entrusted with pieces" in "crates/bt-peer/src/engine/slots.rs":
        "&& «self\n                .conns\n                .values()\n                .filter(|conn| conn.peer_interested)\n                .count()\n                > 1»" => "true";
    "more is entrusted to a peer than it may have" in "crates/bt-peer/src/engine/slots.rs":
        "&& «!self.upload.entrusted.has_enough(id)»\n            && self" => "true";
    // A disk that is slow, and files that are read once.
    "a slow disk's silence is the peers'" in "crates/bt-peer/src/engine/swarm.rs":
        "if is_swamped(conn) || «self.disk.is_congested()»" => "false";
    "what was opened to be read once stays open" in "crates/bt-storage/src/file.rs":
        "self.pool.forget_owner(self.owner_once);" => "";
    // Sparing a line.
    "all who keep what they get are served by a line that is spared" in "crates/bt-peer/src/engine/sparing.rs":
        "behind.extend(\n            keepers\n                .into_iter()\n                .min_by_key(|conn| (conn.up.total(), conn.id)),\n        );" => "behind.extend(keepers);";
    "a seeder never spares its line" in "crates/bt-peer/src/engine/sparing.rs":
        "self.upload.sparing.spares = «self.may_spare() && self.is_fed(now) && self.is_with_givers()»;" => "false";
    "a line that could be spared waits for the next round" in "crates/bt-peer/src/engine/sparing.rs":
        "waits && self.is_fed(now) && self.is_with_givers()" => "false && waits";
    "a leecher never spares a seeder" in "crates/bt-peer/src/engine/behind.rs":
        "owed >= SPARE_OWED_MIN" => "false";
    "a seeder is spared for the sake of slow leechers" in "crates/bt-peer/src/engine/behind.rs":
        "!self.download.flow.is_by_leechers(now)" => "false";
    "a spared seeder is not asked when the others run dry" in "crates/bt-peer/src/engine/behind.rs":
        "self.download.spared_until.is_some() && !self.is_sated(now)" => "self.is_sated(now)";
    // Queues and turns that follow the rate.
    "nothing is asked for beyond the rate of a long piece" in "crates/bt-peer/src/requests.rs":
        "(layout.blocks_count_max() / 8).min(few)" => "few.min(0)";
    "a slow peer is asked for as much beyond its rate as a quick one" in "crates/bt-peer/src/requests.rs":
        "self.spare.min(in_time.max(REQUESTS_SPARE_MIN))" => "self.spare.max(in_time.min(1))";
    "who is choked is suggested pieces" in "crates/bt-peer/src/engine/slots.rs":
        "«may_be_told(conn)» && !entrusted.keeps(conn.id)" => "conn.fast";
    "what others brought takes the place of other suggestions" in "crates/bt-peer/src/engine/slots.rs":
        "conn.suggested.iter().filter(|piece| «!is_out(**piece)»)" => "true";
    "who has passed on nothing yet is a giver" in "crates/bt-peer/src/engine/sparing.rs":
        "new.filter(|piece| «!entrusted.is_unproven(conn.id, *piece)»)" => "true";
    "who is choked between two requests loses its piece" in "crates/bt-peer/src/uploads.rs":
        "self.ordered_bytes > 0 || self.has_moved(now)" => "false";
    "what was begun and is not gone on with is out" in "crates/bt-peer/src/spread.rs":
        "«state.lost.get(piece)» && state.again.set(piece)" => "false";
    "what is lost is offered for ever" in "crates/bt-peer/src/spread.rs":
        "state.lost.get(piece) && «state.again.set(piece)»" => "{ state.again.set(piece); true }";
    "what was told to who idles is lost" in "crates/bt-peer/src/engine/slots.rs":
        "conn.suggested.iter().filter(|_| «!conn.idles(now)»)" => "true";
    "a line that is spared opens again for what is left over" in "crates/bt-peer/src/engine/sparing.rs":
        "self.spares() && self.upload.spread.is_some()" => "false";
    "who waits for the line is taken to idle" in "crates/bt-peer/src/connection.rs":
        "self.uploads.is_active() || self.uploads.has_moved(now)" => "self.uploads.has_moved(now)";
    "what was begun by who left is out" in "crates/bt-peer/src/engine/swarm.rs":
        "conn.uploads.pieces().chain(begun)" => "conn.uploads.pieces().chain(begun.filter(|_| false))";
    "a turn on a limited line has no end" in "crates/bt-peer/src/engine/upload.rs":
        "u128::from(self.upload.turn_bytes) < turn_bytes" => "turn_bytes > 0";
    "a window stays open over a pause" in "crates/bt-peer/src/uploads.rs":
        "self.window_bytes = self.window_bytes.min(UPLOAD_WINDOW_START_BYTES);" => "";
    "who is done calls everybody" in "crates/bt-peer/src/engine/swarm.rs":
        "self.complete && self.idle_dials == 0" => "false";
    "a high rank drives out all at once" in "crates/bt-peer/src/engine/swarm.rs":
        "now - at < OUTRANK_EVERY" => "now < at";
};
