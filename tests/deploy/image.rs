//! The container image.

use super::{composed, file, port, services, words};
use centripeta::config::Config;

#[test]
fn the_image_has_a_place_for_the_disk_of_a_node_that_belongs_to_its_user() {
    let data = composed().node.data.display().to_string();
    let user = instruction("USER");
    let copied = format!("COPY --from=build --chown={user} /data {data}\n");
    assert!(file("Dockerfile").contains(&copied), "{copied}");
}

/// The arguments of an instruction of the last stage.
pub(super) fn instruction(name: &str) -> String {
    let text = file("Dockerfile");
    let (_, last) = text.rsplit_once("\nFROM ").unwrap();
    let line = last
        .lines()
        .find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name}"))[name.len() + 1..].to_owned()
}

#[test]
fn the_image_runs_the_program_itself_as_nobody_on_the_ports_of_the_defaults() {
    assert_eq!(instruction("ENTRYPOINT"), r#"["/usr/bin/centripeta"]"#);
    assert_eq!(instruction("CMD"), r#"["serve"]"#);
    assert_eq!(instruction("STOPSIGNAL"), "SIGTERM");
    let user: u32 = instruction("USER")
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(user > 0);
    for listen in [Config::default().listen, composed().listen] {
        let ports = format!("{} {}", port(&listen.grpc), listen.admin.port());
        assert_eq!(instruction("EXPOSE"), ports);
    }
    let version = format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"));
    assert!(file("Dockerfile").contains(&version));
    // The directory that it starts in is the one that the composition mounts its file into.
    let mount = format!(":{}/node.toml:ro", instruction("WORKDIR"));
    let mounts = services()["centripeta-a"]["volumes"].clone();
    assert!(words(&mounts)[0].ends_with(&mount), "{mounts}");
}
