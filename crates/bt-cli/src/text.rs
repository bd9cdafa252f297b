//! Strangers' text made safe for a terminal.

use std::fmt::Write as _;

/// The text with every character that could steer a terminal, or hide what it says, written as `\u{…}`.
///
/// Those are control characters (escape sequences, line breaks), the ones that turn the direction of writing around,
/// and the ones without a width.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            // Writing to a string cannot fail.
            let _ok = write!(escaped, "{}", c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        // FAULTS 13 and 30.
        let rows = [
            ("plain ünïcödé 名前 \\ \"", "plain ünïcödé 名前 \\ \""),
            ("\x1b[31mred", "\\u{1b}[31mred"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\nb\rc\td\0", "a\\u{a}b\\u{d}c\\u{9}d\\u{0}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("\u{7f}", "\\u{7f}"),
        ];
        for (text, expected) in rows {
            assert_eq!(escape(text), expected);
        }
    }
}
