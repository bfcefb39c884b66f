//! Flags, numbers, shares, times and sizes, each within its bounds.

use super::{Scalar, wrong_type};
use crate::config::problem::Fault;
use crate::config::schema::{size, time};
use crate::config::tree::Value;
use std::time::Duration;

pub(super) fn flag(value: &Value) -> Result<Scalar, Fault> {
    match value {
        Value::Bool(flag) => Ok(Scalar::Flag(*flag)),
        other => Err(wrong_type(
            other,
            "true or false",
            "write true or false, without quotes",
        )),
    }
}

pub(super) fn count(value: &Value, from: u64, to: u64) -> Result<Scalar, Fault> {
    let range = || {
        Fault::new(
            format!("must be a whole number from {from} to {to}"),
            format!("write a number from {from} to {to}, without quotes"),
        )
    };
    match value {
        Value::Int(number) => match u64::try_from(*number) {
            Ok(number) if (from..=to).contains(&number) => Ok(Scalar::Count(number)),
            _ => Err(range()),
        },
        _ => Err(range()),
    }
}

pub(super) fn rate(value: &Value) -> Result<Scalar, Fault> {
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
    let rate = match value {
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        other => {
            return Err(wrong_type(
                other,
                "a number",
                "write how many a second, such as 20 or 0.5",
            ));
        }
    };
    if rate > 0.0 && rate <= 1_000_000.0 {
        return Ok(Scalar::Rate(rate));
    }
    Err(Fault::new(
        "must be above 0 and at most 1000000 events per second",
        "write how many a second, such as 20 or 0.5; to refuse everything, route to `deny`",
    ))
}

pub(super) fn share(value: &Value) -> Result<Scalar, Fault> {
    let share = match value {
        Value::Int(number @ (0 | 1)) => f64::from(*number == 1),
        Value::Float(number) => *number,
        _ => f64::NAN,
    };
    if (0.0..=1.0).contains(&share) {
        return Ok(Scalar::Share(share));
    }
    Err(Fault::new(
        "must be a number from 0 to 1",
        "write a share, such as 0.01 for one in a hundred, without quotes",
    ))
}

pub(super) fn duration(text: &str, from: u64, to: u64) -> Result<Scalar, Fault> {
    let example = || {
        format!(
            "write a number with a unit, such as 250ms, 2s, 10m or 1h, from {} to {}",
            time(from),
            time(to)
        )
    };
    let read =
        humantime::parse_duration(text).map_err(|_| Fault::new("is not a duration", example()))?;
    if read < Duration::from_millis(from) || read > Duration::from_millis(to) {
        return Err(Fault::new(
            format!("must be from {} to {}", time(from), time(to)),
            example(),
        ));
    }
    Ok(Scalar::Duration(read))
}

pub(super) fn bytes(value: &Value, from: u64, to: u64) -> Result<Scalar, Fault> {
    let fix = || {
        format!(
            "write a size with a unit, such as 64KiB or 4MiB, from {} to {}",
            size(from),
            size(to)
        )
    };
    let read = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Text(text) => text
            .replace('_', "")
            .parse()
            .ok()
            .map(|size: bytesize::ByteSize| size.as_u64()),
        _ => None,
    };
    let read = read.ok_or_else(|| Fault::new("is not a size", fix()))?;
    match usize::try_from(read) {
        Ok(bytes) if (from..=to).contains(&read) => Ok(Scalar::Bytes(bytes)),
        _ => Err(Fault::new(
            format!("must be from {} to {}", size(from), size(to)),
            fix(),
        )),
    }
}

pub(super) fn error_code(value: &Value) -> Result<Scalar, Fault> {
    match value {
        Value::Int(code @ (100..=113 | 400..=1999)) => Ok(Scalar::Count(code.unsigned_abs())),
        _ => Err(Fault::new(
            "is not an error code that may leave: 100 to 113 are Centrifugo's, 400 to 1999 an application's",
            "choose a code from 400 to 1999, such as 1403",
        )),
    }
}

pub(super) fn disconnect_code(value: &Value) -> Result<Scalar, Fault> {
    match value {
        Value::Int(code @ 4000..=4999) => Ok(Scalar::Count(code.unsigned_abs())),
        _ => Err(Fault::new(
            "is not a disconnect code of an application, 4000 to 4999",
            "choose 4000 to 4499 if the client may come back, 4500 to 4999 if not",
        )),
    }
}
