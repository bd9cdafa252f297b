//! Something to share: a file, its torrent, and a seeder of it.

use std::path::{Path, PathBuf};

use crate::process::{Process, run};

/// A client on loopback that meets nobody but those it is told of, and says in JSON what it does.
const ALONE: [&str; 7] = [
    "--bind",
    "127.0.0.1",
    "--port",
    "0",
    "--no-tracker",
    "--no-lsd",
    "--json",
];

/// A file and its torrent in a temporary folder.
pub struct Shared {
    /// Everything lies below it.
    pub folder: tempfile::TempDir,
    /// The file's bytes.
    pub data: Vec<u8>,
    /// The torrent file.
    pub torrent: PathBuf,
    /// Of its info dictionary.
    pub info_hash: [u8; 20],
    /// Bytes of every piece but the last.
    pub piece_length: usize,
}

impl Shared {
    /// A file `it` of `length` bytes that no two pieces of are alike, and its torrent for `announce`.
    pub fn new(length: usize, piece_length: usize, announce: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = folder.path().join("source");
        std::fs::create_dir(&source).expect("a folder for the source");
        let mut state = 1_u64;
        let data: Vec<u8> = (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        std::fs::write(source.join("it"), &data).expect("the source");
        let torrent = folder.path().join("it.torrent");
        let (code, _, said) = run(
            "bt",
            folder.path(),
            &[
                "create",
                text(&source.join("it")),
                "-o",
                text(&torrent),
                "-a",
                announce,
                "--piece-length",
                &piece_length.to_string(),
            ],
        );
        assert_eq!(code, 0, "bt create: {said}");
        let (code, shown, said) = run("bt", folder.path(), &["show", text(&torrent), "--json"]);
        assert_eq!(code, 0, "bt show: {said}");
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("bt show prints JSON");
        let hex = shown["info_hash"].as_str().expect("an info hash");
        let mut info_hash = [0; 20];
        for (byte, digits) in info_hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("hex is ASCII");
            *byte = u8::from_str_radix(digits, 16).expect("hex digits");
        }
        Self {
            folder,
            data,
            torrent,
            info_hash,
            piece_length,
        }
    }

    /// A path below the folder, made.
    pub fn make(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// How many pieces.
    pub fn pieces(&self) -> usize {
        self.data.len().div_ceil(self.piece_length)
    }

    /// A process that seeds it without a tracker, and where it listens.
    pub fn seed(&self, more: &[&str]) -> (Process, std::net::SocketAddr) {
        let source = self.folder.path().join("source");
        let mut arguments = vec!["seed", text(&self.torrent), "-d", text(&source)];
        arguments.extend(ALONE);
        arguments.extend(more);
        let mut process = Process::start("bt", &self.make("seeder"), &arguments);
        let listening = process.event("listening");
        let addr = listening["addr"].as_str().expect("an address");
        let addr = addr.parse().expect("an address and port");
        process.event_where("checked", |event| event["pieces_have"] == event["pieces"]);
        (process, addr)
    }

    /// Arguments of `bt get` into the folder `name` from one peer.
    pub fn get(&self, name: &str, peer: std::net::SocketAddr, more: &[&str]) -> Process {
        let (into, peer) = (self.make(name), peer.to_string());
        let mut arguments = vec![
            "get",
            text(&self.torrent),
            "-d",
            text(&into),
            "--peer",
            &peer,
        ];
        arguments.extend(ALONE);
        arguments.extend(more);
        Process::start("bt", &self.make(&format!("{name}-home")), &arguments)
    }

    /// How many pieces of the copy in the folder `name` lie on the disk as they should.
    pub fn whole_pieces(&self, name: &str) -> usize {
        let copy = std::fs::read(self.folder.path().join(name).join("it")).unwrap_or_default();
        let pieces = self
            .data
            .chunks(self.piece_length)
            .zip(copy.chunks(self.piece_length));
        pieces.filter(|(right, found)| right == found).count()
    }

    /// Whether the copy in the folder `name` has every byte.
    pub fn is_copied(&self, name: &str) -> bool {
        std::fs::read(self.folder.path().join(name).join("it")).is_ok_and(|copy| copy == self.data)
    }
}

/// A path as an argument; test paths are UTF-8.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a test's path is UTF-8")
}
