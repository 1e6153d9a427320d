//! A syntax tree to DataFusion's logical expression: the only use of its planner.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{self, ExactNumberInfo};

use crate::error::ExprError;
use crate::functions;
use crate::types;

static PROVIDER: LazyLock<Provider> = LazyLock::new(|| Provider {
    options: Arc::new(ConfigOptions::default()),
    planners: vec![
        Arc::new(CoreFunctionPlanner::default()),
        Arc::new(DatetimeFunctionPlanner),
        Arc::new(UnicodeFunctionPlanner),
    ],
});

/// The options that functions run under: the same on every worker.
pub(crate) fn options() -> Arc<ConfigOptions> {
    Arc::clone(&PROVIDER.options)
}

/// Plans `tree` over `columns`. Names are taken as they are written.
pub(crate) fn plan(tree: ast::Expr, columns: &Schema) -> Result<Expr, ExprError> {
    let parser_options = ParserOptions::new()
        .with_parse_float_as_decimal(true)
        .with_enable_ident_normalization(false)
        .with_map_string_types_to_utf8view(false);
    let columns = DFSchema::try_from(columns.clone()).map_err(|error| refuse(&error))?;
    SqlToRel::new_with_options(&*PROVIDER, parser_options)
        .sql_to_expr(tree, &columns, &mut PlannerContext::new())
        .map_err(|error| refuse(&error))
}

/// A library's error as a sentence.
pub(crate) fn refuse(error: &DataFusionError) -> ExprError {
    ExprError(sentence(error))
}

/// What an error of DataFusion or Arrow says, without saying who says it.
pub(crate) fn sentence(error: &DataFusionError) -> String {
    use arrow::error::ArrowError;
    let text = match error.find_root() {
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::DivideByZero => "division by zero".to_owned(),
            ArrowError::ArithmeticOverflow(what) => match what.split_once(": ") {
                Some((_, values)) => format!("overflow in {values}"),
                None => what.clone(),
            },
            ArrowError::CastError(what)
            | ArrowError::ComputeError(what)
            | ArrowError::ParseError(what)
            | ArrowError::InvalidArgumentError(what)
            | ArrowError::NotYetImplemented(what) => what.clone(),
            other => other.to_string(),
        },
        DataFusionError::Plan(what)
        | DataFusionError::NotImplemented(what)
        | DataFusionError::Execution(what)
        | DataFusionError::Internal(what) => what.clone(),
        other => other.strip_backtrace(),
    };
    let text = in_our_words(&text);
    let line = text.lines().next().unwrap_or_default();
    let line = line.split("\n\nbacktrace:").next().unwrap_or_default();
    let mut chars = line.trim().trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Types under our names.
fn in_our_words(what: &str) -> String {
    let words = [("Int32", "int32"), ("Int64", "int64"), ("Float64", "float64")];
    let words = words.into_iter().chain([("Boolean", "boolean"), ("Decimal128", "decimal")]);
    words.fold(what.replace("Array overflow", " overflow"), |what, (theirs, ours)| {
        what.replace(theirs, ours)
    })
}

#[derive(Debug)]
struct Provider {
    options: Arc<ConfigOptions>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl ContextProvider for Provider {
    fn get_table_source(
        &self,
        name: TableReference,
    ) -> datafusion_common::Result<Arc<dyn TableSource>> {
        plan_err!("there is no table `{name}`")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(PipelineTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        functions::scalar(name)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        functions::scalar_names().map(str::to_owned).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Types in casts: pipeline types, and SQL's names for them.
#[derive(Debug)]
struct PipelineTypes;

impl TypePlanner for PipelineTypes {
    fn plan_type_field(
        &self,
        sql_type: &ast::DataType,
    ) -> datafusion_common::Result<Option<FieldRef>> {
        use ast::DataType as Sql;
        let data_type = match sql_type {
            Sql::Bool | Sql::Boolean => DataType::Boolean,
            Sql::TinyInt(None) | Sql::SmallInt(None) | Sql::Int2(None) | Sql::Int16 => {
                DataType::Int32
            }
            Sql::Int(None) | Sql::Integer(None) | Sql::Int4(None) | Sql::Int32 => DataType::Int32,
            Sql::BigInt(None) | Sql::Int8(None) | Sql::Int64 => DataType::Int64,
            Sql::Float(ExactNumberInfo::None) | Sql::Double(ExactNumberInfo::None) => {
                DataType::Float64
            }
            Sql::Real | Sql::DoublePrecision => DataType::Float64,
            Sql::Float4 | Sql::Float8 | Sql::Float32 | Sql::Float64 => DataType::Float64,
            Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => decimal(*info)?,
            Sql::Varchar(None) | Sql::Char(None) | Sql::CharacterVarying(None) => DataType::Utf8,
            Sql::Text | Sql::String(None) => DataType::Utf8,
            Sql::Binary(None) | Sql::Varbinary(None) | Sql::Blob(None) => DataType::Binary,
            Sql::Bytea | Sql::Bytes(None) => DataType::Binary,
            Sql::Date | Sql::Date32 => DataType::Date32,
            Sql::Timestamp(None, _) | Sql::Datetime(None) => types::timestamp(),
            Sql::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
            other => match types::parse(&other.to_string().to_lowercase()) {
                Ok(data_type) => data_type,
                Err(error) => return plan_err!("{error}"),
            },
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

fn decimal(info: ExactNumberInfo) -> datafusion_common::Result<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return plan_err!("decimal needs its digits: decimal(p,s)"),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    match types::parse(&format!("decimal({precision},{scale})")) {
        Ok(data_type) => Ok(data_type),
        Err(error) => plan_err!("{error}"),
    }
}
