//! Names like the one that was not found.

/// At most this many are offered.
const OFFERED_MAX: usize = 3;

/// Those of `names` that are a slip of the pen away from `wanted`, nearest first.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = wanted.to_lowercase();
    let allowed = (wanted.chars().count() / 3).min(3);
    let mut found: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    found.sort_unstable();
    found.truncate(OFFERED_MAX);
    found.into_iter().map(|(_, name)| name).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let same = left[i - 1] == right[j - 1];
            let mut cost = (rows[i - 1][j - 1] + usize::from(!same))
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                cost = cost.min(rows[i - 2][j - 2] + 1);
            }
            row.push(cost);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_nearest_first() {
        let names = ["origin", "dest", "dep_delay", "arr_delay", "Origin"];
        assert_eq!(nearest("orgin", names), ["Origin", "origin"]);
        assert_eq!(nearest("delay", names), Vec::<&str>::new());
        assert_eq!(nearest("dep_dealy", names), ["dep_delay"]);
        assert_eq!(nearest("ORIGIN", names), ["Origin", "origin"]);
    }
}
