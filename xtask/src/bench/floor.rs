//! The floor: two programs that do what a transfer of verified bytes cannot do without, and nothing else.
//!
//! One thread reads a file and writes headers and blocks to a socket. One thread receives a mebibyte, hashes it while it
//! is in the core's cache, and writes it with one call. There are no requests, no choices, no peers: no client can be
//! cheaper but by a trick in one of these steps, and how close ours is says what its protocol and its design cost.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sha1::{Digest, Sha1};

use crate::units::parse_size;

/// The unit in which peers ask for data.
const BLOCK_BYTES: usize = 16 << 10;

/// Of a `piece` message before its block.
const HEADER_BYTES: usize = 13;

/// Sent and received at a time: 1 MiB, the best of what was tried from 64 KiB to 4 MiB.
const BATCH_BLOCKS: usize = 64;

#[derive(clap::Args)]
pub(crate) struct SendArgs {
    /// What to send
    file: PathBuf,
    /// Where to wait for the receiver
    listen: SocketAddrV4,
    /// Write from a mapping of the file instead of reading it into a buffer
    #[arg(long)]
    mapped: bool,
}

#[derive(clap::Args)]
pub(crate) struct ReceiveArgs {
    /// Where to write
    file: PathBuf,
    /// The sender
    from: SocketAddrV4,
    /// Bytes in all
    #[arg(value_parser = parse_size)]
    length: u64,
    /// Bytes of a piece
    #[arg(value_parser = parse_size)]
    piece_length: u64,
}

/// Sends the file to the one who connects.
pub(crate) fn send(args: &SendArgs) -> Result<()> {
    let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let length = file.metadata().context("the file's length")?.len();
    let length = usize::try_from(length).context("a file that fits the address space")?;
    let listener = TcpListener::bind(args.listen).with_context(|| args.listen.to_string())?;
    println!("listening");
    let (mut stream, _) = listener.accept().context("the receiver")?;
    if args.mapped {
        let map = Mapping::new(&file, length).context("mapping the file")?;
        for batch in map.bytes().chunks(BATCH_BLOCKS * BLOCK_BYTES) {
            write_batch(&mut stream, batch)?;
        }
        return Ok(());
    }
    let mut buffer = vec![0; BATCH_BLOCKS * BLOCK_BYTES];
    let mut offset = 0;
    while offset < length {
        let taken = buffer.len().min(length - offset);
        let batch = buffer.get_mut(..taken).unwrap_or_default();
        file.read_exact_at(batch, u64::try_from(offset)?)
            .context("reading")?;
        write_batch(&mut stream, batch)?;
        offset += taken;
    }
    Ok(())
}

fn write_batch(stream: &mut TcpStream, batch: &[u8]) -> Result<()> {
    let headers: Vec<[u8; HEADER_BYTES]> = batch
        .chunks(BLOCK_BYTES)
        .map(|block| {
            let mut header = [7; HEADER_BYTES];
            let length = u32::try_from(block.len()).unwrap_or(0) + 9;
            header[..4].copy_from_slice(&length.to_be_bytes());
            header
        })
        .collect();
    let mut slices: Vec<IoSlice<'_>> = headers
        .iter()
        .zip(batch.chunks(BLOCK_BYTES))
        .flat_map(|(header, block)| [IoSlice::new(header), IoSlice::new(block)])
        .collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let written = stream.write_vectored(rest).context("sending")?;
        if written == 0 {
            bail!("the receiver takes nothing");
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Receives, hashes and writes the file, and ends.
pub(crate) fn receive(args: &ReceiveArgs) -> Result<()> {
    let mut stream = TcpStream::connect(args.from).with_context(|| args.from.to_string())?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&args.file)
        .with_context(|| args.file.display().to_string())?;
    file.set_len(args.length)
        .context("giving the file its length")?;
    let mut pieces = Pieces::new(args.piece_length);
    let mut buffer = vec![0; BATCH_BLOCKS * (HEADER_BYTES + BLOCK_BYTES)];
    let mut offset = 0;
    while offset < args.length {
        let length = usize::try_from(args.length - offset)
            .unwrap_or(usize::MAX)
            .min(BATCH_BLOCKS * BLOCK_BYTES);
        let headers = length.div_ceil(BLOCK_BYTES) * HEADER_BYTES;
        let batch = buffer.get_mut(..length + headers).unwrap_or_default();
        stream.read_exact(batch).context("receiving")?;
        let mut slices: Vec<IoSlice<'_>> = batch
            .chunks(HEADER_BYTES + BLOCK_BYTES)
            .filter_map(|message| message.get(HEADER_BYTES..))
            .inspect(|block| pieces.update(block))
            .map(IoSlice::new)
            .collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = rustix::io::pwritev(&file, rest, offset).context("writing")?;
            offset += u64::try_from(written)?;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    pieces.finish();
    println!("{} pieces, the last {:02x?}", pieces.count, pieces.last);
    Ok(())
}

/// Hashes piece after piece.
struct Pieces {
    length: u64,
    filled: u64,
    hasher: Sha1,
    count: u64,
    last: [u8; 20],
}

impl Pieces {
    fn new(length: u64) -> Self {
        Self {
            length,
            filled: 0,
            hasher: Sha1::new(),
            count: 0,
            last: [0; 20],
        }
    }

    /// A block never straddles pieces: both are powers of two.
    fn update(&mut self, block: &[u8]) {
        self.hasher.update(block);
        self.filled += u64::try_from(block.len()).unwrap_or(0);
        if self.filled >= self.length {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.filled > 0 {
            self.last = self.hasher.finalize_reset().into();
            self.count += 1;
            self.filled = 0;
        }
    }
}

/// A file in memory, read only.
struct Mapping {
    start: *mut std::ffi::c_void,
    length: usize,
}

#[allow(unsafe_code, reason = "there is no safe way to map a file")]
impl Mapping {
    fn new(file: &File, length: usize) -> rustix::io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length.max(1),
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        Ok(Self { start, length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is that long and lives as long as `self`; the file is this benchmark's own, and nobody
        // writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

#[allow(unsafe_code, reason = "unmapping what was mapped")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new` with this length, and no slice of it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.start, self.length.max(1)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_copies_every_byte_and_hashes_every_piece() {
        let dir = tempfile::tempdir().unwrap();
        let (source, copy) = (dir.path().join("source"), dir.path().join("copy"));
        let bytes: Vec<u8> = (0..(2 << 20) + 12_345_u32)
            .map(|n| (n % 251) as u8)
            .collect();
        std::fs::write(&source, &bytes).unwrap();
        for mapped in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let std::net::SocketAddr::V4(listen) = listener.local_addr().unwrap() else {
                panic!("an IPv4 address");
            };
            drop(listener);
            let args = SendArgs {
                file: source.clone(),
                listen,
                mapped,
            };
            let sending = std::thread::spawn(move || send(&args));
            let args = ReceiveArgs {
                file: copy.clone(),
                from: listen,
                length: bytes.len() as u64,
                piece_length: 256 << 10,
            };
            // The sender may not listen yet.
            while receive(&args).is_err() {
                assert!(!sending.is_finished(), "{:?}", sending.join());
            }
            sending.join().unwrap().unwrap();
            assert!(std::fs::read(&copy).unwrap() == bytes);
        }
        let mut pieces = Pieces::new(4);
        ["abcd", "ef", "gh", "i"]
            .iter()
            .for_each(|block| pieces.update(block.as_bytes()));
        pieces.finish();
        assert_eq!(pieces.count, 3);
        assert_eq!(pieces.last, <[u8; 20]>::from(Sha1::digest(b"i")));
    }
}
