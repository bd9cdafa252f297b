//! A thread that writes what a long-running command says to stdout, or to stderr: whoever does not read it holds up this
//! thread and nothing else.
//!
//! **Invariant:** what is written is whole lines, in the order in which they were said. Left out are numbers that newer ones
//! overtook, and what does not fit into the queue, which is counted and, where people read, told in its place.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What waits to be written, with what each line takes beside its text. A pipe holds 64 KiB more. Ten thousand torrents
/// say some 10 MiB when they start, and are all in here until a reader that was just started gets to it.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// One write: as much as a pipe takes at a time.
const BATCH_BYTES: usize = 64 << 10;

/// How long a write may take before nobody waits any more for what was said to be seen.
const SEEN_PATIENCE: Duration = Duration::from_millis(100);

/// Where lines go, once somebody gets to write them.
pub(crate) struct Writer {
    state: Mutex<State>,
    /// There is more to write, or nothing will follow.
    said: Condvar,
    /// A write has ended.
    written: Condvar,
    queue_bytes_max: usize,
    /// What stands in the place of so many lost lines, where something may.
    gap: Option<Gap>,
}

/// What is written in the place of lost lines.
type Gap = fn(u64) -> String;

/// How long a line is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Until it is written.
    News,
    /// Until the next numbers: see [`Writer::overtake`].
    Numbers,
}

struct Line {
    /// Its part of the text.
    length_bytes: usize,
    kind: Kind,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    /// All of them in one piece: ten thousand small ones among what lives longer leave holes when they are gone.
    text: VecDeque<u8>,
    /// How many of the lines are [`Kind::Numbers`].
    numbers: usize,
    /// The thread has nothing to write, and is woken when it has: that takes a system call.
    is_asleep: bool,
    /// Lines of the write that is under way, and since when it is.
    writing: Option<(u64, Instant)>,
    /// Lines that nobody will see.
    lost: u64,
    /// Those of them in whose place nothing stands yet.
    gap: u64,
    /// Why the last write failed, if nobody has asked yet.
    error: Option<io::Error>,
}

impl Writer {
    /// Starts the thread. Both live as long as the program: it may be in a write that never ends.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(
        name: &str,
        sink: impl Write + Send + 'static,
        gap: Option<Gap>,
    ) -> io::Result<&'static Self> {
        Self::with_bound(name, sink, QUEUE_BYTES_MAX, gap)
    }

    fn with_bound(
        name: &str,
        sink: impl Write + Send + 'static,
        queue_bytes_max: usize,
        gap: Option<Gap>,
    ) -> io::Result<&'static Self> {
        let writer: &Self = Box::leak(Box::new(Self {
            state: Mutex::default(),
            said: Condvar::new(),
            written: Condvar::new(),
            queue_bytes_max,
            gap,
        }));
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.write(sink))?;
        Ok(writer)
    }

    /// Has a line written after those that were said before.
    ///
    /// # Errors
    /// If one of those could not be written.
    pub(crate) fn say(&self, bytes: &[u8], kind: Kind) -> io::Result<()> {
        let mut state = self.state();
        let line_bytes = bytes.len() + size_of::<Line>();
        if state.queue_bytes() + line_bytes > self.queue_bytes_max {
            // What is news goes first.
            state.overtake();
        }
        if state.queue_bytes() + line_bytes <= self.queue_bytes_max {
            self.close_gap(&mut state);
            state.push(bytes, kind);
            self.wake(&mut state);
        } else if kind == Kind::News {
            state.lost += 1;
            state.gap += 1;
        }
        state.failed()
    }

    /// Takes back numbers that nobody has read: newer ones follow.
    ///
    /// # Errors
    /// If what was said before could not be written.
    pub(crate) fn overtake(&self) -> io::Result<()> {
        let mut state = self.state();
        state.overtake();
        state.failed()
    }

    /// Waits until what was said can be seen, but not for a reader who does not read.
    pub(crate) fn settle(&self) {
        let mut state = self.state();
        while let Some(until) = state.writing_since().map(|since| since + SEEN_PATIENCE) {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return;
            };
            state = self.wait(state, left);
        }
    }

    /// Waits `patience` at most until all that was said is written. Returns how many lines were not.
    ///
    /// # Errors
    /// If one could not be written, and is not just unread.
    pub(crate) fn finish(&self, patience: Duration) -> io::Result<u64> {
        let until = Instant::now() + patience;
        let mut state = self.state();
        self.close_gap(&mut state);
        self.wake(&mut state);
        while state.writing_since().is_some() {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                break;
            };
            state = self.wait(state, left);
        }
        state.failed()?;
        let waiting = state.lines.iter().filter(|line| line.kind == Kind::News);
        let waiting = u64::try_from(waiting.count()).unwrap_or(u64::MAX);
        Ok(state.lost + waiting + state.writing.map_or(0, |(lines, _)| lines))
    }

    fn write(&self, mut sink: impl Write) {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        loop {
            let mut state = self.state();
            if state.lines.is_empty() {
                self.close_gap(&mut state);
            }
            while state.lines.is_empty() {
                state.is_asleep = true;
                let waited = self.said.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            state.take(&mut batch);
            drop(state);
            let written = sink.write_all(&batch).and_then(|()| sink.flush());
            let mut state = self.state();
            state.writing = None;
            match written {
                // Who has seen enough has closed the other end.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    state.error.get_or_insert(error);
                }
                Ok(()) | Err(_) => {}
            }
            drop(state);
            self.written.notify_all();
        }
    }

    /// Says how many lines are lost here. One more line above the bound is no harm.
    fn close_gap(&self, state: &mut State) {
        if let (Some(gap), 1..) = (self.gap, state.gap) {
            let told = gap(core::mem::take(&mut state.gap));
            state.push(told.as_bytes(), Kind::News);
        }
    }

    fn wake(&self, state: &mut State) {
        if core::mem::take(&mut state.is_asleep) {
            self.said.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        let waited = self.written.wait_timeout(state, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn push(&mut self, bytes: &[u8], kind: Kind) {
        self.text.extend(bytes);
        self.numbers += usize::from(kind == Kind::Numbers);
        self.lines.push_back(Line {
            length_bytes: bytes.len(),
            kind,
        });
    }

    /// What waits, with what each line takes beside its text.
    fn queue_bytes(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Line>()
    }

    /// Moves lines that make one write into `batch`: at least one.
    fn take(&mut self, batch: &mut Vec<u8>) {
        let (mut lines, mut length_bytes) = (0, 0);
        while let Some(line) = self.lines.front()
            && (lines == 0 || length_bytes + line.length_bytes <= BATCH_BYTES)
        {
            length_bytes += line.length_bytes;
            self.numbers -= usize::from(line.kind == Kind::Numbers);
            self.lines.pop_front();
            lines += 1;
        }
        batch.clear();
        let (front, back) = self.text.as_slices();
        for part in [front, back] {
            let (taken, _) = part.split_at(part.len().min(length_bytes - batch.len()));
            batch.extend_from_slice(taken);
        }
        self.text.drain(..length_bytes);
        if self.lines.is_empty() {
            // What a burst took is given back.
            (self.lines, self.text) = Default::default();
        }
        self.writing = Some((lines, Instant::now()));
    }

    fn overtake(&mut self) {
        if self.numbers == 0 {
            return;
        }
        let mut text = &*self.text.make_contiguous();
        let mut news = VecDeque::new();
        self.lines.retain(|line| {
            let (bytes, later) = text.split_at(line.length_bytes);
            text = later;
            let is_news = line.kind == Kind::News;
            if is_news {
                news.extend(bytes);
            }
            is_news
        });
        self.text = news;
        self.numbers = 0;
    }

    fn failed(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Since when something is to be written, or is being written.
    fn writing_since(&self) -> Option<Instant> {
        let since = self.writing.map(|(_, since)| since);
        since.or_else(|| (!self.lines.is_empty()).then(Instant::now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A reader who reads when the test says so, and all once the test says no more.
    struct Gate {
        entered: Sender<()>,
        go: Receiver<io::Result<()>>,
        seen: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            if let Ok(result) = self.go.recv() {
                result?;
            }
            let text = String::from_utf8_lossy(bytes).into_owned();
            let _ = self.seen.send(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Reader {
        entered: Receiver<()>,
        go: Sender<io::Result<()>>,
        seen: Receiver<String>,
    }

    const SOON: Duration = Duration::ZERO;
    const EVER: Duration = Duration::from_secs(60);

    /// A writer with room for five lines of one letter, who is at the line `first`.
    fn blocked(gap: Option<Gap>) -> (&'static Writer, Reader) {
        let (entered_in, entered) = channel();
        let (go, go_out) = channel();
        let (seen_in, seen) = channel();
        let gate = Gate {
            entered: entered_in,
            go: go_out,
            seen: seen_in,
        };
        let line = size_of::<Line>() + 1;
        let writer = Writer::with_bound("gate", gate, line * 5, gap).unwrap();
        writer.say(b"first", Kind::News).unwrap();
        entered.recv().unwrap();
        (writer, Reader { entered, go, seen })
    }

    fn say(writer: &Writer, said: &str) {
        for letter in said.chars() {
            let kind = if letter.is_ascii_digit() {
                Kind::Numbers
            } else {
                Kind::News
            };
            writer.say(letter.to_string().as_bytes(), kind).unwrap();
        }
    }

    #[test]
    fn what_is_written_is_what_was_said_as_far_as_there_is_room() {
        // (what is said while nobody reads, what is read later, what is lost); digits are numbers.
        for (said, read, lost) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("ab1c2", "ab1c2", 0),
            ("ab1cd2", "abcd2", 0),
            ("1ab2cd", "abcd", 0),
            ("abcde", "abcde", 0),
            ("abcdefg", "abcde", 2),
            ("abcde1", "abcde", 0),
            ("12345a6", "a6", 0),
        ] {
            let (writer, reader) = blocked(None);
            say(writer, said);
            let news = u64::try_from(said.chars().filter(char::is_ascii_alphabetic).count());
            // Whoever asks while nobody reads hears that none of it is written.
            assert_eq!(writer.finish(SOON).unwrap(), 1 + news.unwrap(), "{said}");
            drop(reader.go);
            assert_eq!(writer.finish(EVER).unwrap(), lost, "{said}");
            let all: String = reader.seen.try_iter().collect();
            assert_eq!(all, format!("first{read}"), "{said}");
        }
    }

    #[test]
    fn what_is_lost_is_told_in_its_place_where_it_may_be() {
        let gap: Gap = |lost| format!("<{lost}>");
        // (what is said while nobody reads, what is said once somebody does, what is read).
        for (said, later, read) in [
            ("abcde", "f", "abcdef"),
            ("abcdefg", "", "abcde<2>"),
            ("abcdefg", "hi", "abcde<2>hi"),
        ] {
            let (writer, reader) = blocked(Some(gap));
            say(writer, said);
            // One write ends, and the next one is all that waited.
            reader.go.send(Ok(())).unwrap();
            reader.entered.recv().unwrap();
            say(writer, later);
            drop(reader.go);
            writer.finish(EVER).unwrap();
            let all: String = reader.seen.try_iter().collect();
            assert_eq!(all, format!("first{read}"), "{said} {later}");
        }
    }

    #[test]
    fn room_is_had_again_once_lines_are_written() {
        let (writer, reader) = blocked(None);
        say(writer, "abcde");
        reader.go.send(Ok(())).unwrap();
        reader.entered.recv().unwrap();
        say(writer, "fghij");
        drop(reader.go);
        assert_eq!(writer.finish(EVER).unwrap(), 0);
        let all: String = reader.seen.try_iter().collect();
        assert_eq!(all, "firstabcdefghij");
    }

    #[test]
    fn numbers_are_overtaken_and_news_are_not() {
        let (writer, reader) = blocked(None);
        say(writer, "1a2");
        writer.overtake().unwrap();
        say(writer, "3b");
        drop(reader.go);
        assert_eq!(writer.finish(EVER).unwrap(), 0);
        let all: String = reader.seen.try_iter().collect();
        assert_eq!(all, "firsta3b");
    }

    #[test]
    fn an_error_is_told_once_and_a_closed_pipe_is_none() {
        let (writer, reader) = blocked(None);
        for (kind, told) in [
            (io::ErrorKind::BrokenPipe, None),
            (io::ErrorKind::StorageFull, Some(io::ErrorKind::StorageFull)),
        ] {
            reader.go.send(Err(kind.into())).unwrap();
            say_anyway(writer);
            // The next write has begun, so the last one has ended.
            reader.entered.recv().unwrap();
            let result = writer.overtake();
            assert_eq!(result.map_err(|error| error.kind()).err(), told);
            writer.overtake().unwrap();
        }
        reader
            .go
            .send(Err(io::ErrorKind::StorageFull.into()))
            .unwrap();
        writer.finish(EVER).unwrap_err();
    }

    /// Says a line, whatever became of those before.
    fn say_anyway(writer: &Writer) {
        let mut state = writer.state();
        state.push(b"x", Kind::News);
        writer.wake(&mut state);
    }

    #[test]
    fn nobody_waits_long_for_a_reader_who_does_not_read() {
        let (writer, reader) = blocked(None);
        say(writer, "a");
        writer.settle();
        assert!(writer.state().writing.is_some());
        drop(reader.go);
        assert_eq!(writer.finish(EVER).unwrap(), 0);
        assert_eq!(reader.seen.try_iter().count(), 2);
    }
}
