//! The path rule: how names from strangers become paths that are safe to write.
//!
//! **Invariant:** a path made here lies inside the download folder, no two files of a torrent share one, and none is
//! where another file needs a folder. The rule, in its order:
//!
//! 1. Each run of bytes that is not UTF-8 (over-long forms too) becomes `_`.
//! 2. `/` and `\` are left out, and so are characters that show nothing or turn the direction of writing: U+061C,
//!    U+200B–200F, U+202A–202E, U+2060–2069, U+FEFF. The joiners U+200C and U+200D stay between two characters
//!    beyond ASCII, where emoji and several scripts need them.
//! 3. Control characters become `_`; on Windows also `< > : " | ? *`.
//! 4. A name longer than 255 bytes is cut before its extension.
//! 5. On Windows, dots and spaces at the end are left out, and a device name (`CON`, `NUL`, `COM1`, …) gets a `_` in front.
//! 6. A part that was empty becomes `_`. A part of which nothing is left, and `.` and `..`, are left out.
//! 7. Of files that meet on one path, all but the first get `.1`, `.2`, … before the extension; a file also gives way to
//!    a folder. On Windows and macOS letter case makes no difference.

use core::fmt::Write;
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a file or folder, in bytes: the limit of ext4, XFS, APFS and NTFS alike.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest relative path, in bytes: the system call's limit (`PATH_MAX`, 4096) with its closing zero.
pub const PATH_BYTES_MAX: usize = 4_095;
/// How deep folders may nest below the top folder.
pub const PATH_PARTS_MAX: usize = 100;

/// The longest extension that is kept when a name is cut, in bytes with its dot.
const EXTENSION_BYTES_MAX: usize = 16;

/// Whose rules for names hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux and its like: letter case counts, nearly every character may be in a name.
    Unix,
    /// macOS: letter case does not count.
    MacOs,
    /// Windows: letter case does not count, and some characters and names are not to be had.
    Windows,
}

impl Platform {
    /// The platform that this program was built for.
    #[must_use]
    pub const fn current() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Unix
        }
    }

    const fn ignores_case(self) -> bool {
        !matches!(self, Self::Unix)
    }
}

/// The safe parts of a path, by points 1 to 6 of the rule. May be none at all.
pub fn sanitize_path<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    platform: Platform,
) -> Vec<String> {
    parts
        .into_iter()
        .filter_map(|part| sanitize_part(part, platform))
        .collect()
}

/// The safe form of one name, by points 1 to 6 of the rule; nothing if nothing of it is left.
#[must_use]
pub fn sanitize_part(part: &[u8], platform: Platform) -> Option<String> {
    if part.is_empty() {
        return Some("_".to_owned());
    }
    let mut name = replace_characters(&decode_utf8(part), platform);
    cut(&mut name, NAME_BYTES_MAX);
    if platform == Platform::Windows {
        name.truncate(name.trim_end_matches(['.', ' ']).len());
        if is_device_name(&name) {
            name.insert(0, '_');
        }
    }
    (!matches!(name.as_str(), "" | "." | "..")).then_some(name)
}

/// The text with one `_` for each run of invalid bytes.
fn decode_utf8(part: &[u8]) -> String {
    let mut text = String::with_capacity(part.len());
    let mut in_invalid_run = false;
    for chunk in part.utf8_chunks() {
        if !chunk.valid().is_empty() {
            text.push_str(chunk.valid());
            in_invalid_run = false;
        }
        if !chunk.invalid().is_empty() && !in_invalid_run {
            text.push('_');
            in_invalid_run = true;
        }
    }
    text
}

fn replace_characters(text: &str, platform: Platform) -> String {
    let mut name = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{200c}' | '\u{200d}' => {
                let joins = |neighbour: &char| !neighbour.is_ascii() && !is_invisible(*neighbour);
                let before = name.chars().next_back().is_some_and(|c| joins(&c));
                if before && characters.peek().is_some_and(joins) {
                    name.push(character);
                }
            }
            '/' | '\\' => {}
            _ if is_invisible(character) => {}
            _ if character.is_control() => name.push('_'),
            '<' | '>' | ':' | '"' | '|' | '?' | '*' if platform == Platform::Windows => {
                name.push('_');
            }
            _ => name.push(character),
        }
    }
    name
}

const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

/// Names that Windows gives to devices, with any extension.
fn is_device_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let stem = stem.to_ascii_uppercase();
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || ["COM", "LPT"].iter().any(|device| {
            stem.strip_prefix(device).is_some_and(|number| {
                matches!(
                    number,
                    "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
                )
            })
        })
}

/// Where the extension begins, dot included; the name's end if it has none worth keeping.
fn extension_start(name: &str) -> usize {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_BYTES_MAX => dot,
        _ => name.len(),
    }
}

/// Cuts a name to `max` bytes, between two characters and before the extension.
fn cut(name: &mut String, max: usize) {
    if name.len() <= max {
        return;
    }
    let extension = name.split_off(extension_start(name));
    name.truncate(name.floor_char_boundary(max - extension.len()));
    name.push_str(&extension);
}

/// Point 7 of the rule, for paths with `/` between their parts. Answers with the old path and the
/// index of each that was renamed.
pub(crate) fn separate(paths: &mut [String], platform: Platform) -> Vec<(String, usize)> {
    if collides(paths, platform) {
        Separator::new(paths, platform).run(paths)
    } else {
        Vec::new()
    }
}

fn folded(path: &str, platform: Platform) -> String {
    if platform.ignores_case() {
        path.to_lowercase()
    } else {
        path.to_owned()
    }
}

/// True if two files share a path, or one is where another needs a folder. Nearly always it is not so.
fn collides(paths: &[String], platform: Platform) -> bool {
    let lower: Vec<String>;
    let mut sorted: Vec<&str> = if platform.ignores_case() {
        lower = paths.iter().map(|path| path.to_lowercase()).collect();
        lower.iter().map(String::as_str).collect()
    } else {
        paths.iter().map(String::as_str).collect()
    };
    // Part by part, so that a path is followed at once by its copies and by what lies below it.
    sorted.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
    sorted.windows(2).any(|pair| {
        let [a, b] = pair else { return false };
        let rest = b.strip_prefix(a);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

struct Separator {
    platform: Platform,
    /// What the files were called at first: a new name avoids them all.
    wanted: BTreeSet<String>,
    folders: BTreeSet<String>,
    taken: BTreeSet<String>,
    /// The last number given out for a path, so that a million files of one name are not a million searches.
    numbers: BTreeMap<String, u32>,
}

impl Separator {
    fn new(paths: &[String], platform: Platform) -> Self {
        let wanted: BTreeSet<String> = paths.iter().map(|path| folded(path, platform)).collect();
        let mut folders = BTreeSet::new();
        for path in &wanted {
            for (slash, _) in path.match_indices('/') {
                if let Some(folder) = path.get(..slash) {
                    folders.insert(folder.to_owned());
                }
            }
        }
        Self {
            platform,
            wanted,
            folders,
            taken: BTreeSet::new(),
            numbers: BTreeMap::new(),
        }
    }

    fn run(mut self, paths: &mut [String]) -> Vec<(String, usize)> {
        let mut renamed = Vec::new();
        for (index, path) in paths.iter_mut().enumerate() {
            let key = folded(path, self.platform);
            if self.folders.contains(&key) || !self.taken.insert(key.clone()) {
                let fresh = self.fresh(path, key);
                renamed.push((core::mem::replace(path, fresh), index));
            }
        }
        renamed
    }

    fn fresh(&mut self, path: &str, key: String) -> String {
        let name_start = path.rfind('/').map_or(0, |slash| slash + 1);
        let (folder, name) = path.split_at(name_start);
        let (stem, extension) = name.split_at(extension_start(name));
        let mut number = self.numbers.get(&key).copied().unwrap_or(0);
        loop {
            number += 1;
            let suffix = format!(".{number}{extension}");
            let stem_bytes = NAME_BYTES_MAX - suffix.len();
            let stem = stem
                .get(..stem.floor_char_boundary(stem_bytes))
                .unwrap_or(stem);
            let mut candidate = folder.to_owned();
            // Writing to a string cannot fail.
            let _ = write!(candidate, "{stem}{suffix}");
            let candidate_key = folded(&candidate, self.platform);
            let is_free =
                !self.wanted.contains(&candidate_key) && !self.folders.contains(&candidate_key);
            if is_free && self.taken.insert(candidate_key) {
                self.numbers.insert(key, number);
                return candidate;
            }
        }
    }
}

#[cfg(test)]
mod tests;
