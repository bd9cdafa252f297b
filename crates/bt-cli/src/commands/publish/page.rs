//! The page that a publisher's visitors see. It needs no script, nothing from elsewhere, and says so to the browser.

use crate::units::format_size;
use bt_metainfo::Metainfo;
use core::fmt::Write as _;

/// Files that the page lists; a torrent of a hundred thousand would make a page that no browser likes.
const FILES_MAX: usize = 500;

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}\
code{background:#8883;padding:.2em .4em;border-radius:.2em;overflow-wrap:anywhere}\
td{padding:0 1rem 0 0;overflow-wrap:anywhere}td+td{white-space:nowrap;text-align:right}\
:root{color-scheme:light dark}";

/// The page of a torrent whose file is at `torrent_url`.
pub(super) fn html(metainfo: &Metainfo, torrent_url: &str) -> String {
    let info = &metainfo.info;
    let name = escape(info.name());
    let url = escape(torrent_url);
    let magnet = escape(&metainfo.magnet().to_string());
    let size = format_size(info.layout().total_length());
    let files: Vec<_> = info
        .files()
        .iter()
        .filter(|file| file.is_stored())
        .collect();
    let mut rows = String::new();
    for file in files.iter().take(FILES_MAX) {
        let path = escape(&file.path.to_string_lossy());
        let size = format_size(file.length);
        // Writing to a string cannot fail.
        let _ok = writeln!(rows, "<tr><td>{path}</td><td>{size}</td></tr>");
    }
    if files.len() > FILES_MAX {
        let more = files.len() - FILES_MAX;
        let _ok = writeln!(rows, "<tr><td>… and {more} more</td><td></td></tr>");
    }
    let comment = metainfo
        .comment()
        .map(|text| format!("<p>{}</p>\n", escape(text)));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{name}</h1>\n{}\
         <p>{size} in {} files. Get it with:</p>\n<p><code>bt get {url}</code></p>\n\
         <p>or with any BitTorrent client, by the <a href=\"{url}\">.torrent file</a> or the \
         <a href=\"{magnet}\">magnet link</a>.</p>\n<p>Info hash: <code>{}</code></p>\n\
         <table>\n{rows}</table>\n</body>\n</html>\n",
        comment.unwrap_or_default(),
        files.len(),
        metainfo.info_hash,
    )
}

/// The text with what HTML reads as markup written as entities, in element content and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_metainfo::{Builder, Change, Edit};

    #[test]
    fn names_and_comments_are_text_and_never_markup() {
        let evil = "<script>alert('1')\"&";
        let torrent = Builder::folder("<img src=x onerror=\"y\">", 16_384)
            .with_file([evil], 10)
            .with_edit(Edit {
                comment: Change::Set(evil.to_owned()),
                ..Edit::default()
            })
            .build(&[[0; 20]])
            .unwrap();
        let html = html(&torrent, "http://h/\"><b>.torrent");
        for tag in ["<script", "<img", "<b>", "onerror=\"y\""] {
            assert!(!html.contains(tag), "{tag} in {html}");
        }
        assert!(html.contains("&lt;script&gt;alert(&#39;1&#39;)"));
        assert!(html.contains("default-src 'none'"));
        assert!(html.contains(&torrent.info_hash.to_string()));
    }

    #[test]
    fn a_long_list_of_files_is_cut() {
        let mut builder = Builder::folder("n", 16_384);
        for n in 0..FILES_MAX + 7 {
            builder = builder.with_file([format!("f{n}")], 1);
        }
        let html = html(&builder.build(&[[0; 20]]).unwrap(), "http://h/n.torrent");
        assert!(html.contains("… and 7 more") && html.contains("in 507 files"));
        assert_eq!(html.matches("<tr>").count(), FILES_MAX + 1);
    }
}
