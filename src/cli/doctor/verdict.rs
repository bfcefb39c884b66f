//! What the answer to a client's connect means, together with what the node has counted meanwhile.

use super::client::{Answer, SDK};
use super::counter::{Connects, blind};
use super::finding::{Finding, Severity};
use crate::cli::output;
use serde_json::Value;
use std::time::Duration;

/// Why Centrifugo's call may not arrive here.
const NOT_HERE: &str = "set `client.proxy.connect` of Centrifugo: `enabled: true` and this node as \
    `endpoint` (as `centripeta centrifugo-config` prints it)";

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Case<'a> {
    /// Where it went.
    pub(super) at: &'a str,
    /// What came back.
    pub(super) answer: Answer,
    /// After how long.
    pub(super) took: Duration,
    /// Connect events that the node counted meanwhile, or why nobody can tell.
    pub(super) seen: Result<Connects, String>,
    /// Whether a route of this configuration takes connect.
    pub(super) is_routed: bool,
}

impl Case<'_> {
    /// The findings.
    pub(super) fn judge(&self) -> Vec<Finding> {
        match &self.answer {
            Answer::Reply(reply) if reply.get("connect").is_some() => self.connected(),
            Answer::Reply(reply) => {
                let error = reply.get("error").unwrap_or(&Value::Null);
                let code = error
                    .get("code")
                    .and_then(Value::as_u64)
                    .unwrap_or_default();
                self.refused(Told::Error(code))
            }
            Answer::Closed(code, reason) => self.refused(Told::Closed(*code, reason)),
            Answer::Silence => self.refused(Told::Silence),
        }
    }

    /// How the node answered, if it can be told; `None` if it was not asked.
    fn outcome(&self) -> Option<&str> {
        let seen = self.seen.as_ref().ok()?;
        // On a busy node others connect meanwhile; a failure is more telling than their successes.
        let telling = seen
            .keys()
            .find(|outcome| !matches!(outcome.as_str(), "ok" | "rejected"));
        telling.or_else(|| seen.keys().next()).map(String::as_str)
    }

    fn is_elsewhere(&self) -> bool {
        self.seen.as_ref().is_ok_and(Connects::is_empty)
    }

    fn others(&self) -> &'static str {
        match &self.seen {
            Ok(seen) if seen.values().sum::<u64>() > 1 => {
                " (others connected meanwhile, so it may have been them that the node counted)"
            }
            _ => "",
        }
    }

    fn connected(&self) -> Vec<Finding> {
        let found = format!("a client connects, in {}", output::time(self.took));
        let mut findings = vec![Finding::ok("client.connect", self.at, found)];
        findings.push(match &self.seen {
            Err(why) => blind(self.at, why),
            Ok(seen) if seen.is_empty() => self.elsewhere("a client was let in"),
            Ok(_) => {
                let found = format!(
                    "Centrifugo asked this node, and took its answer{}",
                    self.others()
                );
                Finding::ok("client.router", self.at, found)
            }
        });
        findings
    }

    fn elsewhere(&self, what: &str) -> Finding {
        let found = format!(
            "{what} and this node was not asked: the connect proxy of Centrifugo points elsewhere, \
             or there is none and it lets in whoever comes (`client.insecure`, \
             `client.allow_anonymous_connect_without_token`)"
        );
        if self.is_routed {
            let fix = format!(
                "{NOT_HERE}; where it is a balancer before several nodes, another one was asked: \
                 try again"
            );
            Finding::error("client.elsewhere", self.at, found, fix)
        } else {
            let found = format!("{found}; no route here takes connect");
            Finding::note("client.elsewhere", self.at, found)
        }
    }

    fn refused(&self, told: Told<'_>) -> Vec<Finding> {
        let finding = match told {
            Told::Silence => self.silent(),
            Told::Error(100) | Told::Closed(3004, _) => self.failed(),
            Told::Closed(3501, _) if self.is_elsewhere() => self.no_proxy(),
            Told::Closed(1006, why) => Finding::error(
                "client.closed",
                self.at,
                format!("the connection broke before the reply: {why}"),
                "see Centrifugo's log; what stands before it has to let WebSockets live",
            ),
            told => self.answered(&told),
        };
        let mut findings = vec![finding];
        if let Err(why) = &self.seen {
            findings.push(blind(self.at, why));
        }
        findings
    }

    fn silent(&self) -> Finding {
        Finding::error(
            "client.timeout",
            self.at,
            format!(
                "no reply within {} s, after which SDKs give up",
                SDK.as_secs()
            ),
            "make the connect handler faster, and `client.proxy.connect.timeout` of Centrifugo \
             shorter than that (1s to 3s)",
        )
    }

    fn no_proxy(&self) -> Finding {
        let found = "disconnect 3501: Centrifugo has no connect proxy, so it takes nobody without a \
                     token, and this node was not asked";
        if self.is_routed {
            return Finding::error("client.no-proxy", self.at, found, NOT_HERE);
        }
        let found = format!("{found}; no route here takes connect");
        Finding::note("client.no-proxy", self.at, found)
    }

    /// Error 100: Centrifugo's call has failed, here or on the way.
    fn failed(&self) -> Finding {
        let at = self.at;
        let is = |what: &str| format!("error 100: {what}{}", self.others());
        match self.outcome() {
            None if self.seen.is_err() => Finding::error(
                "client.failed",
                at,
                is("Centrifugo's call to its router failed"),
                "see Centrifugo's log for the gRPC status, and the node's for what it answered",
            ),
            None => Finding::error(
                "client.proxy",
                at,
                is("Centrifugo's call failed, and did not reach this node"),
                "correct `client.proxy.connect.endpoint` of Centrifugo (grpc://HOST:PORT of \
                 `listen.grpc`, as reached from there) and `grpc.tls`; after an outage it tries \
                 again within two minutes",
            ),
            Some("unauthenticated") => Finding::error(
                "client.credential",
                at,
                is(
                    "this node refused Centrifugo's call, since its credential is not `listen.auth`",
                ),
                "set `client.proxy.connect.grpc.credentials_key` to `listen.auth.metadata` and \
                 `credentials_value` to `listen.auth.value`, for every proxy",
            ),
            Some("timeout" | "cancelled") => Finding::error(
                "client.slow",
                at,
                is("the connect handler did not answer within Centrifugo's time"),
                "make it faster, or `client.proxy.connect.timeout` longer (1s by default; below \
                 the 5 s of SDKs)",
            ),
            Some("unavailable") => Finding::error(
                "client.unavailable",
                at,
                is("this node could not run the connect handler now"),
                "see `centripeta health --ready` and the node's log",
            ),
            Some("ok" | "rejected") => Finding::error(
                "client.late",
                at,
                is(
                    "this node answered, and Centrifugo did not take the answer: it came too late, or \
                    holds bad base64",
                ),
                "see Centrifugo's log; `client.proxy.connect.timeout` is 1s by default",
            ),
            Some(outcome) => Finding::error(
                "client.handler",
                at,
                is(&format!("the connect handler failed ({outcome})")),
                "see the node's log, which says why",
            ),
        }
    }

    /// An answer in words of somebody's own.
    fn answered(&self, told: &Told<'_>) -> Finding {
        let at = self.at;
        let is = |what: &str| format!("{told}: {what}{}", self.others());
        if self.is_elsewhere() {
            let what = format!("{told}: refused");
            return self.elsewhere(&what);
        }
        match (told.code(), self.outcome()) {
            (_, Some("no_route")) => Finding::warn(
                "client.no-route",
                at,
                is("this node was asked and has no route for connect"),
                "add a route for connect, or switch `client.proxy.connect` of Centrifugo off and \
                 give clients tokens",
            ),
            (_, Some("overloaded")) => Finding::warn(
                "client.overloaded",
                at,
                is("this node, or a limit interceptor, refuses connects now"),
                "see `centripeta_refused_total` for the limit that is reached",
            ),
            (_, Some("bad_data")) => Finding::note(
                "client.data",
                at,
                is("the application wants data with the connect, which was not sent here"),
            ),
            (102, _) => Finding::error(
                "client.channels",
                at,
                is("the connect reply has channels of a namespace that Centrifugo does not know"),
                "add it to `channel.namespaces` of Centrifugo, or take it out of the reply",
            ),
            (110, _) => Finding::error(
                "client.expired",
                at,
                is("the `expire_at` of the connect reply is in the past"),
                "give Unix seconds in the future; compare the clocks of both machines",
            ),
            (3501, _) => Finding::error(
                "client.nobody",
                at,
                is("this node was asked, and its reply names no user"),
                "answer connect with a result, which may have an empty user",
            ),
            (3502, _) => Finding::error(
                "client.slow",
                at,
                is("the connect took longer than `client.stale_close_delay`"),
                "make the connect handler faster",
            ),
            (111 | 3013 | 3504, _) => Finding::warn(
                "client.overloaded",
                at,
                is("Centrifugo takes no more connections now"),
                "see `client.connection_limit` and `client.connection_rate_limit` of Centrifugo",
            ),
            (3505, _) => Finding::error(
                "client.channels",
                at,
                is("the connect reply has more channels than `client.channel_limit`"),
                "name fewer, or raise the limit",
            ),
            (3008, _) => Finding::error(
                "client.large",
                at,
                is("the connect reply is larger than `client.queue_max_size` (1 MiB)"),
                "send less with it",
            ),
            (_, Some(_)) => Finding::ok(
                "client.router",
                at,
                is(
                    "Centrifugo asked this node, and the application refused this client, which is \
                    its right",
                ),
            ),
            (_, None) => Finding::note(
                "client.refused",
                at,
                is("a client without token and data is refused, by the application or Centrifugo"),
            ),
        }
    }
}

/// While the node is not there, that Centrifugo can't ask it is no finding of its own.
pub(super) fn expect(finding: &mut Finding) {
    if finding.id == "client.failed" {
        finding.severity = Severity::Note;
        finding
            .found
            .push_str(", as is to be expected while the node can't be reached");
        finding.fix = None;
    }
}

/// What the client was told.
#[derive(Debug, Clone, Copy)]
enum Told<'a> {
    Error(u64),
    Closed(u16, &'a str),
    Silence,
}

impl Told<'_> {
    fn code(&self) -> u64 {
        match self {
            Self::Error(code) => *code,
            Self::Closed(code, _) => u64::from(*code),
            Self::Silence => 0,
        }
    }
}

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(code) => write!(f, "error {code}"),
            Self::Closed(code, "") => write!(f, "disconnect {code}"),
            Self::Closed(code, reason) => write!(f, "disconnect {code} ({reason})"),
            Self::Silence => f.write_str("no reply"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(answer: Answer, seen: &[(&str, u64)]) -> Vec<&'static str> {
        let seen = seen
            .iter()
            .map(|(outcome, count)| ((*outcome).to_owned(), *count));
        let case = Case {
            at: "ws://here",
            answer,
            took: Duration::from_millis(3),
            seen: Ok(seen.collect()),
            is_routed: true,
        };
        case.judge().iter().map(|finding| finding.id).collect()
    }

    fn error(code: u64) -> Answer {
        Answer::Reply(json!({ "id": 1, "error": { "code": code, "message": "m" } }))
    }

    #[test]
    fn a_connection_counts_only_if_this_node_was_asked() {
        let yes = || Answer::Reply(json!({ "id": 1, "connect": { "client": "c" } }));
        assert_eq!(
            judged(yes(), &[("ok", 1)]),
            ["client.connect", "client.router"]
        );
        assert_eq!(judged(yes(), &[]), ["client.connect", "client.elsewhere"]);
    }

    #[test]
    fn each_refusal_is_told_by_its_cause() {
        let closed = |code| Answer::Closed(code, String::new());
        for (answer, seen, id) in [
            (error(100), &[][..], "client.proxy"),
            (error(100), &[("unauthenticated", 1)], "client.credential"),
            (error(100), &[("ok", 3), ("timeout", 1)], "client.slow"),
            (error(100), &[("panic", 1)], "client.handler"),
            (error(100), &[("unavailable", 1)], "client.unavailable"),
            (error(100), &[("ok", 1)], "client.late"),
            (error(108), &[("no_route", 1)], "client.no-route"),
            (error(102), &[("ok", 1)], "client.channels"),
            (error(110), &[("ok", 1)], "client.expired"),
            (error(111), &[("overloaded", 1)], "client.overloaded"),
            (error(107), &[("bad_data", 1)], "client.data"),
            (error(103), &[("rejected", 1)], "client.router"),
            (error(1403), &[], "client.elsewhere"),
            (closed(4403), &[("rejected", 1)], "client.router"),
            (closed(3501), &[], "client.no-proxy"),
            (closed(3501), &[("ok", 1)], "client.nobody"),
            (closed(1006), &[], "client.closed"),
            (Answer::Silence, &[], "client.timeout"),
        ] {
            assert_eq!(judged(answer.clone(), seen), [id], "{answer:?} {seen:?}");
        }
    }

    #[test]
    fn what_others_did_meanwhile_is_not_taken_for_certain() {
        let case = Case {
            at: "ws://here",
            answer: error(100),
            took: Duration::ZERO,
            seen: Ok(Connects::from([("timeout".to_owned(), 7)])),
            is_routed: true,
        };
        assert!(case.judge()[0].found.contains("others connected meanwhile"));
    }
}
