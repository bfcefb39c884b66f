//! Names and key templates: what a route's `key` and a limit's `per` may say.

use super::problem::{Fault, nearest};

const FIELDS: &str = "{user} {client} {channel} {method} {param.X} {data.X}";

/// A name of letters, digits, `_` and `-`.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(letter) {
        return Ok(());
    }
    Err(Fault::new(
        "is not a name: 1 to 64 letters, digits, `_` or `-`",
        "rename it, for instance to chat-eu_1",
    ))
}

/// `none`, `user`, `client`, `channel` or a template.
pub(super) fn check_key(key: &str) -> Result<(), Fault> {
    check(key, &["none", "user", "client", "channel"], false)
}

/// `user`, `client`, `channel`, `all` or a template, which may name headers.
pub(super) fn check_per(per: &str) -> Result<(), Fault> {
    check(per, &["user", "client", "channel", "all"], true)
}

fn check(text: &str, words: &[&str], headers: bool) -> Result<(), Fault> {
    if words.contains(&text) {
        return Ok(());
    }
    let fields = fields(text)?;
    if fields.is_empty() {
        let fix = match nearest(text, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "write one of {}, or a template over {FIELDS}",
                words.join(", ")
            ),
        };
        return Err(Fault::new(
            "is neither a key by name nor a template with a field in it",
            fix,
        ));
    }
    match fields.iter().find(|field| !is_field(field, headers)) {
        None => Ok(()),
        Some(unknown) => Err(Fault::of_part(unknown, "is a field that no event has", {
            let more = if headers { " {header.NAME}" } else { "" };
            format!("the fields are {FIELDS}{more}; a literal brace is {{{{")
        })),
    }
}

fn is_field(field: &str, headers: bool) -> bool {
    match field.split_once('.') {
        None => matches!(field, "user" | "client" | "channel" | "method"),
        Some(("param" | "data", rest)) => rest.split('.').all(|part| !part.is_empty()),
        Some(("header", rest)) => headers && !rest.is_empty(),
        Some(_) => false,
    }
}

/// The fields of a template, in order; `{{` is a literal brace.
pub(super) fn fields(template: &str) -> Result<Vec<&str>, Fault> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        rest = &rest[open + 1..];
        if let Some(literal) = rest.strip_prefix('{') {
            rest = literal;
            continue;
        }
        let close = rest.find('}').ok_or_else(|| {
            Fault::new(
                "opens a `{` that nothing closes",
                "close it with `}`; a literal brace is {{",
            )
        })?;
        found.push(&rest[..close]);
        rest = &rest[close + 1..];
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_a_word_or_a_template_over_known_fields() {
        for good in [
            "none",
            "user",
            "channel",
            "showing:{data.showing}",
            "{param.room}",
            "a{{b}{user}",
        ] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("chanel", "did you mean `channel`?"),
            ("all", "a template over"),
            ("", "a template over"),
            ("{rom}", "the fields are"),
            ("{header.X}", "the fields are"),
            ("{data.}", "the fields are"),
            ("a{b", "close it"),
        ] {
            let fault = check_key(bad).unwrap_err();
            assert!(fault.fix.contains(said), "{bad}: {}", fault.fix);
        }
    }

    #[test]
    fn a_limit_counts_by_headers_and_by_all_too() {
        for good in ["all", "user", "{header.x-forwarded-for}"] {
            assert_eq!(check_per(good), Ok(()), "{good}");
        }
        assert!(check_per("none").is_err());
    }
}
