//! Rules between keys: what single values cannot show.

pub(super) mod cluster;
mod ports;

use std::time::Duration;

use super::check::Settings;
use super::layers::World;
use super::names;
use super::problem::{Problem, one_of};
use super::schema::BUILT_IN;
use super::types::{Endpoint, ListenAddr, On, RpcListen, is_beyond_loopback};
use super::values::header_list;
use crate::event::{EventKind, Subject};

/// What SDKs wait for an answer.
const SDK_PATIENCE: Duration = Duration::from_secs(5);

/// Checks every rule; what stops the start goes to `problems`, what is unwise to `warnings`.
pub(super) fn check(
    settings: &Settings,
    world: &World<'_>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    listeners(settings, problems);
    rpc(settings, problems);
    cluster::check(settings, problems, warnings);
    tls_files(settings, world, problems);
    centrifugo(settings, problems);
    traces(settings, problems, warnings);
    limits(settings, problems);
    let mut used = Used::default();
    for index in 0..settings.routes {
        let route = Route {
            settings,
            path: format!("route.{index}"),
        };
        route.check(problems, &mut used);
    }
    interceptors(settings, &used, problems, warnings);
    handlers(settings, &used, problems, warnings);
    ports::check(settings, &used.handlers, problems);
    patience(settings, warnings);
}

/// Names that routes mention.
#[derive(Default)]
struct Used {
    handlers: Vec<String>,
    interceptors: Vec<String>,
}

fn listeners(settings: &Settings, problems: &mut Vec<Problem>) {
    let grpc = settings.listen("listen.grpc");
    let admin = settings.tcp("listen.admin");
    let open = grpc.as_ref().is_some_and(ListenAddr::is_beyond_loopback);
    let guarded = ["listen.auth", "listen.tls.client_ca"]
        .iter()
        .any(|key| settings.is_written(key));
    if open && !guarded && settings.flag("listen.allow_open") == Some(false) {
        problems.push(settings.problem(
            "listen.grpc",
            "lets anyone beyond this machine send events",
            "set listen.auth or listen.tls.client_ca, say listen.allow_open = true if the network \
             keeps strangers out, or listen on 127.0.0.1",
        ));
    }
    let token = settings.secret("listen.admin_token");
    let tokenless = match token {
        Some(token) => token.is_empty(),
        None => !settings.is_written("listen.admin_token"),
    };
    if admin.is_some_and(|admin| is_beyond_loopback(&admin)) && tokenless {
        problems.push(settings.problem(
            "listen.admin",
            "is reachable beyond this machine, and there is no listen.admin_token",
            "set listen.admin_token, for instance to \"${ROUTER_ADMIN_TOKEN}\", or listen on 127.0.0.1",
        ));
    }
    if settings
        .secret("listen.auth.value")
        .is_some_and(|value| value.is_empty())
    {
        problems.push(settings.problem(
            "listen.auth.value",
            "is empty, and would let anyone in",
            "give it a value, or remove listen.auth",
        ));
    }
    presentable(settings, "listen.auth.value", problems);
}

/// Where workers call back, nobody asks who calls.
fn rpc(settings: &Settings, problems: &mut Vec<Problem>) {
    let Some(RpcListen::At(address)) = settings.rpc_listen("rpc.listen") else {
        return;
    };
    if address.is_beyond_loopback() && settings.flag("rpc.allow_open") == Some(false) {
        problems.push(settings.problem(
            "rpc.listen",
            "lets anyone beyond this machine publish and reset workers",
            "say rpc.allow_open = true if the network keeps strangers out, or listen on 127.0.0.1",
        ));
    }
}

/// A value that callers present in metadata has to be one that gRPC carries.
fn presentable(settings: &Settings, key: &str, problems: &mut Vec<Problem>) {
    let Some(value) = settings.secret(key) else {
        return;
    };
    let value = value.expose();
    let carried = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !carried || value.starts_with(' ') || value.ends_with(' ') {
        problems.push(settings.problem(
            key,
            "holds what gRPC metadata can't carry, so that nobody could present it",
            "use visible ASCII characters, with spaces only between them",
        ));
    }
}

fn tls_files(settings: &Settings, world: &World<'_>, problems: &mut Vec<Problem>) {
    let ours = ["listen.tls.cert", "listen.tls.key", "listen.tls.client_ca"];
    let towards = [
        "centrifugo.tls.ca",
        "centrifugo.tls.cert",
        "centrifugo.tls.key",
        "log.otlp_ca",
        "cluster.tls.cert",
        "cluster.tls.key",
        "cluster.tls.ca",
    ];
    let fixed = ours.into_iter().chain(towards).map(str::to_owned);
    let files = ["ca", "cert", "key"];
    let of_handlers = settings.handlers.iter().flat_map(|name| {
        let key = move |file: &&str| format!("handler.{name}.tls.{file}");
        files.iter().map(key).collect::<Vec<_>>()
    });
    for key in fixed.chain(of_handlers) {
        let key = key.as_str();
        let Some(path) = settings.text(key) else {
            continue;
        };
        let rule = match (world.read)(&world.dir.join(path)) {
            Ok(bytes) if !bytes.is_empty() => continue,
            Ok(_) => "is an empty file".to_owned(),
            Err(why) => format!("cannot be read: {why}"),
        };
        let fix = "give the path of a readable PEM file, relative to the working directory";
        problems.push(settings.problem(key, rule, fix));
    }
}

fn centrifugo(settings: &Settings, problems: &mut Vec<Problem>) {
    identity(settings, "centrifugo.tls", problems);
    let bytes = |key: &str| settings.bytes(key);
    let (queue, message) = (
        bytes("centrifugo.queue_bytes"),
        bytes("centrifugo.message_bytes"),
    );
    if queue
        .zip(message)
        .is_some_and(|(queue, message)| queue < message)
    {
        problems.push(settings.problem(
            "centrifugo.queue_bytes",
            "is less than centrifugo.message_bytes, so that the largest message is never sent",
            "raise it, or lower centrifugo.message_bytes",
        ));
    }
}

/// Our certificate and its key go together.
fn identity(settings: &Settings, table: &str, problems: &mut Vec<Problem>) {
    let [cert, key] = ["cert", "key"].map(|name| format!("{table}.{name}"));
    for (there, missing) in [(&cert, &key), (&key, &cert)] {
        if settings.is_written(there) && !settings.is_written(missing) {
            let rule = format!("is nothing without {missing}");
            problems.push(settings.problem(
                there,
                rule,
                format!("set {missing} too, or remove it"),
            ));
        }
    }
}

/// What single keys of a `grpc` handler can't show.
fn upstream(settings: &Settings, path: &str, problems: &mut Vec<Problem>) {
    let key = |name: &str| format!("{path}.{name}");
    identity(settings, &key("tls"), problems);
    let endpoints = settings.endpoints(&key("endpoints"));
    if endpoints.as_ref().is_some_and(Vec::is_empty) {
        problems.push(settings.problem(
            &key("endpoints"),
            "names no endpoint",
            "name one or more, as in [\"grpc://127.0.0.1:9000\"]",
        ));
    }
    let endpoints = endpoints.unwrap_or_default();
    let twice = (1..endpoints.len()).find(|at| {
        let is_same = |other: &Endpoint| other.authority() == endpoints[*at].authority();
        endpoints[..*at].iter().any(is_same)
    });
    if let Some(at) = twice {
        let rule = format!("names {} twice", endpoints[at].authority());
        let fix = "name each once: calls are spread evenly over all addresses";
        problems.push(settings.problem(&key("endpoints"), rule, fix));
    }
    let time = |name: &str| settings.duration(&key(name));
    if let (Some(first), Some(longest)) = (time("eject.time"), time("eject.longest"))
        && longest < first
    {
        problems.push(settings.problem(
            &key("eject.longest"),
            format!("is less than {path}.eject.time"),
            "raise it, or lower eject.time",
        ));
    }
}

fn traces(settings: &Settings, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let headers = settings.secret("log.otlp_headers");
    if headers.is_some_and(|headers| header_list(headers.expose()).is_none()) {
        problems.push(settings.problem(
            "log.otlp_headers",
            "is not a list of metadata that gRPC carries",
            "write NAME=VALUE, several separated by commas, in visible ASCII characters",
        ));
    }
    if settings.is_written("log.otlp") {
        return;
    }
    for key in ["log.otlp_headers", "log.otlp_ca"] {
        if settings.is_written(key) {
            let rule = "does nothing without log.otlp";
            warnings.push(settings.problem(key, rule, "set log.otlp too, or remove it"));
        }
    }
}

fn limits(settings: &Settings, problems: &mut Vec<Problem>) {
    if let Some(message) = settings.bytes("limits.message_bytes") {
        for key in ["limits.in_flight_bytes", "limits.shard_bytes"] {
            if settings.bytes(key).is_some_and(|bytes| bytes < message) {
                problems.push(settings.problem(
                    key,
                    "is less than limits.message_bytes, so that the largest message never gets in",
                    "raise it, or lower limits.message_bytes",
                ));
            }
        }
    }
    let (timeout, margin) = (
        settings.duration("limits.timeout"),
        settings.duration("limits.deadline_margin"),
    );
    if let (Some(timeout), Some(margin)) = (timeout, margin)
        && margin >= timeout
    {
        problems.push(settings.problem(
            "limits.deadline_margin",
            "leaves nothing of limits.timeout",
            "lower it, or raise limits.timeout",
        ));
    }
}

fn patience(settings: &Settings, warnings: &mut Vec<Problem>) {
    let routes = (0..settings.routes).map(|index| format!("route.{index}.timeout"));
    for key in std::iter::once("limits.timeout".to_owned()).chain(routes) {
        if settings
            .duration(&key)
            .is_some_and(|timeout| timeout > SDK_PATIENCE)
        {
            warnings.push(settings.problem(
                &key,
                "is longer than SDKs wait: they give up after 5 s",
                "keep it at 5s or less, and the proxy timeouts of Centrifugo too",
            ));
        }
    }
}

fn interceptors(
    settings: &Settings,
    used: &Used,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    let mut seen: Vec<(String, usize)> = Vec::new();
    for index in 0..settings.interceptors {
        let key = |name: &str| format!("interceptor.{index}.{name}");
        if settings
            .secret(&key("value"))
            .is_some_and(|value| value.is_empty())
        {
            problems.push(settings.problem(
                &key("value"),
                "is empty, and would let everything with an empty header pass",
                "give it a value",
            ));
        }
        presentable(settings, &key("value"), problems);
        let Some(name) = settings.text(&key("name")) else {
            continue;
        };
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            let there = settings.origin(&format!("interceptor.{first}.name"));
            let rule = format!("is the name of another interceptor ({there})");
            problems.push(settings.problem(&key("name"), rule, "give each a name of its own"));
        } else if settings.on(&key("on")) == Some(On::Route) && !used.interceptors.contains(&name) {
            warnings.push(settings.problem(
                &key("on"),
                "no route names this interceptor, so it sees nothing",
                "name it in the interceptors of a route, or remove it",
            ));
        }
        seen.push((name, index));
    }
}

fn handlers(
    settings: &Settings,
    used: &Used,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    for name in &settings.handlers {
        let path = format!("handler.{name}");
        let key = |name: &str| format!("{path}.{name}");
        let kind = settings.text(&key("kind"));
        if let Some(kind) = &kind
            && BUILT_IN.contains(&name.as_str())
            && kind != name
        {
            problems.push(settings.problem(
                &key("kind"),
                format!("the name `{name}` is that of the built-in handler"),
                format!("write kind = \"{name}\", or choose another name"),
            ));
        }
        if kind.as_deref() == Some("grpc") {
            upstream(settings, &path, problems);
        }
        if kind.as_deref() == Some("static") {
            let answers = ["reply", "error", "disconnect"];
            let given = answers
                .iter()
                .filter(|answer| settings.is_written(&key(answer)))
                .count();
            if given != 1 {
                problems.push(settings.problem(
                    &path,
                    format!("a static handler has one answer, and this has {given}"),
                    "give it one of `reply`, `error` and `disconnect`",
                ));
            }
        }
        if kind.is_some() && !used.handlers.contains(name) && !BUILT_IN.contains(&name.as_str()) {
            warnings.push(settings.problem(
                &path,
                "no route names this handler",
                "name it as the handler of a route, or remove it",
            ));
        }
    }
}

/// One route and what it refers to.
struct Route<'a> {
    settings: &'a Settings,
    path: String,
}

impl Route<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn problem(&self, name: &str, rule: impl Into<String>, fix: impl Into<String>) -> Problem {
        self.settings.problem(&self.key(name), rule, fix)
    }

    fn check(&self, problems: &mut Vec<Problem>, used: &mut Used) {
        let events = self.settings.events(&self.key("on")).unwrap_or_default();
        self.subject(&events, problems);
        self.lane_key(&events, problems);
        self.handler(&events, problems, used);
        self.stages(&events, problems, used);
    }

    /// `match` needs a name to compare with.
    fn subject(&self, events: &[EventKind], problems: &mut Vec<Problem>) {
        if self.settings.text(&self.key("match")).is_none() {
            return;
        }
        if let Some(event) = events
            .iter()
            .find(|event| event.subject() == Subject::Nothing)
        {
            problems.push(self.problem(
                "match",
                format!("`{event}` has neither channel nor method to match"),
                format!("remove match, or give `{event}` a route of its own"),
            ));
        }
    }

    /// What `key` is made of has to be there in every event of the route.
    fn lane_key(&self, events: &[EventKind], problems: &mut Vec<Problem>) {
        let Some(key) = self.settings.text(&self.key("key")) else {
            return;
        };
        let fields = match key.as_str() {
            "none" | "user" | "client" => Vec::new(),
            "channel" => vec!["channel"],
            template => names::fields(template).unwrap_or_default(),
        };
        let lacks = |event: &EventKind, field: &str| match field {
            "channel" => !event.has_channel(),
            "method" => event.subject() != Subject::Method,
            _ => false,
        };
        for field in &fields {
            if let Some(event) = events.iter().find(|event| lacks(event, field)) {
                problems.push(self.problem(
                    "key",
                    format!("`{event}` has no {field}"),
                    format!("choose another key, or give `{event}` a route of its own"),
                ));
            }
        }
        let pattern = self.settings.text(&self.key("match")).unwrap_or_default();
        for param in fields
            .iter()
            .filter_map(|field| field.strip_prefix("param."))
        {
            let named = [format!("{{{param}}}"), format!("{{{param}...}}")];
            if !named
                .iter()
                .any(|capture| pattern.contains(capture.as_str()))
            {
                problems.push(self.problem(
                    "key",
                    format!("`match` names no {{{param}}}"),
                    format!("name {{{param}}} in match, or choose another key"),
                ));
            }
        }
    }

    fn handler(&self, events: &[EventKind], problems: &mut Vec<Problem>, used: &mut Used) {
        let Some(name) = self.settings.text(&self.key("handler")) else {
            return;
        };
        let section = self.settings.handlers.contains(&name);
        let kind = match section {
            true => self.settings.text(&format!("handler.{name}.kind")),
            false => BUILT_IN.contains(&name.as_str()).then(|| name.clone()),
        };
        if !section && kind.is_none() {
            let sections = self.settings.handlers.iter().map(String::as_str);
            let fix = one_of(&name, BUILT_IN.iter().copied().chain(sections));
            let fix = format!("{fix} (a handler of your own is a [handler.NAME])");
            problems.push(self.problem("handler", "no handler has this name", fix));
        }
        used.handlers.push(name);
        let has = |event| events.contains(&event);
        match kind.as_deref() {
            Some(kind @ ("allow" | "counter")) if has(EventKind::Connect) => {
                problems.push(self.problem(
                    "handler",
                    format!("`{kind}` cannot answer `connect`: it does not say who the user is"),
                    "say who the user is with a `static` handler, for instance reply = { user = \"guest-{client}\" }",
                ));
            }
            Some(kind @ ("allow" | "counter")) if has(EventKind::Raw) => {
                problems.push(self.problem(
                    "handler",
                    format!("`{kind}` cannot answer `raw`: nobody knows what yes looks like there"),
                    "leave `raw` out, or route it to `deny`",
                ));
            }
            Some("echo") if events.iter().any(|event| *event != EventKind::Rpc) => {
                problems.push(self.problem(
                    "handler",
                    "`echo` answers only `rpc`",
                    "use `allow` for the other events, or leave them out",
                ));
            }
            _ => {}
        }
    }

    fn stages(&self, events: &[EventKind], problems: &mut Vec<Problem>, used: &mut Used) {
        let listed = self
            .settings
            .words(&self.key("interceptors"))
            .unwrap_or_default();
        let name_of = |index| self.settings.text(&format!("interceptor.{index}.name"));
        let all: Vec<_> = (0..self.settings.interceptors)
            .filter_map(name_of)
            .collect();
        for (place, name) in listed.iter().enumerate() {
            if listed[..place].contains(name) {
                let rule = format!("names `{name}` twice");
                problems.push(self.problem("interceptors", rule, "name each once"));
                continue;
            }
            used.interceptors.push(name.clone());
            let found = (0..self.settings.interceptors)
                .find(|index| name_of(*index).as_ref() == Some(name));
            let Some(index) = found else {
                let fix = match all.is_empty() {
                    true => "add an [[interceptor]] with this name".to_owned(),
                    false => one_of(name, all.iter().map(String::as_str)),
                };
                problems.push(self.problem(
                    "interceptors",
                    format!("no interceptor is called `{name}`"),
                    fix,
                ));
                continue;
            };
            let twice = match self.settings.on(&format!("interceptor.{index}.on")) {
                Some(On::All) => Some("every event".to_owned()),
                Some(On::Events(on)) => on
                    .iter()
                    .find(|event| events.contains(event))
                    .map(|event| format!("every `{event}`")),
                _ => None,
            };
            if let Some(already) = twice {
                problems.push(self.problem(
                    "interceptors",
                    format!("`{name}` sees {already} as it is, and would see these twice"),
                    format!("remove it here, or say on = \"route\" where `{name}` is defined"),
                ));
            }
        }
    }
}
