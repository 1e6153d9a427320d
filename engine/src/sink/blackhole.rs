//! The `blackhole` sink: rows end here. The task's counters count them, as in front of any sink.

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use weir_state::ids::CheckpointId;

use crate::protocol::Piece;
use crate::rows::Rows;
use crate::sink::{SinkError, SinkWriter};

/// Takes rows and keeps none.
pub(crate) struct BlackholeWriter;

#[async_trait]
impl SinkWriter for BlackholeWriter {
    async fn write(&mut self, _rows: &Rows) -> Result<(), SinkError> {
        Ok(())
    }

    fn cut(
        &mut self,
        _checkpoint: CheckpointId,
    ) -> BoxFuture<'static, Result<Vec<Piece>, SinkError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}
