//! Every bound and every span of the engine, in one place, each with its reason.

use core::time::Duration;

/// How often connections are looked over: keep-alives, silence, timeouts, dials. Nothing here needs a finer clock.
pub const TICK: Duration = Duration::from_secs(1);

/// A keep-alive is sent after this much silence of ours (BEP 3, "keepalives": "generally once every two minutes").
pub const KEEP_ALIVE: Duration = Duration::from_secs(110);

/// A peer that was silent for this long is gone: two of its keep-alives were lost, and more.
pub const SILENCE_MAX: Duration = Duration::from_secs(300);

/// The same while it owes us blocks (BEP 3: "timeouts may be done much more quickly when data is expected").
pub const SILENCE_OWING_MAX: Duration = Duration::from_secs(120);

/// A peer that owes blocks and sent none for this long is snubbed: its blocks are asked of others.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// No single request waits longer than this, however lively the peer is otherwise.
pub const REQUEST_AGE_MAX: Duration = Duration::from_secs(60);

/// Requests outstanding to a peer that has sent nothing yet. Small, so that many silent peers hold little.
pub const REQUESTS_START: usize = 8;

/// Requests to the first peer that can be asked while we have nothing, so that a piece of 512 KiB needs one round trip and one
/// of 1 MiB two. More would be too long for a slow peer: at 10 KiB/s these take nearly [`REQUEST_AGE_MAX`].
pub const REQUESTS_FIRST_PIECE: usize = 32;

/// Most requests outstanding to one peer: 8 MiB, a gigabit's worth over 60 ms, and what libtorrent stays under too.
pub const REQUESTS_MAX: usize = 512;

/// Most requests outstanding to all peers of a torrent together: 32 MiB that may arrive before a slow disk shows.
pub const REQUESTS_TOTAL_MAX: usize = 2_048;

/// What a peer without an extension handshake is held to queue (BEP 10, "reqq": 250 in libtorrent).
pub const REQQ_DEFAULT: usize = 250;

/// Beyond the round trip, this much more is kept outstanding, so that a hiccup on either side leaves no gap.
pub const REQUEST_MARGIN: Duration = Duration::from_millis(200);

/// Requests beyond the product of rate and time: a slow peer always has a next one in hand.
pub const REQUESTS_SPARE_MIN: usize = 2;

/// Most of these, where pieces are long: in a crowd whose lines all have the same rate most of the rate to one peer is what others
/// leave, and a short queue is empty at moments in which they leave more. Fifty leechers of 1.25 MB/s with pieces of
/// 1 MiB had 45 lines busy with two, 47 with eight, and no more with sixteen.
pub const REQUESTS_SPARE_MAX: usize = 8;

/// The part of a torrent that these are at most: of a short one, with many slow peers, more would be much of what there is.
pub const REQUESTS_SPARE_PART: u64 = 512;

/// In how long the peer sends them at least: what waits with it counts as its round trip before long.
pub const REQUESTS_SPARE_TIME: Duration = Duration::from_secs(2);

/// Requests given up that are remembered, because their blocks may still arrive and are then no fault.
pub const LATE_REQUESTS_MAX: usize = 2 * REQUESTS_MAX;

/// In the endgame blocks are asked of a second peer only after a while, in which the first one is likely to send them:
/// twice the time that a block takes, but at least this.
pub const ENDGAME_PATIENCE_MIN: Duration = Duration::from_millis(100);

/// The longest such while: what one slow peer may add to a download.
pub const ENDGAME_PATIENCE_MAX: Duration = Duration::from_secs(2);

/// A peer that sent faster than we took it counts as one that does for so long: a busy machine may not come back to its
/// socket for a while.
pub const BEHIND_SPAN: Duration = Duration::from_millis(500);

/// Requests that leechers who send faster than we take it have to owe us, so that a seeder is spared: 1 MiB, some
/// milliseconds' worth for one core.
pub const SPARE_OWED_MIN: usize = 64;

/// Over how long it is measured how fast leechers send, and how fast seeders do: many reads. Some of them count.
pub const FLOW_SPAN: Duration = Duration::from_millis(100);

/// So often no seeder is spared for a moment, so that it is seen what seeders can send.
pub const SPARE_ROUND: Duration = Duration::from_secs(5);
/// That moment: several spans of [`FLOW_SPAN`].
pub const SPARE_MEASURED: Duration = Duration::from_millis(300);

/// How long a spared seeder is not looked at, unless what leechers owe runs low before: short beside [`BEHIND_SPAN`].
pub const SPARE_LOOK: Duration = Duration::from_millis(50);

/// The first pause after a peer rejected a request that it should have served. Doubles with each.
pub const REJECT_PAUSE: Duration = Duration::from_secs(1);

/// The longest such pause.
pub const REJECT_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Requests of a peer that are queued; also what our extension handshake promises as `reqq`.
pub const UPLOAD_QUEUE_MAX: usize = 2_000;

/// Requests above [`UPLOAD_QUEUE_MAX`] that are queued for a peer without the fast extension: it knows of no `reqq`, and
/// cannot be told that a request is dropped (rtorrent asks for three seconds' worth of blocks, however fast it gets them).
/// From [`UPLOAD_QUEUE_MAX`] on the shell reads nothing more of it; this is what one turn of the shell may bring till then.
pub const UPLOAD_OVERRUN_MAX: usize = 1_000;

/// How far ahead blocks are ordered to be sent, in time at the connection's rate. Little, so that a choke or cancel finds
/// the rest still queued; enough to keep a fast link busy between two turns of the shell.
pub const UPLOAD_AHEAD: Duration = Duration::from_millis(250);

/// What may be ordered ahead on a connection whose rate is not known yet, in bytes: some blocks, to get it going.
pub const UPLOAD_WINDOW_START_BYTES: u64 = 128 * 1024;

/// The least that may be ordered ahead, in bytes: a block on its way, and the next.
pub const UPLOAD_WINDOW_MIN_BYTES: u64 = 32 * 1024;

/// The most that may be ordered ahead, in bytes; bounds what a peer that does not read holds.
pub const UPLOAD_WINDOW_MAX_BYTES: u64 = 1024 * 1024;

/// What is ordered on a connection and has not moved for so long holds up nobody else: its peer does not read.
pub const UPLOAD_STUCK: Duration = Duration::from_secs(1);

/// How long a rate limit that was used up keeps what it lets pass, to hand it out several blocks at a time: each hand-out
/// wakes this program and those of the peers. One seeder and eight leechers at 10 MB/s each took 13.0 CPU s with a
/// hand-out for each block, 8.5 with 25 ms, 7.8 with 50 ms, all in the same time. Half of what a limiter keeps
/// unused, so that nothing is lost when the shell is late (with 100 ms it took 3 % longer).
pub const GRANT: Duration = Duration::from_millis(50);

/// The most that one peer gets in one turn of a line that has a limit, in bytes: what the shell writes at a time.
pub const UPLOAD_TURN_MAX_BYTES: u64 = 256 * 1024;

/// The longest block that is served, in bytes (community specification, "request": 2¹⁷ at most).
pub const REQUEST_BYTES_MAX: u32 = 128 * 1024;

/// Requests of a choked peer that are rejected, or ignored, before it counts as a flood. More than any honest peer can
/// have on the way when it is choked.
pub const CHOKED_REQUESTS_MAX: u32 = 3_000;

/// The same for a peer without the fast extension whose queue was long when it was choked: what it asked for too early
/// waited unread in its socket. Three seconds' worth of blocks at 1 GB/s; each is ignored.
pub const CHOKED_REQUESTS_AHEAD_MAX: u32 = 200_000;

/// How often a peer may take back a piece of which it owes blocks (BEP 54) between two blocks, before it is asked for
/// nothing for a while, as after a reject.
pub const TAKEN_BACK_MAX: u32 = 8;

/// Small faults, such as a block nobody asked for, that a peer may commit before it is closed. Races excuse a few.
pub const FAULTS_MAX: u32 = 20;

/// Bytes handed to the disk and not yet taken. Above it nothing is requested. With the lower mark some 100 ms of a quick
/// disk: more would not make a slow one any faster, and is memory.
pub const WRITES_MAX_BYTES: u64 = 12 * 1024 * 1024;

/// Requests begin again once the disk has worked down to this.
pub const WRITES_RESUME_BYTES: u64 = 6 * 1024 * 1024;

/// The first wait after the disk failed. Doubles with each failure.
pub const DISK_RETRY: Duration = Duration::from_secs(2);

/// The longest such wait: space that comes back is noticed within this.
pub const DISK_RETRY_MAX: Duration = Duration::from_secs(30);

/// So many failures in a row, other than for lack of space, and the disk counts as broken: a share that was cut off has some
/// two minutes to come back. Space is waited for without end, since somebody may make some at any time.
pub const DISK_ERRORS_MAX: u32 = 8;

/// Requests outstanding while it is tried whether the disk works again.
pub const DISK_PROBE_REQUESTS: usize = 16;

/// The rechoke interval (BEP 3, "choking and optimistic unchoking").
pub const RECHOKE: Duration = Duration::from_secs(10);

/// The optimistic unchoke rotates at every third rechoke (BEP 3).
pub const OPTIMISTIC_ROUNDS: u32 = 3;

/// A peer connected for less than this counts as new: three times as likely to be the next optimistic unchoke.
pub const NEW_PEER: Duration = Duration::from_secs(60);

/// Interested for this long without a block, we are snubbed (Cohen 2003, §3.4).
pub const SNUB: Duration = Duration::from_secs(60);

/// How long a leecher keeps a seeder's slot while others wait.
pub const SEED_TURN: Duration = Duration::from_secs(60);

/// The fewest upload slots that are chosen by measurement: four regular ones (BEP 3).
pub const UPLOAD_SLOTS_MIN: usize = 4;

/// The slots to begin with where no upload limit is set.
pub const UPLOAD_SLOTS_START: usize = 8;

/// How long an unchoked peer that asks for nothing takes a leecher's slot: some round trips, in which it may.
pub const SLOT_GRACE: Duration = Duration::from_secs(1);

/// Pieces that are suggested to a peer beyond those that it has asked for: it has a next one while a message is under way.
pub const SUGGESTED_AHEAD: usize = 2;

/// Most pieces that one peer was suggested and has not asked for, counting those that others have brought it.
pub const SUGGESTED_MAX: usize = 64;

/// Pieces that a super-seeder shows a peer before it is seen that others got the last ones from it: one, and a next one
/// while the word of the first is under way.
pub const SHOWN_MAX: usize = 2;

/// What a super-seeder shows counts for this long, whether it is passed on or not. While there are others to serve, a peer
/// that gives nothing to anybody gets two pieces in this time; one that gets nothing from anybody else waits as long before
/// it is served as by any seeder.
pub const SHOWN_PATIENCE: Duration = Duration::from_secs(20);

/// How much a super-seeder shows a peer that gets nothing from others beyond what that has, in bytes: more than a fast line
/// takes in a round trip. As many messages as for all pieces at once would go out only as they are used.
pub const SHOWN_ALONE_BYTES: u32 = 4 * 1024 * 1024;

/// A super-seeder's line idles when nobody waited for it at so many looks in a row, a second apart: one may fall between the
/// showing of a piece and the request for it.
pub const IDLE_TICKS: u32 = 2;

/// A peer that has said nothing for this long has nothing, for a super-seeder. Without the fast extension it need not say
/// so (BEP 3, "bitfield"), and would wait for somebody to have something.
pub const SILENT_NEWCOMER: Duration = Duration::from_secs(5);

/// A piece that a seeder gave to one peer alone is kept by it if nobody else has it after this long, and what it takes to send
/// the piece on: others have to hear of it, to be unchoked, and to have asked for everything before it.
pub const ENTRUSTED_PATIENCE: Duration = Duration::from_secs(4);

/// What a peer sends to one of several others, in bytes per second, for the same purpose: a slow line in a few slots. So a
/// piece of 1 MiB is kept after 20 s.
pub const ENTRUSTED_RATE_BYTES_PER_S: u64 = 64 * 1024;

/// So many pieces kept, and more than were passed on, show a peer that keeps what it gets. One may be chance.
pub const ENTRUSTED_KEPT_MIN: u32 = 2;

/// A seeder serves others before a peer with so many pieces that nobody else has: enough for the moment, and what one that
/// gives nothing costs the swarm.
pub const ENTRUSTED_MAX: usize = 2;

/// So many more it may have for each piece that it has passed on. Passing on takes three seconds or so, in which a seeder
/// sends it several: with fewer the swarm's first minute is spent waiting, as all are new to the seeder then.
pub const ENTRUSTED_PER_PASSED_ON: usize = 2;

/// A peer that has had something for us for this long and gave nothing holds it back. A round of slots: who has nothing that
/// we want, as who came late, cannot give.
pub const HELD_BACK: Duration = Duration::from_secs(10);

/// What a peer may take of a leecher before it is asked what it gave: one part in this many of the payload. Of fifty leechers
/// it gets a twentieth that way.
pub const TAKEN_FREE_PART: u64 = 1_024;

/// The least that it may take, in bytes: a newcomer needs some blocks before it has something to give.
pub const TAKEN_FREE_MIN_BYTES: u64 = 256 * 1024;

/// Who gave less than one part in this many of what it took gives nothing. Little, as who has a slow line gives to few,
/// and is served by many.
pub const TAKEN_PER_GIVEN: u64 = 32;

/// A seeder spares its line while leechers get so many times as much from others: it would add a third at most, and less
/// where their own lines are full. Of leechers with lines like its own, which are never quite full, it takes four.
pub const SPARING_FACTOR: u64 = 3;

/// Rounds in which a seeder serves everybody after its upload limit was changed: as long as its rate is averaged.
pub const SPARING_ROUNDS_OPEN: u32 = 3;

/// Who is connected to a seeder that spares its line for this long, and gets next to nothing from others, was left behind by
/// them: a newcomer has been through two rounds of their slots.
pub const LEFT_BEHIND: Duration = Duration::from_secs(20);

/// The most upload slots that are chosen by measurement.
pub const UPLOAD_SLOTS_MAX: usize = 100;

/// Dials that may be under way at a time.
pub const DIALS_MAX: usize = 24;

/// A new connection is evicted last for this long: it needs a moment to say that it is interested. When all idle ones are
/// that new, the oldest of them goes, so that a flood drives out its own.
pub const EVICT_GRACE: Duration = Duration::from_secs(3);

/// A full torrent gives a place to a peer of a higher rank no more often than this. Where everybody comes at once all rank all
/// others, and each place that changes hands makes somebody dial again.
pub const OUTRANK_EVERY: Duration = Duration::from_secs(10);

/// Two connections with one peer: within this span of the first one's opening both ends decide by their ids, later the
/// older one stays.
pub const DUPLICATE_RACE: Duration = Duration::from_secs(10);

/// More peers are asked of the tracker below this many connections.
pub const PEERS_LOW: usize = 20;

/// All that one choked peer may get by allowed fast (BEP 6), in bytes; so pieces longer than this are never allowed.
pub const ALLOWED_FAST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Allowed fast messages of a peer that are remembered (BEP 6 advises ten).
pub const ALLOWED_FAST_MAX: usize = 32;

/// Peer ids that are remembered for bad data.
pub const BANNED_IDS_MAX: usize = 1_000;

/// Peers of one tracker answer that are looked at; more than any tracker gives when asked for 200.
pub const TRACKER_PEERS_MAX: usize = 1_000;

/// How often each peer is told of others (BEP 11: "not more often than once a minute").
pub const PEX_INTERVAL: Duration = Duration::from_secs(60);

/// What a peer tells of others sooner than this after the last time is not looked at: half of the minute, as clocks and
/// lines are not exact.
pub const PEX_HEARD_MIN: Duration = Duration::from_secs(30);

/// Peers that are told, or believed, of each kind in one message (BEP 11: 50). The rest is told a minute later.
pub const PEX_ADDED_MAX: usize = 50;

/// What trackers are told to be `left` while the torrent's length is not known: anything but the 0 of a seeder. As
/// libtorrent has it.
pub const LEFT_UNKNOWN: u64 = 16 * 1024;

/// Bitfields that are kept, over all peers of a torrent, until its metadata says what they mean, in bytes. Those of 80 peers
/// of the largest torrents seen fit; whoever comes when it is full is closed.
pub const EARLY_BITFIELDS_MAX_BYTES: usize = 4 * 1024 * 1024;

/// `have`s of one peer that are kept likewise. More than any peer completes in the seconds that it takes; later ones are
/// forgotten, which costs a piece's availability and no more.
pub const EARLY_HAVES_MAX: usize = 4_096;

/// Pieces of metadata that one peer gets at once, beyond two whole copies.
pub const METADATA_SERVED_EXTRA: u32 = 16;

/// When that is used up, it gets one more in this span each; other requests are rejected (FAULTS 54).
pub const METADATA_SERVED_SPAN: Duration = Duration::from_secs(1);
