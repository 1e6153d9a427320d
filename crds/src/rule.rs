//! Texts of CEL rules that several fields share.
//!
//! An API server refuses a definition whose rules might cost too much, so every list and text
//! that a rule reads has a limit in the schema.

/// A URI of a kind that a worker in a cluster can reach; a relative one has no meaning there.
pub(crate) const ABSOLUTE_URI: &str = "self.matches('^(s3|file)://.')";

/// What is said of a URI that is not.
pub(crate) const ABSOLUTE_URI_WORDS: &str =
    "in a cluster a uri begins with s3:// or file://; relative ones serve `weir run`";

/// The field is a duration of at least 1ms. CEL's own durations know no days, and turning ours
/// into them costs more than an API server allows; so lengths are told by their digits.
pub(crate) const AT_LEAST_1MS: &str = "self.matches('[1-9]')";

/// The field is a duration of at least 100ms.
pub(crate) const AT_LEAST_100MS: &str = "self.matches('[1-9][0-9]*[smhd]$|[1-9][0-9][0-9]+ms$')";

/// The field is a duration of at least 1s.
pub(crate) const AT_LEAST_1S: &str = "self.matches('[1-9][0-9]*[smhd]$|[1-9][0-9][0-9][0-9]+ms$')";

/// `offset` is shorter than `tumble`; days against another unit are left to the operator.
pub(crate) const OFFSET_BELOW_TUMBLE: &str = "!has(self.offset) || !has(self.tumble) || self.offset.endsWith('d') != self.tumble.endsWith('d') || \
     duration(self.offset.replace('d', 'h')) < duration(self.tumble.replace('d', 'h'))";

/// `offset` is shorter than `hop.every`, as far as [`OFFSET_BELOW_TUMBLE`] goes.
pub(crate) const OFFSET_BELOW_EVERY: &str = "!has(self.offset) || !has(self.hop) || self.offset.endsWith('d') != self.hop.every.endsWith('d') || \
     duration(self.offset.replace('d', 'h')) < duration(self.hop.every.replace('d', 'h'))";

/// `every` is at most `size`, as far as [`OFFSET_BELOW_TUMBLE`] goes.
pub(crate) const EVERY_WITHIN_SIZE: &str = "self.every.endsWith('d') != self.size.endsWith('d') || \
     duration(self.every.replace('d', 'h')) <= duration(self.size.replace('d', 'h'))";

/// No label of the map is one by which Weir knows its pods.
pub(crate) const NO_OWN_LABEL: &str = "self.all(name, !name.startsWith('weir.dev/') && \
     name != 'app.kubernetes.io/managed-by' && name != 'app.kubernetes.io/component')";

/// What is said of one that is.
pub(crate) const NO_OWN_LABEL_WORDS: &str = "labels of weir.dev/, app.kubernetes.io/managed-by and app.kubernetes.io/component are Weir's own";

/// No annotation of the map is Weir's.
pub(crate) const NO_OWN_ANNOTATION: &str = "self.all(name, !name.startsWith('weir.dev/'))";

/// What is said of one that is.
pub(crate) const NO_OWN_ANNOTATION_WORDS: &str = "annotations of weir.dev/ are Weir's own";

/// An optional field of the object that never changes, neither comes nor goes.
pub(crate) fn set_once(field: &str) -> String {
    format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == \
         oldSelf.{field})"
    )
}

#[cfg(test)]
mod tests;
