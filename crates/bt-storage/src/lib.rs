//! Storage of torrents: file mapping, positioned vectored I/O, hashing, verifying, resume state.
