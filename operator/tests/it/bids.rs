//! The example job over generated bids gives the independent engine's result at every width.

use crate::command::Folder;
use crate::rows::{assert_sink_is, root};

#[test]
fn statistics_equal_the_independent_engines_at_every_width() {
    let text = std::fs::read_to_string(root().join("examples/bids.yaml")).expect("the example");
    for (workers, slots) in [(1, 1), (2, 3), (3, 1)] {
        let folder = Folder::new();
        let width = format!("replicas: {workers}\n  slots: {slots}");
        let manifest =
            text.replace("replicas: 2", &width).replace("interval: 1s", "interval: 100ms");
        assert!(manifest.contains(&width) && manifest.contains("100ms"));
        folder.write("bids.yaml", &manifest);
        folder.weir(&["run", "bids.yaml"]).check(0, &["finished", "late rows 0"]);
        assert_sink_is(&folder, "out/bids", "bids.statistics.ndjson");
        folder.assert_nothing_runs();
    }
}
