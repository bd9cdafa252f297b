//! A Redis that speaks TLS only, with certificates of authorities that are made for it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::redis::{Redis, Secured};
use super::trackers::{Tracker, announce};
use super::{HEAL, SPREAD};

/// What `openssl req` takes the extensions from.
const EXTENSIONS: &str = "[req]\ndistinguished_name = name\n[name]\n\
     [authority]\nbasicConstraints = critical, CA:true\nkeyUsage = critical, keyCertSign\n\
     [store]\nbasicConstraints = critical, CA:false\nsubjectAltName = IP:127.0.0.1\n";

/// Two trackers that trust its authority share it, one that trusts another stays by itself, and all of them answer.
pub(super) fn test(program: &Path, folder: &Path) -> Result<()> {
    let folder = folder.join("tls");
    std::fs::create_dir(&folder).context("a folder for certificates")?;
    std::fs::write(folder.join("extensions"), EXTENSIONS).context("extensions")?;
    for authority in ["ours", "another"] {
        openssl(&folder, authority, &["-extensions", "authority"])?;
    }
    let signed = [
        "-extensions",
        "store",
        "-CA",
        "ours.pem",
        "-CAkey",
        "ours.key",
    ];
    openssl(&folder, "store", &signed)?;
    let file = |name: &str| folder.join(name);
    let mut redis = Redis::start_secured(Secured {
        certificate: file("store.pem"),
        key: file("store.key"),
        authority: file("ours.pem"),
        folder: folder.clone(),
    })?;
    let start = |name: &str, authority: &str| {
        let trusted: PathBuf = file(authority);
        Tracker::start_trusting(name, program, &redis.url(), Some(&trusted))
    };
    let pair = [
        start("first over TLS", "ours.pem")?,
        start("second over TLS", "ours.pem")?,
    ];
    let mut stranger = start("stranger", "another.pem")?;
    pair.iter()
        .try_for_each(|tracker| tracker.until_health("ok"))?;
    let [first, second] = &pair;
    announce(first.addr, 't', 7_010, "&left=0")?;
    second.until_sees('t', &[7_010], SPREAD)?;
    stranger.until_health("degraded")?;
    announce(stranger.addr, 't', 7_011, "&left=5")?;
    println!("tracker-test: over TLS: shared by those that trust the store's authority");

    redis.kill()?;
    // One that has nothing to tell does not notice.
    announce(second.addr, 't', 7_012, "&left=5")?;
    second.until_health("degraded")?;
    redis.start_again()?;
    first.until_sees('t', &[7_010, 7_012], HEAL)?;
    if second.sees('t', 7_011)? {
        bail!("who trusts another authority told the store all the same");
    }
    stranger.process.terminate();
    let _ended = stranger.process.wait(HEAL)?;
    let log = stranger.process.obituary();
    if !log.to_lowercase().contains("certificate") {
        bail!("it does not say what it lacks: {log}");
    }
    println!("tracker-test: over TLS: healed once the store was back");
    Ok(())
}

/// Makes `NAME.key` and `NAME.pem` in `folder`.
fn openssl(folder: &Path, name: &str, more: &[&str]) -> Result<()> {
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -config extensions";
    let mut own = String::new();
    write!(own, " -keyout {name}.key -out {name}.pem -subj /CN={name}")?;
    let output = Command::new("openssl")
        .args(words.split(' '))
        .args(own.split_whitespace())
        .args(more)
        .current_dir(folder)
        .output()
        .context("openssl")?;
    if !output.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
