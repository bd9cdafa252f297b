use super::*;

fn check(from: &str, location: &str, reach: Reach, expected: Result<&str, &str>) {
    let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
    let got = redirected(&Url::parse(from).unwrap(), &headers, reach);
    let got = got.map(String::from).map_err(|error| error.to_string());
    match (&got, expected) {
        (Ok(url), Ok(expected)) => assert_eq!(url, expected),
        (Err(error), Err(word)) => assert!(error.contains(word), "{error}"),
        _ => panic!("{location}: {got:?}, not {expected:?}"),
    }
}

#[test]
fn redirects_keep_to_scheme_origin_and_reach() {
    let from = "http://u:p@t.example/a";
    let any = [
        ("/b", Ok("http://u:p@t.example/b")),
        ("http://x.example/b", Ok("http://x.example/b")),
        ("http://v:q@x.example/b", Ok("http://x.example/b")),
        ("https://t.example/b", Ok("https://t.example/b")),
        ("file:///etc/passwd", Err("file: is neither")),
        ("http://10.0.0.1/", Ok("http://10.0.0.1/")),
        ("http://[", Err("without saying where")),
    ];
    for (location, expected) in any {
        check(from, location, Reach::Anywhere, expected);
    }
    let public_only = [
        ("http://10.0.0.1/", Err("private address 10.0.0.1")),
        ("http://[::ffff:10.0.0.1]/", Err("private address")),
        ("http://2130706433/", Err("private address 127.0.0.1")),
        ("http://x.example/b", Ok("http://x.example/b")),
        ("http://8.8.8.8/", Ok("http://8.8.8.8/")),
    ];
    for (location, expected) in public_only {
        check(from, location, Reach::PublicOnly, expected);
    }
    let url = Url::parse(from).unwrap();
    let nowhere = redirected(&url, &HeaderMap::new(), Reach::Anywhere);
    assert_eq!(nowhere, Err(HttpError::Location));
}

#[test]
fn urls_are_checked() {
    assert!(parse("https://t.example/announce?passkey=1").is_ok());
    assert!(matches!(parse("ftp://x/"), Err(HttpError::Scheme { .. })));
    assert!(matches!(parse("no url"), Err(HttpError::Url { .. })));
}
