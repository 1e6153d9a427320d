//! The reference page of the resources, from their definition: a row for each field.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// The page as Markdown: what `weir crd --markdown` prints, and docs/reference/crd.md holds.
#[must_use]
pub fn reference(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = "<!-- Generated from the types by `make generate`. -->\n\n# Custom resources\n\n\
                    Every field, with its bounds and default, as `kubectl explain --recursive` has them. What \
                    steps, sources and sinks mean\nstands in [manifest](manifest.md).\n"
        .to_owned();
    for definition in definitions {
        let names = &definition.spec.names;
        for version in &definition.spec.versions {
            let schema = serde_json::to_value(&version.schema).unwrap_or_default();
            let schema = &schema["openAPIV3Schema"];
            let group = &definition.spec.group;
            let short = names.short_names.iter().flatten();
            let short: Vec<String> = short.map(|name| format!("`{name}`")).collect();
            // Writing to a string cannot fail.
            let _ = write!(
                page,
                "\n## {}\n\n`{group}/{}`, short {}. {}\n",
                names.kind,
                version.name,
                short.join(", "),
                sentence(schema),
            );
            for part in ["spec", "status"] {
                let fields = &schema["properties"][part];
                if fields.is_object() {
                    page.push_str(
                        "\n| field | type | default | what |\n| --- | --- | --- | --- |\n",
                    );
                    rows(&mut page, part, fields);
                }
            }
        }
        rules(&mut page, definition);
    }
    page
}

fn rows(page: &mut String, path: &str, schema: &Value) {
    let required = &schema["required"];
    let is_required =
        |name: &str| required.as_array().is_some_and(|names| names.iter().any(|its| its == name));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let default = match &field["default"] {
            Value::Null if is_required(name) => "needed".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            default => format!("`{}`", bare(default)),
        };
        let _ = writeln!(page, "| `{path}` | {} | {default} | {} |", kind(field), sentence(field));
        rows(page, &path, field);
        rows(page, &format!("{path}[]"), &field["items"]);
    }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The type with its bounds.
fn kind(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", bare(value)))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let of = |schema: &Value| schema["type"].as_str().unwrap_or("any").to_owned();
    let mut text = match field["type"].as_str() {
        Some("array") => format!("list of {}", of(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map to {}", of(&field["additionalProperties"]))
        }
        Some(name) => name.to_owned(),
        None if field["x-kubernetes-int-or-string"] == true => "quantity".to_owned(),
        None => "any".to_owned(),
    };
    let number = |name: &str| field[name].as_f64();
    let bounds = match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    };
    text.push_str(&bounds);
    for (name, what) in [("maxLength", "characters"), ("maxItems", "items")] {
        if let Some(most) = field[name].as_u64() {
            let _ = write!(text, ", at most {most} {what}");
        }
    }
    text
}

/// The description in one line.
fn sentence(field: &Value) -> String {
    let text = field["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// What the API server refuses beyond types and bounds, in its words.
fn rules(page: &mut String, definition: &CustomResourceDefinition) {
    let mut found = Vec::new();
    for version in &definition.spec.versions {
        collect(&serde_json::to_value(&version.schema).unwrap_or_default(), &mut found);
    }
    found.sort();
    found.dedup();
    if !found.is_empty() {
        page.push_str("\nRefused beyond that, in the API server's words:\n\n");
        for rule in found {
            let _ = writeln!(page, "- {rule}");
        }
    }
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            let messages = rules.into_iter().flatten().filter_map(|rule| rule["message"].as_str());
            found
                .extend(messages.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")));
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
