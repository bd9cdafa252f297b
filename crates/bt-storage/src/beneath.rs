//! Opening files below a folder and never anywhere else.
//!
//! **Invariant:** no symbolic link below the folder is ever followed, not even one that appears between two steps: each
//! part of a path is opened relative to the folder before it, and refused if it is a link.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Component, Path};

/// Rights of new files and folders before the user's umask takes some away.
const FILE_MODE: u32 = 0o666;
const FOLDER_MODE: u32 = 0o777;

/// Whether folders on the way are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parents {
    /// A folder that is not there is made.
    Create,
    /// A folder that is not there is an error.
    Expect,
}

/// Opens the folder below which everything has to stay. Links on the way to it are the user's own and followed.
pub(crate) fn open_folder(folder: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens a regular file below the folder. `path` must consist of plain names.
///
/// What stands in a file's place is refused: `LOOP` for a symbolic link, `ISDIR` for a folder, `NXIO` for the rest.
pub(crate) fn open_file(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    parents: Parents,
) -> Result<File, Errno> {
    let mut current: Option<OwnedFd> = None;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(Errno::INVAL);
        };
        let here = current.as_ref().map_or(folder, AsFd::as_fd);
        if parts.peek().is_none() {
            return open_last(here, name, flags);
        }
        current = Some(open_parent(here, name, parents)?);
    }
    Err(Errno::INVAL)
}

fn open_last(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<File, Errno> {
    // Without NONBLOCK, opening a pipe would wait for somebody at its other end.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::from_raw_mode(FILE_MODE))?;
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else stands there is no file"
    )]
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        FileType::Symlink => Err(Errno::LOOP),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::NXIO),
    }
}

fn open_parent(folder: BorrowedFd<'_>, name: &OsStr, parents: Parents) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(folder, name, flags, Mode::empty());
    match open() {
        Err(Errno::NOENT) if parents == Parents::Create => {
            match mkdirat(folder, name, Mode::from_raw_mode(FOLDER_MODE)) {
                // Another thread was faster; what it made is opened below like any other.
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            }
        }
        Err(Errno::NOTDIR) => Err(name_link(folder, name)),
        result => result,
    }
}

/// Tells a link apart from another thing that is no folder, so that the message can say what is in the way.
fn name_link(folder: BorrowedFd<'_>, name: &OsStr) -> Errno {
    let is_link = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    if is_link { Errno::LOOP } else { Errno::NOTDIR }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_but_regular_files_below_the_folder_is_opened() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("dir/deep")).unwrap();
        std::fs::write(root.join("dir/deep/file"), "x").unwrap();
        symlink(outside.path(), root.join("link-dir")).unwrap();
        symlink("dir", root.join("link-inside")).unwrap();
        symlink(outside.path().join("secret"), root.join("link-file")).unwrap();
        symlink("nowhere", root.join("link-dangling")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        let absolute = outside.path().join("secret");
        let absolute = absolute.to_str().unwrap();
        let rows = [
            ("dir/deep/file", Ok(())),
            ("dir/deep", Err(Errno::ISDIR)),
            ("missing", Err(Errno::NOENT)),
            ("missing/file", Err(Errno::NOENT)),
            ("dir/deep/file/below", Err(Errno::NOTDIR)),
            ("link-dir/secret", Err(Errno::LOOP)),
            ("link-inside/deep/file", Err(Errno::LOOP)),
            ("link-file", Err(Errno::LOOP)),
            ("link-dangling", Err(Errno::LOOP)),
            ("pipe", Err(Errno::NXIO)),
            ("dir/../dir/deep/file", Err(Errno::INVAL)),
            ("../secret", Err(Errno::INVAL)),
            (absolute, Err(Errno::INVAL)),
            ("", Err(Errno::INVAL)),
        ];
        let folder = open_folder(root).unwrap();
        for (path, expected) in rows {
            let opened = open_file(
                folder.as_fd(),
                Path::new(path),
                OFlags::RDONLY,
                Parents::Expect,
            );
            assert_eq!(opened.map(drop), expected, "{path}");
        }
    }

    #[test]
    fn creating_makes_folders_but_passes_no_link() {
        let outside = tempfile::tempdir().unwrap();
        let temp = tempfile::tempdir().unwrap();
        symlink(outside.path(), temp.path().join("link")).unwrap();
        symlink(outside.path().join("made"), temp.path().join("dangling")).unwrap();
        let folder = open_folder(temp.path()).unwrap();
        let create = |path: &str| {
            let flags = OFlags::RDWR | OFlags::CREATE;
            open_file(folder.as_fd(), Path::new(path), flags, Parents::Create).map(drop)
        };
        assert_eq!(create("a/b/c/file"), Ok(()));
        assert!(temp.path().join("a/b/c/file").is_file());
        assert_eq!(create("link/file"), Err(Errno::LOOP));
        assert_eq!(create("link/dir/file"), Err(Errno::LOOP));
        assert_eq!(create("dangling"), Err(Errno::LOOP));
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    }
}
