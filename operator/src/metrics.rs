//! A page of metrics in the text form that Prometheus reads; a worker's and the operator's are made
//! with it. docs/reference/metrics.md lists them all, and a test holds it to them.
//!
//! Names are stable: one may be added, none changes its meaning.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of one series.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Metrics at one moment.
pub(crate) struct Page {
    registry: Registry,
    names: BTreeSet<String>,
}

impl Page {
    /// An empty page, all of whose series have these labels.
    pub(crate) fn new(labels: Labels) -> Self {
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { registry: Registry::with_labels(labels), names: BTreeSet::new() }
    }

    /// A counter; its name in the text ends in `_total`.
    pub(crate) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        self.names.insert(format!("{name}_total"));
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in series {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    /// A counter of seconds, given in milliseconds.
    pub(crate) fn seconds_counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        self.names.insert(format!("{name}_total"));
        let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
        for (labels, ms) in series {
            family.get_or_create(&labels).inc_by(seconds(ms));
        }
        self.registry.register(name, help, family);
    }

    /// A value that goes up and down.
    pub(crate) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.names.insert(name.to_owned());
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in series {
            family.get_or_create(&labels).set(value);
        }
        self.registry.register(name, help, family);
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// The names of all metrics, also of those that have no series now.
    #[cfg(test)]
    pub(crate) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }
}

/// Milliseconds as the seconds that Prometheus counts in.
#[expect(clippy::cast_precision_loss, reason = "shown, and exact up to a thousand centuries")]
pub(crate) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// A number as a gauge has it.
#[expect(clippy::cast_precision_loss, reason = "shown, and exact up to nine petabytes")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn file(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn all_names() -> BTreeSet<String> {
        crate::worker::metrics::names()
            .into_iter()
            .chain(crate::operator::metrics::names())
            .collect()
    }

    #[test]
    fn the_reference_names_the_metrics_that_there_are() {
        let page = file("docs/reference/metrics.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `weir_")?.split('`').next());
        let documented: BTreeSet<String> = rows.map(|rest| format!("weir_{rest}")).collect();
        let there = all_names();
        let missing: Vec<_> = there.difference(&documented).collect();
        let gone: Vec<_> = documented.difference(&there).collect();
        assert!(missing.is_empty() && gone.is_empty(), "missing: {missing:?}; gone: {gone:?}");
    }

    /// Words of a text that look like metrics, but for labels.
    fn used(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("weir_") && *word != "weir_job").collect()
    }

    #[test]
    fn alerts_and_the_dashboard_use_metrics_that_there_are() {
        let there = all_names();
        for path in ["rules/alerts.yaml", "rules/tests/alerts_test.yaml", "dashboards/weir.json"] {
            let text = file(&format!("charts/weir/{path}"));
            let used = used(&text);
            assert!(used.len() > 5, "{path} uses {used:?}");
            let unknown: Vec<_> = used.iter().filter(|name| !there.contains(**name)).collect();
            assert!(unknown.is_empty(), "{path}: {unknown:?}");
        }
    }

    #[test]
    fn the_dashboard_has_panels_that_do_not_overlap() {
        let board: serde_json::Value =
            serde_json::from_str(&file("charts/weir/dashboards/weir.json")).unwrap();
        let mut taken = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{panel}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "two panels at {x}, {y}");
                }
            }
        }
        assert!(taken.len() > 500);
    }

    #[test]
    fn a_page_has_names_helps_labels_and_an_end() {
        let mut page = Page::new(vec![("at", "here".to_owned())]);
        page.counter("weir_things", "Things", [(vec![("kind", "a".to_owned())], 3)]);
        page.seconds_counter("weir_wait_seconds", "Waited", [(Vec::new(), 1_250)]);
        page.gauge("weir_size_bytes", "Size", [(Vec::new(), 2.0)]);
        page.gauge("weir_absent", "Nothing has it", []);
        let text = page.text();
        for line in [
            "# TYPE weir_things counter",
            "weir_things_total{at=\"here\",kind=\"a\"} 3",
            "weir_wait_seconds_total{at=\"here\"} 1.25",
            "weir_size_bytes{at=\"here\"} 2.0",
        ] {
            assert!(text.lines().any(|its| its == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let names =
            ["weir_absent", "weir_size_bytes", "weir_things_total", "weir_wait_seconds_total"];
        assert_eq!(page.names().iter().collect::<Vec<_>>(), names);
    }
}
