//! Who is served, how much of it, and whose word about addresses counts.

use super::{Key, count, integer, path, strings};
use serde::de::Error as _;

/// Most beginnings of peer ids: each announce is compared with all of them.
const CLIENTS_DENIED_MAX: usize = 256;

/// What is wrong with such a list.
const CLIENTS_WRONG: &str = "at most 256 beginnings of 1 to 20 bytes";

pub(super) const ALLOW: Key = Key {
    name: "allow",
    about: "A file of the torrents that are served: an info hash of 40 hexadecimal digits a line, # begins a\n\
            comment. Without it all are. Paths are relative to the folder of this file.",
    live: true,
    set: path_into!(settings.allow),
    show: |config| config.settings.allow.as_deref().map(path),
    example: "\"allow.txt\"",
};

pub(super) const DENY: Key = Key {
    name: "deny",
    about: "A file of the torrents that are not served.",
    live: true,
    set: path_into!(settings.deny),
    show: |config| config.settings.deny.as_deref().map(path),
    example: "\"deny.txt\"",
};

pub(super) const KEYS_FILE: Key = Key {
    name: "keys",
    about: "A file of the keys of users, one a line, # begins a comment: 8 to 64 letters, digits, - and _. With it\n\
            the tracker is private: announce URLs must hold one, as /announce/KEY, /KEY/announce or\n\
            /announce?passkey=KEY, over HTTP and UDP.",
    live: true,
    set: path_into!(settings.keys),
    show: |config| config.settings.keys.as_deref().map(path),
    example: "\"keys.txt\"",
};

pub(super) const CLIENTS_DENIED: Key = Key {
    name: "clients_denied",
    about: "Beginnings of the peer ids of clients that are not served, such as \"-XL\".",
    live: true,
    set: |config, given| {
        let clients: Vec<String> = given.read()?;
        let fits = |client: &String| (1..=20).contains(&client.len());
        if clients.len() > CLIENTS_DENIED_MAX || !clients.iter().all(fits) {
            return Err(toml::de::Error::custom(CLIENTS_WRONG));
        }
        config.settings.clients_denied = clients;
        Ok(())
    },
    show: |config| Some(strings(&config.settings.clients_denied)),
    example: "",
};

pub(super) const ADDRESS_ANNOUNCES: Key = Key {
    name: "address_announces_per_minute",
    about: "Announces a minute of one address (of IPv6: one /64). A minute's worth may come at once; who has more\n\
            is refused and told when to come back. 0 is no limit. Many honest users can share one address.",
    live: true,
    set: read_into!(settings.per_address.announces_per_minute),
    show: |config| {
        Some(integer(
            config.settings.per_address.announces_per_minute.into(),
        ))
    },
    example: "",
};

pub(super) const ADDRESS_PEERS: Key = Key {
    name: "address_peers_max",
    about: "Most peers of one address at a time, counted over all torrents. 0 is no limit.",
    live: true,
    set: read_into!(settings.per_address.peers),
    show: |config| Some(integer(config.settings.per_address.peers.into())),
    example: "",
};

pub(super) const KEY_ANNOUNCES: Key = Key {
    name: "key_announces_per_minute",
    about: "Announces a minute with one key. 0 is no limit.",
    live: true,
    set: read_into!(settings.per_key.announces_per_minute),
    show: |config| Some(integer(config.settings.per_key.announces_per_minute.into())),
    example: "",
};

pub(super) const KEY_PEERS: Key = Key {
    name: "key_peers_max",
    about: "Most peers with one key at a time, counted over all torrents. 0 is no limit.",
    live: true,
    set: read_into!(settings.per_key.peers),
    show: |config| Some(integer(config.settings.per_key.peers.into())),
    example: "",
};

pub(super) const PROXIES: Key = Key {
    name: "proxies",
    about: "Reverse proxies: networks whose word about the client's address is believed.",
    live: true,
    set: read_into!(settings.proxies),
    show: |config| Some(strings(&config.settings.proxies)),
    example: "",
};

pub(super) const PROXY_SAYS: Key = Key {
    name: "proxy_says",
    about: "How the proxies say it: \"x-forwarded-for\", \"forwarded\" (RFC 7239), or \"proxy-protocol\" (version 2),\n\
            with which each of their connections, and each packet over UDP, must begin. A proxy must set it itself, and not pass on what\n\
            clients send.",
    live: true,
    set: read_into!(settings.proxy_says),
    show: |config| Some(config.settings.proxy_says.name().into()),
    example: "",
};

pub(super) const IP_FROM: Key = Key {
    name: "ip_from",
    about: "Networks whose peers may name another address with ip=, such as those behind one address translation.",
    live: true,
    set: read_into!(settings.ip_from),
    show: |config| Some(strings(&config.settings.ip_from)),
    example: "",
};

pub(super) const FULL_SCRAPE: Key = Key {
    name: "full_scrape_max",
    about: "Answer a scrape without info hash with all torrents, if there are no more than so many. 0 refuses it.\n\
            The answer is made once a minute.",
    live: true,
    set: read_into!(settings.full_scrape_max),
    show: |config| Some(count(config.settings.full_scrape_max)),
    example: "",
};

pub(super) const WARNING: Key = Key {
    name: "warning",
    about: "A message that clients show their users, in every answer to an announce over HTTP. Empty for none.",
    live: true,
    set: read_into!(settings.notes.warning),
    show: |config| Some(config.settings.notes.warning.as_str().into()),
    example: "",
};

pub(super) const TRACKER_ID: Key = Key {
    name: "tracker_id",
    about: "A name of this tracker, which clients send back. Empty for none.",
    live: true,
    set: read_into!(settings.notes.tracker_id),
    show: |config| Some(config.settings.notes.tracker_id.as_str().into()),
    example: "",
};

pub(super) const TLS_CERTIFICATE: Key = Key {
    name: "tls_certificate",
    about: "The certificate for HTTPS, with those of its issuers behind it, in PEM.",
    live: true,
    set: path_into!(settings.tls_certificate),
    show: |config| config.settings.tls_certificate.as_deref().map(path),
    example: "\"fullchain.pem\"",
};

pub(super) const TLS_KEY: Key = Key {
    name: "tls_key",
    about: "Its private key, in PEM.",
    live: true,
    set: path_into!(settings.tls_key),
    show: |config| config.settings.tls_key.as_deref().map(path),
    example: "\"privkey.pem\"",
};
