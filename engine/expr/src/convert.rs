//! Values of one type as values of another: casts, and a source's columns in pipeline types.
//!
//! Arrow's casts where they mean what pipeline.md says; our own where they do not: time is floored
//! to milliseconds (Arrow cuts towards zero), text is read as pipeline.md reads it, and integers
//! are epoch milliseconds.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, ListArray, PrimitiveArray, StringArray, StructArray,
    new_null_array,
};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Fields, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;

use crate::timestamp::{self, DAY_MS};
use crate::types;

/// Whether a user may cast between the types.
pub(crate) fn castable(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Interval, Null, Timestamp, Utf8};
    if from == to || *from == Null {
        return true;
    }
    match (from, to) {
        (from, to) if is_number(from) && is_number(to) => true,
        (from, Utf8) => {
            is_number(from) || matches!(from, Boolean | Date32 | Timestamp(..) | Binary)
        }
        (Utf8, to) => {
            is_number(to) || matches!(to, Boolean | Date32 | Timestamp(..) | Binary | Interval(_))
        }
        (Boolean, to) => is_integer(to),
        (from, Boolean) => is_integer(from),
        (Date32, Timestamp(..)) | (Timestamp(..), Date32) => true,
        (from, Timestamp(..)) => is_integer(from),
        (Timestamp(..), DataType::Int64) => true,
        _ => false,
    }
}

/// Whether `data_type` is int32 or int64.
pub(crate) fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int32 | DataType::Int64)
}

/// Whether `data_type` is one that arithmetic knows.
pub(crate) fn is_number(data_type: &DataType) -> bool {
    is_integer(data_type) || matches!(data_type, DataType::Float64 | DataType::Decimal128(..))
}

/// The values of `array` as `to`. With `safe`, a value that has none becomes null; else an error.
pub(crate) fn convert(array: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef, ArrowError> {
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    match (from, to) {
        (DataType::Null, _) => Ok(new_null_array(to, array.len())),
        (DataType::Dictionary(_, values), _) => {
            convert(&arrow_cast(array, values, safe)?, to, safe)
        }
        (DataType::Timestamp(unit, _), to) if *to == types::timestamp() => {
            floored(array, *unit, safe)
        }
        (DataType::Timestamp(TimeUnit::Millisecond, _), DataType::Date32) => {
            days(array.as_primitive::<TimestampMillisecondType>(), safe)
        }
        (DataType::Timestamp(TimeUnit::Millisecond, _), DataType::Int64) => {
            let times = array.as_primitive::<TimestampMillisecondType>();
            Ok(Arc::new(times.reinterpret_cast::<Int64Type>()))
        }
        (DataType::Timestamp(TimeUnit::Millisecond, _), DataType::Utf8) => {
            let times = array.as_primitive::<TimestampMillisecondType>().iter();
            Ok(Arc::new(times.map(|time| time.map(timestamp::print)).collect::<StringArray>()))
        }
        (DataType::Date32, DataType::Utf8) => {
            let days = array.as_primitive::<Date32Type>().iter();
            let text = days.map(|day| day.map(|day| timestamp::print_date(day.into())));
            Ok(Arc::new(text.collect::<StringArray>()))
        }
        (DataType::Date32, DataType::Timestamp(..)) => {
            let days = array.as_primitive::<Date32Type>();
            Ok(utc(days.unary(|day| i64::from(day) * DAY_MS)))
        }
        (DataType::Int32, DataType::Timestamp(..)) => {
            convert(&arrow_cast(array, &DataType::Int64, safe)?, to, safe)
        }
        (DataType::Int64, DataType::Timestamp(..)) => {
            Ok(utc(array.as_primitive::<Int64Type>().reinterpret_cast()))
        }
        (DataType::Utf8, DataType::Timestamp(..)) if *to == types::timestamp() => {
            let read = |text: &str| timestamp::parse(text);
            Ok(utc(read_text(array, "timestamp", safe, read)?))
        }
        (DataType::Utf8, DataType::Date32) => {
            let read = |text: &str| timestamp::parse_date(text);
            let days: Date32Array = read_text(array, "date", safe, read)?;
            Ok(Arc::new(days))
        }
        (DataType::LargeList(item) | DataType::FixedSizeList(item, _), DataType::List(_)) => {
            let list = arrow_cast(array, &DataType::List(Arc::clone(item)), safe)?;
            convert(&list, to, safe)
        }
        (DataType::List(_), DataType::List(item)) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            let values = convert(&values, item.data_type(), safe)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => structs(array.as_struct(), fields, safe),
        _ => arrow_cast(array, to, safe),
    }
}

/// Whether [`convert`] knows how, whatever the values.
pub(crate) fn convertible(from: &DataType, to: &DataType) -> bool {
    from == to || castable(from, to) || can_cast_types(from, to)
}

fn arrow_cast(array: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe, format_options: FormatOptions::default() })
}

fn structs(array: &StructArray, fields: &Fields, safe: bool) -> Result<ArrayRef, ArrowError> {
    if array.num_columns() != fields.len() {
        return Err(ArrowError::CastError("the structs have different fields".into()));
    }
    let columns = array.columns().iter().zip(fields);
    let columns = columns.map(|(column, field)| convert(column, field.data_type(), safe));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let nulls = array.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?))
}

fn utc(times: PrimitiveArray<TimestampMillisecondType>) -> ArrayRef {
    Arc::new(times.with_timezone("UTC"))
}

/// Any unit and zone as milliseconds UTC. A time without a zone is taken as UTC.
fn floored(array: &ArrayRef, unit: TimeUnit, safe: bool) -> Result<ArrayRef, ArrowError> {
    fn divided<T: ArrowTimestampType>(array: &ArrayRef, by: i64) -> ArrayRef {
        utc(array.as_primitive::<T>().unary(|time| time.div_euclid(by)))
    }
    Ok(match unit {
        TimeUnit::Second => {
            let seconds = array.as_primitive::<TimestampSecondType>();
            utc(if safe {
                seconds.unary_opt(|time| time.checked_mul(1000))
            } else {
                seconds.try_unary(|time| {
                    time.checked_mul(1000).ok_or_else(|| {
                        let what = format!("{time} seconds are no time in milliseconds");
                        ArrowError::CastError(what)
                    })
                })?
            })
        }
        TimeUnit::Millisecond => divided::<TimestampMillisecondType>(array, 1),
        TimeUnit::Microsecond => divided::<TimestampMicrosecondType>(array, 1000),
        TimeUnit::Nanosecond => divided::<TimestampNanosecondType>(array, 1_000_000),
    })
}

fn days(
    times: &PrimitiveArray<TimestampMillisecondType>,
    safe: bool,
) -> Result<ArrayRef, ArrowError> {
    let day = |time: i64| i32::try_from(time.div_euclid(DAY_MS)).ok();
    let days: Date32Array = if safe {
        times.unary_opt(day)
    } else {
        times.try_unary(|time| {
            let what = || ArrowError::CastError(format!("{} has no date", timestamp::print(time)));
            day(time).ok_or_else(what)
        })?
    };
    Ok(Arc::new(days))
}

fn read_text<T: arrow::datatypes::ArrowPrimitiveType>(
    array: &ArrayRef,
    name: &str,
    safe: bool,
    read: impl Fn(&str) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>, ArrowError> {
    let texts = array.as_string::<i32>().iter();
    texts
        .map(|text| match text {
            None => Ok(None),
            Some(text) => match read(text) {
                None if !safe => {
                    let text: String = text.chars().take(200).collect();
                    Err(ArrowError::CastError(format!("'{text}' is no {name}")))
                }
                value => Ok(value),
            },
        })
        .collect()
}
