//! The manifests of docs/install.md: they say what the image, the program and each other say.

use super::image::instruction;
use super::{OF_A_NODE, composed, file};
use centripeta::config::Config;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// The manifests in the blocks of a page.
fn manifests(page: &str) -> Vec<Value> {
    let text = file(page);
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.map(|block| block.split_once("```").unwrap().0);
    let documents = blocks.flat_map(|block| block.split("\n---\n"));
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect()
}

#[test]
fn the_set_for_kubernetes_forms_without_waiting_for_itself_and_stops_in_time() {
    let manifests = manifests("docs/install.md");
    let of = |kind: &str, name: &str| {
        let found = manifests
            .iter()
            .find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let set = &of("StatefulSet", "centripeta")["spec"];
    // A pod is ready only once a quorum is.
    assert_eq!(set["podManagementPolicy"], "Parallel");
    let finds = &of("Service", set["serviceName"].as_str().unwrap())["spec"];
    assert_eq!(finds["publishNotReadyAddresses"], true);
    for (manifest, pod) in [
        ("set", &set["template"]["spec"]),
        (
            "init",
            &of("Job", "centripeta-init")["spec"]["template"]["spec"],
        ),
    ] {
        // They would be read as settings.
        assert_eq!(pod["enableServiceLinks"], false, "{manifest}");
        let user = pod["securityContext"]["runAsUser"].to_string();
        assert!(
            instruction("USER").starts_with(&format!("{user}:")),
            "{manifest}"
        );
        let container = &pod["containers"][0];
        let set = container["env"].as_array().unwrap().iter();
        let set: BTreeSet<&str> = set.map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(set, BTreeSet::from(OF_A_NODE), "{manifest}");
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        let mut data = mounts.map(|it| it["mountPath"].as_str().unwrap());
        assert_eq!(
            data.next_back(),
            composed().node.data.to_str(),
            "{manifest}: where the image has a place"
        );
    }
    let pod = &set["template"]["spec"];
    let stop = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let sleep = &pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
    let grace = Config::default().limits.shutdown_grace + Duration::from_secs(10);
    assert!(stop >= grace.as_secs() + sleep.as_u64().unwrap());
    // The first pod takes over what was founded.
    let job = &of("Job", "centripeta-init")["spec"]["template"]["spec"];
    let claim = &job["volumes"][1]["persistentVolumeClaim"]["claimName"];
    let template = &set["volumeClaimTemplates"][0]["metadata"]["name"];
    assert_eq!(
        claim,
        &format!("{}-centripeta-0", template.as_str().unwrap())
    );
    let budget = &of("PodDisruptionBudget", "centripeta")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
}
