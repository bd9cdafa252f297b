//! The picker's duties in their plainest form, against which random runs are checked after each step.

use super::*;
use bt_core::Rng;
use proptest::prelude::*;

/// One step of a random run; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Join { pieces: Vec<bool>, whole: bool },
    Leave(usize),
    Have(usize, u32),
    Withdraw(usize, u32),
    Pick(usize, usize, bool),
    Receive(usize, usize),
    Stray(usize, u32, u32),
    Release(usize, usize),
    Choke(usize),
    Check(usize, bool),
    Lose(u32),
    Want(Vec<bool>),
}

fn step(pieces: usize) -> impl Strategy<Value = Step> {
    let bits = || prop::collection::vec(any::<bool>(), pieces);
    let n = any::<usize>;
    prop_oneof![
        2 => (bits(), prop::bool::weighted(0.3))
            .prop_map(|(pieces, whole)| Step::Join { pieces, whole }),
        1 => n().prop_map(Step::Leave),
        2 => (n(), any::<u32>()).prop_map(|(a, b)| Step::Have(a, b)),
        1 => (n(), any::<u32>()).prop_map(|(a, b)| Step::Withdraw(a, b)),
        8 => (n(), 0_usize..12, prop::bool::weighted(0.1)).prop_map(|(a, b, c)| Step::Pick(a, b, c)),
        12 => (n(), n()).prop_map(|(a, b)| Step::Receive(a, b)),
        1 => (n(), any::<u32>(), any::<u32>()).prop_map(|(a, b, c)| Step::Stray(a, b, c)),
        2 => (n(), n()).prop_map(|(a, b)| Step::Release(a, b)),
        1 => n().prop_map(Step::Choke),
        4 => (n(), prop::bool::weighted(0.8)).prop_map(|(a, b)| Step::Check(a, b)),
        1 => any::<u32>().prop_map(Step::Lose),
        1 => bits().prop_map(Step::Want),
    ]
}

/// What is known of one block: `None` is received, else the connections it is asked of.
type Fate = Option<BTreeSet<u64>>;

/// The picker's duties in their plainest form.
struct Model {
    bench: Bench,
    sequential: bool,
    have: BTreeSet<u32>,
    wanted: BTreeSet<u32>,
    peers: BTreeMap<u64, Bitfield>,
    blocks: BTreeMap<(u32, usize), Fate>,
    next_conn: u64,
}

impl Model {
    fn new(pieces: u32, sequential: bool) -> Self {
        let bench = Bench::with(pieces, 3, [], sequential);
        let blocks = (0..pieces).flat_map(|piece| (0..3).map(move |index| (piece, index)));
        Self {
            bench,
            sequential,
            have: BTreeSet::new(),
            wanted: (0..pieces).collect(),
            peers: BTreeMap::new(),
            blocks: blocks.map(|block| (block, Some(BTreeSet::new()))).collect(),
            next_conn: 0,
        }
    }

    fn conn(&self, number: usize) -> Option<u64> {
        let nth = number.checked_rem(self.peers.len())?;
        self.peers.keys().nth(nth).copied()
    }

    fn needs(&self, piece: u32) -> bool {
        self.wanted.contains(&piece) && !self.have.contains(&piece)
    }

    fn available(&self, piece: u32) -> usize {
        let index = self.bench.layout.piece(piece).unwrap();
        self.peers.values().filter(|has| has.get(index)).count()
    }

    fn fates(&self, piece: u32) -> impl Iterator<Item = &Fate> {
        self.blocks
            .range((piece, 0)..=(piece, usize::MAX))
            .map(|(_, fate)| fate)
    }

    fn is_begun(&self, piece: u32) -> bool {
        self.fates(piece).any(|fate| *fate != Some(BTreeSet::new()))
    }

    fn asked_of(&self, conn: u64) -> Vec<(u32, usize)> {
        let mine = self
            .blocks
            .iter()
            .filter(|(_, fate)| fate.as_ref().is_some_and(|askers| askers.contains(&conn)));
        mine.map(|(block, _)| *block).collect()
    }

    fn missing_of(&self, conn: u64, has: &Bitfield) -> usize {
        let mine = self.blocks.iter().filter(|((piece, _), fate)| {
            let index = self.bench.layout.piece(*piece).unwrap();
            let kept = self.kept_for(*piece).is_some_and(|owner| owner != conn);
            has.get(index) && self.needs(*piece) && !kept && **fate == Some(BTreeSet::new())
        });
        mine.count()
    }

    /// The connection for which the piece is kept, if it is on parole.
    fn kept_for(&self, piece: u32) -> Option<u64> {
        let index = self.bench.layout.piece(piece)?;
        let partial = self.bench.picker.partials.get(&index)?;
        assert_eq!(partial.parole, self.bench.picker.failures(index) > 0);
        partial
            .owner
            .filter(|_| partial.parole)
            .map(|owner| owner.0)
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Join { pieces, whole } => self.join(&pieces, whole),
            Step::Leave(number) => {
                if let Some(conn) = self.conn(number) {
                    let has = self.peers.remove(&conn).unwrap();
                    self.bench.picker.remove_peer(&has);
                    self.choke(conn);
                }
            }
            Step::Have(number, piece) => {
                if let Some(conn) = self.conn(number) {
                    let piece = piece % self.bench.layout.pieces_count();
                    let piece = self.bench.layout.piece(piece).unwrap();
                    if self.peers.get_mut(&conn).unwrap().set(piece) {
                        self.bench.picker.peer_has(piece);
                    }
                }
            }
            Step::Withdraw(number, piece) => self.withdraw(number, piece),
            Step::Pick(number, count, choked) => self.pick(number, count, choked),
            Step::Receive(number, nth) => {
                if let Some(conn) = self.conn(number) {
                    let asked = self.asked_of(conn);
                    if let Some(nth) = nth.checked_rem(asked.len()) {
                        self.receive(conn, asked[nth]);
                    }
                }
            }
            Step::Stray(number, piece, index) => {
                if let Some(conn) = self.conn(number) {
                    let pieces = self.bench.layout.pieces_count();
                    self.receive(conn, (piece % pieces, index as usize % 3));
                }
            }
            Step::Release(number, nth) => {
                if let Some(conn) = self.conn(number) {
                    let asked = self.asked_of(conn);
                    if let Some(nth) = nth.checked_rem(asked.len()) {
                        self.bench.release(conn, asked[nth]);
                        let fate = self.blocks.get_mut(&asked[nth]).unwrap();
                        fate.as_mut().unwrap().remove(&conn);
                    }
                }
            }
            Step::Choke(number) => {
                if let Some(conn) = self.conn(number) {
                    self.choke(conn);
                }
            }
            Step::Check(number, good) => self.check(number, good),
            Step::Lose(piece) => {
                let piece = piece % self.bench.layout.pieces_count();
                let index = self.bench.layout.piece(piece).unwrap();
                self.bench.picker.lost(index);
                if !self.have.contains(&piece) {
                    self.forget(piece);
                }
            }
            Step::Want(bits) => {
                self.wanted = (0..).zip(bits).filter(|b| b.1).map(|b| b.0).collect();
                let wanted = set(self.bench.layout, self.wanted.iter().copied());
                self.bench.picker.set_wanted(&wanted);
            }
        }
        self.compare();
    }

    fn join(&mut self, pieces: &[bool], whole: bool) {
        let has = (0..).zip(pieces).filter(|(_, bit)| **bit || whole);
        let has = self.bench.peer(has.map(|(piece, _)| piece));
        self.peers.insert(self.next_conn, has);
        self.next_conn += 1;
    }

    fn choke(&mut self, conn: u64) {
        self.bench.picker.release_all(ConnId(conn));
        for fate in self.blocks.values_mut().flatten() {
            fate.remove(&conn);
        }
    }

    /// A peer has a piece no more.
    fn withdraw(&mut self, number: usize, piece: u32) {
        let Some(conn) = self.conn(number) else {
            return;
        };
        let piece = piece % self.bench.layout.pieces_count();
        let index = self.bench.layout.piece(piece).unwrap();
        let had = self.peers[&conn].clone();
        if !self.peers.get_mut(&conn).unwrap().clear(index) {
            return;
        }
        self.bench.picker.peer_lost(ConnId(conn), &had, index);
        let fates = self.blocks.range_mut((piece, 0)..=(piece, usize::MAX));
        for askers in fates.filter_map(|(_, fate)| fate.as_mut()) {
            askers.remove(&conn);
        }
    }

    fn pick(&mut self, number: usize, count: usize, choked: bool) {
        let Some(conn) = self.conn(number) else {
            return;
        };
        let has = self.peers[&conn].clone();
        let only: Vec<_> = self.bench.layout.pieces().take(3).collect();
        let endgame = self.in_endgame();
        let got = self
            .bench
            .pick_among(conn, &has, choked.then_some(&only), count);
        assert!(got.len() <= count);
        for (piece, index) in &got {
            let piece_index = self.bench.layout.piece(*piece).unwrap();
            assert!(has.get(piece_index) && self.needs(*piece));
            assert!(!choked || only.contains(&piece_index));
            let kept = self.kept_for(*piece);
            assert!(
                kept.is_none_or(|owner| owner == conn),
                "on parole with {kept:?}"
            );
            let begun = self.is_begun(*piece);
            let failed = self.bench.picker.failures(piece_index) > 0;
            if !begun && !failed && !choked && !self.sequential && !self.have.is_empty() {
                let fresh = (0..self.bench.layout.pieces_count())
                    .filter(|p| self.needs(*p) && !self.is_begun(*p))
                    .filter(|p| has.get(self.bench.layout.piece(*p).unwrap()));
                let rarest = fresh.map(|p| self.available(p)).min();
                assert_eq!(rarest, Some(self.available(*piece)), "rarest first");
            }
            let fate = self.blocks.get_mut(&(*piece, *index)).unwrap();
            let askers = fate.as_mut().expect("what is here is not asked for");
            assert!(askers.insert(conn), "asked once of each");
            assert!(askers.len() <= ENDGAME_ASKED_MAX);
        }
        let twice = got
            .iter()
            .filter(|block| self.blocks[block].as_ref().is_some_and(|a| a.len() > 1));
        let twice = twice.count();
        assert!(twice == 0 || endgame || self.in_endgame());
        if got.len() < count && !choked {
            assert_eq!(self.missing_of(conn, &has), 0, "there was more to ask for");
        }
    }

    fn receive(&mut self, conn: u64, block: (u32, usize)) {
        let fresh = !self.have.contains(&block.0)
            && self.blocks[&block].is_some()
            && (self.needs(block.0) || self.is_begun(block.0));
        let receipt = self.bench.receive(conn, block);
        if fresh {
            let mut askers = self.blocks.insert(block, None).unwrap().unwrap();
            askers.remove(&conn);
            let Receipt::Wanted { mut cancel } = receipt else {
                panic!("a missing block counted as duplicate");
            };
            cancel.sort_unstable();
            assert!(cancel.into_iter().map(|conn| conn.0).eq(askers));
        } else {
            assert_eq!(receipt, Receipt::Duplicate);
        }
    }

    fn check(&mut self, number: usize, good: bool) {
        let full: Vec<_> = (0..self.bench.layout.pieces_count())
            .filter(|piece| !self.have.contains(piece) && self.fates(*piece).all(Option::is_none))
            .collect();
        let Some(nth) = number.checked_rem(full.len()) else {
            return;
        };
        self.bench.checked(full[nth], good);
        if good {
            self.have.insert(full[nth]);
        } else {
            self.forget(full[nth]);
        }
    }

    /// What was received of the piece is missing again.
    fn forget(&mut self, piece: u32) {
        for index in 0..3 {
            let fate = self.blocks.get_mut(&(piece, index)).unwrap();
            fate.get_or_insert_default();
        }
    }

    fn in_endgame(&self) -> bool {
        self.bench.picker.in_endgame()
    }

    fn compare(&self) {
        let picker = &self.bench.picker;
        picker.assert_invariants();
        let pieces = || 0..self.bench.layout.pieces_count();
        assert!(
            picker
                .have()
                .iter()
                .map(PieceIndex::get)
                .eq(self.have.iter().copied())
        );
        for (piece, partial) in &picker.partials {
            let has = |owner: ConnId| self.peers.get(&owner.0).is_some_and(|has| has.get(*piece));
            assert!(partial.owner.is_none_or(has), "{piece} is kept for nobody");
        }
        let complete = pieces().all(|piece| !self.needs(piece));
        assert_eq!(picker.is_complete(), complete);
        for piece in pieces() {
            let index = self.bench.layout.piece(piece).unwrap();
            assert_eq!(picker.availability(index) as usize, self.available(piece));
        }
        let open = pieces().any(|piece| {
            let missing = self.fates(piece).any(|fate| *fate == Some(BTreeSet::new()));
            self.needs(piece) && missing && self.kept_for(piece).is_none()
        });
        assert_eq!(self.in_endgame(), !complete && !open);
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(
        sequential in prop::bool::weighted(0.2),
        seed in any::<u64>(),
        steps in prop::collection::vec(step(7), 1..120),
    ) {
        let mut model = Model::new(7, sequential);
        model.bench.rng = Rng::new(seed);
        for step in steps {
            model.run(step);
        }
    }

    #[test]
    fn same_seed_same_choices(seed in any::<u64>()) {
        let run = || {
            let mut bench = Bench::new(50, 2);
            bench.rng = Rng::new(seed);
            let seeder = bench.seeder();
            (0..5).map(|conn| bench.pick(conn, &seeder, 10)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }
}
