//! One aggregate call: which there are, what they take and give, which slot they need.

use arrow::datatypes::{DataType, Field, i256};

use super::exact_sum::ExactSum;
use super::spread::{Measure, Unit};
use super::state::{End, Slot};
use crate::types;

/// What is computed of the argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Count,
    Sum,
    Avg,
    /// min, max.
    Extreme(End),
    /// first, last.
    Edge(End),
    ArrayAgg,
    /// `bool_and` if all must be true, else `bool_or`.
    Bool {
        all: bool,
    },
    /// Variance and deviation.
    Spread(Measure),
}

/// What the rows of an aggregate step are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputMode {
    /// They have event time. Without it `first`, `last` and `array_agg` go by arrival.
    pub has_time: bool,
    /// They are a changelog: rows may be taken away again. States then keep what that needs.
    pub retractable: bool,
}

/// What first, last and `array_agg` go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Time,
    Arrival,
}

/// An aggregate call with the type of its argument; `count(*)` has none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) argument: Option<DataType>,
    pub(super) distinct: bool,
    pub(super) mode: InputMode,
}

/// The function of that name.
fn function(name: &str) -> Option<Function> {
    let spread = |sample, root| Function::Spread(Measure { sample, root });
    Some(match name {
        "count" => Function::Count,
        "sum" => Function::Sum,
        "avg" => Function::Avg,
        "min" => Function::Extreme(End::Least),
        "max" => Function::Extreme(End::Greatest),
        "first" => Function::Edge(End::Least),
        "last" => Function::Edge(End::Greatest),
        "array_agg" => Function::ArrayAgg,
        "bool_and" => Function::Bool { all: true },
        "bool_or" => Function::Bool { all: false },
        "stddev" | "stddev_samp" => spread(true, true),
        "stddev_pop" => spread(false, true),
        "var" | "var_samp" => spread(true, false),
        "var_pop" => spread(false, false),
        _ => return None,
    })
}

impl Function {
    /// Its name in signatures: the same for all names of one function.
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Extreme(End::Least) => "min",
            Self::Extreme(End::Greatest) => "max",
            Self::Edge(End::Least) => "first",
            Self::Edge(End::Greatest) => "last",
            Self::ArrayAgg => "array_agg",
            Self::Bool { all: true } => "bool_and",
            Self::Bool { all: false } => "bool_or",
            Self::Spread(Measure { sample: true, root: true }) => "stddev_samp",
            Self::Spread(Measure { sample: false, root: true }) => "stddev_pop",
            Self::Spread(Measure { sample: true, root: false }) => "var_samp",
            Self::Spread(Measure { sample: false, root: false }) => "var_pop",
        }
    }

    /// What it needs, if it can't take `argument`.
    fn refuses(self, argument: &DataType) -> Option<&'static str> {
        let number = matches!(
            argument,
            DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)
        );
        let ordered = !matches!(
            argument,
            DataType::List(_) | DataType::Struct(_) | DataType::Interval(_) | DataType::Null
        );
        match self {
            Self::Count | Self::Edge(_) | Self::ArrayAgg => None,
            Self::Sum | Self::Avg | Self::Spread(_) => (!number).then_some("numbers"),
            Self::Extreme(_) => (!ordered).then_some("an ordered type"),
            Self::Bool { .. } => (*argument != DataType::Boolean).then_some("boolean"),
        }
    }

    /// Whether it goes by time or arrival.
    fn is_ordered(self) -> bool {
        matches!(self, Self::Edge(_) | Self::ArrayAgg)
    }
}

impl Call {
    /// The call of that name, or why there is none for this type.
    pub(super) fn new(
        name: &str,
        argument: Option<DataType>,
        distinct: bool,
        mode: InputMode,
    ) -> Result<Self, String> {
        let function = function(name).ok_or_else(|| format!("there is no aggregate `{name}`"))?;
        let takes_distinct = matches!(
            function,
            Function::Count | Function::Sum | Function::Avg | Function::ArrayAgg
        );
        if distinct && !takes_distinct {
            return Err(format!(
                "`{name}` takes no `distinct`: only count, sum, avg and array_agg do"
            ));
        }
        let Some(data_type) = &argument else {
            return match (function, distinct) {
                (Function::Count, false) => Ok(Self { function, argument, distinct, mode }),
                (Function::Count, true) => Err("`count(distinct *)`: name one column".to_owned()),
                _ => Err(format!("`{name}(*)`: only count takes `*`")),
            };
        };
        match function.refuses(data_type) {
            Some(needs) => Err(format!("`{name}` needs {needs}, not {}", types::print(data_type))),
            None => Ok(Self { function, argument, distinct, mode }),
        }
    }

    /// `count(*)`.
    pub(super) fn count_rows(mode: InputMode) -> Self {
        Self { function: Function::Count, argument: None, distinct: false, mode }
    }

    /// The type of the result.
    pub(super) fn data_type(&self) -> DataType {
        let argument = self.argument.clone().unwrap_or(DataType::Int64);
        match (self.function, argument) {
            (Function::Count, _) => DataType::Int64,
            (Function::Extreme(_) | Function::Edge(_), argument) => argument,
            (Function::ArrayAgg, argument) => {
                DataType::List(Field::new_list_field(argument, true).into())
            }
            (Function::Bool { .. }, _) => DataType::Boolean,
            (Function::Sum, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, scale),
            (Function::Avg, DataType::Decimal128(precision, scale)) => {
                DataType::Decimal128((precision + 4).min(38), (scale + 4).min(38))
            }
            (Function::Sum, DataType::Int32 | DataType::Int64) => DataType::Int64,
            _ => DataType::Float64,
        }
    }

    /// Words that tell this call from others, for signatures.
    pub(super) fn describe(&self) -> String {
        let argument = self.argument.as_ref().map_or_else(|| "*".to_owned(), types::print);
        let distinct = if self.distinct { "distinct " } else { "" };
        let by_arrival = self.function.is_ordered() && self.order() == Order::Arrival;
        let order = if by_arrival { " by arrival" } else { "" };
        format!("{}({distinct}{argument}){order}", self.function.name())
    }

    /// The type of the values that a slot keeps.
    pub(super) fn value_type(&self) -> &DataType {
        self.argument.as_ref().unwrap_or(&DataType::Null)
    }

    /// Which end is kept, by a call that keeps one.
    pub(super) fn end(&self) -> End {
        match self.function {
            Function::Extreme(end) | Function::Edge(end) => end,
            _ => unreachable!("only min, max, first and last keep an end"),
        }
    }

    /// What first, last and `array_agg` go by.
    pub(super) fn order(&self) -> Order {
        if self.mode.has_time { Order::Time } else { Order::Arrival }
    }

    /// Whether rows need their event times.
    pub(super) fn needs_time(&self) -> bool {
        self.function.is_ordered() && self.order() == Order::Time
    }

    /// Whether rows without a value count.
    pub(super) fn takes_nulls(&self) -> bool {
        self.argument.is_none() || self.function.is_ordered()
    }

    /// Whether its slot keeps values that are put in order behind a batch.
    pub(super) fn keeps_rows(&self) -> bool {
        let edge = matches!(self.function, Function::Extreme(_) | Function::Edge(_));
        self.distinct || self.function == Function::ArrayAgg || (edge && self.mode.retractable)
    }

    /// Unit of the sums of a [`Function::Spread`].
    pub(super) fn unit(&self) -> Unit {
        match self.argument {
            Some(DataType::Float64) => Unit::Float,
            Some(DataType::Decimal128(_, scale)) => Unit::Decimal(scale.into()),
            _ => Unit::Decimal(0),
        }
    }

    /// The slot of a group without rows.
    pub(super) fn empty(&self) -> Slot {
        match self.function {
            Function::ArrayAgg => self.rows(),
            Function::Edge(_) if self.mode.retractable => self.rows(),
            Function::Edge(_) => Slot::Moment(None),
            _ if self.distinct => Slot::Values(Default::default()),
            Function::Count => Slot::Count(0),
            Function::Extreme(_) if self.mode.retractable => Slot::Values(Default::default()),
            Function::Extreme(_) => Slot::Extreme(None),
            Function::Bool { .. } => Slot::Booleans { trues: 0, falses: 0 },
            Function::Spread(_) => Slot::Spread(Box::default()),
            Function::Sum | Function::Avg => self.empty_sum(),
        }
    }

    fn rows(&self) -> Slot {
        match self.order() {
            Order::Time => Slot::Moments(Default::default()),
            Order::Arrival => Slot::Arrivals(Box::default()),
        }
    }

    /// The slot of a sum of nothing.
    fn empty_sum(&self) -> Slot {
        match &self.argument {
            Some(DataType::Decimal128(..)) => Slot::DecimalSum { count: 0, sum: i256::ZERO },
            Some(DataType::Float64) if self.mode.retractable => Slot::FloatBalance(Box::default()),
            Some(DataType::Float64) => Slot::FloatSum { count: 0, sum: ExactSum::default() },
            _ => Slot::IntSum { count: 0, sum: 0 },
        }
    }

    /// Whether states with this call alone have the form of version 1.
    pub(super) fn is_version_1(&self) -> bool {
        let known = matches!(
            self.function,
            Function::Count | Function::Sum | Function::Avg | Function::Extreme(_)
        );
        known && !self.distinct && !self.mode.retractable
    }
}
