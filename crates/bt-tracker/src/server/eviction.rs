//! Which swarm makes room when memory is full.
//!
//! Of a few picked at random: one without peers; else, of those whose peers all come from one network, the oldest of the network
//! that has most of them; else the one with the fewest peers. Who floods the tracker with invented torrents thereby drives
//! out its own, the oldest first, and a torrent whose only seeder is one of many is left alone. It costs no memory, and
//! is as likely to go wrong as the sample is to hold none of the flood's: with half of the swarms its own, once in 65,000.

/// How many are looked at. More would choose better and cost more.
pub(super) const SAMPLE: usize = 16;

/// A network that alone has so many of the sample has a quarter of all torrents.
const FLOOD_ALIKE: usize = SAMPLE / 4;

/// A swarm that might go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) position: usize,
    pub(super) peers: usize,
    /// The last announce, in seconds.
    pub(super) touched: u32,
    /// The network that all its peers come from, if it is one.
    pub(super) network: Option<u64>,
}

/// A random sample, each swarm in it once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    candidates: [Option<Candidate>; SAMPLE],
    count: usize,
}

impl Sample {
    pub(super) fn add(&mut self, candidate: Candidate) {
        let known = self
            .iter()
            .any(|other| other.position == candidate.position);
        if let Some(place) = self.candidates.get_mut(self.count).filter(|_| !known) {
            *place = Some(candidate);
            self.count += 1;
        }
    }

    /// The position of the oldest of the network that alone has most of them, if that has so many that it floods the tracker.
    pub(super) fn flood(&self) -> Option<usize> {
        let oldest = self.oldest_of_most();
        let flood = oldest.filter(|candidate| self.alike(candidate) >= FLOOD_ALIKE);
        flood.map(|candidate| candidate.position)
    }

    fn alike(&self, candidate: &Candidate) -> usize {
        let same = |other: &&Candidate| other.network == candidate.network;
        self.iter().filter(same).count()
    }

    fn oldest_of_most(&self) -> Option<&Candidate> {
        let lone = self.iter().filter(|candidate| candidate.network.is_some());
        lone.min_by_key(|one| (core::cmp::Reverse(self.alike(one)), one.touched))
    }

    /// The position of the one that goes.
    pub(super) fn victim(&self) -> Option<usize> {
        let empty = self.iter().filter(|candidate| candidate.peers == 0);
        let victim = empty
            .min_by_key(|candidate| candidate.touched)
            .or_else(|| self.oldest_of_most())
            .or_else(|| self.iter().min_by_key(|one| (one.peers, one.touched)));
        victim.map(|candidate| candidate.position)
    }

    fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_network_with_most_goes() {
        // Each: peers, the last announce, the network; and the number of the one that goes.
        type Row<'a> = (&'a [(usize, u32, Option<u64>)], Option<usize>);
        let rows: [Row<'_>; 7] = [
            (&[], None),
            (&[(3, 9, None), (0, 8, None), (1, 1, Some(1))], Some(1)),
            (&[(0, 9, None), (0, 8, None)], Some(1)),
            (
                &[(1, 1, Some(1)), (2, 5, Some(2)), (1, 4, Some(2))],
                Some(2),
            ),
            (&[(1, 5, Some(1)), (1, 4, Some(2)), (2, 1, None)], Some(1)),
            (&[(5, 1, None), (2, 3, None), (2, 2, None)], Some(2)),
            (&[(9, 9, Some(7)), (2, 1, None)], Some(0)),
        ];
        for (swarms, expected) in rows {
            let mut sample = Sample::default();
            for (position, &(peers, touched, network)) in swarms.iter().enumerate() {
                let candidate = Candidate {
                    position,
                    peers,
                    touched,
                    network,
                };
                // Picked twice, it counts once.
                sample.add(candidate);
                if position == 0 {
                    sample.add(candidate);
                }
            }
            assert_eq!(sample.victim(), expected, "{swarms:?}");
        }
    }
}
