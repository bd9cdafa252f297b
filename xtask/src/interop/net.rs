//! A network of its own: a bridge in a fresh namespace, and for each program a namespace with one address.
//!
//! Each program must have an address of its own that is not on loopback: Transmission takes no peer in 127/8 from a
//! tracker, and a tracker tells two peers on one address apart by port only. Nothing here can reach another network, and all
//! of it is gone with the process that entered it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where the trackers listen: the bridge itself.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The bridge's own link address: one of those that anybody may choose (IEEE 802, locally administered).
const BRIDGE_MAC: &str = "02:00:00:00:00:01";

/// Starts this very chore again inside a fresh network and mount namespace, and passes its status on.
pub(crate) fn enter_namespace(arguments: &[String]) -> Result<bool> {
    let this = std::env::current_exe().context("this program's own path")?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--kill-child=KILL"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let status = command
        .arg("--")
        .arg(this)
        .args(arguments)
        .status()
        .context("unshare (package util-linux)")?;
    Ok(status.success())
}

/// Sets the bridge up. Names of namespaces live in a folder of this mount namespace, so two runs do not meet.
pub(crate) fn set_up() -> Result<()> {
    let names = Path::new("/run/netns");
    std::fs::create_dir_all(names).context("/run/netns")?;
    run("mount", &["-t", "tmpfs", "tmpfs", "/run/netns"])?;
    run("ip", &["link", "set", "lo", "up"])?;
    // A bridge without an address of its own takes the lowest of its ports', another one whenever a program comes or
    // goes: whoever knew the old one could then not reach the trackers for seconds.
    run(
        "ip",
        &[
            "link", "add", "bridge", "address", BRIDGE_MAC, "type", "bridge",
        ],
    )?;
    run(
        "ip",
        &["addr", "add", &format!("{BRIDGE}/16"), "dev", "bridge"],
    )?;
    run("ip", &["link", "set", "bridge", "up"])
}

/// A namespace with one address.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
}

impl Host {
    /// Host `number` of the network, from 1.
    pub(crate) fn new(number: u16) -> Result<Self> {
        let [high, low] = (1 + number).to_be_bytes();
        let address = Ipv4Addr::new(10, 77, high, low);
        let name = format!("host{number}");
        let cable = format!("cable{number}");
        run("ip", &["netns", "add", &name])?;
        run(
            "ip",
            &[
                "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ],
        )?;
        run("ip", &["link", "set", &cable, "master", "bridge", "up"])?;
        run(
            "ip",
            &[
                "-n",
                &name,
                "addr",
                "add",
                &format!("{address}/16"),
                "dev",
                "eth0",
            ],
        )?;
        run("ip", &["-n", &name, "link", "set", "eth0", "up"])?;
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        Ok(Self { name })
    }

    /// The same command, run there.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside
            .args(["netns", "exec", &self.name])
            .arg(command.get_program());
        inside.args(command.get_args());
        for (name, value) in command.get_envs() {
            inside.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
