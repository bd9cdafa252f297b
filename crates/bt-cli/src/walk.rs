//! Which files of a folder belong into a torrent, and in which order.
//!
//! **Invariant:** the same folder gives the same list on every machine: files are ordered by the raw bytes of their path
//! components, each folder's files and folders together, whatever order the file system or the locale has.
//!
//! The rule: every regular file belongs, hidden ones and empty ones too. A symbolic link below the folder is left out with
//! a warning, wherever it leads: publishing must not give away what the publisher did not put there, and seeding never
//! follows a link. So is what is no file at all (a pipe, socket or device), and a folder with nothing in it, since a torrent
//! lists files only. The path on the command line may be a link.

use crate::exit::{Exit, Failure};
use anyhow::Context as _;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How deep folders may lie in each other: what readers of torrents accept.
const DEPTH_MAX: usize = 100;

/// What a torrent is to be made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The name of the file or folder.
    pub(crate) name: String,
    /// The folder it lies in, with all links resolved.
    pub(crate) parent: PathBuf,
    /// True if it is a folder, even one with a single file.
    pub(crate) is_folder: bool,
    /// The files, ordered.
    pub(crate) files: Vec<File>,
    /// What was left out, and why.
    pub(crate) left_out: Vec<String>,
}

/// One file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Where it is on this machine.
    pub(crate) source: PathBuf,
    /// Its path inside the folder; empty if it is the torrent's only file, and no folder.
    pub(crate) components: Vec<String>,
    /// Its length in bytes.
    pub(crate) length: u64,
}

/// Lists the files of `path`, without the file `output`, which is about to be written and may lie among them.
///
/// # Errors
/// If something cannot be read, or a name is not UTF-8, which a torrent's names have to be.
pub(crate) fn walk(path: &Path, output: &Path) -> Result<Tree, Failure> {
    let shown = path.display();
    let root = path
        .canonicalize()
        .with_context(|| format!("cannot read {shown}"))?;
    let metadata = root
        .metadata()
        .with_context(|| format!("cannot read {shown}"))?;
    let name = root
        .file_name()
        .with_context(|| format!("{shown} has no name a torrent could have"));
    let name = utf8(name?.to_owned(), &root)?;
    let parent = root.parent().unwrap_or(&root).to_owned();
    if metadata.is_file() {
        return Ok(Tree {
            name,
            parent,
            is_folder: false,
            files: vec![File {
                source: root,
                components: Vec::new(),
                length: metadata.len(),
            }],
            left_out: Vec::new(),
        });
    }
    if !metadata.is_dir() {
        return Err(Failure::new(
            Exit::Invalid,
            format!("{shown} is neither a file nor a folder"),
        ));
    }
    let mut walk = Walk {
        output: output.canonicalize().ok(),
        files: Vec::new(),
        left_out: Vec::new(),
    };
    walk.folder(&root, &mut Vec::new())?;
    Ok(Tree {
        name,
        parent,
        is_folder: true,
        files: walk.files,
        left_out: walk.left_out,
    })
}

struct Walk {
    output: Option<PathBuf>,
    files: Vec<File>,
    left_out: Vec<String>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, components: &mut Vec<String>) -> Result<(), Failure> {
        if components.len() >= DEPTH_MAX {
            let message = format!(
                "{} lies more than {DEPTH_MAX} folders deep",
                folder.display()
            );
            return Err(Failure::new(Exit::Invalid, message));
        }
        let names: Result<Vec<OsString>, _> = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names = names.with_context(|| format!("cannot read {}", folder.display()))?;
        if names.is_empty() && !components.is_empty() {
            let message = format!("{}: an empty folder", folder.display());
            self.left_out.push(message);
        }
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let path = folder.join(&name);
            let cannot = || format!("cannot read {}", path.display());
            let metadata = path.symlink_metadata().with_context(cannot)?;
            if metadata.is_dir() {
                components.push(utf8(name, &path)?);
                self.folder(&path, components)?;
                components.pop();
            } else if metadata.is_file() {
                if self.output.as_ref() != Some(&path) {
                    let mut components = components.clone();
                    components.push(utf8(name, &path)?);
                    self.files.push(File {
                        source: path,
                        components,
                        length: metadata.len(),
                    });
                }
            } else {
                let what = if metadata.is_symlink() {
                    "a symbolic link"
                } else {
                    "no regular file"
                };
                self.left_out.push(format!("{}: {what}", path.display()));
            }
        }
        Ok(())
    }
}

fn utf8(name: OsString, path: &Path) -> Result<String, Failure> {
    name.into_string().map_err(|name| {
        let message = format!(
            "the name of {} is not UTF-8, as names in a torrent have to be; rename it ({})",
            path.display(),
            name.as_bytes().escape_ascii()
        );
        Failure::new(Exit::Invalid, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A folder `top` with these files in it.
    fn folder(files: &[&str]) -> (TempDir, PathBuf) {
        let temp = TempDir::new().unwrap();
        let top = temp.path().join("top");
        fs::create_dir(&top).unwrap();
        for file in files {
            let path = top.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.as_bytes()).unwrap();
        }
        (temp, top)
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.files
            .iter()
            .map(|file| file.components.join("/"))
            .collect()
    }

    #[test]
    fn the_order_is_that_of_raw_components() {
        let (_temp, top) = folder(&["b", "a.c", "a/z", "a/B", "ä", "a-", ".hidden", "B", "a/é/1"]);
        let tree = walk(&top, Path::new("none")).unwrap();
        assert_eq!((tree.name.as_str(), tree.is_folder), ("top", true));
        let expected = [".hidden", "B", "a/B", "a/z", "a/é/1", "a-", "a.c", "b", "ä"];
        assert_eq!(paths(&tree), expected);
        assert!(tree.files.iter().all(|file| file.length > 0));
        assert_eq!(
            walk(&top.join("../top/."), Path::new("none")).unwrap(),
            tree
        );
    }

    #[test]
    fn a_single_file_is_no_folder() {
        let (_temp, top) = folder(&["one"]);
        let tree = walk(&top.join("one"), Path::new("none")).unwrap();
        assert_eq!((tree.name.as_str(), tree.is_folder), ("one", false));
        assert_eq!(paths(&tree), [""]);
    }

    #[test]
    fn links_and_what_is_no_file_are_left_out() {
        let (temp, top) = folder(&["data/real"]);
        fs::write(temp.path().join("secret"), "outside").unwrap();
        let targets = [
            "data/real",
            "data",
            "loop",
            "missing",
            "../secret",
            "/etc/passwd",
        ];
        for (number, target) in targets.into_iter().enumerate() {
            symlink(target, top.join(format!("link{number}"))).unwrap();
        }
        let socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
        fs::create_dir_all(top.join("outer/empty")).unwrap();
        let tree = walk(&top, Path::new("none")).unwrap();
        assert_eq!(paths(&tree), ["data/real"]);
        let left_out = &tree.left_out;
        let empty = format!("{}: an empty folder", top.join("outer/empty").display());
        assert!(left_out.contains(&empty), "{left_out:?}");
        assert_eq!(left_out.len(), targets.len() + 2, "{left_out:?}");
        drop(socket);

        let link = temp.path().join("link");
        symlink(&top, &link).unwrap();
        assert_eq!(
            walk(&link, Path::new("none")).unwrap(),
            tree,
            "the root may be a link"
        );
    }

    #[test]
    fn a_torrent_is_no_part_of_itself() {
        let (_temp, top) = folder(&["data", "top.torrent"]);
        let tree = walk(&top, &top.join("top.torrent")).unwrap();
        assert_eq!(paths(&tree), ["data"]);
    }

    #[test]
    fn what_cannot_be_published() {
        let (_temp, top) = folder(&[]);
        fs::write(top.join(OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
        let failure = walk(&top, Path::new("none")).unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert!(failure.to_string().contains("caf\\xe9"), "{failure}");

        let (_temp, top) = folder(&[&format!("{}x", "d/".repeat(100))]);
        assert_eq!(
            walk(&top, Path::new("none")).unwrap_err().exit,
            Exit::Invalid
        );
        assert_eq!(
            walk(Path::new("/nonexistent"), &top).unwrap_err().exit,
            Exit::Invalid
        );
    }
}
