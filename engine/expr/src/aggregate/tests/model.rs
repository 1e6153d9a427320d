//! Every function against lists: whatever the order, the cuts into batches, the merges and the way
//! through bytes, a group's results are those of a slow loop over the rows that are left.

use std::cmp::Ordering;
use std::sync::LazyLock;

use arrow::datatypes::Float64Type;

use super::*;

/// A value as the model has it.
#[derive(Clone, Debug)]
enum Cell {
    Int(i128),
    /// Unscaled, with two digits behind the point.
    Decimal(i128),
    Float(f64),
    Text(String),
    Bool(bool),
}

fn order(left: &Cell, right: &Cell) -> Ordering {
    match (left, right) {
        (Cell::Int(left), Cell::Int(right)) | (Cell::Decimal(left), Cell::Decimal(right)) => {
            left.cmp(right)
        }
        (Cell::Float(left), Cell::Float(right)) => left.total_cmp(right),
        (Cell::Text(left), Cell::Text(right)) => left.cmp(right),
        (Cell::Bool(left), Cell::Bool(right)) => left.cmp(right),
        _ => panic!("one column has one type"),
    }
}

fn nulls_last(left: &Option<Cell>, right: &Option<Cell>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => order(left, right),
        (left, right) => left.is_none().cmp(&right.is_none()),
    }
}

/// A row that comes or is taken away.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) row: Row,
    pub(super) time: i64,
    pub(super) away: bool,
}

fn cell(row: &Row, column: &str) -> Option<Cell> {
    let float = |value: f64| Cell::Float(if value.is_nan() { f64::NAN } else { value });
    match column {
        "i" => row.i.map(|i| Cell::Int(i.into())),
        "f" => row.f.map(float),
        "d" => row.d.map(|d| Cell::Decimal(d.into())),
        "s" => row.s.clone().map(Cell::Text),
        _ => row.i.map(|i| Cell::Bool(i > 0)),
    }
}

/// What is computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    function: &'static str,
    column: &'static str,
    distinct: bool,
    filter: bool,
}

impl Item {
    pub(super) fn text(self, number: usize) -> String {
        let distinct = if self.distinct { "distinct " } else { "" };
        let filter = if self.filter { " filter (where s <> 'a')" } else { "" };
        format!("{}({distinct}{}){filter} as x{number}", self.function, self.column)
    }
}

pub(super) fn items() -> Vec<Item> {
    let every = [
        ("count", "*ifs"),
        ("sum", "ifd"),
        ("avg", "ifd"),
        ("min", "ifdsb"),
        ("max", "ifdsb"),
        ("first", "ifs"),
        ("last", "ifs"),
        ("array_agg", "ifs"),
        ("bool_and", "b"),
        ("bool_or", "b"),
        ("var_pop", "ifd"),
        ("var", "i"),
        ("var_samp", "f"),
        ("stddev_pop", "i"),
        ("stddev", "f"),
        ("stddev_samp", "d"),
    ];
    let mut items = Vec::new();
    for (function, columns) in every {
        for column in columns.split("").filter(|column| !column.is_empty()) {
            let may = ["count", "sum", "avg", "array_agg"].contains(&function) && column != "*";
            for distinct in [false, true] {
                for filter in [false, true] {
                    if may || !distinct {
                        items.push(Item { function, column, distinct, filter });
                    }
                }
            }
        }
    }
    items
}

/// The values that are left, with their times, in order of arrival; nulls too.
fn left(item: Item, changes: &[Change], has_time: bool) -> Vec<(i64, Option<Cell>)> {
    let mut left: Vec<(i64, Option<Cell>)> = Vec::new();
    for Change { row, time, away } in changes {
        let passes = row.s.as_ref().is_some_and(|s| s != "a");
        if item.filter && !passes {
            continue;
        }
        let mut value =
            if item.column == "*" { Some(Cell::Int(1)) } else { cell(row, item.column) };
        if item.distinct
            && let Some(Cell::Float(value)) = &mut value
            && *value == 0.0
        {
            *value = 0.0;
        }
        let time = if has_time { *time } else { 0 };
        if *away {
            let same = |known: &(i64, Option<Cell>)| {
                known.0 == time && nulls_last(&known.1, &value).is_eq()
            };
            left.remove(left.iter().rposition(same).expect("only rows that are there go"));
        } else {
            left.push((time, value));
        }
    }
    left
}

/// What an item gives, as text.
fn expected(item: Item, changes: &[Change], has_time: bool) -> String {
    let mut rows = left(item, changes, has_time);
    if has_time {
        rows.sort_by(|left, right| left.0.cmp(&right.0).then(nulls_last(&left.1, &right.1)));
    }
    match item.function {
        "first" | "last" => return edge(&rows, item.function == "first", has_time),
        "array_agg" => {
            let mut list: Vec<Option<Cell>> = Vec::new();
            for (_, value) in rows {
                let again = list.iter().any(|known| nulls_last(known, &value).is_eq());
                if !(item.distinct && again) {
                    list.push(value);
                }
            }
            let list: Vec<String> = list.iter().map(shown).collect();
            return if list.is_empty() { "null".into() } else { format!("[{}]", list.join(", ")) };
        }
        _ => {}
    }
    let mut values: Vec<Cell> = rows.into_iter().filter_map(|(_, value)| value).collect();
    values.sort_by(order);
    if item.distinct {
        values.dedup_by(|left, right| order(left, right).is_eq());
    }
    if item.function == "count" {
        return values.len().to_string();
    }
    let Some(some) = values.first() else { return "null".into() };
    let is = |wanted: bool| move |value: &Cell| matches!(value, Cell::Bool(is) if *is == wanted);
    match item.function {
        "min" => shown(&values.first().cloned()),
        "max" => shown(&values.last().cloned()),
        "bool_and" => values.iter().all(is(true)).to_string(),
        "bool_or" => values.iter().any(is(true)).to_string(),
        "sum" | "avg" if matches!(some, Cell::Float(_)) => {
            float_sum(&values, item.function == "avg")
        }
        "sum" => shown(&Some(match some {
            Cell::Decimal(_) => Cell::Decimal(values.iter().map(whole).sum()),
            _ => Cell::Int(values.iter().map(whole).sum()),
        })),
        "avg" => mean(&values, matches!(some, Cell::Decimal(_))),
        function => spread(&values, function),
    }
}

fn edge(rows: &[(i64, Option<Cell>)], first: bool, has_time: bool) -> String {
    let end = if first { rows.first() } else { rows.last() };
    let Some((time, value)) = end else { return "null".into() };
    if !has_time {
        return shown(value);
    }
    // Of one time the smallest or largest value; null only if there is no value.
    let mut of_time: Vec<Cell> =
        rows.iter().filter(|row| row.0 == *time).filter_map(|row| row.1.clone()).collect();
    of_time.sort_by(order);
    shown(&if first { of_time.first().cloned() } else { of_time.last().cloned() })
}

/// Integers and unscaled decimals as they are, finite floats in eighths, which all of them have.
fn whole(value: &Cell) -> i128 {
    match value {
        Cell::Int(value) | Cell::Decimal(value) => *value,
        Cell::Float(value) => (value * 8.0) as i128,
        _ => panic!("no number"),
    }
}

fn special(values: &[Cell]) -> Option<f64> {
    let special = values.iter().filter_map(|value| match value {
        Cell::Float(value) if !value.is_finite() => Some(*value),
        _ => None,
    });
    special.reduce(|sum, value| sum + value)
}

fn float_sum(values: &[Cell], mean: bool) -> String {
    let sum = match special(values) {
        Some(special) => special,
        None => values.iter().map(whole).sum::<i128>() as f64 / 8.0,
    };
    shown(&Some(Cell::Float(if mean { sum / values.len() as f64 } else { sum })))
}

fn mean(values: &[Cell], decimal: bool) -> String {
    let (sum, count) = (values.iter().map(whole).sum::<i128>(), values.len() as i128);
    if !decimal {
        return shown(&Some(Cell::Float(sum as f64 / count as f64)));
    }
    let half_up = (sum.abs() * 10_000 * 2 + count) / (count * 2) * sum.signum();
    let sign = if half_up < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", half_up.abs() / 1_000_000, half_up.abs() % 1_000_000)
}

fn spread(values: &[Cell], function: &str) -> String {
    let sample = !function.ends_with("pop");
    let count = values.len() as i128;
    if sample && count < 2 {
        return "null".into();
    }
    if special(values).is_some() {
        return "NaN".into();
    }
    let sum: i128 = values.iter().map(whole).sum();
    let squares: i128 = values.iter().map(|value| whole(value) * whole(value)).sum();
    let unit: f64 = match values[0] {
        Cell::Int(_) => 1.0,
        Cell::Decimal(_) => 100.0,
        _ => 8.0,
    };
    let others = count - i128::from(sample);
    let variance = (count * squares - sum * sum) as f64 / (count * others) as f64 / unit / unit;
    format!("{}", if function.starts_with("stddev") { variance.sqrt() } else { variance })
}

fn shown(value: &Option<Cell>) -> String {
    let array: ArrayRef = match value {
        None => return "null".into(),
        Some(Cell::Int(value)) => return value.to_string(),
        Some(Cell::Decimal(value)) => {
            let array = Decimal128Array::from_iter_values([*value]);
            Arc::new(array.with_precision_and_scale(38, 2).unwrap())
        }
        Some(Cell::Float(value)) => Arc::new(Float64Array::from_iter_values([*value])),
        Some(Cell::Text(value)) => return value.clone(),
        Some(Cell::Bool(value)) => return value.to_string(),
    };
    show(&array)
}

/// Every item's result equals the model's; variances to 1e-9.
fn agree(
    aggregates: &Aggregates,
    state: &State,
    changes: &[Change],
    mode: InputMode,
) -> Result<(), TestCaseError> {
    let results = aggregates.finish(slice::from_ref(state)).unwrap();
    for (item, result) in items().into_iter().zip(&results) {
        let (expected, found) = (expected(item, changes, mode.has_time), show(result));
        let measured = item.function.starts_with("var") || item.function.starts_with("stddev");
        if measured && !["null", "NaN"].contains(&expected.as_str()) && !result.is_null(0) {
            let found = result.as_primitive::<Float64Type>().value(0);
            let wanted: f64 = expected.parse().unwrap();
            prop_assert!((found - wanted).abs() <= wanted * 1e-9, "{item:?}: {found} {wanted}");
        } else {
            prop_assert_eq!(found, expected, "{:?}", item);
        }
    }
    Ok(())
}

/// All items, compiled once for each mode.
pub(super) fn compiled(mode: InputMode) -> &'static Aggregates {
    static COMPILED: LazyLock<[Aggregates; 4]> = LazyLock::new(|| {
        let texts: Vec<String> =
            items().into_iter().enumerate().map(|(number, item)| item.text(number)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        [0, 1, 2, 3].map(|mode| {
            let mode = InputMode { has_time: mode & 1 == 1, retractable: mode & 2 == 2 };
            compile_for(&texts, mode).unwrap()
        })
    });
    &COMPILED[usize::from(mode.has_time) + 2 * usize::from(mode.retractable)]
}

/// The state of the rows of one batch, grouped with those of another group.
pub(super) fn part(aggregates: &Aggregates, changes: &[Change], mode: InputMode) -> State {
    let rows: Vec<Row> = changes.iter().map(|change| change.row.clone()).collect();
    let times = Int64Array::from_iter_values(changes.iter().map(|change| change.time));
    let retracts: BooleanArray = changes.iter().map(|change| Some(change.away)).collect();
    // Rows of another group stand in between.
    let indices = (0..rows.len()).flat_map(|row| [row, row]);
    let indices: arrow::array::UInt64Array = indices.map(|row| row as u64).collect();
    let take = |array: &dyn Array| arrow::compute::take(array, &indices, None).unwrap();
    let columns = batch(&rows).columns().iter().map(|column| take(column)).collect();
    let doubled = RecordBatch::try_new(Arc::new(schema()), columns).unwrap();
    let (times, retracts) = (take(&times), take(&retracts));
    let inputs = aggregates.inputs(
        &doubled,
        mode.has_time.then(|| times.as_primitive::<Int64Type>()),
        mode.retractable.then(|| retracts.as_boolean()),
    );
    let groups: Vec<u32> = (0..rows.len()).flat_map(|_| [1, 0]).collect();
    let mut states = [aggregates.new_state(), aggregates.new_state()];
    aggregates.update_many(&mut states, &inputs.unwrap(), &groups);
    assert_eq!(states[0], states[1]);
    let [state, _] = states;
    state
}

/// Through bytes and back.
pub(super) fn stored(aggregates: &Aggregates, state: &State) -> State {
    let state_again = aggregates.decode(&bytes_of(aggregates, state)).unwrap();
    assert_eq!(state_again, *state);
    state_again
}

fn row() -> impl Strategy<Value = (Row, i64)> {
    let float = prop_oneof![
        6 => (-20i32..20).prop_map(|value| f64::from(value) / 8.0),
        2 => (0i32..3).prop_map(|value| 1e9 + f64::from(value) / 8.0),
        1 => prop_oneof![Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ];
    let row = (
        proptest::option::of(-4i64..5),
        proptest::option::of(float),
        proptest::option::of(-300i64..300),
        proptest::option::of("[ab]{0,1}"),
        0i64..5,
    );
    row.prop_map(|(i, f, d, s, time)| (Row { i, f, d, s }, time))
}

/// Rows that come, and with `away` rows of them that go again.
fn changes(away: bool) -> impl Strategy<Value = Vec<Change>> {
    let goes = proptest::option::weighted(0.4, any::<prop::sample::Index>());
    let goes = goes.prop_map(move |goes| goes.filter(|_| away));
    proptest::collection::vec((row(), goes), 0..24).prop_map(|steps| {
        let mut there: Vec<(Row, i64)> = Vec::new();
        let mut changes = Vec::new();
        for ((row, time), goes) in steps {
            match goes {
                Some(index) if !there.is_empty() => {
                    let (row, time) = there.remove(index.index(there.len()));
                    changes.push(Change { row, time, away: true });
                }
                _ => {
                    there.push((row.clone(), time));
                    changes.push(Change { row, time, away: false });
                }
            }
        }
        changes
    })
}

/// Cuts `changes` into batches.
fn batches(changes: &[Change], cuts: &[prop::sample::Index]) -> Vec<Vec<Change>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(changes.len() + 1)).collect();
    places.extend([0, changes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| changes[ends[0]..ends[1]].to_vec()).collect()
}

proptest! {
    /// By time nothing but the rows matters: they come in any order, parts are merged in any.
    #[test]
    fn by_time_the_rows_alone_matter(
        (changes, shuffled) in any::<bool>().prop_flat_map(changes).prop_flat_map(|changes| {
            (Just(changes.clone()), Just(changes).prop_shuffle())
        }),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let retractable = changes.iter().any(|change| change.away);
        for mode in [
            InputMode { has_time: true, retractable },
            InputMode { has_time: true, retractable: true },
        ] {
            let aggregates = compiled(mode);
            let mut whole = aggregates.new_state();
            for batch in batches(&shuffled, &cuts).iter().rev() {
                let part = stored(aggregates, &part(aggregates, batch, mode));
                aggregates.merge(&mut whole, &part);
            }
            aggregates.settle(&mut whole).unwrap();
            agree(aggregates, &whole, &changes, mode)?;
            prop_assert_eq!(&stored(aggregates, &whole), &whole);
            // One after the other gives the same bytes, and leaves no trace of what has gone.
            let mut single = aggregates.new_state();
            for change in &changes {
                aggregates.merge(&mut single, &part(aggregates, slice::from_ref(change), mode));
                aggregates.settle(&mut single).unwrap();
            }
            prop_assert_eq!(bytes_of(aggregates, &single), bytes_of(aggregates, &whole));
            let rest = changes.iter().filter(|change| change.away).count() * 2 == changes.len();
            prop_assert_eq!(aggregates.is_empty(&whole), rest && mode.retractable);
            prop_assert_eq!(rest, whole == aggregates.new_state());
        }
    }

    /// By arrival the cuts into batches do not matter.
    #[test]
    fn by_arrival_the_cuts_do_not_matter(
        changes in any::<bool>().prop_flat_map(changes),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let retractable = changes.iter().any(|change| change.away);
        for mode in [
            InputMode { has_time: false, retractable },
            InputMode { has_time: false, retractable: true },
        ] {
            let aggregates = compiled(mode);
            let mut whole = aggregates.new_state();
            for batch in batches(&changes, &cuts) {
                let part = stored(aggregates, &part(aggregates, &batch, mode));
                aggregates.merge(&mut whole, &part);
                aggregates.settle(&mut whole).unwrap();
            }
            agree(aggregates, &whole, &changes, mode)?;
            prop_assert_eq!(&stored(aggregates, &whole), &whole);
        }
    }

    /// Whatever the bytes, reading ends with a state that can be written and read, or an error.
    #[test]
    fn no_bytes_make_reading_panic(
        changes in changes(false),
        wild in proptest::collection::vec(any::<u8>(), 0..200),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        has_time in any::<bool>(),
        retractable in any::<bool>(),
    ) {
        let mode = InputMode { has_time, retractable };
        let aggregates = compiled(mode);
        let mut bytes = bytes_of(aggregates, &part(aggregates, &changes, mode));
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let wild = [&[2], wild.as_slice()].concat();
        for bytes in [bytes, wild] {
            if let Ok(mut state) = aggregates.decode(&bytes) {
                let again = aggregates.decode(&bytes_of(aggregates, &state)).unwrap();
                prop_assert_eq!(&again, &state);
                let _ = aggregates.settle(&mut state);
                let _ = state.size_bytes();
            }
        }
    }
}
