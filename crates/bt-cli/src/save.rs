//! Writing a result file: whole or not at all, and never over another one unawares.

use crate::exit::{Exit, Failure, OrExit as _};
use anyhow::Context as _;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Fails if the file exists and must not be replaced: to be asked before a long work, not after. A device, pipe, link or
/// folder is never replaced, by force or not: who names one means what is behind it.
///
/// # Errors
/// [`Exit::Failed`] if it exists.
pub(crate) fn check_free(path: &Path, force: bool) -> Result<(), Failure> {
    let path_shown = path.display();
    let message = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(found) if !found.is_file() => {
            format!(
                "{path_shown} exists and is no regular file; --force would not replace it either"
            )
        }
        Ok(_) if force => return Ok(()),
        Ok(_) => format!("{path_shown} exists; --force replaces it"),
    };
    Err(Failure::new(Exit::Failed, message))
}

/// Writes the file under another name beside its place, and gives it its name once it is whole and on the disk.
///
/// # Errors
/// If it exists and `force` is not given, or it cannot be written.
pub(crate) fn save(path: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    check_free(path, force)?;
    let cannot = || format!("cannot write {}", path.display());
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".bt-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(bare)
        .with_context(cannot)
        .or_exit(Exit::Disk)?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .with_context(cannot)
        .or_exit(Exit::Disk)?;
    let placed = if force {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    placed
        .map_err(|error| error.error)
        .with_context(cannot)
        .or_exit(Exit::Disk)?;
    Ok(())
}

/// The error without the name of the temporary file, which says nothing to the user.
fn bare(error: io::Error) -> io::Error {
    let said = error.to_string();
    let Some((cause, _path)) = said.split_once(" at path ") else {
        return error;
    };
    io::Error::new(error.kind(), cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_force_replaces() {
        let temp = tempfile::TempDir::new().unwrap();
        let path = temp.path().join("x.torrent");
        save(&path, b"one", false).unwrap();
        assert_eq!(save(&path, b"two", false).unwrap_err().exit, Exit::Failed);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        save(&path, b"three", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        let names: Vec<_> = fs::read_dir(temp.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left behind");
    }

    #[test]
    fn nothing_but_a_regular_file_is_replaced() {
        let temp = tempfile::TempDir::new().unwrap();
        let [file, link, folder, socket] =
            ["file", "link", "folder", "socket"].map(|name| temp.path().join(name));
        fs::write(&file, b"one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::create_dir(&folder).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&link, &folder, &socket] {
            let before = path.symlink_metadata().unwrap().file_type();
            let failure = save(path, b"two", true).unwrap_err();
            assert_eq!(failure.exit, Exit::Failed);
            assert!(failure.to_string().contains("no regular file"), "{failure}");
            assert_eq!(path.symlink_metadata().unwrap().file_type(), before);
        }
        assert_eq!(fs::read(&file).unwrap(), b"one");
    }

    #[test]
    fn where_nothing_can_be_written() {
        let missing = Path::new("/nonexistent/x.torrent");
        let proc = Path::new("/proc/x.torrent");
        for path in [missing, proc] {
            let failure = save(path, b"", true).unwrap_err();
            assert_eq!(failure.exit, Exit::Disk);
            assert!(!failure.to_string().contains(".bt-"), "{failure}");
        }
    }
}
