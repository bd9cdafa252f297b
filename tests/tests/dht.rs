//! Processes that find each other by the DHT alone.

use bt_tests::process::{Process, run};
use bt_tests::shared::{Shared, text};

const PIECE: usize = 32 * 1024;
const LOCAL: [&str; 4] = ["--bind", "127.0.0.1", "--port", "0"];

fn node(home: &std::path::Path) -> (Process, String) {
    let arguments = [&["dht", "node", "--json"][..], &LOCAL].concat();
    let mut node = Process::start("bt", home, &arguments);
    let listening = node.event("listening");
    let addr = listening.get("addr").and_then(|addr| addr.as_str());
    (node, addr.expect("an address").to_owned())
}

#[test]
fn a_download_without_tracker_and_peer_through_a_third_node() {
    let shared = Shared::new(20 * PIECE, PIECE, "http://127.0.0.1:1/announce");
    let (_node, addr) = node(&shared.make("node"));
    let join = ["--no-tracker", "--no-lsd", "--dht-bootstrap", &addr];
    let (_seed, seeder) = shared.seed(&join[2..]);
    let (home, copy) = (shared.make("home"), shared.make("copy"));
    let arguments = ["get", text(&shared.torrent), "-d", text(&copy), "--json"];
    let arguments = [&arguments[..], &LOCAL, &join].concat();
    let mut get = Process::start("bt", &home, &arguments);
    get.event("complete");
    assert_eq!(get.end(), 0, "{}", get.stderr());
    assert!(shared.is_copied("copy"));

    let hash: String = shared
        .info_hash
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // The hash is all that is needed.
    let (home, copy) = (shared.make("home2"), shared.make("copy2"));
    let arguments = ["get", &hash, "-d", text(&copy), "--json"];
    let arguments = [&arguments[..], &LOCAL, &join].concat();
    let mut get = Process::start("bt", &home, &arguments);
    get.event("complete");
    assert_eq!(get.end(), 0, "{}", get.stderr());
    assert!(shared.is_copied("copy2"));

    let lookup = [
        "dht",
        "lookup",
        &hash,
        "--bind",
        "127.0.0.1",
        "--dht-bootstrap",
        &addr,
    ];
    let (code, stdout, stderr) = run("bt", &home, &lookup);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.lines().any(|line| line == seeder.to_string()),
        "{stdout}"
    );
}

#[test]
fn items_are_put_and_had_again() {
    let home = tempfile::tempdir().expect("a home");
    let (_node, addr) = node(&home.path().join("node"));
    let join = ["--bind", "127.0.0.1", "--dht-bootstrap", &addr];
    let bt = |arguments: &[&str]| {
        let (code, stdout, stderr) = run("bt", home.path(), &[arguments, &join].concat());
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        stdout
    };
    let target = bt(&["dht", "put", "hello, DHT"]);
    assert_eq!(bt(&["dht", "get", target.trim()]), "hello, DHT\n");
    let key = home.path().join("key");
    let put = |value: &str| bt(&["dht", "put", value, "--key", text(&key), "--salt", "news"]);
    let first = put("one");
    assert_eq!(put("two"), first, "in the same place");
    let public = first
        .lines()
        .find_map(|line| line.strip_prefix("public key "));
    assert_eq!(
        bt(&["dht", "get", public.expect("a key"), "--salt", "news"]),
        "two\n"
    );
    let (code, _, stderr) = run(
        "bt",
        home.path(),
        &[&["dht", "get", public.expect("a key")][..], &join].concat(),
    );
    assert_eq!(code, 5, "without the salt it is another item: {stderr}");
    let pong = bt(&["dht", "ping", &addr]);
    assert!(pong.starts_with(&addr), "{pong}");
}

#[test]
fn a_node_that_cannot_have_its_port_says_so() {
    let home = tempfile::tempdir().expect("a home");
    let (_node, addr) = node(&home.path().join("node"));
    let (_, port) = addr.rsplit_once(':').expect("a port");
    let arguments = ["dht", "node", "--bind", "127.0.0.1", "--port", port];
    let (code, _, stderr) = run("bt", &home.path().join("other"), &arguments);
    assert_eq!(code, 1, "{stderr}");
    let message = format!("--port {port}: this UDP port is taken");
    assert!(stderr.contains(&message), "{stderr}");
}
