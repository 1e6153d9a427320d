//! The watermark of a stage's input, out of what its channels say.
//!
//! Pure. A source edge says how far its splits are, the same in substance on every channel; a keyed
//! edge says a watermark per channel, of which the least counts. Of several edges the least counts.

use crate::exchange::{MinWatermark, SourceWatermark};
use crate::protocol::SplitProgress;

/// What one edge's channels say.
#[derive(Debug)]
pub(crate) enum EdgeMark {
    /// From a source stage.
    Source(SourceWatermark),
    /// From a keyed stage; one input per channel.
    Keyed(MinWatermark),
}

/// The watermark of a stage's input.
#[derive(Debug)]
pub(crate) struct Marks {
    edges: Vec<EdgeMark>,
    /// Of each edge `width` channels, one behind the other.
    width: usize,
    least: MinWatermark,
}

impl Marks {
    /// Of `edges` with `width` channels each; channels are numbered edge by edge.
    pub(crate) fn new(edges: Vec<EdgeMark>, width: usize) -> Self {
        let least = MinWatermark::new(edges.len());
        Self { edges, width: width.max(1), least }
    }

    /// A channel tells of splits; gives the input's watermark if that moved it.
    pub(crate) fn progress(&mut self, channel: usize, progress: &SplitProgress) -> Option<i64> {
        let edge = channel / self.width;
        match &mut self.edges[edge] {
            EdgeMark::Source(mark) => {
                let watermark = mark.apply(progress)?;
                self.least.advance(edge, watermark)
            }
            EdgeMark::Keyed(_) => None,
        }
    }

    /// A channel tells a watermark; gives the input's watermark if that moved it.
    pub(crate) fn watermark(&mut self, channel: usize, watermark_ms: i64) -> Option<i64> {
        let edge = channel / self.width;
        match &mut self.edges[edge] {
            EdgeMark::Keyed(mark) => {
                let watermark = mark.advance(channel % self.width, watermark_ms)?;
                self.least.advance(edge, watermark)
            }
            EdgeMark::Source(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SplitPosition;

    fn progress(split: u64, time: i64, done: bool) -> SplitProgress {
        let position =
            SplitPosition { split, position: 1, max_time_ms: time, has_time: true, done };
        SplitProgress {
            splits: vec![position],
            all_dealt: true,
            split_count: 2,
            ..SplitProgress::default()
        }
    }

    #[test]
    fn the_least_of_all_edges_counts() {
        let source = EdgeMark::Source(SourceWatermark::new(2, 10));
        let keyed = EdgeMark::Keyed(MinWatermark::new(2));
        let mut marks = Marks::new(vec![source, keyed], 2);
        assert_eq!(marks.progress(0, &progress(0, 100, false)), None);
        assert_eq!(marks.watermark(2, 50), None);
        assert_eq!(marks.watermark(3, 80), Some(50));
        assert_eq!(marks.watermark(2, 200), Some(80));
        assert_eq!(marks.watermark(3, 200), Some(90));
        assert_eq!(marks.progress(0, &progress(0, 100, true)), None);
        assert_eq!(marks.progress(1, &progress(1, 500, true)), Some(200));
    }
}
