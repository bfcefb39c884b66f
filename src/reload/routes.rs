//! What changes in routes, interceptors and handlers, in words.

use super::time;
use crate::config::{Config, HandlerConfig, InterceptorConfig, InterceptorKind, On, RouteConfig};
use crate::event::EventKind;
use std::collections::BTreeMap;
use std::fmt::Display;

/// A route as it is found again: one event and what it matches. No two routes share both.
type Place<'c> = (EventKind, Option<&'c str>);

/// Adds a line for each route, interceptor and handler that is new, gone, or not as it was.
pub(super) fn compare(running: &Config, read: &Config, lines: &mut Vec<String>) {
    routes(running, read, lines);
    interceptors(&running.interceptors, &read.interceptors, lines);
    handlers(&running.handlers, &read.handlers, lines);
}

fn routes(running: &Config, read: &Config, lines: &mut Vec<String>) {
    let (was, is) = (by_place(&running.routes), by_place(&read.routes));
    for (place, route) in &is {
        let title = title(*place);
        match was.iter().find(|(known, _)| known == place) {
            None => lines.push(format!("{title}: new")),
            Some((_, before)) => {
                let differences = of_route(before, route);
                if !differences.is_empty() {
                    lines.push(format!("{title}: {}", differences.join(", ")));
                }
            }
        }
    }
    let gone = was
        .iter()
        .filter(|(place, _)| is.iter().all(|(it, _)| it != place));
    lines.extend(gone.map(|(place, _)| format!("{}: gone", title(*place))));
}

fn by_place(routes: &[RouteConfig]) -> Vec<(Place<'_>, &RouteConfig)> {
    let places = routes.iter().flat_map(|route| {
        let of = move |kind: &EventKind| ((*kind, route.pattern.as_deref()), route);
        route.on.iter().map(of)
    });
    places.collect()
}

fn title((kind, pattern): Place<'_>) -> String {
    match pattern {
        Some(pattern) => format!("route {kind} \"{pattern}\""),
        None => format!("route {kind}"),
    }
}

fn of_route(was: &RouteConfig, is: &RouteConfig) -> Vec<String> {
    let RouteConfig {
        on: _,
        pattern: _,
        key,
        handler,
        timeout,
        retry_safe,
        interceptors,
        pool,
        origin: _,
    } = is;
    let mut found = Vec::new();
    let list = |names: &[String]| format!("[{}]", names.join(", "));
    let shown = |timeout: &Option<_>| timeout.map(time);
    show(&mut found, "handler", &was.handler, handler);
    maybe(&mut found, "key", was.key.as_ref(), key.as_ref());
    let (before, now) = (shown(&was.timeout), shown(timeout));
    maybe(&mut found, "timeout", before.as_ref(), now.as_ref());
    show(&mut found, "retry_safe", &was.retry_safe, retry_safe);
    let (before, now) = (list(&was.interceptors), list(interceptors));
    show(&mut found, "interceptors", &before, &now);
    maybe(&mut found, "pool", was.pool.as_ref(), pool.as_ref());
    found
}

fn interceptors(was: &[InterceptorConfig], is: &[InterceptorConfig], lines: &mut Vec<String>) {
    let named = |all: &[InterceptorConfig], name: &str| {
        all.iter().position(|interceptor| interceptor.name == name)
    };
    for interceptor in is {
        let name = &interceptor.name;
        let Some(before) = named(was, name).map(|at| &was[at]) else {
            lines.push(format!("interceptor {name}: new"));
            continue;
        };
        let differences = of_interceptor(before, interceptor);
        if !differences.is_empty() {
            lines.push(format!("interceptor {name}: {}", differences.join(", ")));
        }
    }
    for interceptor in was {
        if named(is, &interceptor.name).is_none() {
            lines.push(format!("interceptor {}: gone", interceptor.name));
        }
    }
    let stay = is.iter().filter_map(|it| named(was, &it.name));
    if !stay.is_sorted() {
        lines.push("interceptors: another order".to_owned());
    }
}

fn of_interceptor(was: &InterceptorConfig, is: &InterceptorConfig) -> Vec<String> {
    let mut found = Vec::new();
    show(&mut found, "on", &on(&was.on), &on(&is.on));
    match (&was.kind, &is.kind) {
        (was, is) if was == is => {}
        (
            InterceptorKind::Limit { rate, burst, per },
            InterceptorKind::Limit {
                rate: new_rate,
                burst: new_burst,
                per: new_per,
            },
        ) => {
            show(&mut found, "rate", rate, new_rate);
            show(&mut found, "burst", burst, new_burst);
            maybe(&mut found, "per", per.as_ref(), new_per.as_ref());
        }
        (
            InterceptorKind::AccessLog { level, fields },
            InterceptorKind::AccessLog {
                level: new_level,
                fields: new_fields,
            },
        ) => {
            show(&mut found, "level", level, new_level);
            let list = |fields: &[String]| format!("[{}]", fields.join(", "));
            show(&mut found, "fields", &list(fields), &list(new_fields));
        }
        (
            InterceptorKind::HeaderAuth { header, value },
            InterceptorKind::HeaderAuth {
                header: new_header,
                value: new_value,
            },
        ) => {
            show(&mut found, "header", header, new_header);
            if value != new_value {
                found.push("value: another one".to_owned());
            }
        }
        (was, is) => show(&mut found, "kind", &kind(was), &kind(is)),
    }
    found
}

fn on(on: &On) -> String {
    match on {
        On::All => "*".to_owned(),
        On::Events(kinds) => {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            kinds.join(" and ")
        }
        On::Route => "route".to_owned(),
    }
}

const fn kind(kind: &InterceptorKind) -> &'static str {
    match kind {
        InterceptorKind::AccessLog { .. } => "access-log",
        InterceptorKind::HeaderAuth { .. } => "header-auth",
        InterceptorKind::Limit { .. } => "limit",
    }
}

/// What a handler answers is not shown: it may be long, and only its users know what is in it.
fn handlers(
    was: &BTreeMap<String, HandlerConfig>,
    is: &BTreeMap<String, HandlerConfig>,
    lines: &mut Vec<String>,
) {
    for (name, handler) in is {
        match was.get(name) {
            None => lines.push(format!("handler {name}: new")),
            Some(before) if before != handler => lines.push(format!("handler {name}: changed")),
            Some(_) => {}
        }
    }
    let gone = was.keys().filter(|name| !is.contains_key(*name));
    lines.extend(gone.map(|name| format!("handler {name}: gone")));
}

fn show<T: PartialEq + Display>(found: &mut Vec<String>, name: &str, was: &T, is: &T) {
    if was != is {
        found.push(format!("{name} {was} -> {is}"));
    }
}

fn maybe<T: PartialEq + Display>(
    found: &mut Vec<String>,
    name: &str,
    was: Option<&T>,
    is: Option<&T>,
) {
    let shown = |it: Option<&T>| it.map_or_else(|| "none".to_owned(), ToString::to_string);
    show(found, name, &shown(was), &shown(is));
}
