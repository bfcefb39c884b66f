//! What the reply builders of the events share: setters, written once, and the ways to an outcome.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix seconds of the moment `after` from now, rounded up; the largest time if it is out of range.
pub(crate) fn unix_after(after: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let then = now.unwrap_or_default().saturating_add(after);
    let whole = then
        .as_secs()
        .saturating_add(u64::from(then.subsec_nanos() > 0));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

/// The ways from a builder and from the raw result message of an event to a reply and an outcome.
macro_rules! reply_of {
    ($event:ty, $builder:ty) => {
        impl From<$builder> for $crate::reply::Reply {
            fn from(built: $builder) -> Self {
                let message = <$event as $crate::event::Gated>::message(built.result);
                Self::with_intent(message, built.intent)
            }
        }

        impl $crate::outcome::IntoOutcome<$event> for $builder {
            fn into_outcome(self) -> $crate::outcome::Outcome {
                $crate::outcome::Outcome::Reply(self.into())
            }
        }

        result_of!($event);
    };
}

/// The way from the raw result message of an event to an outcome.
macro_rules! result_of {
    ($event:ty) => {
        impl $crate::outcome::IntoOutcome<$event> for <$event as $crate::event::Event>::Result {
            fn into_outcome(self) -> $crate::outcome::Outcome {
                let message = <$event as $crate::event::Gated>::message(self);
                $crate::outcome::Outcome::Reply($crate::reply::Reply::new(message))
            }
        }
    };
}

/// The setter of a payload by the JSON of a value.
macro_rules! json_setter {
    ($(#[$doc:meta])* $json:ident) => {
        $(#[$doc])*
        ///
        /// A value that can't be written as JSON makes the whole reply an internal error. JSON
        /// `null` leaves only with `null_payloads`.
        #[must_use]
        pub fn $json<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Self {
            self.result.$json = self.intent.json(stringify!($json), value);
            self
        }
    };
}

/// Setters of a payload: JSON of a value, or bytes as they are.
macro_rules! payload_setters {
    ($(#[$doc:meta])* $json:ident, $bytes:ident) => {
        json_setter! { $(#[$doc])* $json }

        $(#[$doc])*
        ///
        /// The bytes are sent as they are; towards a client whose protocol is JSON they must be
        /// JSON.
        #[must_use]
        pub fn $bytes(mut self, bytes: impl Into<bytes::Bytes>) -> Self {
            self.result.$json = bytes.into();
            self
        }
    };
}

/// Setters of a payload that replaces what the client sent: the contract can't say "nothing" there.
macro_rules! replacing_setters {
    ($(#[$doc:meta])* $json:ident, $bytes:ident) => {
        json_setter! { $(#[$doc])* $json }

        $(#[$doc])*
        ///
        /// The bytes are sent as they are; towards a client whose protocol is JSON they must be
        /// JSON. No bytes make the whole reply an internal error: Centrifugo would read them as
        /// *unchanged* and publish what the client sent.
        #[must_use]
        pub fn $bytes(mut self, bytes: impl Into<bytes::Bytes>) -> Self {
            self.result.$json = bytes.into();
            if self.result.$json.is_empty() {
                self.intent.spoil(concat!(
                    "`", stringify!($json), "` can't be replaced by nothing: Centrifugo would \
                     publish what the client sent; refuse the event, or send a value that means \
                     nothing to its readers"
                ).to_owned());
            }
            self
        }
    };
}

/// The setter that says that `null` payloads are meant.
macro_rules! null_setter {
    () => {
        /// Says that payloads which are JSON `null` are meant; without it they are refused.
        #[must_use]
        pub fn null_payloads(mut self) -> Self {
            self.intent.null_payloads = true;
            self
        }
    };
}

/// Setters of `expire_at`.
macro_rules! expiry_setters {
    ($what:literal) => {
        #[doc = concat!("The ", $what, " expires this long after now; without it, never.")]
        #[must_use]
        pub fn expire_in(self, after: std::time::Duration) -> Self {
            self.expire_at($crate::event::setters::unix_after(after))
        }

        #[doc = concat!("The ", $what, " expires then, in Unix seconds; 0 is never.")]
        #[must_use]
        pub fn expire_at(mut self, unix_seconds: i64) -> Self {
            self.result.expire_at = unix_seconds;
            self
        }
    };
}

/// Setters of the namespace options that a subscription may override.
macro_rules! override_setters {
    () => {
        override_setters! {
            /// Whether the subscription takes part in presence, whatever the namespace says.
            presence,
            /// Whether joins and leaves are announced, whatever the namespace says.
            join_leave,
            /// Whether the client recovers missed publications, whatever the namespace says.
            force_recovery,
            /// Whether the client is kept at its position, whatever the namespace says.
            force_positioning,
            /// Whether joins and leaves are pushed to the client, whatever the namespace says.
            force_push_join_leave,
        }
    };
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, on: bool) -> Self {
                let options = self.result.r#override.get_or_insert_default();
                options.$name = Some($crate::proto::proxy::BoolValue { value: on });
                self
            }
        )+
    };
}

/// Setters of what marks a publication.
macro_rules! tag_setters {
    () => {
        /// Adds a tag to the publication; subscribers see it.
        #[must_use]
        pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.result.tags.insert(name.into(), value.into());
            self
        }

        /// Adds tags to the publication; subscribers see them.
        #[must_use]
        pub fn tags<N: Into<String>, V: Into<String>>(
            mut self,
            tags: impl IntoIterator<Item = (N, V)>,
        ) -> Self {
            let tags = tags
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()));
            self.result.tags.extend(tags);
            self
        }

        /// Centrifugo drops repeats with this key within five minutes.
        #[must_use]
        pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
            self.result.idempotency_key = key.into();
            self
        }
    };
}

/// Setters of the delta and version options of a publication.
macro_rules! version_setters {
    () => {
        /// Whether the publication is sent as a delta to those who asked for deltas.
        #[must_use]
        pub fn delta(mut self, on: bool) -> Self {
            self.result.delta = on;
            self
        }

        /// Version of the published state, and the epoch that it counts in (empty for none).
        #[must_use]
        pub fn version(mut self, version: u64, epoch: impl Into<String>) -> Self {
            self.result.version = version;
            self.result.version_epoch = epoch.into();
            self
        }
    };
}
