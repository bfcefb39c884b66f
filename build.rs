//! Compiles the wire contracts in `proto/` with `protox`, so that no system `protoc` is needed.
//!
//! Every message of Centrifugo's also gets the JSON form that Centrifugo uses over HTTP: field names
//! as in the contract, `bytes` fields as inline JSON values, zero values left out, unknown keys
//! refused.

use prost_build::Config;
use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::prost_types::field_descriptor_proto::Type;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Whoever serves the proxy serves all of it; who stands in for the API serves what is asked of it.
    compile("proto/proxy.proto", with_json, false)?;
    compile("proto/api.proto", with_json, true)?;
    compile("proto/admin.proto", serialized, true)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}

fn compile(
    file: &str,
    change: impl FnOnce(&mut Config, &FileDescriptorSet),
    default_stubs: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile([file], ["proto"])?;
    let mut config = Config::new();
    change(&mut config, &files);
    tonic_prost_build::configure()
        .build_server(true)
        .build_transport(false)
        .generate_default_stubs(default_stubs)
        .compile_fds_with_config(files, config)?;
    Ok(())
}

/// As commands print them.
fn serialized(config: &mut Config, _: &FileDescriptorSet) {
    config.type_attribute(".", "#[derive(serde::Serialize)]");
}

/// Payloads as shared bytes, and the JSON form.
fn with_json(config: &mut Config, files: &FileDescriptorSet) {
    config.bytes(["."]);
    // One member of nearly forty is set.
    config.boxed(".centrifugal.centrifugo.api.Command");
    config.boxed(".centrifugal.centrifugo.api.Reply");
    config.type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]");
    config.type_attribute(".", "#[serde(default, deny_unknown_fields)]");
    for file in &files.file {
        for message in &file.message_type {
            for field in &message.field {
                let path = format!(".{}.{}.{}", file.package(), message.name(), field.name());
                config.field_attribute(
                    &path,
                    "#[serde(skip_serializing_if = \"crate::json::is_default\")]",
                );
                if field.r#type() == Type::Bytes {
                    config.field_attribute(&path, "#[serde(with = \"crate::json::payload\")]");
                }
            }
        }
    }
}
