//! The JSON form of the wire messages: field names as in the contract, payloads inline.

/// Whether a field has its zero value and is left out of the JSON form.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `bytes` fields as inline JSON values, kept byte for byte.
pub(crate) mod payload {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
    use serde_json::value::RawValue;

    /// Writes the payload as the JSON value that it holds; bytes that are not JSON are an error.
    pub(crate) fn serialize<S: Serializer>(payload: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(payload)
            .map_err(|why| ser::Error::custom(format!("payload is not JSON: {why}")))?;
        raw.serialize(to)
    }

    /// Keeps the text of the JSON value, whatever it is.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let raw = <Box<RawValue>>::deserialize(from).map_err(de::Error::custom)?;
        Ok(Bytes::from(
            String::from(<Box<str>>::from(raw)).into_bytes(),
        ))
    }
}
