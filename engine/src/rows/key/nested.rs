//! Columns ready to be encoded: in their canonical types, and what is in lists and structs encoded
//! already, as rows of its own.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::datatypes::DataType;

use super::{Encoded, KeyError, LIST, NULL, STRUCT, Target, canonical_column, encode_column};

pub(super) enum Prepared {
    Plain(ArrayRef),
    /// The elements of all lists, the first one's first.
    List(ListArray, Encoded),
    /// A row of fields for each struct.
    Struct(StructArray, Encoded),
}

impl Prepared {
    pub(super) fn new(column: &ArrayRef) -> Result<Self, KeyError> {
        Ok(match column.data_type() {
            DataType::List(_) => {
                let lists = column.as_list::<i32>().clone();
                let (first, count) = range(&lists);
                let elements = Encoded::new(&[lists.values().slice(first, count)], count)?;
                Self::List(lists, elements)
            }
            DataType::Struct(_) => {
                let structs = column.as_struct().clone();
                let fields = Encoded::new(structs.columns(), structs.len())?;
                Self::Struct(structs, fields)
            }
            _ => Self::Plain(canonical_column(column)?),
        })
    }

    pub(super) fn encode(&self, target: &mut impl Target) -> Result<(), KeyError> {
        match self {
            Self::Plain(column) => return encode_column(column, target),
            Self::List(lists, elements) => {
                let (first, _) = range(lists);
                let mut begin = 0;
                for (row, end) in lists.value_offsets()[1..].iter().enumerate() {
                    let end = place(*end) - first;
                    if lists.is_null(row) {
                        target.put(row, NULL, &[]);
                    } else {
                        target.put_sized(row, LIST, elements.rows(begin, end));
                    }
                    begin = end;
                }
            }
            Self::Struct(structs, fields) => {
                for row in 0..structs.len() {
                    if structs.is_null(row) {
                        target.put(row, NULL, &[]);
                    } else {
                        target.put(row, STRUCT, fields.rows(row, row + 1));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Where the elements of the first list begin, and how many all lists have.
fn range(lists: &ListArray) -> (usize, usize) {
    let offsets = lists.value_offsets();
    let first = place(offsets[0]);
    (first, place(offsets[offsets.len() - 1]) - first)
}

fn place(offset: i32) -> usize {
    usize::try_from(offset).expect("Arrow's offsets are not negative")
}
