//! Text from strangers, made fit for a terminal or a log.

/// Longest text of a tracker that is kept, in bytes.
pub(crate) const TEXT_MAX_BYTES: usize = 1024;

/// The bytes as text: control characters and those that change the direction of writing are escaped, what is not UTF-8
/// is replaced, and what is behind [`TEXT_MAX_BYTES`] is cut.
pub(crate) fn clean(bytes: &[u8]) -> String {
    // Escaping makes it longer, so no more than this is of use.
    let bytes = bytes.get(..TEXT_MAX_BYTES + 4).unwrap_or(bytes);
    let mut clean = String::new();
    for char in String::from_utf8_lossy(bytes).chars() {
        let length = clean.len();
        if is_harmful(char) {
            clean.extend(char.escape_default());
        } else {
            clean.push(char);
        }
        if clean.len() > TEXT_MAX_BYTES {
            clean.truncate(length);
            clean.push('…');
            break;
        }
    }
    clean
}

fn is_harmful(char: char) -> bool {
    let invisible = matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    char.is_control() || invisible
}
