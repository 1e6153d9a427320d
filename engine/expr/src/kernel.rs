//! Operators that DataFusion has not, or not with our meaning: checked, and lazy per row.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use arrow::compute::kernels::{boolean, numeric};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, Schema};
use arrow::error::ArrowError;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

use crate::convert::convert;

/// What is computed. All but `And` and `Or` are functions of their arguments' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// Three-valued `and` that looks at the right side only where the left is not false.
    And,
    /// Three-valued `or` that looks at the right side only where the left is not true.
    Or,
    /// The value in another type; an error if it has none.
    Cast,
    /// The value in another type; null if it has none.
    TryCast,
    /// Unary minus; the least integer has none.
    Negate,
    /// A float division in which zero is an error, as in every other division.
    DivideFloats,
    /// The remainder, likewise.
    ModuloFloats,
    /// The decimal itself; an error if it has more digits than its type.
    FitDecimal,
    /// 0.0 for −0.0, and one NaN for all: what comparisons see.
    CanonicalFloat,
    /// A number of bits to shift by; an error outside of the width.
    ShiftBits,
}

/// An operator with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    op: Op,
    args: Vec<Arc<dyn PhysicalExpr>>,
    data_type: DataType,
}

impl Kernel {
    /// An expression of `data_type` over `args`.
    pub(crate) fn expr(
        op: Op,
        args: Vec<Arc<dyn PhysicalExpr>>,
        data_type: DataType,
    ) -> Arc<dyn PhysicalExpr> {
        Arc::new(Self { op, args, data_type })
    }

    /// `and`, `or`: rows that the left side decides are left out on the right.
    fn decide(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = self.args[0].evaluate(batch)?.into_array(batch.num_rows())?;
        let left = left.as_boolean();
        let open = |row: usize| left.is_null(row) || left.value(row) == (self.op == Op::And);
        let open: BooleanArray = (0..left.len()).map(|row| Some(open(row))).collect();
        if !open.has_true() {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = self.args[1].evaluate_selection(batch, &open)?.into_array(batch.num_rows())?;
        let kernel = if self.op == Op::And { boolean::and_kleene } else { boolean::or_kleene };
        Ok(ColumnarValue::Array(Arc::new(kernel(left, right.as_boolean())?)))
    }

    fn apply(&self, args: &[ArrayRef]) -> std::result::Result<ArrayRef, ArrowError> {
        match self.op {
            Op::Cast => convert(&args[0], &self.data_type, false),
            Op::TryCast => convert(&args[0], &self.data_type, true),
            Op::Negate => numeric::neg(&args[0]),
            Op::DivideFloats => float_by_float(&args[0], &args[1], |a, b| a / b),
            Op::ModuloFloats => float_by_float(&args[0], &args[1], |a, b| a % b),
            Op::FitDecimal => fit_decimal(&args[0], &self.data_type),
            Op::CanonicalFloat => {
                let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
                let values: Float64Array = args[0].as_primitive::<Float64Type>().unary(canonical);
                Ok(Arc::new(values))
            }
            Op::ShiftBits => shift_bits(&args[0]),
            Op::And | Op::Or => unreachable!("decided by `decide`"),
        }
    }
}

fn float_by_float(
    left: &ArrayRef,
    right: &ArrayRef,
    operation: impl Fn(f64, f64) -> f64,
) -> std::result::Result<ArrayRef, ArrowError> {
    let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
    let values: Float64Array = arrow::compute::try_binary(left, right, |a, b| {
        if b == 0.0 { Err(ArrowError::DivideByZero) } else { Ok(operation(a, b)) }
    })?;
    Ok(Arc::new(values))
}

fn fit_decimal(
    array: &ArrayRef,
    data_type: &DataType,
) -> std::result::Result<ArrayRef, ArrowError> {
    let DataType::Decimal128(precision, _) = data_type else {
        return Ok(Arc::clone(array));
    };
    let values = array.as_primitive::<Decimal128Type>();
    match values.validate_decimal_precision(*precision) {
        Ok(()) => Ok(Arc::clone(array)),
        Err(_) => Err(ArrowError::ComputeError(format!(
            "overflow: the result has more than {precision} digits"
        ))),
    }
}

fn shift_bits(array: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
    let check = |bits: i64, width: i64| {
        let what = || format!("a shift by {bits} bits: allowed are 0 to {}", width - 1);
        if (0..width).contains(&bits) { Ok(()) } else { Err(ArrowError::ComputeError(what())) }
    };
    match array.data_type() {
        DataType::Int32 => {
            let bits = array.as_primitive::<Int32Type>();
            bits.iter().flatten().try_for_each(|bits| check(bits.into(), 32))?;
        }
        _ => {
            let bits = array.as_primitive::<Int64Type>();
            bits.iter().flatten().try_for_each(|bits| check(bits, 64))?;
        }
    }
    Ok(Arc::clone(array))
}

impl PhysicalExpr for Kernel {
    fn data_type(&self, _columns: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, _columns: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if matches!(self.op, Op::And | Op::Or) {
            return self.decide(batch);
        }
        let args: Vec<ColumnarValue> =
            self.args.iter().map(|arg| arg.evaluate(batch)).collect::<Result<_>>()?;
        let constant = args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { batch.num_rows() };
        let args: Vec<ArrayRef> =
            args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<_>>()?;
        let result = self.apply(&args)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        args: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Self::expr(self.op, args, self.data_type.clone()))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}<{}>(", self.op, self.data_type)?;
        for (at, arg) in self.args.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{arg}")?;
        }
        write!(f, ")")
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.data_type == other.data_type && self.args == other.args
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.op.hash(state);
        self.data_type.hash(state);
        self.args.hash(state);
    }
}
