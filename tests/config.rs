//! The configuration as a user of the library meets it: files on disk, the shipped `node.toml`, and
//! the prints.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use centripeta::config::{
    Config, EXAMPLE_MARK, HandlerConfig, LoadOptions, Loaded, effective_json, load, print_defaults,
    print_docs, print_effective,
};
use centripeta::event::EventKind;

fn in_dir(dir: &Path) -> LoadOptions {
    LoadOptions {
        dir: dir.to_owned(),
        ..LoadOptions::new([])
    }
}

fn load_text(text: &str) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("node.toml"), text).unwrap();
    load(&in_dir(dir.path())).unwrap_or_else(|why| panic!("{why}"))
}

fn shipped() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("node.toml")).unwrap()
}

#[test]
fn the_shipped_file_is_the_printed_defaults_and_an_example() {
    let text = shipped();
    let (above, below) = text.split_once(&format!("\n{EXAMPLE_MARK}\n")).unwrap();
    assert_eq!(
        above,
        print_defaults(),
        "node.toml above the mark is not what print_defaults says"
    );
    assert!(below.contains("[[route]]"));
}

#[test]
fn the_shipped_file_loads_without_a_warning_and_answers_the_common_events() {
    let loaded = load_text(&shipped());
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    for event in [
        EventKind::Connect,
        EventKind::Refresh,
        EventKind::Subscribe,
        EventKind::Publish,
        EventKind::Rpc,
        EventKind::Stream,
    ] {
        let routed = loaded
            .config
            .routes
            .iter()
            .any(|route| route.on.contains(&event));
        assert!(routed, "no route takes {event}");
    }
    assert_eq!(loaded.config.interceptors.len(), 2);
}

/// The defaults, with the data folder where that of the other configuration is.
fn defaults_beside(other: &Config) -> Config {
    let mut defaults = Config::default();
    assert!(other.node.data.ends_with("data"));
    defaults.node.data.clone_from(&other.node.data);
    defaults
}

#[test]
fn the_printed_defaults_load_back_to_the_defaults() {
    let loaded = load_text(&print_defaults());
    assert_eq!(loaded.config, defaults_beside(&loaded.config));
    assert!(loaded.config.routes.is_empty() && loaded.config.interceptors.is_empty());
    for built_in in ["allow", "deny", "echo", "counter"] {
        assert!(loaded.config.handlers.contains_key(built_in));
    }
    assert_eq!(loaded.config.handlers["echo"], HandlerConfig::Echo);
}

#[test]
fn the_effective_print_without_secrets_loads_back_to_the_same_configuration() {
    let loaded = load_text(&shipped());
    let again = load_text(&print_effective(&loaded));
    let origins_apart = |loaded: &Loaded| {
        let mut json = effective_json(loaded);
        json["origins"].take();
        json
    };
    assert_eq!(
        origins_apart(&loaded)["settings"],
        origins_apart(&again)["settings"]
    );
    assert_eq!(loaded.config.handlers, again.config.handlers);
}

#[test]
fn the_default_file_may_be_absent_and_a_named_one_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = load(&in_dir(dir.path())).unwrap();
    let defaults = defaults_beside(&loaded.config);
    assert_eq!((loaded.file, loaded.config), (None, defaults));

    let mut options = in_dir(dir.path());
    options.file = Some("other.toml".into());
    options.sets.push("limits.streams=0".to_owned());
    let text = load(&options).unwrap_err().to_string();
    assert!(
        text.starts_with("error: other.toml: cannot be read: "),
        "{text}"
    );
    assert!(
        text.contains("help: name a readable file with --config"),
        "{text}"
    );
    assert!(text.contains("limits.streams = 0 (--set)"), "{text}");

    fs::write(dir.path().join("other.toml"), "[node]\nname = \"b\"\n").unwrap();
    options.sets.clear();
    let loaded = load(&options).unwrap();
    assert_eq!(loaded.config.node.name, "b");
    assert_eq!(loaded.file.as_deref(), Some(Path::new("other.toml")));
}

#[test]
fn a_torn_line_is_one_problem() {
    let dir = tempfile::tempdir().unwrap();
    for torn in ["[[[", "[", "= 1", "a b", "[limits", "key = ["] {
        fs::write(dir.path().join("node.toml"), format!("[log]\n{torn}\n")).unwrap();
        let error = load(&in_dir(dir.path())).unwrap_err();
        assert_eq!(error.problems.len(), 1, "{torn}: {error}");
        assert!(error.to_string().contains("not TOML"), "{torn}: {error}");
    }
}

#[test]
fn secrets_come_from_files_and_huge_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key"), "abc\n").unwrap();
    let mut options = in_dir(dir.path());
    options.sets.push("centrifugo.key=file:key".to_owned());
    assert_eq!(
        load(&options)
            .unwrap()
            .config
            .centrifugo
            .key
            .unwrap()
            .expose(),
        "abc"
    );

    fs::write(dir.path().join("key"), vec![b'a'; 2 << 20]).unwrap();
    let text = load(&options).unwrap_err().to_string();
    assert!(
        text.contains("centrifugo.key = \"<redacted>\" (--set): names a file that cannot be read")
    );
    assert!(text.contains("larger than 1 MiB"), "{text}");
}

#[test]
fn the_documentation_has_a_row_for_every_key() {
    assert_eq!(
        centripeta::answer::MAX_REPLY_BYTES,
        4 << 20,
        "as is said of it"
    );
    let docs = print_docs();
    for row in [
        "| `timeout` | duration, 1ms to 1h | `\"3s\"` | 0.1.0 | reload | `CENTRIPETA_LIMITS__TIMEOUT` |",
        "| `auth.value` | secret | required with its table | 0.1.0 | restart | `CENTRIPETA_LISTEN__AUTH__VALUE` |",
        "`CENTRIPETA_ROUTE__0__…`",
        "| `limit` | lets so many events a second pass",
        "| `per` | `user`, `client`, `channel`, `all`, or a template | `user`, on connect `all` |",
        "## `[handler.NAME]`",
        "The largest message taken. Replies have a limit of their own, 4 MiB",
    ] {
        assert!(docs.contains(row), "{row} is not in\n{docs}");
    }
}

#[test]
fn the_reference_of_settings_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, print_docs()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, print_docs(), "write it anew with WRITE_DOCS=1");
}
