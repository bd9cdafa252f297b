//! The folder that `-d` names.

use crate::exit::{Exit, Failure, OrExit as _};
use anyhow::Context as _;
use std::io;
use std::path::Path;

/// Whether the folder is there.
///
/// # Errors
/// [`Exit::Disk`] if something else is, or nothing can be known.
pub(crate) fn exists(dir: &Path) -> Result<bool, Failure> {
    let shown = dir.display();
    match dir.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(Failure::new(
            Exit::Disk,
            format!("-d {shown}: a file, not a folder"),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error)
            .with_context(|| format!("-d {shown}"))
            .or_exit(Exit::Disk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_is_one() {
        let temp = tempfile::TempDir::new().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(exists(temp.path()).unwrap());
        assert!(!exists(&temp.path().join("none")).unwrap());
        for wrong in [file.clone(), file.join("below")] {
            let failure = exists(&wrong).unwrap_err();
            assert_eq!(failure.exit, Exit::Disk);
            assert!(failure.to_string().contains("file"), "{failure}");
        }
    }
}
