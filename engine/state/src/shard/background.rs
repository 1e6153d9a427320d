//! Background work of a shard: tasks that write files and give views.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use weir_runtime::task;

use crate::error::StateError;
use crate::output::Writer;
use crate::version::View;

/// Work that goes on in a task of its own, for everybody who waits for it. It is aborted when the
/// last of them is dropped.
pub(super) type Background = Shared<BoxFuture<'static, Result<Arc<[View]>, StateError>>>;

/// Starts `work`; `what` it is stands in the error when it ends without a result.
pub(super) fn start(
    writer: &Writer,
    what: &'static str,
    work: impl Future<Output = Result<Vec<View>, StateError>> + Send + 'static,
) -> Background {
    let work = task::spawn(work);
    let writer = writer.clone();
    let result = async move {
        let views = work.await.unwrap_or_else(|ended| Err(writer.ended(what, &ended)))?;
        Ok(Arc::from(views))
    };
    result.boxed().shared()
}
