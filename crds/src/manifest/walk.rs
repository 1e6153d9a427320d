//! A manifest's tree against the schema of the types.
//!
//! The schema is the one the definition is generated from, with one word more: `x-weir` names
//! what a value is (a duration, an expression, a step), where its JSON type does not say it.
//! What the walk gives are the values as the types take them; one that cannot be used is null,
//! and then a problem stands at its path.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::OnceLock;

use kube::core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde_json::Value;
use serde_yaml::{Mapping, Value as Yaml};

use super::node::{Content, Cut, Key, Meaning, Node};
use super::split::Split;
use super::{Problems, later, rules};
use crate::{Duration, InvalidUnit, Percent, Quantity, StatefulJobSpec};

/// Edits by which a name may differ from the one that was meant.
const EDITS_MAX: usize = 2;

/// The schema of `spec`.
fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let generator = SchemaSettings::openapi3()
            .with(|settings| {
                settings.inline_subschemas = true;
                settings.meta_schema = None;
            })
            .with_transform(AddNullable::default())
            .with_transform(StructuralSchemaRewriter)
            .with_transform(OptionalEnum)
            .into_generator();
        generator.into_root_schema_for::<StatefulJobSpec>().to_value()
    })
}

/// Checks `spec` and gives its values.
pub(super) fn spec(node: &Node, problems: &mut Problems) -> Mapping {
    let mut walk = Walk { problems };
    match walk.value(schema(), node, "spec") {
        Yaml::Mapping(values) => values,
        _ => Mapping::new(),
    }
}

/// The names that a step has: its fields, those that are not built yet, and those that were meant.
pub(super) fn step_names(step: &Node) -> BTreeSet<String> {
    let properties = &schema()["properties"]["pipeline"]["items"]["properties"];
    names(properties, "spec.pipeline[]", step)
}

/// The path of a field.
pub(super) fn field(path: &str, name: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
    if name.is_empty() || !name.chars().all(simple) {
        return format!("{path}[\"{}\"]", Cut(name));
    }
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The path of an item.
pub(super) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// A path without the numbers of its indices.
fn place(path: &str) -> String {
    let mut place = String::new();
    let mut inside = false;
    for c in path.chars() {
        inside = (inside && c != ']') || c == '[';
        if !inside || c == '[' {
            place.push(c);
        }
    }
    place
}

/// The known name that was probably meant.
pub(super) fn did_you_mean<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let edits =
        |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let near = |other: &&str| edits(other) <= EDITS_MAX.min(other.len() / 2);
    known.filter(near).min_by_key(|other| edits(other))
}

/// What is said of a field that nobody knows.
pub(super) fn unknown_field(name: &str, meant: Option<&str>) -> String {
    match meant {
        Some(meant) => format!("unknown field `{}`; did you mean `{meant}`?", Cut(name)),
        None => format!("unknown field `{}`", Cut(name)),
    }
}

/// Why a value is no text, if it is none.
pub(super) fn not_a_text(node: &Node) -> Option<String> {
    match &node.content {
        Content::Text(_) => None,
        Content::List(_) | Content::Map(_) => Some(format!("expected a text, found {node}")),
        Content::Plain(word) => match Meaning::of(word) {
            Meaning::Text => None,
            Meaning::Null if word.is_empty() => Some("is empty; a text was expected".to_owned()),
            meaning => Some(unquoted(word, meaning)),
        },
    }
}

fn unquoted(word: &str, meaning: Meaning) -> String {
    let meaning = meaning.name();
    format!(
        "`{word}` without quotes is {meaning} to kubectl, which reads YAML 1.1; write \"{word}\""
    )
}

/// Names of a mapping: known ones, those not built yet, and for unknown ones what was meant.
fn names(properties: &Value, place: &str, node: &Node) -> BTreeSet<String> {
    let known = || properties.as_object().into_iter().flat_map(|fields| fields.keys());
    let mut names = BTreeSet::new();
    for (key, _) in node.entries() {
        let name = key.text.as_str();
        if properties.get(name).is_some() || later::fields(place).contains(&name) {
            names.insert(name.to_owned());
        } else {
            names.extend(did_you_mean(name, known().map(String::as_str)).map(str::to_owned));
        }
    }
    names
}

struct Walk<'a> {
    problems: &'a mut Problems,
}

impl Walk<'_> {
    /// Checks one value and everything below it.
    fn value(&mut self, schema: &Value, node: &Node, path: &str) -> Yaml {
        if later::is_value(&place(path), node) {
            let named = node.entries().first().map(|(key, _)| key.text.as_str());
            let name = node.words().or(named).unwrap_or("this");
            self.problems.add(path, later::refusal(&format!("`{name}`")));
            return Yaml::Null;
        }
        match (kind(schema), schema["type"].as_str()) {
            ("duration", _) => self.measure::<Duration>(schema, node, path, "a duration as in 10s"),
            ("percent", _) => self.measure::<Percent>(schema, node, path, "a part as in 50%"),
            ("quantity", _) => self.measure::<Quantity>(schema, node, path, "a size as in 64Mi"),
            ("any", _) => self.any_mapping(node, path),
            ("inputs", _) => self.inputs(node, path),
            (_, Some("object")) if schema.get("additionalProperties").is_some() => {
                self.map(schema, node, path)
            }
            (_, Some("object")) => self.object(schema, node, path),
            (_, Some("array")) => self.list(schema, node, path),
            (_, Some("integer")) => self.integer(schema, node, path),
            (_, Some("number")) => self.number(schema, node, path),
            (_, Some("boolean")) => self.boolean(node, path),
            _ => self.text(schema, node, path),
        }
    }

    fn wrong(&mut self, path: &str, message: impl Into<String>) -> Yaml {
        self.problems.add(path, message);
        Yaml::Null
    }

    fn object(&mut self, schema: &Value, node: &Node, path: &str) -> Yaml {
        if !matches!(node.content, Content::Map(_)) {
            let hint = if node.is_null() { "; write {} if there is nothing to set" } else { "" };
            return self.wrong(path, format!("expected a mapping, found {node}{hint}"));
        }
        let place = place(path);
        let properties = &schema["properties"];
        let mut values = Mapping::new();
        let mut absent = BTreeSet::new();
        for (index, (key, child)) in node.entries().iter().enumerate() {
            let name = key.text.as_str();
            let path = field(path, name);
            if node.entries()[..index].iter().any(|(earlier, _)| earlier.text == name) {
                self.problems.note(&path, "is given twice");
            } else if let Some(schema_of_field) = properties.get(name) {
                if may_be_absent(&path, child) {
                    absent.insert(name);
                    continue;
                }
                let value = self.value(schema_of_field, child, &path);
                values.insert(name.into(), value);
            } else {
                self.stranger(properties, &place, &path, key);
            }
        }
        let names = names(properties, &place, node);
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let stood_in = || names.iter().any(|other| later::stands_in_for(other) == Some(name));
            if absent.contains(name) || !(names.contains(name) || stood_in()) {
                self.problems.add(&field(path, name), "is missing");
            }
        }
        rules::check(kind(schema), &rules::Object { path, node, names: &names }, self.problems);
        Yaml::Mapping(values)
    }

    /// A field that is in no type: not built yet, or unknown.
    fn stranger(&mut self, properties: &Value, place: &str, path: &str, key: &Key) {
        let name = key.text.as_str();
        if later::fields(place).contains(&name) {
            return self.problems.add(path, later::refusal(&format!("`{name}`")));
        }
        let known = properties.as_object().into_iter().flat_map(|fields| fields.keys());
        let later = later::fields(place).iter().copied();
        let meant = did_you_mean(name, known.map(String::as_str).chain(later));
        // What was meant is lost, so the object is not whole; a mere stranger can be left aside.
        let message = unknown_field(name, meant);
        match meant {
            Some(_) => self.problems.add(path, message),
            None => self.problems.note(path, message),
        }
    }

    /// A map with free keys: the columns of a schema.
    fn map(&mut self, schema: &Value, node: &Node, path: &str) -> Yaml {
        let Content::Map(entries) = &node.content else {
            return self.wrong(path, format!("expected a mapping, found {node}"));
        };
        self.check_count(schema, "Properties", entries.len(), path);
        let mut values = Mapping::new();
        let mut split = Split::default();
        for (key, child) in entries {
            let path = field(path, &key.text);
            let words = child.words().unwrap_or_default();
            let plain = key.plain && matches!(child.content, Content::Plain(_));
            if split.takes(&key_and_words(key, words), plain) {
                continue;
            }
            split.report(self.problems);
            if split.begins(words, plain, &path) {
                continue;
            }
            if values.contains_key(key.text.as_str()) {
                self.problems.add(&path, "is given twice");
                continue;
            }
            let meaning = Meaning::of(&key.text);
            if key.plain && meaning != Meaning::Text {
                self.problems.add(&path, unquoted(&key.text, meaning));
                continue;
            }
            let value = self.value(&schema["additionalProperties"], child, &path);
            values.insert(key.text.as_str().into(), value);
        }
        split.report(self.problems);
        Yaml::Mapping(values)
    }

    fn list(&mut self, schema: &Value, node: &Node, path: &str) -> Yaml {
        let Content::List(items) = &node.content else {
            return self.wrong(path, format!("expected a list, found {node}"));
        };
        self.check_count(schema, "Items", items.len(), path);
        let texts = schema["items"]["type"] == "string";
        let mut values = Vec::new();
        let mut split = Split::default();
        for (index, child) in items.iter().enumerate() {
            let path = item(path, index);
            let plain = matches!(child.content, Content::Plain(_));
            let words = child.words().filter(|_| texts);
            if words.is_some_and(|words| split.takes(words, plain)) {
                continue;
            }
            split.report(self.problems);
            if !words.is_some_and(|words| split.begins(words, plain, &path)) {
                values.push(self.value(&schema["items"], child, &path));
            }
        }
        split.report(self.problems);
        if kind(&schema["items"]) == "column" {
            rules::columns_differ(node, path, self.problems);
        }
        Yaml::Sequence(values)
    }

    fn check_count(&mut self, schema: &Value, what: &str, count: usize, path: &str) {
        let bound = |side: &str| schema[format!("{side}{what}")].as_u64();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(max) = bound("max").filter(|max| count > *max) {
            self.problems.add(path, format!("has {count} entries; at most {max} are allowed"));
        }
        if bound("min").is_some_and(|min| count < min) {
            self.problems.add(path, "is empty; at least one entry is needed");
        }
    }

    fn text(&mut self, schema: &Value, node: &Node, path: &str) -> Yaml {
        if let Some(message) = not_a_text(node) {
            return self.wrong(path, message);
        }
        let text = node.words().unwrap_or_default();
        if let Some(message) = wrong_text(schema, text) {
            return self.wrong(path, message);
        }
        if kind(schema) == "uri" {
            rules::uri(text, path, &place(path), self.problems);
        }
        Yaml::String(text.to_owned())
    }

    /// A mapping of Kubernetes' own.
    fn any_mapping(&mut self, node: &Node, path: &str) -> Yaml {
        match &node.content {
            Content::Map(_) => any(node),
            _ => self.wrong(path, format!("expected a mapping, found {node}")),
        }
    }

    /// One id, or a list of them.
    fn inputs(&mut self, node: &Node, path: &str) -> Yaml {
        let Content::List(items) = &node.content else {
            return self.text(&Value::Null, node, path);
        };
        let ids = items.iter().enumerate();
        Yaml::Sequence(
            ids.map(|(index, id)| self.text(&Value::Null, id, &item(path, index))).collect(),
        )
    }

    fn boolean(&mut self, node: &Node, path: &str) -> Yaml {
        match &node.content {
            Content::Plain(word) if word == "true" => Yaml::Bool(true),
            Content::Plain(word) if word == "false" => Yaml::Bool(false),
            _ => self.wrong(path, format!("expected true or false, found {node}")),
        }
    }

    fn integer(&mut self, schema: &Value, node: &Node, path: &str) -> Yaml {
        let Some(word) = number_word(node) else {
            return self
                .wrong(path, format!("expected a whole number, found {node}{}", unquote(node)));
        };
        let digits = word.strip_prefix('-').unwrap_or(word);
        let plain = digits.chars().all(|c| c.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if !plain {
            return self
                .wrong(path, format!("expected a whole number in plain digits, found {word}"));
        }
        // What does not fit is out of bounds for sure.
        let number = word.parse().unwrap_or(if word == digits { i64::MAX } else { i64::MIN });
        #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
        match self.out_of_bounds(schema, number as f64, word, path) {
            true => Yaml::Null,
            false => Yaml::Number(number.into()),
        }
    }

    fn number(&mut self, schema: &Value, node: &Node, path: &str) -> Yaml {
        let number = number_word(node).and_then(|word| Some((word, word.parse::<f64>().ok()?)));
        let Some((word, number)) = number.filter(|(_, number)| number.is_finite()) else {
            return self.wrong(path, format!("expected a number, found {node}{}", unquote(node)));
        };
        match self.out_of_bounds(schema, number, word, path) {
            true => Yaml::Null,
            false => Yaml::Number(number.into()),
        }
    }

    fn out_of_bounds(&mut self, schema: &Value, number: f64, word: &str, path: &str) -> bool {
        let least = schema["minimum"].as_f64().filter(|least| number < *least);
        let most = schema["maximum"].as_f64().filter(|most| number > *most);
        if let Some(least) = least {
            self.problems.add(path, format!("{word} is too small; the least is {least}"));
        }
        if let Some(most) = most {
            self.problems.add(path, format!("{word} is too large; the most is {most}"));
        }
        least.or(most).is_some()
    }

    /// A duration or a size, with its least value in the schema.
    fn measure<T>(&mut self, schema: &Value, node: &Node, path: &str, example: &str) -> Yaml
    where
        T: FromStr<Err = InvalidUnit> + PartialOrd,
    {
        let Some(words) = node.words() else {
            return self.wrong(path, format!("expected {example}, found {node}"));
        };
        let found = match words.parse::<T>() {
            Ok(found) => found,
            Err(error) => return self.wrong(path, error.to_string()),
        };
        let least = schema["x-weir-min"].as_str();
        let below = |least: &&str| least.parse().is_ok_and(|least: T| found < least);
        match least.filter(below) {
            Some(least) => self.wrong(path, format!("{words} is too small; the least is {least}")),
            None => Yaml::String(words.to_owned()),
        }
    }
}

/// A value as YAML 1.1 and 1.2 both read it where they agree; other words are texts.
fn any(node: &Node) -> Yaml {
    match &node.content {
        Content::Map(entries) => entries
            .iter()
            .map(|(key, child)| (Yaml::String(key.text.clone()), any(child)))
            .collect::<Mapping>()
            .into(),
        Content::List(items) => Yaml::Sequence(items.iter().map(any).collect()),
        Content::Text(text) => Yaml::String(text.clone()),
        Content::Plain(word) => match word.as_str() {
            "true" => Yaml::Bool(true),
            "false" => Yaml::Bool(false),
            "" | "null" | "~" => Yaml::Null,
            word => match word.parse::<i64>() {
                Ok(number) => Yaml::Number(number.into()),
                Err(_) => Yaml::String(word.to_owned()),
            },
        },
    }
}

fn key_and_words(key: &Key, words: &str) -> String {
    if words.is_empty() { key.text.clone() } else { format!("{}: {words}", key.text) }
}

fn kind(schema: &Value) -> &str {
    schema["x-weir"].as_str().unwrap_or("")
}

/// Whether a field without a value counts as not there, as it does for an API server. In a
/// pipeline it does not: there a lost value would change what is computed.
fn may_be_absent(path: &str, node: &Node) -> bool {
    node.is_null() && !path.starts_with("spec.pipeline[")
}

/// What is wrong with a text of a kind.
fn wrong_text(schema: &Value, text: &str) -> Option<String> {
    if let Some(values) = schema["enum"].as_array() {
        let known: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        if !known.contains(&text) {
            return Some(format!("`{}` is not one of: {}", Cut(text), known.join(", ")));
        }
    }
    if schema["minLength"].as_u64().is_some() && text.trim().is_empty() {
        return Some("is empty".to_owned());
    }
    if kind(schema) == "id" {
        return rules::wrong_id(text);
    }
    let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let max = schema["maxLength"].as_u64().filter(|max| bytes > *max)?;
    Some(format!("is {bytes} bytes long; at most {max} are allowed"))
}

/// The word of a scalar that is a number.
fn number_word(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Plain(word) if Meaning::of(word) == Meaning::Number => Some(word),
        _ => None,
    }
}

fn unquote(node: &Node) -> &'static str {
    match &node.content {
        Content::Text(text) if Meaning::of(text) == Meaning::Number => "; write it without quotes",
        _ => "",
    }
}
