//! Finding and building what is tested: the workspace's programs, and the cargo tools the chores need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, MetadataCommand};

/// The programs under test, built.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// `bt`: create, seed, get, verify.
    pub(crate) bt: PathBuf,
    /// `bt-trackerd`.
    pub(crate) trackerd: PathBuf,
}

impl Programs {
    /// Builds both in release mode, as they are measured and shipped.
    pub(crate) fn build() -> Result<Self> {
        let mut cargo = cargo()
            .args([
                "build",
                "--release",
                "--quiet",
                "--message-format=json-render-diagnostics",
            ])
            .args(["--package", "bt-cli", "--package", "bt-trackerd", "--bins"])
            .current_dir(workspace_root()?)
            .stdout(Stdio::piped())
            .spawn()
            .context("cargo build")?;
        let output = cargo.stdout.take().context("cargo's output")?;
        let mut built = Vec::new();
        for message in Message::parse_stream(std::io::BufReader::new(output)) {
            if let Message::CompilerArtifact(artifact) = message.context("cargo's messages")? {
                built.extend(artifact.executable.map(|path| path.into_std_path_buf()));
            }
        }
        if !cargo.wait().context("cargo build")?.success() {
            bail!("the programs do not build");
        }
        let named = |name: &str| {
            let found = built
                .iter()
                .find(|path| path.file_stem().is_some_and(|stem| stem == name));
            found
                .cloned()
                .with_context(|| format!("cargo built no `{name}`"))
        };
        Ok(Self {
            bt: named("bt")?,
            trackerd: named("bt-trackerd")?,
        })
    }

    /// Takes both from `folder`, as somebody else built them.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        let named = |name: &str| {
            let path = folder.join(name);
            path.canonicalize()
                .with_context(|| format!("no program {}", path.display()))
        };
        Ok(Self {
            bt: named("bt")?,
            trackerd: named("bt-trackerd")?,
        })
    }
}

/// Cargo, as a person would start it.
///
/// The variables that `cargo run` sets for this program are taken away again: build scripts ask for some of them, and
/// each change of caller would build half of the dependencies anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    Ok(metadata.workspace_root.into_std_path_buf())
}

/// Every file that git tracks or would track below `root`, with `/`. One that was deleted and is not committed yet is
/// among them.
pub(crate) fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let names = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let names = names.split('\0').filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

/// The folder cargo builds into.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Whether `name` is on the search path.
pub(crate) fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Makes sure of a cargo tool from crates.io: installs it if asked to, else says how.
pub(crate) fn need_cargo_tool(name: &str, install: bool) -> Result<()> {
    if is_installed(name) {
        return Ok(());
    }
    if !install {
        bail!("{name} is missing: `cargo install {name} --locked`, or run this with --install");
    }
    let status = cargo().args(["install", "--locked", name]).status();
    if !status.context("cargo install")?.success() {
        bail!("{name} does not install");
    }
    Ok(())
}
