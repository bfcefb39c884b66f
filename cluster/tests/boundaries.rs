//! What the crate promises of itself, read from its sources: bincode in the codec only, openraft in
//! the Raft module only, and nothing of Centrifugo anywhere.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below a directory.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Lines of code, in lower case, without what comments say, where one of these words occurs: as file,
/// line and word. Files of these modules, `name.rs` and `name/`, are left out.
fn places(words: &[&str], but: &[&str]) -> Vec<String> {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 100, "the sources are found: {}", files.len());
    let mut places = Vec::new();
    for file in files {
        let name = file.strip_prefix(&src).unwrap();
        let module = name.components().next().unwrap().as_os_str();
        let module = module.to_str().unwrap().trim_end_matches(".rs");
        if but.contains(&module) {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap().to_lowercase();
            for word in words.iter().filter(|word| code.contains(**word)) {
                places.push(format!("src/{}:{}: {word}", name.display(), number + 1));
            }
        }
    }
    places
}

fn none(places: &[String]) {
    assert!(places.is_empty(), "\n{}", places.join("\n"));
}

#[test]
fn only_the_codec_uses_bincode_and_only_the_raft_module_openraft() {
    none(&places(&["bincode"], &["codec"]));
    none(&places(&["openraft"], &["raft"]));
    // The words are looked for as they are written where they belong.
    assert!(!places(&["bincode"], &[]).is_empty());
    assert!(!places(&["openraft"], &[]).is_empty());
}

#[test]
fn the_crate_knows_nothing_of_centrifugo() {
    let words = [
        "centrifug",
        "proxy",
        "publication",
        "presence",
        "sub_refresh",
        "subrefresh",
        "channel_state",
        "channelstate",
        "cache_empty",
        "cacheempty",
        "shared_poll",
        "sharedpoll",
        "b64data",
        "tonic::",
        "prost::",
    ];
    none(&places(&words, &[]));
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for line in manifest.lines() {
        let named = line.split_once('=').map_or("", |(name, _)| name.trim());
        let stranger = named.starts_with("tonic") || named.starts_with("prost");
        assert!(!stranger && named != "centripeta", "Cargo.toml: {line}");
    }
}
