//! The handler: command, environment, pool; and the routes to it.

use super::super::super::error::CliError;
use super::super::source::word;
use super::super::{refused, text};
use super::{Draft, quoted, quoted_list};
use serde_json::Value;

const HOUR: u64 = 3_600_000;
const YEAR: u64 = 8760 * HOUR;

impl Draft<'_> {
    /// Routes of every event that RoadRunner's SDK knows.
    pub(super) fn routes(&mut self) {
        self.out.push_str(
            "\n# The events that RoadRunner's plugin passes to PHP.\n[[route]]\n\
             on = [\"connect\", \"refresh\", \"subscribe\", \"sub_refresh\", \"publish\", \"rpc\"]\n\
             handler = \"php\"\n",
        );
        self.remarks.note(
            "sub_refresh",
            "is routed to the workers too; an SDK that does not know it answers an error: take it out of \
             the route then, and out of Centrifugo's file",
        );
        self.remarks.note(
            "centrifuge",
            "subscription streams, map and shared poll events never reached PHP and have no route; cache \
             and channel state events (PRO) can be routed to the pool",
        );
    }

    /// `[handler.php]`.
    pub(super) fn handler(&mut self) -> Result<(), CliError> {
        let server = self.command("server.command");
        let pool = self.command("centrifuge.pool.command");
        if server.is_some() && pool.is_some() {
            self.remarks.note(
                "centrifuge.pool.command",
                "is what the workers run; server.command was for other pools",
            );
        }
        let Some(command) = pool.or(server) else {
            return Err(refused(
                self.source,
                "server.command: is missing, and so is centrifuge.pool.command",
                "say what the workers run, as in server.command: \"php app.php\"",
            ));
        };
        self.table("handler.php");
        self.raw("kind", "\"roadrunner\"", "a pool of goridge workers");
        self.raw("command", &quoted_list(&command), "the command");
        let relay = self.text("server.relay");
        if let Some(relay) = relay.filter(|relay| relay != "pipes") {
            let relay = match text::at_defaults(&relay).contains(':') {
                true => self.loopback("server.relay", &relay, "pass for a worker"),
                // A variable that says pipes, if nothing else.
                false => relay,
            };
            self.put("relay", &relay, "server.relay");
            self.remarks
                .note("server.relay", "pipes are faster and safer than a socket");
        }
        let folder = self.folder();
        self.put(
            "dir",
            &folder,
            "the file's folder, where RoadRunner runs workers",
        );
        for (key, name) in [("server.user", "user"), ("server.group", "group")] {
            if let Some(value) = self.text(key) {
                self.put(name, &value, key);
                if name == "group" {
                    self.remarks
                        .warn(key, "RoadRunner ignored it; here workers get this group");
                }
            }
        }
        let text = "as in RoadRunner, where an empty answer is passed on";
        self.raw("allow_empty", "true", text);
        self.remarks.note(
            "allow_empty",
            "is written as true, since RoadRunner passes empty answers on: Centrifugo reads one as yes; \
             remove it once no service answers nothing",
        );
        if let Some(variables) = self.variables("server.env") {
            self.raw("env", &variables, "server.env");
        }
        self.on_init();
        self.pool();
        self.list(
            "server.relay_timeout",
            "has had no effect in RoadRunner since 2024.1; a worker's start ends by pool.allocate_timeout",
        );
        Ok(())
    }

    /// A command as RoadRunner splits it.
    fn command(&mut self, path: &str) -> Option<Vec<String>> {
        let value = self.take(path)?;
        let list: Vec<String> = match &value {
            Value::Array(list) => list.iter().filter_map(word).collect(),
            other => word(other).into_iter().collect(),
        };
        if let Value::String(text) = &value
            && text.contains(',')
        {
            self.remarks.warn(
                path,
                "has a comma, at which RoadRunner cuts the text and then fails to start it; it is split on \
                 white space alone here",
            );
        }
        let list: Vec<String> = match list.as_slice() {
            [one] => one.split_whitespace().map(str::to_owned).collect(),
            _ => list,
        };
        let list = list
            .iter()
            .map(|it| text::variables(path, it, &mut self.remarks));
        Some(list.collect()).filter(|list: &Vec<String>| !list.is_empty())
    }

    /// A map of variables, or a list of such maps, as an inline table.
    fn variables(&mut self, path: &str) -> Option<String> {
        let value = self.take(path)?;
        let maps: Vec<&Value> = match &value {
            Value::Array(list) => list.iter().collect(),
            other => vec![other],
        };
        let mut pairs = std::collections::BTreeMap::new();
        for (name, value) in maps.into_iter().filter_map(Value::as_object).flatten() {
            let name = name.to_uppercase();
            let key = format!("{path}.{name}");
            let Some(text) = word(value).or_else(|| value.is_null().then(String::new)) else {
                self.remarks.left(&key, "is no text, and was left out");
                continue;
            };
            if name == "RR_RPC"
                && let Some(ours) = &self.own_rpc
            {
                self.remarks.left(
                    &key,
                    format!(
                        "{text} is left out: workers here are told {ours}, since the RoadRunner that stays \
                         serves `centrifuge` no more"
                    ),
                );
                continue;
            }
            if name == "RR_RPC" || name == "RR_RELAY" {
                self.remarks.warn(
                    &key,
                    "overrides what the workers are told of the way to the node",
                );
            }
            let text = text::variables(&key, &text, &mut self.remarks);
            pairs.insert(name, text);
        }
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, text)| format!("{} = {}", quoted(name), quoted(text)))
            .collect();
        (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
    }

    fn on_init(&mut self) {
        let Some(command) = self.command("server.on_init.command") else {
            return;
        };
        if !self.others.is_empty() {
            self.remarks.warn(
                "server.on_init",
                "is run by the RoadRunner that stays and by us: take it out of one of the two files if it \
                 must run once, as migrations do",
            );
        }
        self.table("handler.php.on_init");
        self.raw("command", &quoted_list(&command), "server.on_init");
        if let Some(limit) = self.duration("server.on_init.exec_timeout", 1, 24 * HOUR) {
            self.put("exec_timeout", &limit, "server.on_init.exec_timeout");
        }
        if let Some(variables) = self.variables("server.on_init.env") {
            self.raw("env", &variables, "server.on_init.env");
        }
        if let Some(user) = self.text("server.on_init.user") {
            self.put("user", &user, "server.on_init.user");
        }
        if let Some(flag) = self.flag("server.on_init.exit_on_error") {
            let flag = flag.to_string();
            self.raw("exit_on_error", &flag, "server.on_init.exit_on_error");
        }
    }

    fn pool(&mut self) {
        let from = |name: &str| format!("centrifuge.pool.{name}");
        self.table("handler.php.pool");
        for (name, most) in [
            ("num_workers", 500),
            ("max_jobs", 1 << 40),
            ("max_queue_size", 10_000_000),
        ] {
            let key = from(name);
            if let Some(number) = self.count(&key) {
                if number > most {
                    self.remarks.warn(
                        &key,
                        format!("{number} is above the most that is taken, {most}"),
                    );
                }
                self.raw(name, &number.min(most).to_string(), &key);
            }
        }
        if !self.had("centrifuge.pool.max_queue_size") {
            self.remarks.note(
                "centrifuge.pool.max_queue_size",
                "is absent: RoadRunner queues without bound; here limits.in_flight (4096) is the most",
            );
        }
        for name in [
            "allocate_timeout",
            "destroy_timeout",
            "reset_timeout",
            "stream_timeout",
        ] {
            let key = from(name);
            if let Some(time) = self.duration(&key, 1, HOUR) {
                self.put(name, &time, &key);
            }
        }
        if let Some(debug) = self.flag("centrifuge.pool.debug") {
            self.raw("debug", &debug.to_string(), "centrifuge.pool.debug");
        }
        self.supervisor();
        self.allocator();
    }

    fn supervisor(&mut self) {
        let place = "centrifuge.pool.supervisor";
        let had_exec = self.had(&format!("{place}.exec_ttl"));
        if self.had(place) {
            self.table("handler.php.pool.supervisor");
            let keys = [
                ("ttl", 0, YEAR),
                ("idle_ttl", 0, YEAR),
                ("exec_ttl", 0, 24 * HOUR),
                ("watch_tick", 10, HOUR),
            ];
            for (name, least, most) in keys {
                let key = format!("{place}.{name}");
                if let Some(time) = self.duration(&key, least, most) {
                    self.put(name, &time, &key);
                }
            }
            let key = format!("{place}.max_worker_memory");
            if let Some(number) = self.count(&key) {
                let number = number.min(1 << 30).to_string();
                self.raw("max_worker_memory", &number, &format!("{key}, in MB"));
            }
        }
        if !had_exec {
            self.remarks.note(
                &format!("{place}.exec_ttl"),
                "is absent: RoadRunner lets a worker run for ever; here it is killed after 30s on one \
                 event. Set exec_ttl in [handler.php.pool.supervisor] for another time, \"0s\" for none",
            );
        }
    }

    fn allocator(&mut self) {
        let place = "centrifuge.pool.dynamic_allocator";
        if !self.had(place) {
            return;
        }
        self.remarks.note(
            place,
            "has another trigger: RoadRunner adds workers once a request has waited all of \
             allocate_timeout, here they come as soon as one has waited for a moment",
        );
        self.table("handler.php.pool.dynamic_allocator");
        for (name, most) in [("max_workers", 100), ("spawn_rate", 100)] {
            let key = format!("{place}.{name}");
            // A zero is RoadRunner's default there, and so is the absent key here.
            if let Some(number) = self.count(&key).filter(|it| *it > 0) {
                self.raw(name, &number.min(most).to_string(), &key);
            }
        }
        let key = format!("{place}.idle_timeout");
        if let Some(time) = self.duration(&key, 1000, HOUR) {
            self.put("idle_timeout", &time, &key);
        }
    }
}
