//! Text to milliseconds since 1970-01-01T00:00Z, as pipeline.md reads timestamps.

/// Milliseconds since 1970-01-01T00:00Z of `text`, floored; none if it is no timestamp.
///
/// RFC 3339 with `T` or one blank, up to nine fraction digits, `Z`, an offset, or none (UTC); or
/// `YYYY-MM-DD`.
pub fn parse(_text: &str) -> Option<i64> {
    unimplemented!()
}
