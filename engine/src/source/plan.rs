//! A source's columns and splits, found when a run begins and pinned in its journal.

use arrow::datatypes::{Field, Schema};
use futures::StreamExt as _;
use prost::Message as _;

use crate::objects::{Location, Objects};
use crate::pipeline::spec::{FileFormat, SourceKind, SourceSpec, StoreSpec};
use crate::protocol::{SourcePlan, Split};
use crate::source::SourceError;
use crate::source::generated;
use crate::source::listing::Pattern;
use crate::source::ndjson::stream::Compression;
use crate::source::object::PinnedObject;
use crate::source::parquet::Footer;

/// Bytes of a split of an ndjson file, unless there were too many then.
const SPLIT_BYTES: u64 = 4 * 1024 * 1024;
/// Splits of one file.
const SPLITS_MAX: u64 = 4_096;
/// Bytes of a plan: it stands in one record and in one message.
const PLAN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Footers that are read at the same time.
const FOOTERS_AT_ONCE: usize = 16;

/// Looks at the source once.
pub(crate) async fn plan(
    step: &str,
    spec: &SourceSpec,
    objects: &dyn Objects,
) -> Result<SourcePlan, SourceError> {
    let (schema, splits) = match &spec.kind {
        SourceKind::Files { uri, format, schema, store } => {
            // What the suffix alone tells wrongly needs no look.
            if uri.ends_with(".csv") {
                format_of(step, uri, *format)?;
            }
            let found = find(step, uri, store, objects).await?;
            match format_of_all(step, uri, &found, *format)? {
                FileFormat::Parquet => parquet(&found).await?,
                FileFormat::Ndjson => {
                    // Looked at first: a file that is missing is said beside a schema that is wrong.
                    let splits = found.iter().flat_map(ndjson_splits).collect();
                    (declared_schema(step, uri, schema.as_deref())?, splits)
                }
            }
        }
        kind => (generated::schema(kind).expect("it is generated"), Vec::new()),
    };
    let columns = weir_expr::types::write_schema(&schema);
    let schema_json = serde_json::to_string(&columns).expect("pairs of strings are JSON");
    let plan = SourcePlan { step: step.to_owned(), schema_json, splits };
    if plan.encoded_len() > PLAN_BYTES_MAX {
        let what = "has too many files or row groups for one source; read fewer, larger ones";
        return Err(object_error(step, spec_name(spec), what));
    }
    Ok(plan)
}

/// The objects that `uri` means, in the order of their names; at least one.
async fn find(
    step: &str,
    uri: &str,
    store: &StoreSpec,
    objects: &dyn Objects,
) -> Result<Vec<PinnedObject>, SourceError> {
    let glob = Pattern::of_glob(uri).map_err(|what| object_error(step, uri, &what))?;
    if let Some(glob) = glob {
        let folder = open(step, &glob.folder, store, objects)?;
        let found = glob.find(step, &folder).await?;
        return if found.is_empty() {
            Err(object_error(step, uri, "not found: no file matches"))
        } else {
            Ok(found)
        };
    }
    let location = open(step, uri, store, objects)?;
    if let Some(object) = PinnedObject::look(step, uri, location.clone()).await? {
        return Ok(vec![object]);
    }
    let found = Pattern::of_folder(uri).find(step, &location).await?;
    if found.is_empty() {
        return Err(object_error(step, uri, "not found: the folder holds no file"));
    }
    Ok(found)
}

/// The one format of all the files.
///
/// Errors: [`SourceError::Object`] where only the files' names tell it, not the `uri`.
fn format_of_all(
    step: &str,
    uri: &str,
    found: &[PinnedObject],
    declared: Option<FileFormat>,
) -> Result<FileFormat, SourceError> {
    let mut first: Option<(&PinnedObject, FileFormat)> = None;
    for object in found {
        let format = format_of(step, &object.name, declared);
        let format = format.map_err(|error| match error {
            SourceError::Declaration { step, object, what } if object != uri => {
                SourceError::Object { step, object, what }
            }
            other => other,
        })?;
        match first {
            Some((other, known)) if known != format => {
                let what = format!(
                    "is of another format than {}; declare `format`, or take a glob of one format",
                    other.name
                );
                return Err(object.damaged(&what));
            }
            Some(_) => {}
            None => first = Some((object, format)),
        }
    }
    match first {
        Some((_, format)) => Ok(format),
        None => Err(object_error(step, "its plan", "names no file")),
    }
}

/// The columns that a plan names.
pub(crate) fn schema(plan: &SourcePlan) -> Result<Schema, SourceError> {
    let columns: Vec<(String, String)> = serde_json::from_str(&plan.schema_json)
        .map_err(|cause| object_error(&plan.step, "its plan", &format!("is damaged: {cause}")))?;
    weir_expr::types::read_schema(&columns)
        .map_err(|cause| object_error(&plan.step, "its plan", &cause.to_string()))
}

/// The column of the event time: a generated source has its own.
pub(crate) fn event_time_column(spec: &SourceSpec) -> Option<&str> {
    let declared = spec.event_time.as_ref().and_then(|time| time.column.as_deref());
    declared.or(generated::time_column(&spec.kind))
}

/// Where the object of a URI lies.
pub(crate) fn open(
    step: &str,
    uri: &str,
    store: &StoreSpec,
    objects: &dyn Objects,
) -> Result<Location, SourceError> {
    objects.open(uri, store).map_err(|error| object_error(step, uri, &error.what))
}

/// What a source is called in errors.
pub(crate) fn spec_name(spec: &SourceSpec) -> &str {
    match &spec.kind {
        SourceKind::Files { uri, .. } => uri,
        kind => generated::name(kind),
    }
}

/// The format of a file: as declared, else by suffix.
pub(crate) fn format_of(
    step: &str,
    uri: &str,
    declared: Option<FileFormat>,
) -> Result<FileFormat, SourceError> {
    if let Some(format) = declared {
        return Ok(format);
    }
    let (name, _) = Compression::of_name(uri);
    let suffix = name.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    match suffix.map(|(_, suffix)| suffix) {
        Some("parquet") => Ok(FileFormat::Parquet),
        Some("ndjson" | "jsonl") => Ok(FileFormat::Ndjson),
        Some("csv") => Err(declaration_error(step, uri, "csv is not built yet")),
        _ => Err(declaration_error(
            step,
            uri,
            "its suffix tells no format; declare `format: parquet` or `format: ndjson`",
        )),
    }
}

pub(crate) fn object_error(step: &str, object: &str, what: &str) -> SourceError {
    SourceError::Object { step: step.to_owned(), object: object.to_owned(), what: what.to_owned() }
}

fn declaration_error(step: &str, object: &str, what: &str) -> SourceError {
    SourceError::Declaration {
        step: step.to_owned(),
        object: object.to_owned(),
        what: what.to_owned(),
    }
}

fn declared_schema(
    step: &str,
    uri: &str,
    columns: Option<&[(String, String)]>,
) -> Result<Schema, SourceError> {
    let Some(columns) = columns else {
        let what = "ndjson without `schema` is not built yet; declare its columns as \
                    `schema: {name: type}`";
        return Err(declaration_error(step, uri, what));
    };
    weir_expr::types::read_schema(columns)
        .map_err(|cause| declaration_error(step, uri, &format!("schema: {cause}")))
}

/// The columns that all files have, as the first one has them, and the row groups of all.
async fn parquet(found: &[PinnedObject]) -> Result<(Schema, Vec<Split>), SourceError> {
    let footers = found.iter().cloned().map(footer);
    let mut footers = futures::stream::iter(footers).buffered(FOOTERS_AT_ONCE);
    let (mut first, mut splits) = (None, Vec::new());
    for object in found {
        let Some(footer) = footers.next().await.transpose()? else { break };
        let schema = weir_expr::types::normal_schema(footer.schema());
        match &first {
            None => first = Some(schema),
            Some(known) => same_columns(known, &schema, &found[0].name)
                .map_err(|difference| object.damaged(&difference))?,
        }
        splits.extend(footer.splits(object));
    }
    Ok((first.unwrap_or_else(Schema::empty), splits))
}

async fn footer(object: PinnedObject) -> Result<Footer, SourceError> {
    if Compression::of_name(&object.name).1 != Compression::None {
        return Err(object.damaged("a parquet file is compressed inside, never as a whole"));
    }
    Footer::read(&object).await
}

/// Errors: how a file's columns differ from those of the first, in whatever order they are.
fn same_columns(first: &Schema, other: &Schema, first_name: &str) -> Result<(), String> {
    let words = |field: &Field| {
        let refused = weir_expr::types::refused(field).map(str::to_owned);
        refused.unwrap_or_else(|| weir_expr::types::print(field.data_type()))
    };
    for field in first.fields() {
        let name = field.name();
        let Some((_, own)) = other.column_with_name(name) else {
            return Err(format!("has no column `{name}`, which {first_name} has"));
        };
        let (own, known) = (words(own), words(field));
        if own != known {
            return Err(format!("its column `{name}` is {own}, that of {first_name} is {known}"));
        }
    }
    let more = other.fields().iter().find(|field| first.column_with_name(field.name()).is_none());
    match more {
        Some(field) => Err(format!("has a column `{}`, which {first_name} has not", field.name())),
        None => Ok(()),
    }
}

/// Byte ranges of a file; all of a compressed one.
fn ndjson_splits(object: &PinnedObject) -> Vec<Split> {
    let split = |start: u64, end: u64| Split {
        object: object.name.clone(),
        start,
        end,
        first_row: 0,
        object_bytes: object.bytes,
        object_etag: object.etag.clone(),
    };
    if object.bytes == 0 {
        return Vec::new();
    }
    if Compression::of_name(&object.name).1 != Compression::None {
        return vec![split(0, u64::MAX)];
    }
    let bytes = SPLIT_BYTES.max(object.bytes.div_ceil(SPLITS_MAX));
    let starts = (0..object.bytes.div_ceil(bytes)).map(|i| i * bytes);
    starts.map(|start| split(start, (start + bytes).min(object.bytes))).collect()
}
