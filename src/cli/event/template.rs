//! Events by number: `{n}` in the arguments of an event stands for its number.

use super::{EventArgs, payload};
use crate::cli::error::CliError;
use crate::event::EventKind;
use std::borrow::Cow;

impl EventArgs {
    /// The same with what `@FILE` holds in the place of it, so that no event reads a file.
    ///
    /// # Errors
    /// The file can't be read.
    pub(in crate::cli) fn inlined(mut self) -> Result<Self, CliError> {
        if let Some(data) = self.data.as_ref().filter(|data| data.starts_with('@')) {
            let text = match self.kind {
                // Its bytes are the whole message.
                EventKind::Raw => {
                    let bytes = super::read(&data[1..])?;
                    serde_json::to_string(&crate::json::Hex::new(&bytes))
                        .map_err(CliError::internal)?
                }
                _ => payload(data)?.get().to_owned(),
            };
            self.data = Some(text);
        }
        Ok(self)
    }

    /// The event of this number: `{n}` becomes the number, `{n%K}` what is left of it when it is
    /// divided by `K`, in every argument; `{{n}}` stands for `{n}` itself.
    ///
    /// # Errors
    /// `K` is no number above 0.
    pub(in crate::cli) fn numbered(&self, number: u64) -> Result<Self, CliError> {
        let fill = |text: &String| match fill(text, number) {
            Ok(text) => Ok(text.into_owned()),
            Err(wrong) => Err(CliError::usage(
                wrong,
                "is no template",
                "write {n} for the number of the event, or {n%100} for one of 100 values",
            )),
        };
        let maybe = |text: &Option<String>| text.as_ref().map(fill).transpose();
        Ok(Self {
            kind: self.kind,
            channel: maybe(&self.channel)?,
            method: maybe(&self.method)?,
            user: maybe(&self.user)?,
            client: maybe(&self.client)?,
            key: maybe(&self.key)?,
            data: maybe(&self.data)?,
            meta: maybe(&self.meta)?,
            metadata: self.metadata.iter().map(fill).collect::<Result<_, _>>()?,
            request: maybe(&self.request)?,
        })
    }
}

/// A text with its templates filled in, or the template that is none.
fn fill(text: &str, number: u64) -> Result<Cow<'_, str>, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("{n") {
        let (before, from) = rest.split_at(at);
        let end = from.find('}').map(|end| end + 1);
        let inside = end.map(|end| &from[2..end - 1]);
        let value = match inside.map(|inside| (inside, inside.strip_prefix('%'))) {
            Some(("", _)) => number,
            Some((_, Some(divisor))) => match divisor.parse() {
                Ok(divisor @ 1..) => number % divisor,
                _ => return Err(format!("{{n%{divisor}}}")),
            },
            _ => {
                filled.push_str(before);
                filled.push_str("{n");
                rest = &from[2..];
                continue;
            }
        };
        let end = end.unwrap_or(from.len());
        match (before.strip_suffix('{'), from[end..].strip_prefix('}')) {
            (Some(before), Some(after)) => {
                filled.push_str(before);
                filled.push_str(&from[..end]);
                rest = after;
            }
            _ => {
                filled.push_str(before);
                filled.push_str(&value.to_string());
                rest = &from[end..];
            }
        }
    }
    if rest.len() == text.len() {
        return Ok(Cow::Borrowed(text));
    }
    filled.push_str(rest);
    Ok(Cow::Owned(filled))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_template_becomes_the_number_or_one_of_so_many_values() {
        for (text, filled) in [
            ("", ""),
            ("chat:lobby", "chat:lobby"),
            ("chat:{n}", "chat:1234"),
            ("{n}{n%10}-{n%1}", "12344-0"),
            (
                r#"{"seat":{n%100},"by":{"n":1}}"#,
                r#"{"seat":34,"by":{"n":1}}"#,
            ),
            (r#"{"a":{"b":{n}}}"#, r#"{"a":{"b":1234}}"#),
            ("{{n}} {{n%7}} {n}", "{n} {n%7} 1234"),
            ("{name} {n", "{name} {n"),
            ("{n%", "{n%"),
        ] {
            assert_eq!(fill(text, 1234).unwrap(), filled, "{text}");
        }
    }

    #[test]
    fn a_divisor_that_is_no_number_above_0_is_refused() {
        for (text, wrong) in [
            ("a{n%0}", "{n%0}"),
            ("{n%x}", "{n%x}"),
            ("{n%-1}", "{n%-1}"),
        ] {
            assert_eq!(fill(text, 1).unwrap_err(), wrong);
        }
    }
}
