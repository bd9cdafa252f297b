//! As much of DNS as it takes to ask for a name's `TXT` records (RFC 1035, sections 3.3.14 and 4.1; RFC 6891).
//!
//! A message: `id u16 · flags u16 · questions u16 · answers u16 · authority u16 · additional u16`, then the sections. A
//! question: `name · type u16 · class u16`. A record: `name · type u16 · class u16 · ttl u32 · length u16 · data`. A name is
//! labels, each behind its length byte, up to a length of 0 or a pointer of two bytes.
//!
//! **Invariant:** an answer is believed only if id and question are those that were asked; whatever it holds is read once
//! from front to back. Names of records are passed over and pointers not followed, so there is no loop to be caught in: whose
//! records these are, by aliases too, is for the name server to say that was asked.

use core::time::Duration;

/// The longest answer that is asked for over UDP, in bytes: what fits a frame anywhere (as DNS Flag Day 2020 has it).
pub const ANSWER_MAX_BYTES: u16 = 1_232;

/// Records of an answer that are kept: a domain has a few dozen at most.
pub const RECORDS_MAX: usize = 64;

/// The longest name, in bytes as it is sent (RFC 1035, section 2.3.4), and the longest label.
const NAME_MAX_BYTES: usize = 255;
const LABEL_MAX_BYTES: usize = 63;

const TYPE_TXT: u16 = 16;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Flags of the header: this is an answer; what kind of question it was; there is more than fits; please ask others; what
/// came of it.
const IS_ANSWER: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const IS_TRUNCATED: u16 = 0x0200;
const ASK_OTHERS: u16 = 0x0100;
const RESULT: u16 = 0x000f;
const RESULT_NO_SUCH_NAME: u16 = 3;

/// A question for the `TXT` records of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    id: u16,
    /// The name as it is sent.
    name: Vec<u8>,
}

/// What a name server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These records, each with its strings put together; maybe none.
    Records {
        /// Their texts.
        texts: Vec<Vec<u8>>,
        /// How long they may be kept: the shortest time of any, `None` without records.
        ttl: Option<Duration>,
    },
    /// There is more than a datagram holds: to be asked again over TCP.
    Truncated,
    /// The server cannot tell.
    Failed,
}

impl Question {
    /// The question for `host`, under a number that nobody can guess. `None` if the host cannot be a name in DNS.
    #[must_use]
    pub fn new(host: &str, id: u16) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut name = Vec::with_capacity(host.len() + 2);
        for label in host.split('.') {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if label.is_empty() || label.len() > LABEL_MAX_BYTES || !label.bytes().all(is_plain) {
                return None;
            }
            name.push(u8::try_from(label.len()).ok()?);
            name.extend_from_slice(label.as_bytes());
        }
        name.push(0);
        (name.len() <= NAME_MAX_BYTES).then_some(Self { id, name })
    }

    /// The bytes to send. Over TCP their number goes before them, in two bytes.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(self.name.len() + 27);
        for word in [self.id, ASK_OTHERS, 1, 0, 0, 1] {
            packet.extend_from_slice(&word.to_be_bytes());
        }
        packet.extend_from_slice(&self.name);
        for word in [TYPE_TXT, CLASS_IN] {
            packet.extend_from_slice(&word.to_be_bytes());
        }
        // How long an answer may be (RFC 6891): a record of the root's name.
        packet.push(0);
        for word in [TYPE_OPT, ANSWER_MAX_BYTES, 0, 0, 0] {
            packet.extend_from_slice(&word.to_be_bytes());
        }
        packet
    }

    /// Reads what came. `None` if it is no answer to this question: it may be anybody's, and is not worth a thought.
    #[must_use]
    pub fn read(&self, packet: &[u8]) -> Option<Answer> {
        let mut rest = Reader(packet);
        let (id, flags) = (rest.u16()?, rest.u16()?);
        let (questions, answers) = (rest.u16()?, rest.u16()?);
        rest.take(4)?;
        let is_ours = id == self.id && flags & IS_ANSWER != 0 && flags & OPCODE == 0;
        if !is_ours || questions != 1 {
            return None;
        }
        let name = rest.take(self.name.len())?;
        let asked = (rest.u16()?, rest.u16()?);
        if !name.eq_ignore_ascii_case(&self.name) || asked != (TYPE_TXT, CLASS_IN) {
            return None;
        }
        Some(match flags & RESULT {
            _ if flags & IS_TRUNCATED != 0 => Answer::Truncated,
            0 => records(rest, answers).unwrap_or(Answer::Failed),
            RESULT_NO_SUCH_NAME => Answer::Records {
                texts: Vec::new(),
                ttl: None,
            },
            _ => Answer::Failed,
        })
    }
}

/// The records of the answer section. `None` if it is cut off.
fn records(mut rest: Reader<'_>, count: u16) -> Option<Answer> {
    let mut texts = Vec::new();
    let mut ttl: Option<Duration> = None;
    for _ in 0..count {
        rest.skip_name()?;
        let (kind, class, seconds) = (rest.u16()?, rest.u16()?, rest.u32()?);
        let length = rest.u16()?;
        let data = rest.take(usize::from(length))?;
        if (kind, class) != (TYPE_TXT, CLASS_IN) || texts.len() == RECORDS_MAX {
            continue;
        }
        texts.push(strings(data)?);
        let time = Duration::from_secs(seconds.into());
        ttl = Some(ttl.map_or(time, |least| least.min(time)));
    }
    Some(Answer::Records { texts, ttl })
}

/// The strings of one record put together, as is done for the records that other protocols keep in `TXT`.
fn strings(data: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut text) = (Reader(data), Vec::with_capacity(data.len()));
    while !rest.0.is_empty() {
        let length = rest.u8()?;
        text.extend_from_slice(rest.take(usize::from(length))?);
    }
    Some(text)
}

/// What is left of a message. Each read takes from the front, or nothing if there is not enough.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.u8()? {
                0 => return Some(()),
                // A pointer ends the name.
                length if length & 0xc0 == 0xc0 => return self.u8().map(drop),
                length => self.take(usize::from(length)).map(drop)?,
            }
        }
    }
}
