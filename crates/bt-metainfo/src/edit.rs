//! Changing what stands around the info dictionary, which itself stays byte for byte, and so does the info hash.

use crate::create::BuildError;
use crate::metainfo::{Metainfo, Node};
use crate::urls::{TRACKER_SCHEMES, WEB_SEED_SCHEMES, clean};
use bt_bencode::{Node as Bencode, Options, assemble_dict, decode};
use std::collections::BTreeMap;

/// What to do with one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It goes.
    Remove,
    /// It gets this value. An empty list removes it.
    Set(T),
}

/// Changes to the keys around the info dictionary. Keys that are not named here stay as they are, known or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// `announce` and `announce-list`: tracker URLs in tiers.
    pub trackers: Change<Vec<Vec<String>>>,
    /// `comment`.
    pub comment: Change<String>,
    /// `created by`.
    pub created_by: Change<String>,
    /// `creation date`, in Unix seconds.
    pub creation_date: Change<i64>,
    /// `url-list` (BEP 19).
    pub web_seeds: Change<Vec<String>>,
    /// `nodes` (BEP 5).
    pub nodes: Change<Vec<Node>>,
}

/// Bencoded values by their keys.
pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

impl Edit {
    /// Looks at the URLs.
    ///
    /// # Errors
    /// [`BuildError::Url`] with the first such URL.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let refused = |url: &String, why: &'static str| BuildError::Url {
            url: url.clone(),
            why,
        };
        if let Change::Set(tiers) = &self.trackers {
            for url in tiers.iter().flatten() {
                clean(url, TRACKER_SCHEMES).map_err(|why| refused(url, why))?;
            }
        }
        if let Change::Set(urls) = &self.web_seeds {
            for url in urls {
                clean(url, WEB_SEED_SCHEMES).map_err(|why| refused(url, why))?;
            }
        }
        Ok(())
    }

    /// Makes the changes.
    pub(crate) fn apply(&self, entries: &mut Entries) {
        match &self.trackers {
            Change::Keep => {}
            Change::Remove => set_trackers(entries, &[]),
            Change::Set(tiers) => set_trackers(entries, tiers),
        }
        if self.comment != Change::Keep {
            entries.remove(b"comment.utf-8".as_slice());
        }
        set(entries, "comment", &self.comment, |text| {
            Some(text.as_str().into())
        });
        set(entries, "created by", &self.created_by, |text| {
            Some(text.as_str().into())
        });
        set(entries, "creation date", &self.creation_date, |seconds| {
            Some((*seconds).into())
        });
        set(entries, "url-list", &self.web_seeds, |urls| {
            match urls.as_slice() {
                [] => None,
                // A lone one as a string: readers of the list form know it, older ones know nothing else.
                [one] => Some(one.as_str().into()),
                several => Some(Bencode::list(several.iter().map(String::as_str))),
            }
        });
        set(entries, "nodes", &self.nodes, |nodes| {
            let pair =
                |node: &Node| Bencode::list([Bencode::from(node.host.as_str()), node.port.into()]);
            (!nodes.is_empty()).then(|| Bencode::list(nodes.iter().map(pair)))
        });
    }
}

fn set<T>(
    entries: &mut Entries,
    key: &str,
    change: &Change<T>,
    encode: impl Fn(&T) -> Option<Bencode>,
) {
    let node = match change {
        Change::Keep => return,
        Change::Remove => None,
        Change::Set(value) => encode(value),
    };
    match node {
        Some(node) => entries.insert(key.into(), node.encode()),
        None => entries.remove(key.as_bytes()),
    };
}

/// `announce` is the first URL; `announce-list` is written only if there are more (BEP 12).
fn set_trackers(entries: &mut Entries, tiers: &[Vec<String>]) {
    entries.remove(b"announce".as_slice());
    entries.remove(b"announce-list".as_slice());
    let tiers: Vec<&Vec<String>> = tiers.iter().filter(|tier| !tier.is_empty()).collect();
    let mut urls = tiers.iter().copied().flatten();
    if let Some(first) = urls.next() {
        entries.insert(b"announce".into(), Bencode::from(first.as_str()).encode());
    }
    if urls.next().is_some() {
        let tier = |tier: &&Vec<String>| Bencode::list(tier.iter().map(String::as_str));
        let list = Bencode::list(tiers.iter().map(tier));
        entries.insert(b"announce-list".into(), list.encode());
    }
}

impl Metainfo {
    /// The torrent with some keys changed, its info dictionary byte for byte the same.
    ///
    /// # Errors
    /// [`BuildError::Url`] if a URL cannot be a tracker's or web seed's.
    pub fn edit(&self, edit: &Edit) -> Result<Self, BuildError> {
        edit.check()?;
        let lenient = Options {
            items_max: usize::MAX,
            ..Options::lenient()
        };
        let document = decode(self.bytes(), &lenient).map_err(crate::MetainfoError::from)?;
        let top = document.root().dict().map_err(crate::MetainfoError::from)?;
        let mut entries = Entries::new();
        for (key, value) in top.iter() {
            // Of repeated keys the first wins, here as in every reading.
            entries
                .entry(key.to_vec())
                .or_insert_with(|| value.raw().to_vec());
        }
        edit.apply(&mut entries);
        Ok(Self::parse(&assemble_dict(&entries))?)
    }
}
