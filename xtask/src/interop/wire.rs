//! What two programs say to each other once they have met, read from a packet capture: the fast extension (BEP 6) and the
//! extension protocol (BEP 10) with the metadata over it (BEP 9).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};

use super::capture::Capture;
use super::cell::LOOK_EVERY;
use super::feature::Feature;

/// What was said is read from the capture by then.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(5);

/// The reserved bit of the fast extension, and that of the extension protocol: byte and mask.
const FAST: (usize, u8) = (7, 0x04);
const EXTENDED: (usize, u8) = (5, 0x10);

/// Piece, begin, and length in bytes.
type Block = [u32; 3];

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    reserved: [u8; 8],
    /// Ids of all messages in order, without those of the extension protocol.
    ids: Vec<u8>,
    /// How often each block was asked for, taken back, sent or refused.
    requests: BTreeMap<Block, usize>,
    cancels: BTreeSet<Block>,
    answers: BTreeMap<Block, usize>,
    /// What its extension handshakes offer: names and numbers.
    offers: BTreeMap<Vec<u8>, u8>,
    handshakes: usize,
    /// Its other extended messages: number, and how they begin.
    extended: Vec<(u8, Vec<u8>)>,
}

/// Both directions of a connection.
#[derive(Debug)]
pub(crate) struct Dialogue {
    pub(crate) seeder: Talk,
    pub(crate) leecher: Talk,
}

/// Waits until a dialogue in the capture is as the feature has it.
pub(crate) fn check(
    feature: Feature,
    seeder_is_ours: bool,
    capture: &Capture,
    seeder: std::net::IpAddr,
) -> Result<()> {
    let deadline = Instant::now() + CAPTURE_PATIENCE;
    loop {
        let dialogues = capture.dialogues(seeder)?;
        let judge = |it: &Dialogue| match feature == Feature::Fast {
            true => it.is_fast(seeder_is_ours),
            false => it.is_extended(),
        };
        // Some fetch the metadata over a connection of its own, and some meet twice and leave one at once.
        let verdicts = dialogues.iter().map(judge);
        let best = verdicts.reduce(|one, other| if one.is_ok() { one } else { other });
        let verdict = best.unwrap_or_else(|| Err(anyhow!("no connection was captured")));
        if verdict.is_ok() || Instant::now() > deadline {
            return verdict;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Dialogue {
    /// BEP 6: both have the bit; each says first what it has, and ours says it once; each request that was not taken back is answered
    /// once, whether with the block or a reject.
    fn is_fast(&self, seeder_is_ours: bool) -> Result<()> {
        const HAVE_ALL: u8 = 14;
        const HAVE_NONE: u8 = 15;
        const AVAILABILITY: [u8; 3] = [5, HAVE_ALL, HAVE_NONE];
        for (name, talk) in self.sides() {
            ensure!(
                talk.has(FAST),
                "the {name} has no bit of the fast extension"
            );
            let first = talk.ids.first();
            ensure!(
                first.is_some_and(|id| AVAILABILITY.contains(id)),
                "the {name}'s first message is {first:?}"
            );
        }
        let (ours, name, expected) = match seeder_is_ours {
            true => (&self.seeder, "seeder", HAVE_ALL),
            false => (&self.leecher, "leecher", HAVE_NONE),
        };
        let first = ours.ids.first();
        ensure!(first == Some(&expected), "our {name} begins with {first:?}");
        // aria2 says `have none`, and then a bitfield too.
        let told = ours.ids.iter().filter(|id| AVAILABILITY.contains(id));
        ensure!(told.count() == 1, "our {name} says twice what it has");
        let (asked, answers) = (&self.leecher, &self.seeder.answers);
        ensure!(!asked.requests.is_empty(), "nothing was asked for");
        for (block, requests) in &asked.requests {
            let answers = answers.get(block).copied().unwrap_or_default();
            let excused = asked.cancels.contains(block) && answers < *requests;
            ensure!(
                answers == *requests || excused,
                "{block:?} was asked for {requests} times and answered {answers} times"
            );
        }
        let unasked = answers.keys().find(|it| !asked.requests.contains_key(*it));
        ensure!(unasked.is_none(), "{unasked:?} was not asked for");
        Ok(())
    }

    /// BEP 10 and 9: both have the bit and greet; nobody uses a number that the other did not offer; the leecher asks for
    /// the metadata and gets all that it asked for.
    fn is_extended(&self) -> Result<()> {
        const REQUEST: &[u8] = b"8:msg_typei0e";
        const DATA: &[u8] = b"8:msg_typei1e";
        for ((name, talk), other) in self.sides().into_iter().zip([&self.leecher, &self.seeder]) {
            ensure!(
                talk.has(EXTENDED),
                "the {name} has no bit of the extension protocol"
            );
            ensure!(talk.handshakes > 0, "the {name} does not greet");
            let offered: BTreeSet<u8> = other.offers.values().copied().collect();
            for (number, _) in &talk.extended {
                ensure!(
                    offered.contains(number),
                    "the {name} uses {number}, of {offered:?}"
                );
            }
        }
        let count = |talk: &Talk, other: &Talk, kind: &[u8]| {
            let number = other.offers.get(b"ut_metadata".as_slice());
            let own = talk.extended.iter().filter(|(id, _)| Some(id) == number);
            let is = |begin: &[u8]| begin.windows(kind.len()).any(|window| window == kind);
            own.filter(|(_, begin)| is(begin)).count()
        };
        let asked = count(&self.leecher, &self.seeder, REQUEST);
        let answered = count(&self.seeder, &self.leecher, DATA);
        if asked == 0 || asked != answered {
            bail!("metadata: asked for {asked} times, answered {answered} times");
        }
        Ok(())
    }

    fn sides(&self) -> [(&'static str, &Talk); 2] {
        [("seeder", &self.seeder), ("leecher", &self.leecher)]
    }
}

impl Talk {
    /// Reads one direction; nothing if it is not BitTorrent.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(b"\x13BitTorrent protocol") {
            return None;
        }
        let mut talk = Self {
            reserved: bytes.get(20..28)?.try_into().ok()?,
            ..Self::default()
        };
        let mut rest = bytes.get(68..)?;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some(message) = after.get(..length) else {
                break;
            };
            talk.take(message);
            rest = after.get(length..).unwrap_or_default();
        }
        Some(talk)
    }

    fn take(&mut self, message: &[u8]) {
        /// Enough of an extended message to know its kind.
        const BEGIN_BYTES: usize = 64;
        let Some((id, payload)) = message.split_first() else {
            return;
        };
        match (id, payload) {
            (20, [0, handshake @ ..]) => {
                self.handshakes += 1;
                self.offers.extend(offers(handshake));
                return;
            }
            (20, [number, begin @ ..]) => {
                let begin = begin.get(..BEGIN_BYTES).unwrap_or(begin);
                self.extended.push((*number, begin.to_vec()));
                return;
            }
            (6, _) => *self.requests.entry(block(payload)).or_default() += 1,
            (8, _) => {
                self.cancels.insert(block(payload));
            }
            (7, [head @ .., _]) if head.len() >= 8 => {
                let [piece, begin, _] = block(payload);
                let length = u32::try_from(payload.len() - 8).unwrap_or(u32::MAX);
                *self.answers.entry([piece, begin, length]).or_default() += 1;
            }
            (16, _) => *self.answers.entry(block(payload)).or_default() += 1,
            _ => {}
        }
        self.ids.push(*id);
    }

    fn has(&self, (byte, mask): (usize, u8)) -> bool {
        self.reserved.get(byte).is_some_and(|bits| bits & mask != 0)
    }
}

/// The three numbers at the beginning; what is missing is 0.
fn block(payload: &[u8]) -> Block {
    let mut numbers = payload.chunks_exact(4);
    [(); 3].map(|()| {
        let bytes = numbers.next().and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    })
}

/// The names and numbers of `m` in an extension handshake; 0 takes an offer back and counts for none.
fn offers(handshake: &[u8]) -> BTreeMap<Vec<u8>, u8> {
    const KEY: &[u8] = b"1:md";
    let mut offers = BTreeMap::new();
    let at = handshake.windows(KEY.len()).position(|it| it == KEY);
    let mut rest = at.map_or(&[][..], |at| {
        handshake.get(at + KEY.len()..).unwrap_or_default()
    });
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<usize>().ok();
    while let Some(colon) = rest.iter().position(|byte| *byte == b':')
        && let Some(length) = rest.get(..colon).and_then(number)
        && let Some(name) = rest.get(colon + 1..colon + 1 + length)
        && let Some([b'i', after @ ..]) = rest.get(colon + 1 + length..)
        && let Some(end) = after.iter().position(|byte| *byte == b'e')
        && let Some(offered) = after.get(..end).and_then(number)
    {
        if let Some(offered) = u8::try_from(offered).ok().filter(|it| *it != 0) {
            offers.insert(name.to_vec(), offered);
        }
        rest = after.get(end + 1..).unwrap_or_default();
    }
    offers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(reserved: [u8; 8], messages: &[&[u8]]) -> Talk {
        let mut bytes = b"\x13BitTorrent protocol".to_vec();
        bytes.extend(reserved);
        bytes.extend([0; 40]);
        for message in messages {
            bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend(*message);
        }
        Talk::read(&bytes).unwrap()
    }

    const ASK: &[u8] = &[6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
    const CANCEL: &[u8] = &[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
    const REJECT: &[u8] = &[16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
    const PIECE: &[u8] = &[7, 0, 0, 0, 1, 0, 0, 0, 0, 9, 9];

    #[test]
    fn every_request_has_one_answer() {
        let fast = [0, 0, 0, 0, 0, 0, 0, 4];
        // (seeder's bits, what the seeder says, what the leecher says, what is wrong)
        type Row = (
            [u8; 8],
            &'static [&'static [u8]],
            &'static [&'static [u8]],
            &'static str,
        );
        let rows: [Row; 11] = [
            (fast, &[&[14], PIECE], &[&[15], ASK], ""),
            (fast, &[&[14], REJECT, PIECE], &[&[15], ASK, ASK], ""),
            (fast, &[&[14]], &[&[15], ASK, CANCEL], ""),
            (fast, &[&[14], PIECE], &[&[15], ASK, CANCEL], ""),
            ([0; 8], &[&[14], PIECE], &[&[15], ASK], "no bit"),
            (fast, &[&[14]], &[&[15], ASK], "answered 0 times"),
            (
                fast,
                &[&[14], PIECE, REJECT],
                &[&[15], ASK, CANCEL],
                "answered 2 times",
            ),
            (fast, &[&[14], PIECE], &[&[15]], "nothing was asked"),
            (fast, &[&[1], &[14], PIECE], &[&[15], ASK], "first message"),
            (fast, &[&[14], &[14], PIECE], &[&[15], ASK], "says twice"),
            (
                fast,
                &[&[5, 0xff], PIECE],
                &[&[15], ASK],
                "our seeder begins",
            ),
        ];
        for (reserved, seeder, leecher, expected) in rows {
            let dialogue = Dialogue {
                seeder: talk(reserved, seeder),
                leecher: talk(fast, leecher),
            };
            let said = dialogue.is_fast(true).err().map(|error| error.to_string());
            assert!(
                said.clone().unwrap_or_default().contains(expected),
                "{said:?}"
            );
            assert_eq!(said.is_none(), expected.is_empty(), "{said:?}");
        }
    }

    #[test]
    fn only_what_was_offered_is_used() {
        let bits = [0, 0, 0, 0, 0, 0x10, 0, 0];
        let hello = b"\x14\x00d1:md11:ut_metadatai3e6:ut_pexi0ee1:v1:xe".as_slice();
        let (ask, data) = (b"d8:msg_typei0e5:piecei0ee", b"d8:msg_typei1e5:piecei0ee");
        let as_number = |number: u8, body: &[u8]| [&[20, number], body].concat();
        let rows = [(3, 3, ""), (2, 3, "uses 2"), (3, 4, "uses 4")];
        for (asks, answers, expected) in rows {
            let dialogue = Dialogue {
                seeder: talk(bits, &[hello, &as_number(answers, data)]),
                leecher: talk(bits, &[hello, &as_number(asks, ask)]),
            };
            let said = dialogue.is_extended().err().map(|error| error.to_string());
            assert!(
                said.clone().unwrap_or_default().contains(expected),
                "{said:?}"
            );
            assert_eq!(said.is_none(), expected.is_empty(), "{said:?}");
        }
        let silent = Dialogue {
            seeder: talk(bits, &[hello]),
            leecher: talk(bits, &[hello, &as_number(3, ask)]),
        };
        let said = silent.is_extended().unwrap_err().to_string();
        assert!(said.contains("answered 0 times"), "{said}");
        assert_eq!(offers(hello).get(b"ut_pex".as_slice()), None);
    }
}
