//! A source's columns and splits, found when a run begins and pinned in its journal.

use arrow::datatypes::Schema;

use crate::objects::{Location, Objects};
use crate::pipeline::spec::{FileFormat, SourceKind, SourceSpec, StoreSpec};
use crate::protocol::{SourcePlan, Split};
use crate::source::SourceError;
use crate::source::keys::{Keys, TIME_COLUMN};
use crate::source::ndjson::stream::Compression;
use crate::source::object::PinnedObject;
use crate::source::parquet::Footer;

/// Bytes of a split of an ndjson file, unless there were too many then.
const SPLIT_BYTES: u64 = 4 * 1024 * 1024;
/// Splits of one file.
const SPLITS_MAX: u64 = 4_096;

/// Looks at the source once.
pub(crate) async fn plan(
    step: &str,
    spec: &SourceSpec,
    objects: &dyn Objects,
) -> Result<SourcePlan, SourceError> {
    let (schema, splits) = match &spec.kind {
        SourceKind::Keys { .. } => (Keys::schema(), Vec::new()),
        SourceKind::Files { uri, format, schema, store } => {
            let location = open(step, uri, store, objects)?;
            match format_of(step, uri, *format)? {
                FileFormat::Parquet => parquet(step, uri, location).await?,
                FileFormat::Ndjson => {
                    // Looked at first: a file that is missing is said beside a schema that is wrong.
                    let object = PinnedObject::look(step, uri, location).await?;
                    let splits = ndjson_splits(&object);
                    (declared_schema(step, uri, schema.as_deref())?, splits)
                }
            }
        }
    };
    let columns = weir_expr::types::write_schema(&schema);
    let schema_json = serde_json::to_string(&columns).expect("pairs of strings are JSON");
    Ok(SourcePlan { step: step.to_owned(), schema_json, splits })
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
    match spec.kind {
        SourceKind::Keys { .. } => declared.or(Some(TIME_COLUMN)),
        SourceKind::Files { .. } => declared,
    }
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
        SourceKind::Keys { .. } => "generate.keys",
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
        _ if uri.contains(['*', '?', '[']) => {
            Err(declaration_error(step, uri, "a glob is not built yet; name one file"))
        }
        _ => Err(declaration_error(
            step,
            uri,
            "its suffix tells no format; declare `format: parquet` or `format: ndjson` \
             (a folder is not built yet)",
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

async fn parquet(
    step: &str,
    uri: &str,
    location: Location,
) -> Result<(Schema, Vec<Split>), SourceError> {
    let object = PinnedObject::look(step, uri, location).await?;
    if Compression::of_name(uri).1 != Compression::None {
        return Err(object.damaged("a parquet file is compressed inside, never as a whole"));
    }
    let footer = Footer::read(&object).await?;
    Ok((weir_expr::types::normal_schema(footer.schema()), footer.splits(&object)))
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
