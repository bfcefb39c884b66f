//! `import`: what a file of RoadRunner or of an old Centrifugo becomes, and what is said of the rest.
//! What comes out is given to `check-config` and to a real Centrifugo where that is possible.
#![allow(clippy::unwrap_used)]

#[path = "import/centrifugo.rs"]
mod centrifugo;
#[path = "import/keys.rs"]
mod keys;
#[path = "import/mistakes.rs"]
mod mistakes;
#[path = "import/roadrunner.rs"]
mod roadrunner;

use serde_json::Value;
use std::fs;
use std::process::{Command, Output};

/// One import in a folder of its own.
struct Imported {
    dir: tempfile::TempDir,
    config: String,
    remarks: Vec<Value>,
}

impl Imported {
    /// The new `node.toml`.
    fn toml(&self) -> toml::Table {
        toml::from_str(&self.config).unwrap_or_else(|why| panic!("{why}:\n{}", self.config))
    }

    /// The new file of Centrifugo.
    fn json(&self) -> Value {
        serde_json::from_str(&self.config).unwrap()
    }

    /// Whether there is such a remark whose text holds the words.
    fn says(&self, weight: &str, key: &str, words: &str) -> bool {
        self.remarks.iter().any(|it| {
            it["weight"] == weight
                && it["key"] == key
                && it["text"].as_str().unwrap().contains(words)
        })
    }

    /// `check-config` has no objection to what was printed.
    #[track_caller]
    fn passes_check_config(&self) {
        let file = self.dir.path().join("node.toml");
        fs::write(&file, &self.config).unwrap();
        let checked = program(&["check-config", "--config", &file.display().to_string()]);
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said}\n{}", self.config);
    }

    #[track_caller]
    fn expect(&self, weight: &str, key: &str, words: &str) {
        let found = self.says(weight, key, words);
        assert!(found, "no {weight} of {key}: {words}\n{:#?}", self.remarks);
    }
}

fn program(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_centripeta");
    Command::new(program).args(arguments).output().unwrap()
}

fn run(
    from: &str,
    name: &str,
    text: &str,
    other: Option<(&str, &str)>,
) -> Result<Imported, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    let mut arguments = vec!["import".to_owned(), from.to_owned(), "--json".to_owned()];
    arguments.push(file.display().to_string());
    if let Some((name, text)) = other {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        arguments.extend(["--with".to_owned(), file.display().to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = program(&arguments);
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1));
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(Imported {
        dir,
        config: said["config"].as_str().unwrap().to_owned(),
        remarks: said["remarks"].as_array().unwrap().clone(),
    })
}

fn of_roadrunner(text: &str) -> Imported {
    run("roadrunner", ".rr.yaml", text, None).unwrap()
}

fn of_centrifugo(text: &str) -> Imported {
    run("centrifugo", "config.json", text, None).unwrap()
}

/// What stands at a dotted path of a table.
fn at<'a>(table: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    rest.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(table.get(first)?, |value, part| value.get(part))
}

const BOOKING: &str = "\
version: '3.0'
rpc:
  listen: tcp://0.0.0.0:6001
server:
  command: 'php app.php'
  relay: pipes
centrifuge:
  proxy_address: 'tcp://0.0.0.0:10001'
  grpc_api_address: 'centrifugo:10000'
  pool:
    num_workers: 2
";

/// The smallest file, to which a test adds.
fn small(more: &str) -> String {
    format!("version: \"3\"\nserver: {{command: php app.php}}\n{more}")
}

/// The paths of a tree; empty objects and lists are leaves.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object().filter(|object| !object.is_empty()) {
        Some(object) => object.iter().for_each(|(name, value)| {
            let path = format!("{path}.{name}");
            leaves(path.trim_start_matches('.'), value, found);
        }),
        None => found.push(path.to_owned()),
    }
}
