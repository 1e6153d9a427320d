//! Predicates and projections: compiled scalar expressions over batches of one schema.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_empty_array,
    new_null_array,
};
use arrow::compute::{concat, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_sql::sqlparser::ast;

use crate::error::{ExprError, ItemError, RowError};
use crate::lower::Lowering;
use crate::parse::{self, Item};
use crate::plan;
use crate::types;

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Predicate {
    condition: Compiled,
}

impl Predicate {
    /// Which rows of `batch` to keep: an array without nulls, where null counts as false.
    ///
    /// `batch` must have the schema that the filter was compiled for.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, RowError> {
        let keep = self.condition.evaluate(batch)?;
        let keep = keep.as_boolean();
        Ok(if keep.null_count() == 0 { keep.clone() } else { prep_null_mask_filter(keep) })
    }
}

/// Compiled select items.
#[derive(Clone, Debug)]
pub struct Projection {
    schema: SchemaRef,
    items: Vec<Compiled>,
}

impl Projection {
    /// Columns of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The projected rows, as many as `batch` has.
    ///
    /// `batch` must have the schema that the items were compiled for.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<RecordBatch, RowError> {
        let columns = evaluate_all(&self.items, batch)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = SchemaRef::clone(&self.schema);
        RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|error| RowError { row: 0, message: error.to_string() })
    }
}

/// The columns of all expressions, or the first row that one of them fails for.
pub(crate) fn evaluate_all(
    exprs: &[Compiled],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, RowError> {
    let mut columns = Vec::with_capacity(exprs.len());
    let mut first: Option<RowError> = None;
    for expr in exprs {
        match expr.evaluate(batch) {
            Ok(column) => columns.push(column),
            Err(error) if first.as_ref().is_none_or(|first| error.row < first.row) => {
                first = Some(error);
            }
            Err(_) => {}
        }
    }
    first.map_or(Ok(columns), Err)
}

/// Compiles a filter for batches of `schema`.
pub fn compile_predicate(schema: &Schema, text: &str) -> Result<Predicate, ExprError> {
    let mut condition = Compiled::new(parse::expression(text)?, text, schema)?;
    match condition.data_type {
        DataType::Boolean => Ok(Predicate { condition }),
        DataType::Null => {
            condition.data_type = DataType::Boolean;
            Ok(Predicate { condition })
        }
        other => Err(ExprError(format!(
            "a filter must be boolean; `{text}` is {}",
            types::print(&other)
        ))),
    }
}

/// Compiles select items for batches of `schema`; reports every item that is refused.
pub fn compile_select(schema: &Schema, items: &[String]) -> Result<Projection, Vec<ItemError>> {
    let mut errors = Vec::new();
    let mut fields: Vec<Field> = Vec::new();
    let mut compiled = Vec::new();
    for (item, text) in items.iter().enumerate() {
        let mut refuse = |error| errors.push(ItemError { item, error });
        match select_item(schema, text) {
            Ok(columns) => {
                for (name, expr) in columns {
                    if fields.iter().any(|field| *field.name() == name) {
                        refuse(ExprError(format!(
                            "there are two columns `{name}`; rename one with `as`"
                        )));
                    }
                    fields.push(Field::new(name, expr.data_type.clone(), true));
                    compiled.push(expr);
                }
            }
            Err(error) => refuse(error),
        }
    }
    if items.is_empty() {
        let error = ExprError("at least one item is needed".into());
        errors.push(ItemError { item: 0, error });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Projection { schema: Arc::new(Schema::new(fields)), items: compiled })
}

fn select_item(schema: &Schema, text: &str) -> Result<Vec<(String, Compiled)>, ExprError> {
    match parse::item(text)? {
        Item::All { except } => {
            if let Some(unknown) = except.iter().find(|name| schema.index_of(name).is_err()) {
                return Err(parse::unknown_column(unknown, schema));
            }
            let fields = schema.fields().iter().enumerate();
            let kept = fields.filter(|(_, field)| !except.contains(field.name()));
            kept.map(|(index, field)| {
                let expr = Compiled::column(index, field)?;
                Ok((field.name().clone(), expr))
            })
            .collect()
        }
        Item::One { expr, name } => {
            let expr = Compiled::new(*expr, text, schema)?.column_type()?;
            let name = name.ok_or_else(|| {
                ExprError(format!("`{text}` needs a name: write `{text} as name`"))
            })?;
            Ok(vec![(name, expr)])
        }
    }
}

/// An expression that runs.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    expr: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    /// As the user wrote it.
    text: String,
}

impl Compiled {
    /// Compiles a syntax tree over `schema`.
    pub(crate) fn new(tree: ast::Expr, text: &str, schema: &Schema) -> Result<Self, ExprError> {
        parse::survey(&tree, schema)?;
        let planned = plan::plan(tree, schema)?;
        let typed = Lowering { columns: schema }.lower(&planned)?;
        let compiled =
            Self { expr: typed.expr, data_type: typed.data_type, text: text.trim().to_owned() };
        compiled.dry_run(schema)?;
        Ok(compiled)
    }

    fn column(index: usize, field: &Field) -> Result<Self, ExprError> {
        if let Some(source_type) = types::refused(field) {
            let name = field.name();
            return Err(ExprError(format!(
                "column `{name}` has type {source_type} in its source, which has no pipeline type; \
                 leave it out with `* except ({name})`"
            )));
        }
        Ok(Self {
            expr: Arc::new(Column::new(field.name(), index)),
            data_type: field.data_type().clone(),
            text: field.name().clone(),
        })
    }

    /// The type of the values.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Refuses a type that no column can have.
    pub(crate) fn column_type(self) -> Result<Self, ExprError> {
        let hint = match &self.data_type {
            DataType::Null => "null has no type: write `cast(null as string)`",
            DataType::Duration(_) => {
                "the difference of two times is no column: compare it with an interval, or take \
                 `cast(a as int64) - cast(b as int64)`, which is milliseconds"
            }
            DataType::Interval(_) => "an interval is no column: add it to a time",
            _ => return Ok(self),
        };
        Err(ExprError(format!("`{}`: {hint}", self.text)))
    }

    /// Runs once over a row of nulls, so that what no kernel can do is refused now. Errors that
    /// depend on a row's values do not count.
    fn dry_run(&self, schema: &Schema) -> Result<(), ExprError> {
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let columns = fields.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row =
            RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
                .map_err(|error| ExprError(error.to_string()))?;
        match self.run(&row) {
            Ok(array) if *array.data_type() == self.data_type => Ok(()),
            Ok(array) => Err(ExprError(format!(
                "`{}` was taken for {} but gives {}",
                self.text,
                types::print(&self.data_type),
                types::print(array.data_type())
            ))),
            Err(error) if is_of_a_row(&error) => Ok(()),
            Err(error) => Err(plan::refuse(&error)),
        }
    }

    fn run(&self, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        self.expr.evaluate(batch)?.into_array(batch.num_rows())
    }

    /// The value for each row of `batch`.
    pub(crate) fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, RowError> {
        if batch.num_rows() == 0 {
            return Ok(new_empty_array(&self.data_type));
        }
        match self.run(batch) {
            Ok(array) if *array.data_type() == DataType::Null => {
                Ok(new_null_array(&self.data_type, batch.num_rows()))
            }
            Ok(array) => Ok(array),
            Err(_) => self.row_by_row(batch),
        }
    }

    /// Names the first row that fails. What a row gives alone is what it gives in a batch, so
    /// should none fail alone, these are the values.
    fn row_by_row(&self, batch: &RecordBatch) -> Result<ArrayRef, RowError> {
        let mut values = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let refuse =
                |what: String| RowError { row, message: format!("`{}`: {what}", self.text) };
            let value = self.run(&batch.slice(row, 1));
            values.push(value.map_err(|error| refuse(plan::sentence(&error)))?);
        }
        let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        concat(&values).map_err(|error| RowError { row: 0, message: error.to_string() })
    }
}

/// Whether an error comes from a row's values and not from the expression. A function that fails
/// for nulls fails for its constants.
fn is_of_a_row(error: &DataFusionError) -> bool {
    let DataFusionError::ArrowError(error, _) = error.find_root() else {
        return false;
    };
    matches!(
        error.as_ref(),
        ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::CastError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::ParseError(_)
    )
}

#[cfg(test)]
mod tests;
