//! A network of its own: a bridge in a fresh namespace, and for each program a namespace with one address.
//!
//! Each program must have an address of its own that is not on loopback: Transmission takes no peer in 127/8 from a
//! tracker, and a tracker tells two peers on one address apart by port only. Nothing here can reach another network, and all
//! of it is gone with the process that entered it.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

/// Where the trackers listen: the bridge itself.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The same over IPv6.
pub(crate) const BRIDGE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

/// Hosts made so far. No two share a number, and so an address.
static HOSTS: AtomicU16 = AtomicU16::new(0);

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
    run("ip", &["link", "set", "bridge", "up"])?;
    // Addresses here are unique: nobody needs to look for another holder of one before it can be used.
    run(
        "ip",
        &[
            "addr",
            "add",
            &format!("{BRIDGE6}/64"),
            "dev",
            "bridge",
            "nodad",
        ],
    )
}

/// A namespace with one address of each family.
#[derive(Debug)]
pub(crate) struct Host {
    number: u16,
    name: String,
}

impl Host {
    /// The next host of the network.
    pub(crate) fn new() -> Result<Self> {
        let number = 1 + HOSTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("host{number}");
        let it = Self { number, name };
        let (name, cable) = (&it.name, it.cable());
        batch(
            &[],
            &format!(
                "netns add {name}\n\
                 link add {cable} type veth peer name eth0 netns {name}\n\
                 link set {cable} master bridge up\n"
            ),
        )?;
        // Who sends to a group of the local network sends it to the bridge.
        batch(
            &["-n", name],
            &format!(
                "addr add {}/16 dev eth0\n\
                 addr add {}/64 dev eth0 nodad\n\
                 link set eth0 up\n\
                 link set lo up\n\
                 route add 224.0.0.0/4 dev eth0\n",
                it.ip(),
                it.ip6(),
            ),
        )?;
        Ok(it)
    }

    /// Its address.
    pub(crate) fn ip(&self) -> Ipv4Addr {
        let [high, low] = (1 + self.number).to_be_bytes();
        Ipv4Addr::new(10, 77, high, low)
    }

    /// The same over IPv6.
    pub(crate) fn ip6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1 + self.number)
    }

    /// The bridge's end of its cable: all that it sends and is sent passes there.
    pub(crate) fn cable(&self) -> String {
        format!("cable{}", self.number)
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

/// Several commands of `ip` at the price of one process.
fn batch(arguments: &[&str], commands: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(arguments)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).context("ip -batch")?;
    }
    let output = child.wait_with_output().context("ip -batch")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip -batch: {}\n{commands}", said.trim());
    }
    Ok(())
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
