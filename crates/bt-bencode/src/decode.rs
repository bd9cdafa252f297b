//! One checking pass over untrusted bytes. Afterwards every value in them can be read in place.
//!
//! **Invariant:** the pass keeps an explicit stack of at most [`DEPTH_MAX`] frames, and one offset for each key of the
//! dictionaries that are open; nothing else grows with the input.

use crate::error::{Error, ErrorKind};
use crate::path::{PathText, path_to};
use crate::token::{self, Fault, Scalar};
use crate::value::Value;
use core::ops::Range;

/// How deep lists and dictionaries may nest: as libtorrent's default; real inputs need fewer than ten levels.
pub const DEPTH_MAX: usize = 100;
/// How many values and keys an input may have unless the caller says otherwise: as libtorrent's `metadata_token_limit`.
pub const ITEMS_MAX: usize = 2_500_000;
/// How long an input may be unless the caller says otherwise, in bytes: the largest metainfo file we read.
pub const SIZE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// How many notes of each kind are kept; more are only counted. An input may be wrong in millions of places.
pub const NOTES_MAX: usize = 64;

/// Which departures from canonical bencode are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// None. What we write ourselves is always so.
    Strict,
    /// Those that a reader can make sense of; each is noted.
    Lenient,
}

/// How to decode.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which departures from canonical bencode are taken.
    pub profile: Profile,
    /// How many values and keys the input may have.
    pub items_max: usize,
    /// How long the input may be, in bytes.
    pub size_max_bytes: usize,
}

impl Options {
    /// Canonical bencode only.
    #[must_use]
    pub const fn strict() -> Self {
        Self {
            profile: Profile::Strict,
            items_max: ITEMS_MAX,
            size_max_bytes: SIZE_MAX_BYTES,
        }
    }

    /// What the world sends.
    #[must_use]
    pub const fn lenient() -> Self {
        Self {
            profile: Profile::Lenient,
            ..Self::strict()
        }
    }
}

/// A departure from canonical bencode that the lenient profile let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub kind: NoteKind,
    /// Where it is, in bytes from the input's start.
    pub offset: usize,
}

/// The kinds of [`Note`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// A key that sorts before the one in front of it.
    UnsortedKey,
    /// A key that its dictionary has already; lookups find the first.
    DuplicateKey,
    /// A number written with a leading zero.
    LeadingZero,
    /// `i-0e`.
    NegativeZero,
    /// Line ends behind the value.
    TrailingNewline,
}

const NOTE_KINDS: usize = 5;

impl core::fmt::Display for NoteKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::UnsortedKey => "dictionary key out of order",
            Self::DuplicateKey => "repeated dictionary key, the first one counts",
            Self::LeadingZero => "number with a leading zero",
            Self::NegativeZero => "negative zero",
            Self::TrailingNewline => "newline at the end",
        })
    }
}

/// A checked input: its value, and what was not canonical about it.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    root: Value<'a>,
    notes: Vec<Note>,
    notes_count: usize,
}

impl<'a> Document<'a> {
    /// The outermost value.
    #[must_use]
    pub const fn root(&self) -> Value<'a> {
        self.root
    }

    /// Departures from canonical bencode, roughly in the order of their offsets: of each kind the first [`NOTES_MAX`].
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// How many departures there are in all.
    #[must_use]
    pub const fn notes_count(&self) -> usize {
        self.notes_count
    }

    /// The path of the innermost value at or around a byte offset, such as that of a note.
    #[must_use]
    pub fn path_at(&self, offset: usize) -> String {
        path_to(self.root, offset)
    }

    /// True if encoding the value again would give the very same bytes.
    #[must_use]
    pub const fn is_canonical(&self) -> bool {
        self.notes_count == 0
    }
}

/// Decodes an input that is one value and nothing else.
///
/// The lenient profile lets line ends follow it.
///
/// # Errors
/// [`Error`] with kind, offset and path of the first thing that is wrong.
pub fn decode<'a>(input: &'a [u8], options: &Options) -> Result<Document<'a>, Error> {
    let (mut document, rest) = decode_prefix(input, options)?;
    if rest.is_empty() {
        return Ok(document);
    }
    let offset = input.len() - rest.len();
    let only_newlines = rest.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
    if options.profile == Profile::Lenient && only_newlines {
        document.notes.push(Note {
            kind: NoteKind::TrailingNewline,
            offset,
        });
        document.notes_count += 1;
        return Ok(document);
    }
    Err(Error {
        kind: ErrorKind::TrailingBytes { count: rest.len() },
        offset,
        path: String::new(),
    })
}

/// Decodes the value at the start of an input, and gives back the bytes behind it.
///
/// # Errors
/// [`Error`] with kind, offset and path of the first thing that is wrong.
pub fn decode_prefix<'a>(
    input: &'a [u8],
    options: &Options,
) -> Result<(Document<'a>, &'a [u8]), Error> {
    let mut check = Check::new(input, options);
    match check.run() {
        Ok(end) => {
            let document = Document {
                root: Value::root(input, end),
                notes: check.notes,
                notes_count: check.notes_count.iter().sum(),
            };
            Ok((document, input.get(end..).unwrap_or_default()))
        }
        Err(Fault { kind, offset }) => Err(Error {
            kind,
            offset,
            path: check.path(),
        }),
    }
}

/// A list or dictionary that is open.
struct Frame {
    is_dict: bool,
    /// How many items or entries are complete.
    complete: usize,
    /// The content of the newest key, if there is one.
    key: Option<Range<usize>>,
    /// A key was read and its value was not.
    value_due: bool,
    /// Its keys are not in strictly rising order, so they must be compared with each other at its end.
    disordered: bool,
    /// Where its keys begin in [`Check::keys`].
    keys_base: usize,
}

struct Check<'a> {
    input: &'a [u8],
    options: Options,
    at: usize,
    items: usize,
    frames: Vec<Frame>,
    /// Offsets of the keys of all open dictionaries; used by the lenient profile only.
    keys: Vec<usize>,
    notes: Vec<Note>,
    notes_count: [usize; NOTE_KINDS],
}

impl<'a> Check<'a> {
    fn new(input: &'a [u8], options: &Options) -> Self {
        Self {
            input,
            options: *options,
            at: 0,
            items: 0,
            frames: Vec::new(),
            keys: Vec::new(),
            notes: Vec::new(),
            notes_count: [0; NOTE_KINDS],
        }
    }

    /// Checks one value, and answers with the offset just behind it.
    fn run(&mut self) -> Result<usize, Fault> {
        let max = self.options.size_max_bytes;
        if self.input.len() > max {
            let length_bytes = self.input.len();
            return Err(Fault::new(ErrorKind::TooLong { length_bytes, max }, 0));
        }
        loop {
            self.step()?;
            if self.frames.is_empty() {
                return Ok(self.at);
            }
        }
    }

    fn step(&mut self) -> Result<(), Fault> {
        let Some(&byte) = self.input.get(self.at) else {
            return Err(Fault::new(ErrorKind::UnexpectedEof, self.at));
        };
        match self.frames.last() {
            Some(frame) if !frame.value_due && byte == b'e' => self.close(),
            Some(frame) if !frame.value_due && frame.is_dict => self.key(),
            _ => self.value(byte),
        }
    }

    fn value(&mut self, first: u8) -> Result<(), Fault> {
        self.count_item()?;
        let scalar = match first {
            b'l' | b'd' => return self.open(first == b'd'),
            b'i' => token::integer(self.input, self.at)?,
            b'0'..=b'9' => token::string(self.input, self.at)?,
            found => return Err(Fault::new(ErrorKind::ExpectedValue { found }, self.at)),
        };
        self.judge_number(&scalar)?;
        self.at = scalar.end;
        self.complete();
        Ok(())
    }

    fn open(&mut self, is_dict: bool) -> Result<(), Fault> {
        if self.frames.len() >= DEPTH_MAX {
            return Err(Fault::new(ErrorKind::TooDeep { max: DEPTH_MAX }, self.at));
        }
        self.frames.push(Frame {
            is_dict,
            complete: 0,
            key: None,
            value_due: false,
            disordered: false,
            keys_base: self.keys.len(),
        });
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        if let Some(frame) = self.frames.pop() {
            if frame.disordered {
                self.note_duplicates(frame.keys_base);
            }
            self.keys.truncate(frame.keys_base);
        }
        self.at += 1;
        self.complete();
        Ok(())
    }

    /// A value ended: the list or dictionary around it goes on.
    fn complete(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.complete += 1;
            frame.value_due = false;
        }
    }

    fn key(&mut self) -> Result<(), Fault> {
        self.count_item()?;
        let start = self.at;
        let scalar = token::string(self.input, start)?;
        self.judge_number(&scalar)?;
        self.judge_order(&scalar.content, start)?;
        if self.options.profile == Profile::Lenient {
            self.keys.push(start);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.key = Some(scalar.content);
            frame.value_due = true;
        }
        self.at = scalar.end;
        Ok(())
    }

    fn judge_order(&mut self, key: &Range<usize>, start: usize) -> Result<(), Fault> {
        let input = self.input;
        let before = self.frames.last().and_then(|frame| frame.key.clone());
        let Some(before) = before.and_then(|range| input.get(range)) else {
            return Ok(());
        };
        let key = input.get(key.clone()).unwrap_or_default();
        if before < key {
            return Ok(());
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.disordered = true;
        }
        // Repetitions are noted when the dictionary closes: they need not be neighbours.
        if before == key {
            self.depart(None, ErrorKind::DuplicateKey, start)
        } else {
            self.depart(Some(NoteKind::UnsortedKey), ErrorKind::UnsortedKey, start)
        }
    }

    fn judge_number(&mut self, scalar: &Scalar) -> Result<(), Fault> {
        if scalar.negative_zero {
            self.depart(
                Some(NoteKind::NegativeZero),
                ErrorKind::NegativeZero,
                self.at,
            )?;
        }
        if scalar.leading_zero {
            self.depart(Some(NoteKind::LeadingZero), ErrorKind::LeadingZero, self.at)?;
        }
        Ok(())
    }

    /// An error if strict, else a note.
    fn depart(
        &mut self,
        note: Option<NoteKind>,
        error: ErrorKind,
        offset: usize,
    ) -> Result<(), Fault> {
        match self.options.profile {
            Profile::Strict => Err(Fault::new(error, offset)),
            Profile::Lenient => {
                if let Some(kind) = note {
                    self.note(kind, offset);
                }
                Ok(())
            }
        }
    }

    fn note_duplicates(&mut self, keys_base: usize) {
        let input = self.input;
        let content = |start: usize| {
            let range = token::string(input, start).ok().map(|key| key.content);
            range.and_then(|range| input.get(range)).unwrap_or_default()
        };
        let mut keys = self.keys.split_off(keys_base);
        keys.sort_unstable_by(|a, b| (content(*a), a).cmp(&(content(*b), b)));
        for pair in keys.windows(2) {
            if let [before, after] = *pair
                && content(before) == content(after)
            {
                self.note(NoteKind::DuplicateKey, after);
            }
        }
    }

    fn note(&mut self, kind: NoteKind, offset: usize) {
        if let Some(count) = self.notes_count.get_mut(kind as usize) {
            *count += 1;
            if *count <= NOTES_MAX {
                self.notes.push(Note { kind, offset });
            }
        }
    }

    fn count_item(&mut self) -> Result<(), Fault> {
        self.items += 1;
        let max = self.options.items_max;
        if self.items > max {
            return Err(Fault::new(ErrorKind::TooManyItems { max }, self.at));
        }
        Ok(())
    }

    /// Where the check stands: the path of what it reads now.
    fn path(&self) -> String {
        let mut path = PathText::default();
        for frame in &self.frames {
            let key = frame.key.clone().and_then(|range| self.input.get(range));
            match key {
                Some(key) if frame.value_due => path.push_key(key),
                _ if !frame.is_dict => path.push_index(frame.complete),
                _ => {}
            }
        }
        path.into_string()
    }
}
