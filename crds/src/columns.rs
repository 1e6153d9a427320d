//! Column names and types in the order in which a manifest declares them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Columns that a schema may declare.
pub(crate) const COLUMNS_MAX: u32 = 1_024;

/// Bytes of a column's name or type in a declared schema.
pub(crate) const COLUMN_BYTES_MAX: u32 = 1_024;

/// `{name: type}`, written as a map, kept in the order of the text.
///
/// An API server keeps no order of keys: in the cluster the columns come in alphabetical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(Vec<(String, String)>);

impl Columns {
    /// Name and type of each column, in declared order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, type_name)| (name.as_str(), type_name.as_str()))
    }

    /// How many columns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Columns {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(columns: I) -> Self {
        Self(columns.into_iter().collect())
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, type_name) in &self.0 {
            map.serialize_entry(name, type_name)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from column name to type")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Columns(columns))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl JsonSchema for Columns {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": COLUMN_BYTES_MAX, "x-weir": "type"},
            "maxProperties": COLUMNS_MAX,
            "minProperties": 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_order_is_kept() {
        let text = r#"{"zeta":"int64","alpha":"string","mid":"list<int64>"}"#;
        let columns: Columns = serde_json::from_str(text).unwrap();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["zeta", "alpha", "mid"]);
        assert_eq!(serde_json::to_string(&columns).unwrap(), text);
        assert_eq!(columns.len(), 3);
        assert!(!columns.is_empty());
    }
}
