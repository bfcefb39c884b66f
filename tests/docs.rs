//! The pages for readers: commands, flags, keys, metrics, log lines, files, tests and links that they
//! name exist. Centrifugo's keys are compared with what a real one says, if there is one.
#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;

use centripeta::{config, metrics};
use outside::or_skip;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ends of names that look like keys and are files.
const FILES: &[&str] = &["toml", "rs", "md", "json", "yml", "conf", "js", "mjs"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A page: its path from the root and its text.
struct Page {
    path: String,
    text: String,
}

/// A piece of code in a page.
struct Code {
    place: String,
    /// The language of a block; `None` inside of a line.
    block: Option<String>,
    text: String,
}

fn pages() -> Vec<Page> {
    let mut paths = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            paths.push(format!("docs/{name}"));
        }
    }
    paths.sort();
    let page = |path: String| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        Page { path, text }
    };
    paths.into_iter().map(page).collect()
}

impl Page {
    /// The lines outside of blocks, numbered, and the blocks.
    fn split(&self) -> (Vec<(usize, &str)>, Vec<Code>) {
        let (mut lines, mut blocks) = (Vec::new(), Vec::new());
        let mut open: Option<Code> = None;
        for (at, line) in self.text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    open = Some(Code {
                        place: format!("{}:{}", self.path, at + 1),
                        block: Some(language.trim().to_owned()),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => lines.push((at + 1, line)),
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.path);
        (lines, blocks)
    }

    /// All its code.
    fn code(&self) -> Vec<Code> {
        let (lines, mut code) = self.split();
        for (at, line) in lines {
            for text in spans(line) {
                code.push(Code {
                    place: format!("{}:{at}", self.path),
                    block: None,
                    text,
                });
            }
        }
        code
    }
}

/// Code inside of a line: between one backtick and the next, or two and the next two.
fn spans(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        rest = &rest[start..];
        let fence = if rest.starts_with("``") { "``" } else { "`" };
        rest = &rest[fence.len()..];
        let Some(end) = rest.find(fence) else { break };
        found.push(rest[..end].trim().to_owned());
        rest = &rest[end + fence.len()..];
    }
    found
}

fn all_code() -> Vec<Code> {
    let code: Vec<_> = pages().iter().flat_map(Page::code).collect();
    assert!(code.len() > 300, "pages are read");
    code
}

/// What the program says of itself.
fn help(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_centripeta");
    let output = Command::new(program)
        .args(arguments)
        .arg("--help")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The help of each command by its name.
fn commands() -> BTreeMap<String, String> {
    let help_of_all = help(&[]);
    let (_, listed) = help_of_all.split_once("Commands:\n").unwrap();
    let names = listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty());
    names.map(|name| (name.to_owned(), help(&[name]))).collect()
}

/// Command lines of the program in a piece of code.
fn invocations(code: &Code) -> Vec<&str> {
    let lines = code.text.lines().map(str::trim);
    let of_program = |line: &'_ str| -> Option<usize> {
        for start in ["centripeta ", "cargo run --release -- "] {
            if line.starts_with(start) {
                return Some(start.len());
            }
        }
        None
    };
    match &code.block {
        Some(language) if language != "sh" => Vec::new(),
        _ => lines
            .filter_map(|line| of_program(line).map(|at| &line[at..]))
            .collect(),
    }
}

#[test]
fn every_command_and_flag_that_the_pages_name_exists() {
    let commands = commands();
    let mut seen = BTreeSet::new();
    for code in all_code() {
        let mut lines = invocations(&code);
        // A command by itself, such as `fire`, with a flag.
        let first = code.text.split(' ').next().unwrap_or_default();
        if code.block.is_none() && commands.contains_key(first) && code.text.contains(" --") {
            lines.push(&code.text);
        }
        for line in lines {
            let line = line.split(['#', '>', '|']).next().unwrap();
            let mut words = line.split_whitespace();
            let command = words.next().unwrap_or_default();
            if command.starts_with("--") {
                assert!(help(&[]).contains(command), "{}: {command}", code.place);
                continue;
            }
            let known = commands.get(command);
            let known = known.unwrap_or_else(|| panic!("{}: no command {command}", code.place));
            seen.insert(command.to_owned());
            // What a command of commands takes stands in the help of each.
            let below = words.clone().next().unwrap_or_default();
            let has_it = !below.is_empty() && known.contains(&format!("\n  {below} "));
            let below = match has_it {
                true => help(&[command, below]),
                false => String::new(),
            };
            for flag in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                let flag = flag.split('=').next().unwrap();
                let is_taken = known.contains(flag) || below.contains(flag);
                assert!(is_taken, "{}: {command} {flag}", code.place);
            }
        }
    }
    assert!(seen.len() > 5, "commands are found: {seen:?}");
}

/// A text as the dotted key that it seems to be.
fn dotted(text: &str) -> Option<&str> {
    let key = text.split([' ', '=']).next()?;
    let is_part = |part: &str| {
        let part = part.strip_suffix("[]").unwrap_or(part);
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        part == "NAME" || (!part.is_empty() && part.chars().all(legal))
    };
    let parts: Vec<_> = key.split('.').collect();
    let is_file = parts.last().is_some_and(|last| FILES.contains(last));
    (parts.len() > 1 && parts.iter().all(|part| is_part(part)) && !is_file).then_some(key)
}

/// Whether this is a key of ours, or a table of keys.
fn is_ours(key: &str) -> bool {
    config::keys().any(|known| {
        let rest = known.strip_prefix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Sections of ours, of which some are Centrifugo's too.
fn sections() -> BTreeSet<&'static str> {
    let first = |key: &'static str| key.split('.').next().unwrap();
    config::keys().map(first).collect()
}

/// Every key of the real Centrifugo at its default, if there is one.
fn centrifugo() -> Option<serde_json::Value> {
    let named = or_skip("keys of Centrifugo in the pages", outside::centrifugo())?;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("defaults.json");
    let ran = Command::new(named)
        .args(["defaultconfig", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let text = fs::read_to_string(file).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn what_is_named_as_a_must_is_not_skipped_and_what_is_near_it_may_be() {
    let must = outside::must;
    let namespaces = "no network namespaces: run as root with `ip` (iproute2) on PATH";
    assert!(must("redis, cluster", namespaces));
    assert!(must("cluster", "no `iptables` on PATH"));
    assert!(!must("redis", namespaces) && !must("", namespaces));
    assert!(!must("cluster", "no time namespaces here"));
    assert!(must("redis", "no redis-server on PATH"));
    assert!(must("nginx,php", "no php on PATH"));
    assert!(!must(
        "php",
        "no PHP SDK: name a folder with its autoload.php in CENTRIPETA_TEST_PHP_SDK"
    ));
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.contains("export CENTRIPETA_TEST_MUST") && ci.contains("must+=(cluster)"));
}

#[test]
fn every_key_that_the_pages_name_is_one_of_ours_or_of_centrifugo() {
    let sections = sections();
    let centrifugo = centrifugo();
    let mut seen = [0, 0];
    for code in all_code().iter().filter(|code| code.block.is_none()) {
        let Some(key) = dotted(&code.text) else {
            continue;
        };
        if is_ours(key) {
            seen[0] += 1;
            continue;
        }
        let Some(defaults) = &centrifugo else {
            continue;
        };
        // `grpc.…` stands in each proxy.
        let full = match key.starts_with("grpc.") {
            true => format!("rpc.proxy.{key}"),
            false => key.to_owned(),
        };
        let first = full.split('.').next().unwrap();
        if sections.contains(first) || defaults.get(first).is_some() {
            let pointer = format!("/{}", full.replace('.', "/"));
            let is_known = defaults.pointer(&pointer).is_some();
            assert!(is_known, "{}: no key {key}", code.place);
            seen[1] += 1;
        }
    }
    assert!(seen[0] > 50, "keys are found: {seen:?}");
    assert!(centrifugo.is_none() || seen[1] > 20, "{seen:?}");
}

#[test]
fn what_the_pages_say_of_the_defaults_of_centrifugo_is_so() {
    let Some(defaults) = centrifugo() else { return };
    let told = [
        (
            "/rpc/proxy/timeout",
            serde_json::json!("1s"),
            "| 1 s | 3 s;",
        ),
        (
            "/client/ping_interval",
            "25s".into(),
            "`client.ping_interval` (25 s)",
        ),
        (
            "/client/stale_close_delay",
            "10s".into(),
            "`client.stale_close_delay` (10 s)",
        ),
        (
            "/client/concurrency",
            0.into(),
            "0 and 1 are one after the other",
        ),
        (
            "/client/queue_max_size",
            (1 << 20).into(),
            "`client.queue_max_size` of Centrifugo is 1 MiB",
        ),
        (
            "/websocket/message_size_limit",
            (64 << 10).into(),
            "(64 KiB there, 4 MiB here)",
        ),
    ];
    let page = fs::read_to_string(root().join("docs/production.md")).unwrap();
    for (pointer, value, words) in told {
        assert_eq!(defaults.pointer(pointer), Some(&value), "{pointer}");
        assert!(page.contains(words), "{words}");
    }
}

/// The dotted keys of a TOML table as the schema writes them.
fn flatten(prefix: &str, value: &toml::Value, found: &mut Vec<String>) {
    if config::keys().any(|known| known == prefix) {
        found.push(prefix.to_owned());
        return;
    }
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let name = match prefix {
                    "" => name.clone(),
                    "handler" => "handler.NAME".to_owned(),
                    _ => format!("{prefix}.{name}"),
                };
                flatten(&name, value, found);
            }
        }
        toml::Value::Array(entries) => {
            for entry in entries {
                flatten(&format!("{prefix}[]"), entry, found);
            }
        }
        _ => found.push(prefix.to_owned()),
    }
}

#[test]
fn settings_in_blocks_and_variables_of_the_environment_are_keys() {
    let mut seen = [0, 0];
    for code in all_code() {
        if code.block.as_deref() == Some("toml") {
            let table: toml::Table = toml::from_str(&code.text).unwrap();
            let mut keys = Vec::new();
            flatten("", &toml::Value::Table(table), &mut keys);
            for key in keys {
                assert!(is_ours(&key), "{}: {key}", code.place);
                seen[0] += 1;
            }
        }
        let name = code.text.split('=').next().unwrap();
        let variable = name.strip_prefix("CENTRIPETA_");
        if let Some(path) = variable.filter(|path| path.contains("__") && !path.contains('…')) {
            let key = path.to_lowercase().replace("__", ".");
            assert!(is_ours(&key), "{}: {name}", code.place);
            seen[1] += 1;
        }
    }
    assert!(seen[0] > 3 && seen[1] > 30, "{seen:?}");
}

#[test]
fn every_metric_and_label_value_that_the_pages_name_exists() {
    let names: BTreeSet<&str> = metrics::names().collect();
    let reference = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let mut seen = 0;
    for code in all_code() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for word in code.text.split(|c: char| !is_word(c)) {
            if !word.starts_with("centripeta_") {
                continue;
            }
            let part = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix));
            let is_known = names.contains(word) || part.is_some_and(|name| names.contains(name));
            assert!(is_known, "{}: no metric {word}", code.place);
            seen += 1;
        }
        let Some((_, selectors)) = code.text.split_once('{') else {
            continue;
        };
        if code.text.starts_with("centripeta_") || code.text.starts_with("{reason=") {
            for value in selectors.split('"').skip(1).step_by(2) {
                let is_known = reference.contains(&format!("`{value}`"));
                assert!(is_known, "{}: no value {value}", code.place);
            }
        }
    }
    assert!(seen > 30, "metrics are found: {seen}");
}

/// The text of every source file, with strings that go on in the next line in one.
fn sources() -> String {
    fn read(dir: &Path, all: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, all);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = String::new();
    for folder in ["src", "cluster/src"] {
        read(&root().join(folder), &mut all);
    }
    let mut joined = String::with_capacity(all.len());
    for line in all.lines() {
        match line.strip_suffix('\\') {
            Some(half) if joined.ends_with('\u{0}') => {
                joined.pop();
                joined.push_str(half.trim_start());
                joined.push('\u{0}');
            }
            Some(half) => {
                joined.push_str(half);
                joined.push('\u{0}');
            }
            None if joined.ends_with('\u{0}') => {
                joined.pop();
                joined.push_str(line.trim_start());
                joined.push('\n');
            }
            None => {
                joined.push_str(line);
                joined.push('\n');
            }
        }
    }
    joined
}

#[test]
fn every_log_line_and_error_that_the_pages_quote_is_said_by_the_code() {
    let sources = sources();
    let mut seen = 0;
    for code in all_code().iter().filter(|code| code.block.is_none()) {
        let quoted = code.text.strip_prefix('"');
        let quoted = quoted.and_then(|text| text.strip_suffix('"'));
        if let Some(said) = quoted.filter(|said| said.contains(' ') && !said.contains('"')) {
            assert!(sources.contains(said), "{}: nobody says {said}", code.place);
            seen += 1;
        }
    }
    assert!(seen > 15, "quotes are found: {seen}");
}

#[test]
fn every_file_and_test_that_the_pages_name_exists() {
    let folders = [
        "src/",
        "tests/",
        "docs/",
        "deploy/",
        "examples/",
        "benches/",
    ];
    let mut tests = 0;
    for code in all_code().iter().filter(|code| code.block.is_none()) {
        if !folders.iter().any(|folder| code.text.starts_with(folder)) {
            continue;
        }
        let (path, test) = match code.text.split_once("::") {
            Some((path, test)) => (path, Some(test)),
            None => (code.text.as_str(), None),
        };
        let file = root().join(path);
        assert!(file.exists(), "{}: no {path}", code.place);
        if let Some(test) = test {
            let text = fs::read_to_string(file).unwrap();
            let is_there = text.contains(&format!("fn {test}("));
            assert!(is_there, "{}: no test {test} in {path}", code.place);
            tests += 1;
        }
    }
    assert!(tests > 20, "tests are found: {tests}");
}

/// The anchors of a page's headings, as they are made of their words.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut seen = 0;
    for page in pages() {
        for (at, line) in page.split().0 {
            for after in line.split("](").skip(1) {
                let target = after.split(')').next().unwrap();
                if target.contains("://") {
                    continue;
                }
                let place = format!("{}:{at}: {target}", page.path);
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let folder = Path::new(&page.path).parent().unwrap();
                let file = match path {
                    "" => root().join(&page.path),
                    _ => root().join(folder).join(path),
                };
                seen += 1;
                assert!(file.exists(), "{place}");
                if !anchor.is_empty() {
                    let text = fs::read_to_string(&file).unwrap();
                    assert!(anchors(&text).contains(anchor), "{place}");
                }
            }
        }
    }
    assert!(seen > 40, "links are found: {seen}");
}

#[test]
fn every_page_is_in_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for page in pages() {
        let Some(name) = page.path.strip_prefix("docs/") else {
            continue;
        };
        let is_listed = name == "README.md" || index.contains(&format!("]({name})"));
        assert!(is_listed, "{name} is not in docs/README.md");
    }
}

#[test]
fn code_in_a_line_is_found_between_its_backticks() {
    assert_eq!(spans("a `b` and `` c `d` `` and `e"), ["b", "c `d`"]);
    assert_eq!(dotted("limits.timeout = \"2s\""), Some("limits.timeout"));
    assert_eq!(dotted("route[].timeout"), Some("route[].timeout"));
    assert_eq!(dotted("node.toml"), None);
    assert_eq!(dotted("a. b"), None);
}
