//! Errors of the operating system as the values of [`bt_core::disk`], with the file's name in the message.

use bt_core::disk::{DiskError, DiskErrorKind};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// The disk error for what the operating system said while we tried `action` ("read", "write", …) on the file.
#[must_use]
pub fn disk_error(action: &str, path: &Path, error: &io::Error) -> DiskError {
    DiskError {
        kind: kind(error),
        message: match Errno::from_io_error(error) {
            Some(Errno::LOOP) => format!(
                "cannot {action} {}: a symbolic link, and those are not followed",
                path.display()
            ),
            _ => format!("cannot {action} {}: {error}", path.display()),
        },
    }
}

fn kind(error: &io::Error) -> DiskErrorKind {
    let Some(errno) = Errno::from_io_error(error) else {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            DiskErrorKind::Missing
        } else {
            DiskErrorKind::Io
        };
    };
    match errno {
        Errno::NOSPC | Errno::DQUOT => DiskErrorKind::Full,
        // FBIG is said by file systems and limits that take no file as long as this one.
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::FBIG => DiskErrorKind::Denied,
        Errno::NOENT => DiskErrorKind::Missing,
        // LOOP is said of a symbolic link that must not be followed, NXIO of a pipe or socket in a file's place.
        Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::NXIO => DiskErrorKind::InTheWay,
        _ => DiskErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_kind_and_names_the_file() {
        let rows = [
            (Errno::NOSPC, DiskErrorKind::Full),
            (Errno::DQUOT, DiskErrorKind::Full),
            (Errno::ACCESS, DiskErrorKind::Denied),
            (Errno::PERM, DiskErrorKind::Denied),
            (Errno::ROFS, DiskErrorKind::Denied),
            (Errno::FBIG, DiskErrorKind::Denied),
            (Errno::NOENT, DiskErrorKind::Missing),
            (Errno::NOTDIR, DiskErrorKind::InTheWay),
            (Errno::ISDIR, DiskErrorKind::InTheWay),
            (Errno::LOOP, DiskErrorKind::InTheWay),
            (Errno::NXIO, DiskErrorKind::InTheWay),
            (Errno::IO, DiskErrorKind::Io),
            (Errno::MFILE, DiskErrorKind::Io),
        ];
        for (errno, expected) in rows {
            let error = disk_error("write", Path::new("a/b"), &errno.into());
            assert_eq!(error.kind, expected, "{errno:?}");
            assert!(error.message.starts_with("cannot write a/b: "), "{error}");
        }
        let short = io::Error::from(io::ErrorKind::UnexpectedEof);
        let error = disk_error("read", Path::new("x"), &short);
        assert_eq!(error.kind, DiskErrorKind::Missing);
    }
}
