//! Pipeline types (pipeline.md, "Types and expressions") and their Arrow types.
//!
//! Everything behind a source has one of these types; [`normal`] says which one a foreign type
//! becomes. A source column whose type becomes none is kept in the schema as a marked column of
//! nulls, so that it can be refused by name where it is used.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};

use crate::error::ExprError;
use crate::near;

/// Key in a field's metadata: the type that its source has and we have not.
const REFUSED_KEY: &str = "weir.refused";
/// Deepest nesting of lists and structs that is read.
const DEPTH_MAX: usize = 16;
const NAMES: [&str; 11] = [
    "boolean",
    "int32",
    "int64",
    "float64",
    "decimal",
    "string",
    "binary",
    "date",
    "timestamp",
    "list",
    "struct",
];
/// What others call our types.
const ALIASES: [(&str, &str); 16] = [
    ("bool", "boolean"),
    ("int", "int32"),
    ("integer", "int32"),
    ("long", "int64"),
    ("bigint", "int64"),
    ("float", "float64"),
    ("double", "float64"),
    ("real", "float64"),
    ("numeric", "decimal(p,s)"),
    ("text", "string"),
    ("utf8", "string"),
    ("varchar", "string"),
    ("bytes", "binary"),
    ("datetime", "timestamp"),
    ("array", "list<…>"),
    ("row", "struct<…>"),
];

/// The Arrow type of `timestamp`: milliseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The Arrow type of a pipeline type such as `int64`, `decimal(10,2)` or `list<string>`.
pub fn parse(text: &str) -> Result<DataType, ExprError> {
    let mut parser = Parser { text, at: 0 };
    let data_type = parser.data_type(0)?;
    parser.skip_blanks();
    if parser.at < text.len() {
        return Err(parser.refuse("nothing more"));
    }
    Ok(data_type)
}

/// The pipeline type of an Arrow type; of a type that is none, Arrow's own words.
pub fn print(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int32 => "int32".into(),
        DataType::Int64 => "int64".into(),
        DataType::Float64 => "float64".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(TimeUnit::Millisecond, Some(zone)) if **zone == *"UTC" => {
            "timestamp".into()
        }
        DataType::List(item) => format!("list<{}>", print(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", quote(field.name()), print(field.data_type())))
                .collect();
            format!("struct<{}>", fields.join(", "))
        }
        DataType::Null => "null".into(),
        DataType::Interval(_) => "interval".into(),
        other => other.to_string(),
    }
}

fn quote(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.is_empty();
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The pipeline type that values of `data_type` are converted to; none: there is none.
pub fn normal(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Boolean => DataType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int32,
        DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::Int64 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => normal_decimal(*precision, *scale)?,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, _) => timestamp(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new_list_field(normal(item.data_type())?, true)))
        }
        DataType::Struct(fields) => {
            let normal_field =
                |field: &FieldRef| Some(Field::new(field.name(), normal(field.data_type())?, true));
            DataType::Struct(fields.iter().map(normal_field).collect::<Option<Fields>>()?)
        }
        DataType::Dictionary(_, values) => normal(values)?,
        _ => return None,
    })
}

fn normal_decimal(precision: u8, scale: i8) -> Option<DataType> {
    // A negative scale stands for trailing zeros in front of the point.
    let zeros = scale.min(0).unsigned_abs();
    let precision = precision.checked_add(zeros)?;
    let scale = scale.max(0);
    let fits = precision <= 38 && scale.unsigned_abs() <= precision;
    fits.then_some(DataType::Decimal128(precision, scale))
}

/// The columns of a source in pipeline types, all nullable. A column of a type that has none is
/// kept as a marked column of nulls: compiling an expression that uses it is refused by name.
pub fn normal_schema(source: &Schema) -> Schema {
    let column = |field: &FieldRef| match normal(field.data_type()) {
        Some(data_type) => Field::new(field.name(), data_type, true),
        None => refused_field(field.name(), &field.data_type().to_string()),
    };
    Schema::new(source.fields().iter().map(column).collect::<Fields>())
}

fn refused_field(name: &str, source_type: &str) -> Field {
    let metadata = HashMap::from([(REFUSED_KEY.to_owned(), source_type.to_owned())]);
    Field::new(name, DataType::Null, true).with_metadata(metadata)
}

/// The source's type of a column that cannot be used, if `field` is one.
pub fn refused(field: &Field) -> Option<&str> {
    field.metadata().get(REFUSED_KEY).map(String::as_str)
}

/// Names and types of `schema` in words, for a plan's record. [`read_schema`] reads them back.
pub fn write_schema(schema: &Schema) -> Vec<(String, String)> {
    let column = |field: &FieldRef| {
        let words = match refused(field) {
            Some(source_type) => format!("refused {source_type}"),
            None => print(field.data_type()),
        };
        (field.name().clone(), words)
    };
    schema.fields().iter().map(column).collect()
}

/// Reads what [`write_schema`] wrote.
pub fn read_schema(columns: &[(String, String)]) -> Result<Schema, ExprError> {
    let mut fields = Vec::with_capacity(columns.len());
    for (name, words) in columns {
        fields.push(match words.strip_prefix("refused ") {
            Some(source_type) => refused_field(name, source_type),
            None => Field::new(name, parse(words)?, true),
        });
    }
    Ok(Schema::new(fields))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn refuse(&self, expected: &str) -> ExprError {
        let place = if self.rest().is_empty() {
            "at its end".to_owned()
        } else {
            format!("before `{}`", self.rest())
        };
        ExprError(format!("type `{}`: expected {expected} {place}", self.text))
    }

    fn expect(&mut self, sign: char) -> Result<(), ExprError> {
        if self.take(sign) { Ok(()) } else { Err(self.refuse(&format!("`{sign}`"))) }
    }

    fn take(&mut self, sign: char) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len_utf8();
        }
        found
    }

    fn word(&mut self) -> String {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        word
    }

    /// A field's name: a word, or anything between double quotes.
    fn name(&mut self) -> Result<String, ExprError> {
        if !self.take('"') {
            let word = self.word();
            return if word.is_empty() { Err(self.refuse("a field's name")) } else { Ok(word) };
        }
        let mut name = String::new();
        loop {
            let Some(end) = self.rest().find('"') else {
                return Err(self.refuse("a closing `\"`"));
            };
            name.push_str(&self.rest()[..end]);
            self.at += end + 1;
            if !self.rest().starts_with('"') {
                return Ok(name);
            }
            name.push('"');
            self.at += 1;
        }
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, ExprError> {
        if depth > DEPTH_MAX {
            return Err(ExprError(format!(
                "type `{}` is nested deeper than {DEPTH_MAX} levels",
                self.text
            )));
        }
        let start = self.at;
        Ok(match self.word().as_str() {
            "boolean" => DataType::Boolean,
            "int32" => DataType::Int32,
            "int64" => DataType::Int64,
            "float64" => DataType::Float64,
            "decimal" => self.decimal()?,
            "string" => DataType::Utf8,
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" => timestamp(),
            "list" => {
                self.expect('<')?;
                let item = self.data_type(depth + 1)?;
                self.expect('>')?;
                DataType::List(Arc::new(Field::new_list_field(item, true)))
            }
            "struct" => DataType::Struct(self.fields(depth)?),
            word => {
                let word = word.to_owned();
                self.at = start;
                return Err(self.unknown(&word));
            }
        })
    }

    fn unknown(&self, word: &str) -> ExprError {
        if word.is_empty() {
            return self.refuse("a type");
        }
        let lower = word.to_lowercase();
        let alias = ALIASES.iter().find(|(alias, _)| *alias == lower).map(|(_, ours)| *ours);
        let meant = alias.or_else(|| near::nearest(word, NAMES).into_iter().next());
        let hint = meant.map_or_else(String::new, |ours| format!("; did you mean `{ours}`?"));
        ExprError(format!("there is no type `{word}`{hint} (types: {})", NAMES.join(", ")))
    }

    fn decimal(&mut self) -> Result<DataType, ExprError> {
        self.expect('(')?;
        let precision = self.number()?;
        self.expect(',')?;
        let scale = self.number()?;
        self.expect(')')?;
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(ExprError(format!(
                "type `{}`: decimal(p,s) needs 1 <= p <= 38 and 0 <= s <= p",
                self.text
            )));
        }
        Ok(DataType::Decimal128(precision, scale.cast_signed()))
    }

    fn number(&mut self) -> Result<u8, ExprError> {
        self.skip_blanks();
        let start = self.at;
        self.word().parse().map_err(|_| {
            self.at = start;
            self.refuse("a number up to 38")
        })
    }

    fn fields(&mut self, depth: usize) -> Result<Fields, ExprError> {
        self.expect('<')?;
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let name = self.name()?;
            if fields.iter().any(|field| *field.name() == name) {
                return Err(ExprError(format!("type `{}` has two fields `{name}`", self.text)));
            }
            self.expect(':')?;
            fields.push(Field::new(name, self.data_type(depth + 1)?, true));
            if !self.take(',') {
                break;
            }
        }
        self.expect('>')?;
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests;
