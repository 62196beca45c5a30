//! The drawing in ARCHITECTURE.md, enforced: an edge between our crates that is not listed here is forbidden.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const EDGES: &[(&str, &[&str])] = &[
    ("dataplane", &["api", "dns", "ext4", "images", "instances", "network", "store", "types", "vmm"]),
    ("dataplane-types", &[]),
    ("dataplane-store", &["types"]),
    ("dataplane-agent", &[]),
    ("dataplane-api", &["types"]),
    ("dataplane-codegen", &[]),
    ("dataplane-ext4", &[]),
    ("dataplane-tar", &[]),
    ("dataplane-oci", &["tar", "types"]),
    ("dataplane-erofs", &[]),
    ("dataplane-images", &["ext4", "oci", "store", "types"]),
    ("dataplane-network", &["types"]),
    ("dataplane-dns", &[]),
    ("dataplane-vmm", &["agent", "types"]),
    ("dataplane-instances", &["agent", "store", "types", "vmm"]),
    ("dataplane-init", &["agent", "tar"]),
    ("dataplane-initramfs", &[]),
];

#[test]
fn dependencies_point_downwards_only() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == "dataplane-testkit" {
            continue;
        }
        let edges: BTreeSet<String> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str()?.strip_prefix("dataplane-").map(str::to_owned))
            .collect();
        let listed = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the drawing"));
        let unlisted: Vec<_> = edges.iter().filter(|edge| !listed.contains(&edge.as_str())).collect();
        assert!(unlisted.is_empty(), "{name} must not depend on {unlisted:?}");
    }
}
