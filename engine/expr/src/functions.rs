//! Which functions exist: DataFusion's, without those whose result would differ on replay and
//! those that show what lies below (Arrow's types, files).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::{ScalarUDF, Volatility};

use crate::error::ExprError;
use crate::near;

/// The aggregates.
pub(crate) const AGGREGATES: [&str; 16] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "first",
    "last",
    "array_agg",
    "bool_and",
    "bool_or",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "var",
    "var_samp",
    "var_pop",
];
/// Aggregates of other systems, so that they are not taken for unknown scalar functions.
const AGGREGATES_NEVER: [&str; 12] = [
    "mean",
    "median",
    "mode",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "corr",
    "covar_pop",
    "first_value",
    "last_value",
    "nth_value",
    "string_agg",
];
/// What gives another result when rows are replayed, under every name that SQL has for it.
const NOT_REPLAYABLE: [&str; 16] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "today",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "getdate",
    "sysdate",
    "random",
    "rand",
    "uuid",
    "gen_random_uuid",
];
/// Functions of DataFusion about Arrow, files and time zones, which a row does not have.
const HIDDEN: [&str; 17] = [
    "arrow_cast",
    "arrow_try_cast",
    "arrow_typeof",
    "arrow_metadata",
    "arrow_field",
    "cast_to_type",
    "try_cast_to_type",
    "with_metadata",
    "version",
    "union_extract",
    "union_tag",
    "input_file_name",
    "file_row_index",
    "to_time",
    "make_time",
    "to_local_time",
    "to_timestamp_nanos",
];

static FUNCTIONS: LazyLock<BTreeMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut functions = BTreeMap::new();
    for function in datafusion_functions::all_default_functions() {
        let replayable = function.signature().volatility == Volatility::Immutable;
        if !replayable || HIDDEN.contains(&function.name()) {
            continue;
        }
        for alias in function.aliases() {
            functions.insert(alias.clone(), Arc::clone(&function));
        }
        functions.insert(function.name().to_owned(), function);
    }
    functions
});

/// The function of that name.
pub(crate) fn scalar(name: &str) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.get(name).map(Arc::clone)
}

/// The names of all functions, aliases too.
pub(crate) fn scalar_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.keys().map(String::as_str)
}

/// Whether `name` is an aggregate, of ours or of others.
pub(crate) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains(&name) || AGGREGATES_NEVER.contains(&name)
}

/// Refuses a name that is no scalar function, saying why.
pub(crate) fn known_scalar(name: &str) -> Result<(), ExprError> {
    if FUNCTIONS.contains_key(name) {
        return Ok(());
    }
    Err(ExprError(if NOT_REPLAYABLE.contains(&name) {
        format!("`{name}` would give another result when rows are replayed; use a column instead")
    } else if AGGREGATES_NEVER.contains(&name) {
        unknown_aggregate(name)
    } else if is_aggregate(name) {
        format!("`{name}` is an aggregate and belongs into the `values` of an aggregate step")
    } else {
        let near = near::nearest(name, scalar_names());
        let hint =
            near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        format!("there is no function `{name}`{hint}")
    }))
}

/// Refuses an aggregate, saying which there are.
pub(crate) fn unknown_aggregate(name: &str) -> String {
    format!("there is no aggregate `{name}` (aggregates: {})", AGGREGATES.join(", "))
}
