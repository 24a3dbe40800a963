//! The layers' arrows (docs/architecture.md): down, never up or sideways.

use std::process::Command;

use serde_json::Value;

use crate::Failure;

const ADAPTERS: [&str; 6] = [
    "pushpull-ws",
    "pushpull-sse",
    "pushpull-longpoll",
    "pushpull-http-poll",
    "pushpull-grpc-stream",
    "pushpull-webhook",
];

/// The crates of the workspace that `package` may depend on, dev-dependencies aside.
fn allowed(package: &str) -> Option<&'static [&'static str]> {
    match package {
        "pushpull-core" | "xtask" => Some(&[]),
        "pushpull-bench" => Some(&["pushpull", "pushpull-http"]),
        "pushpull-broker" | "pushpull-http" | "pushpull-testkit" => Some(&["pushpull-core"]),
        adapter if ADAPTERS.contains(&adapter) => Some(&["pushpull-core", "pushpull-http"]),
        _ => None,
    }
}

pub(crate) fn check() -> Result<(), Failure> {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1", "--no-deps"]).output();
    let output = output.map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let crossed: Vec<String> = list(&metadata["packages"]).flat_map(crossings).collect();
    match crossed.is_empty() {
        true => Ok(()),
        false => Err(format!("arrows of the layers are crossed: {}", crossed.join(", "))),
    }
}

fn crossings(package: &Value) -> Vec<String> {
    let name = text(&package["name"]);
    let Some(allowed) = allowed(name) else { return Vec::new() };
    list(&package["dependencies"])
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| text(&dependency["name"]))
        .filter(|dependency| dependency.starts_with("pushpull") && !allowed.contains(dependency))
        .map(|dependency| format!("{name} -> {dependency}"))
        .collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crossed_arrow_is_named() {
        let package = |name: &str, dependency: &str, kind: Value| json!({"name": name, "dependencies": [{"name": dependency, "kind": kind}]});
        let sideways = package("pushpull-ws", "pushpull-sse", Value::Null);
        assert_eq!(crossings(&sideways), ["pushpull-ws -> pushpull-sse"]);
        assert_eq!(crossings(&package("pushpull-core", "pushpull-http", Value::Null)).len(), 1);
        assert!(crossings(&package("pushpull-ws", "pushpull-broker", json!("dev"))).is_empty());
        assert!(crossings(&package("pushpull-ws", "pushpull-http", Value::Null)).is_empty());
        assert!(crossings(&package("pushpull", "pushpull-sse", Value::Null)).is_empty());
    }

    #[test]
    fn no_arrow_of_this_workspace_is_crossed() {
        assert_eq!(check(), Ok(()));
    }
}
