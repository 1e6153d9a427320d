//! Texts of CEL rules that several fields share.
//!
//! An API server refuses a definition whose rules might cost too much, so every list and text
//! that a rule reads has a limit in the schema.

/// A URI of a kind that a worker in a cluster can reach; a relative one has no meaning there.
pub(crate) const ABSOLUTE_URI: &str = "self.matches('^(s3|file)://.')";

/// What is said of a URI that is not.
pub(crate) const ABSOLUTE_URI_WORDS: &str =
    "in a cluster a uri begins with s3:// or file://; relative ones serve `weir run`";

/// `of`, a duration of ours, as one of CEL, which knows no days.
fn duration(of: &str) -> String {
    format!(
        "({of}.endsWith('d') ? duration(string(int({of}.substring(0, {of}.size() - 1)) * 24) + \
         'h') : duration({of}))"
    )
}

/// The field is a duration of at least `least`.
pub(crate) fn at_least(least: &str) -> String {
    format!("{} >= duration('{least}')", duration("self"))
}

/// Of two durations the first is the smaller one.
pub(crate) fn shorter(first: &str, second: &str) -> String {
    format!("{} < {}", duration(first), duration(second))
}

/// An optional field of the object that never changes, neither comes nor goes.
pub(crate) fn set_once(field: &str) -> String {
    format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == \
         oldSelf.{field})"
    )
}
