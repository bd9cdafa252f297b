"""libtorrent, driven from the command line. Prints JSON, one object a line.

    foreign.py show TORRENT                          what libtorrent reads in it
    foreign.py create SOURCE OUT ANNOUNCE PIECE      a version 1 torrent of a file or folder
    foreign.py scrape TORRENT URL                    what a tracker knows of it
    foreign.py share TORRENT|LINK DIR IP:PORT [--peers=IP:PORT,…] [--done=SCRIPT] [--dht=IP:PORT] [--pex] [--lsd]
                     [--ipv6] [--slow]               seeds, or downloads and then seeds, until stopped; runs the script
                                                     once it has written everything; slow is 1 KiB/s.
                                                     UP_LIMIT (bytes per second) and SUPER_SEED are taken from the
                                                     environment
    foreign.py many FOLDER DIR IP:PORT               seeds all torrents of the folder, whose data is taken for complete
    foreign.py fill transmission|rqbit URL COUNT [FOLDER DIR]
                                                     adds all torrents of the folder to a daemon that serves this API,
                                                     and ends when it seeds so many
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import libtorrent as lt


def show(torrent):
    info = lt.torrent_info(torrent)
    files = info.files()
    listed = [
        {"path": files.file_path(i), "length": files.file_size(i)}
        for i in range(info.num_files())
        if not files.file_flags(i) & lt.file_flags_t.flag_pad_file
    ]
    return {
        "name": info.name(),
        "info_hash": str(info.info_hash()),
        "piece_length": info.piece_length(),
        "pieces": info.num_pieces(),
        "total_length": info.total_size(),
        "files": listed,
    }


def create(source, out, announce, piece):
    files = lt.file_storage()
    lt.add_files(files, source)
    torrent = lt.create_torrent(files, int(piece), lt.create_torrent.v1_only)
    torrent.add_tracker(announce)
    lt.set_piece_hashes(torrent, os.path.dirname(source))
    with open(out, "wb") as file:
        file.write(lt.bencode(torrent.generate()))


def scrape(torrent, url):
    mask = lt.alert.category_t.tracker_notification | lt.alert.category_t.error_notification
    # One of each address it listens on asks, and that of loopback fails; whoever is answered tells.
    session = lt.session({"enable_dht": False, "enable_lsd": False, "alert_mask": mask})
    deadline = time.monotonic() + 10
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(torrent)
    # It makes the empty files of the torrent at once.
    folder = tempfile.TemporaryDirectory()
    wanted.save_path = folder.name
    wanted.flags = lt.torrent_flags.paused | lt.torrent_flags.upload_mode
    handle = session.add_torrent(wanted)
    handle.replace_trackers([lt.announce_entry(url)])
    handle.scrape_tracker()
    while time.monotonic() < deadline:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.scrape_reply_alert):
                return {"complete": alert.complete, "incomplete": alert.incomplete}
    sys.exit("nobody answered the scrape")


def share(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("folder")
    parser.add_argument("listen")
    parser.add_argument("--peers", default="")
    parser.add_argument("--done")
    parser.add_argument("--dht")
    for flag in ("--pex", "--lsd", "--ipv6", "--slow"):
        parser.add_argument(flag, action="store_true")
    it = parser.parse_args(arguments)
    address, port = it.listen.split(":")
    session = lt.session(
        {
            "listen_interfaces": it.listen + (f",[::]:{port}" if it.ipv6 else ""),
            "outgoing_interfaces": "" if address == "0.0.0.0" else address,
            "in_enc_policy": 2,
            "out_enc_policy": 2,
            "dht_bootstrap_nodes": it.dht or "",
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_announce_interval": 5,
            "enable_dht": it.dht is not None,
            "enable_lsd": it.lsd,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "upload_rate_limit": int(os.environ.get("UP_LIMIT", 0)),
            "alert_mask": lt.alert.category_t.status_notification
            | lt.alert.category_t.error_notification
            | lt.alert.category_t.storage_notification
            | lt.alert.category_t.tracker_notification,
        }
    )
    if it.source.startswith("magnet:"):
        wanted = lt.parse_magnet_uri(it.source)
    else:
        wanted = lt.add_torrent_params()
        wanted.ti = lt.torrent_info(it.source)
    wanted.save_path = it.folder
    if not it.pex:
        wanted.flags |= lt.torrent_flags.disable_pex
    # A local peer, as all of a test are, is under no limit otherwise.
    unclassified = lt.ip_filter()
    unclassified.add_rule("0.0.0.0", "255.255.255.255", 1)
    session.set_peer_class_filter(unclassified)
    handle = session.add_torrent(wanted)
    if "SUPER_SEED" in os.environ:
        handle.set_flags(lt.torrent_flags.super_seeding)
    if it.slow:
        handle.set_upload_limit(1024)
        handle.set_download_limit(1024)
    for peer in filter(None, it.peers.split(",")):
        ip, port = peer.rsplit(":", 1)
        handle.connect_peer((ip, int(port)))
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            # Finished is hashed, not written: whoever ends us then loses what is still on its way to the disk.
            if it.done and isinstance(alert, lt.torrent_finished_alert):
                handle.flush_cache()
            if it.done and isinstance(alert, lt.cache_flushed_alert):
                subprocess.run([it.done], check=True)
            if isinstance(alert, lt.metadata_received_alert):
                print("metadata", flush=True)
            print(alert.message(), file=sys.stderr, flush=True)


def torrents_of(folder):
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def many(folder, data, listen):
    session = lt.session(
        {
            "listen_interfaces": listen,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": 0,
        }
    )
    handles = []
    for path in torrents_of(folder):
        wanted = lt.load_torrent_file(path)
        wanted.save_path = data
        wanted.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
        wanted.flags |= lt.torrent_flags.seed_mode
        handles.append(session.add_torrent(wanted))
    while not all(handle.status().is_seeding for handle in handles):
        time.sleep(0.02)
    print(json.dumps({"ready": len(handles)}), flush=True)
    while True:
        time.sleep(3600)


def transmission(url, method, **arguments):
    """One call; the daemon wants a number that it gives with the first refusal."""
    body = json.dumps({"method": method, "arguments": arguments}).encode()
    for _ in range(2):
        request = urllib.request.Request(f"{url}/transmission/rpc", body)
        request.add_header("X-Transmission-Session-Id", transmission.session)
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["arguments"]
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
            transmission.session = error.headers["X-Transmission-Session-Id"]
    raise RuntimeError("transmission-daemon refuses the number that it gave")


transmission.session = ""


def transmission_add(url, torrent, data):
    with open(torrent, "rb") as file:
        metainfo = base64.b64encode(file.read()).decode()
    transmission(url, "torrent-add", **{"download-dir": data, "metainfo": metainfo})


def transmission_seeding(url):
    listed = transmission(url, "torrent-get", fields=["status"])["torrents"]
    return sum(torrent["status"] == 6 for torrent in listed)


def rqbit_add(url, torrent, data):
    with open(torrent, "rb") as file:
        metainfo = file.read()
    folder = urllib.parse.quote(data)
    target = f"{url}/torrents?overwrite=true&output_folder={folder}"
    urllib.request.urlopen(urllib.request.Request(target, metainfo), timeout=60).read()


def rqbit_seeding(url):
    with urllib.request.urlopen(f"{url}/torrents?with_stats=true", timeout=120) as reply:
        listed = json.load(reply)["torrents"]
    stats = [torrent.get("stats") or {} for torrent in listed]
    return sum(stat.get("state") == "live" and stat.get("finished") for stat in stats)


def fill(client, url, count, folder=None, data=None):
    add, seeding = {
        "transmission": (transmission_add, transmission_seeding),
        "rqbit": (rqbit_add, rqbit_seeding),
    }[client]
    while True:
        try:
            seeding(url)
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    for torrent in torrents_of(folder) if folder else ():
        add(url, torrent, data)
    while seeding(url) < int(count):
        time.sleep(0.05)


def main():
    verb, *arguments = sys.argv[1:]
    if verb == "show":
        print(json.dumps(show(*arguments)))
    elif verb == "scrape":
        print(json.dumps(scrape(*arguments)))
    elif verb == "create":
        create(*arguments)
    elif verb == "share":
        share(arguments)
    elif verb == "many":
        many(*arguments)
    elif verb == "fill":
        fill(*arguments)
    else:
        sys.exit(__doc__)


main()
