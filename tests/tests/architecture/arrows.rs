//! Crates depend only along the arrows, and the cores' list of foreign crates is short and known.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::tree::root;

/// What a crate may depend on.
struct Rule {
    package: &'static str,
    /// Crates of this workspace, for use, for its tests and for its build alike.
    ours: &'static [&'static str],
    /// Foreign crates that are always compiled in; `None`: not this test's business.
    foreign: Option<&'static [&'static str]>,
}

/// One row per crate of the workspace; a new crate needs a row.
const RULES: &[Rule] = &[
    Rule { package: "hongyan-protocol", ours: &[], foreign: Some(&["bytes", "prost"]) },
    Rule { package: "hongyan-client", ours: &["hongyan-protocol"], foreign: Some(&["bytes", "prost"]) },
    // The front's crates are optional, behind the feature `server`. Of rand: generators that are given their seed.
    // hmac and sha2 sign the ticket of a goodbye.
    Rule {
        package: "hongyan-relay",
        ours: &["hongyan-protocol"],
        foreign: Some(&["bytes", "hmac", "prost", "rand", "sha2", "thiserror"]),
    },
    Rule { package: "hongyan-sdk-wasm", ours: &["hongyan-client", "hongyan-protocol"], foreign: None },
    Rule { package: "hongyan-bindgen", ours: &[], foreign: None },
    // It puts any relay under load from outside, so it knows nothing of the relay's inside.
    Rule { package: "hongyan-load", ours: &["hongyan-protocol", "hongyan-client"], foreign: None },
    Rule {
        package: "hongyan-figures",
        ours: &["hongyan-protocol", "hongyan-client", "hongyan-relay", "hongyan-load", "hongyan-tests"],
        foreign: None,
    },
    Rule {
        package: "hongyan-tests",
        ours: &["hongyan-protocol", "hongyan-client", "hongyan-relay", "hongyan-load"],
        foreign: None,
    },
    Rule {
        package: "hongyan-sim",
        ours: &["hongyan-protocol", "hongyan-client", "hongyan-relay"],
        foreign: None,
    },
    Rule {
        package: "hongyan-fuzz",
        ours: &["hongyan-protocol", "hongyan-client", "hongyan-relay"],
        foreign: None,
    },
];

#[test]
fn crates_depend_along_the_arrows() {
    let packages = workspace();
    let names: Vec<&str> = packages.keys().map(String::as_str).collect();
    for name in &names {
        assert!(RULES.iter().any(|rule| rule.package == *name), "{name} has no row in the table of arrows");
    }
    for rule in RULES {
        let wrong = violations(rule, &names, &packages[rule.package]);
        assert!(wrong.is_empty(), "{}: {}", rule.package, wrong.join("; "));
    }
}

/// Features of `rand` that draw no chance: a core's generator knows only its seed.
const SEEDED_FEATURES: &[&str] = &["alloc", "chacha", "std_rng"];

#[test]
fn a_core_takes_from_rand_what_needs_a_seed() {
    let packages = workspace();
    for core in ["hongyan-protocol", "hongyan-client", "hongyan-relay"] {
        for dependency in packages[core]["dependencies"].as_array().unwrap() {
            if dependency["name"] == "rand" && dependency["kind"].is_null() {
                let features = dependency["features"].as_array().unwrap();
                assert_eq!(
                    dependency["uses_default_features"], false,
                    "{core}: rand with its default features"
                );
                for feature in features {
                    assert!(
                        SEEDED_FEATURES.contains(&feature.as_str().unwrap()),
                        "{core}: rand with {feature}"
                    );
                }
            }
        }
    }
}

#[test]
fn deliberate_defects_are_for_the_simulated_world_only() {
    for (name, package) in workspace() {
        if name == "hongyan-sim" {
            continue;
        }
        for (feature, turns_on) in package["features"].as_object().unwrap() {
            assert!(feature == "defects" || !turns_on.to_string().contains("defects"), "{name}: {feature}");
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            assert!(
                !dependency["features"].to_string().contains("defects"),
                "{name}: {}",
                dependency["name"]
            );
        }
    }
}

#[test]
fn a_broken_arrow_is_noticed() {
    let rule = &Rule { package: "hongyan-client", ours: &["hongyan-protocol"], foreign: Some(&["bytes"]) };
    let names = ["hongyan-protocol", "hongyan-client", "hongyan-relay"];
    let check = |dependency: &str, kind: Value, optional: bool| {
        let manifest = serde_json::json!({ "dependencies": [{ "name": dependency, "kind": kind, "optional": optional }] });
        violations(rule, &names, &manifest).len()
    };
    assert_eq!(check("hongyan-protocol", Value::Null, false), 0);
    assert_eq!(check("hongyan-relay", Value::Null, false), 1);
    assert_eq!(
        check("hongyan-relay", "dev".into(), false),
        1,
        "tests of a part may not turn an arrow either"
    );
    assert_eq!(check("hongyan-relay", Value::Null, true), 1, "nor may a feature");
    assert_eq!(check("bytes", Value::Null, false), 0);
    assert_eq!(check("rand", Value::Null, false), 1);
    assert_eq!(check("rand", "dev".into(), false), 0);
    assert_eq!(check("rand", Value::Null, true), 0);
}

/// What in a crate's manifest, as `cargo metadata` gives it, breaks its rule.
fn violations(rule: &Rule, ours: &[&str], package: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for dependency in package["dependencies"].as_array().unwrap() {
        let name = dependency["name"].as_str().unwrap();
        if ours.contains(&name) {
            if !rule.ours.contains(&name) {
                wrong.push(format!("the arrow to {name} points the wrong way"));
            }
        } else if let Some(foreign) = rule.foreign {
            let always = dependency["kind"].is_null() && dependency["optional"] == Value::Bool(false);
            if always && !foreign.contains(&name) {
                wrong.push(format!("{name} is not among the crates that a core may use"));
            }
        }
    }
    wrong
}

/// The crates of the workspace by name, with their manifests.
fn workspace() -> BTreeMap<String, Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), package.clone())).collect()
}
