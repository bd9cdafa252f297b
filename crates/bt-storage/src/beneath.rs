//! Opening files below a folder and never anywhere else.
//!
//! **Invariant:** no symbolic link below the folder is ever followed, not even one that appears between two steps. On
//! Linux the kernel sees to it (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), in one call. Elsewhere, and where
//! that call is not to be had, each part of a path is opened relative to the folder before it, and refused if it is a link;
//! the tests hold that both say the same.

use crate::storage::FileStat;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// Rights of new files and folders before the user's umask takes some away.
const FILE_MODE: u32 = 0o666;
const FOLDER_MODE: u32 = 0o777;

/// A folder on the way, which is not itself read.
const FOLDER_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether folders on the way are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parents {
    /// A folder that is not there is made.
    Create,
    /// A folder that is not there is an error.
    Expect,
}

/// A regular file below the folder, and what it was when it was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) stat: Stat,
}

/// Opens the folder below which everything has to stay. Links on the way to it are the user's own and followed.
pub(crate) fn open_folder(folder: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(folder, FOLDER_FLAGS, Mode::empty())
}

/// Opens a regular file below the folder. `path` must consist of plain names.
///
/// What stands in a file's place is refused: `LOOP` for a symbolic link, `ISDIR` for a folder, `NXIO` for the rest.
pub(crate) fn open_file(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    parents: Parents,
) -> Result<Opened, Errno> {
    check_plain(path)?;
    // Without NONBLOCK, opening a pipe would wait for somebody at its other end.
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = if flags.contains(OFlags::CREATE) {
        Mode::from_raw_mode(FILE_MODE)
    } else {
        Mode::empty()
    };
    let file = match kernel::open(folder, path, flags, mode) {
        Some(Err(Errno::NOENT)) if parents == Parents::Create => walk(folder, path, flags, parents),
        Some(opened) => opened,
        None => walk(folder, path, flags, parents),
    }?;
    let stat = fstat(&file)?;
    check_regular(&stat)?;
    Ok(Opened {
        file: file.into(),
        stat,
    })
}

/// Looks at files one after the other without opening them. The folder of the last one stays open: files mostly come
/// folder by folder, and then each costs one system call.
pub(crate) struct Looker<'a> {
    folder: BorrowedFd<'a>,
    parent: Option<(PathBuf, Result<OwnedFd, Errno>)>,
}

impl<'a> Looker<'a> {
    pub(crate) const fn new(folder: BorrowedFd<'a>) -> Self {
        Self {
            folder,
            parent: None,
        }
    }

    /// What is known of the regular file; what stands in a file's place is refused as by [`open_file`].
    pub(crate) fn look_at(&mut self, path: &Path) -> Result<FileStat, Errno> {
        check_plain(path)?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let stat = if parent.as_os_str().is_empty() {
            statat(self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?
        } else {
            let parent = self.enter(parent)?;
            statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?
        };
        check_regular(&stat)?;
        Ok(FileStat::from(&stat))
    }

    fn enter(&mut self, parent: &Path) -> Result<&OwnedFd, Errno> {
        if self.parent.as_ref().is_none_or(|(path, _)| path != parent) {
            self.parent = Some((parent.to_owned(), open_parents(self.folder, parent)));
        }
        match &self.parent {
            Some((_, Ok(opened))) => Ok(opened),
            Some((_, Err(errno))) => Err(*errno),
            None => Err(Errno::NOENT),
        }
    }
}

/// Opens a folder below the folder.
fn open_parents(folder: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    if let Some(opened) = kernel::open(folder, path, FOLDER_FLAGS, Mode::empty()) {
        return opened;
    }
    let mut current: Option<OwnedFd> = None;
    for part in path {
        let here = current.as_ref().map_or(folder, AsFd::as_fd);
        current = Some(open_parent(here, part, Parents::Expect)?);
    }
    current.ok_or(Errno::INVAL)
}

fn check_plain(path: &Path) -> Result<(), Errno> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if path.as_os_str().is_empty() || !path.components().all(plain) {
        return Err(Errno::INVAL);
    }
    Ok(())
}

fn check_regular(stat: &Stat) -> Result<(), Errno> {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else stands there is no file"
    )]
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(Errno::LOOP),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::NXIO),
    }
}

/// Opens what the path leads to, part by part.
fn walk(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    parents: Parents,
) -> Result<OwnedFd, Errno> {
    let mut current: Option<OwnedFd> = None;
    let mut parts = path.iter().peekable();
    while let Some(name) = parts.next() {
        let here = current.as_ref().map_or(folder, AsFd::as_fd);
        if parts.peek().is_none() {
            let mode = Mode::from_raw_mode(FILE_MODE);
            return openat(here, name, flags | OFlags::NOFOLLOW, mode);
        }
        current = Some(open_parent(here, name, parents)?);
    }
    Err(Errno::INVAL)
}

fn open_parent(folder: BorrowedFd<'_>, name: &OsStr, parents: Parents) -> Result<OwnedFd, Errno> {
    let flags = FOLDER_FLAGS | OFlags::NOFOLLOW;
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

#[cfg(target_os = "linux")]
mod kernel {
    //! One system call for a whole path.

    use rustix::fd::{BorrowedFd, OwnedFd};
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// True once the kernel has said that it does not know the call (before Linux 5.6).
    static UNKNOWN: AtomicBool = AtomicBool::new(false);

    /// What the path leads to without a link and without leaving the folder; `None` if the kernel cannot say.
    pub(super) fn open(
        folder: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Option<Result<OwnedFd, Errno>> {
        if UNKNOWN.load(Ordering::Relaxed) {
            return None;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(folder, path, flags, mode, resolve) {
            Err(Errno::NOSYS) => {
                UNKNOWN.store(true, Ordering::Relaxed);
                None
            }
            // A sandbox says PERM of calls that it does not know; AGAIN is said of a rename at the wrong moment; and
            // part by part a path may be longer than one call takes.
            Err(Errno::PERM | Errno::AGAIN | Errno::NAMETOOLONG) => None,
            opened => Some(opened),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    //! No such call here.

    use rustix::fd::{BorrowedFd, OwnedFd};
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    use std::path::Path;

    pub(super) const fn open(
        _folder: BorrowedFd<'_>,
        _path: &Path,
        _flags: OFlags,
        _mode: Mode,
    ) -> Option<Result<OwnedFd, Errno>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

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
            let (here, path) = (folder.as_fd(), Path::new(path));
            let opened = open_file(here, path, OFlags::RDONLY, Parents::Expect);
            assert_eq!(opened.map(drop), expected, "{}", path.display());
            let looked = Looker::new(here).look_at(path);
            assert_eq!(looked.map(drop), expected, "{}", path.display());
            // What the kernel says is what the walk says.
            let walked = check_plain(path)
                .and_then(|()| walk(here, path, OFlags::NONBLOCK, Parents::Expect))
                .and_then(|file| check_regular(&fstat(&file)?));
            assert_eq!(walked, expected, "{} on foot", path.display());
        }
        // One looker for all, so that the folder it keeps is left and entered, and found missing twice.
        let mut looker = Looker::new(folder.as_fd());
        for turn in 0..2 {
            for (path, expected) in &rows {
                let looked = looker.look_at(Path::new(path)).map(drop);
                assert_eq!(looked, *expected, "{path}, turn {turn}");
            }
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
        assert_eq!(create("a/b/c/other"), Ok(()));
        let is_file = |path| temp.path().join(path).is_file();
        assert!(is_file("a/b/c/file") && is_file("a/b/c/other"));
        assert_eq!(create("link/file"), Err(Errno::LOOP));
        assert_eq!(create("link/dir/file"), Err(Errno::LOOP));
        assert_eq!(create("dangling"), Err(Errno::LOOP));
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn nothing_that_is_made_may_be_run() {
        // BTP/1.0, 7.5. In a folder that was there and in one that was not.
        let temp = tempfile::tempdir().unwrap();
        let folder = open_folder(temp.path()).unwrap();
        for path in ["run.sh", "new/run.sh"] {
            let flags = OFlags::RDWR | OFlags::CREATE;
            open_file(folder.as_fd(), Path::new(path), flags, Parents::Create).unwrap();
            let mode = temp.path().join(path).metadata().unwrap().permissions();
            assert_eq!(mode.mode() & 0o111, 0, "{path}");
        }
    }
}
