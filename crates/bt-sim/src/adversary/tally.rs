//! What scripts came to: a test that sums it up sees that they reach everything.

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that the engine took.
    pub messages: u64,
    /// Messages whose bytes were damaged before they were read.
    pub damaged: u64,
    /// Streams that the codec refused.
    pub refused: u64,
    /// Connections that the engine closed, because the peer broke the protocol.
    pub violations: u64,
    /// Peers that were banned.
    pub banned: u64,
    /// Blocks that were written.
    pub writes: u64,
    /// Blocks that were uploaded.
    pub uploads: u64,
    /// Pieces that were verified.
    pub pieces: u64,
    /// Pieces that did not match.
    pub bad_pieces: u64,
    /// Times that the disk failed.
    pub disk_failures: u64,
    /// Info dictionaries that were had from peers.
    pub described: u64,
    /// Announces that were ordered.
    pub announces: u64,
    /// Engines that were stopped.
    pub stopped: u64,
    /// Downloads that an honest seeder completed after all that.
    pub healed: u64,
}

impl Tally {
    /// Adds what another script came to.
    pub const fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.damaged += other.damaged;
        self.refused += other.refused;
        self.violations += other.violations;
        self.banned += other.banned;
        self.writes += other.writes;
        self.uploads += other.uploads;
        self.pieces += other.pieces;
        self.bad_pieces += other.bad_pieces;
        self.disk_failures += other.disk_failures;
        self.described += other.described;
        self.announces += other.announces;
        self.stopped += other.stopped;
        self.healed += other.healed;
    }
}
