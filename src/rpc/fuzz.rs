//! What must hold for any argument of a call to `[rpc]`: the body of a fuzz target and of property
//! tests.

use super::argument::{Given, json, message, plain, text};
use super::metrics::{Declared, Sample};
use super::{Codec, Collectors, centrifuge};
use crate::proto::api;

/// Reads the bytes as the argument of every method, by every codec.
pub(crate) fn arguments(bytes: &[u8]) {
    let codecs = [
        Codec::Proto,
        Codec::Json,
        Codec::Raw,
        Codec::Msgpack,
        Codec::Gob,
    ];
    for codec in codecs {
        let refused = [
            plain::<bool>(codec, bytes).err(),
            plain::<String>(codec, bytes).err(),
            match message::<api::PublishRequest>(codec, bytes) {
                Ok(Given::Object(object)) => {
                    assert!(object.is_object());
                    text(&object, "plugin");
                    None
                }
                Ok(Given::Message(_)) => None,
                Err(why) => Some(why),
            },
        ];
        assert!(refused.iter().flatten().all(|why| !why.is_empty()));
    }
    for method in ["Unsubscribe", "Publish"] {
        let meant = centrifuge::meant(method, bytes);
        assert!(meant == method || (method, meant) == ("Unsubscribe", "Disconnect"));
    }
    collectors(bytes);
}

/// What is declared and counted never breaks the page of metrics: one line each.
fn collectors(bytes: &[u8]) {
    let collectors = Collectors::default();
    if let Ok(declared) = json::<Declared>(Codec::Json, bytes, "metrics.NamedCollector") {
        // Either answer is fine, as long as there is one.
        drop(collectors.declare(declared));
    }
    for method in ["Add", "Sub", "Set", "Observe"] {
        if let Ok(sample) = json::<Sample>(Codec::Json, bytes, "metrics.Metric") {
            drop(collectors.record(method, sample));
        }
    }
    let mut page = String::new();
    collectors.write(&mut page);
    assert!(page.is_empty() || page.ends_with('\n'), "{page:?}");
}
