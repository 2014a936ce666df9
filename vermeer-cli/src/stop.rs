//! Being asked to stop: Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use vermeer::{Error, Result};

/// What a process that is interrupted twice ends with.
const INTERRUPTED_TWICE: i32 = 130;

/// A flag that is set by the first Ctrl-C or SIGTERM, for work that then comes to an orderly
/// end. A Ctrl-C after that ends the process at once.
///
/// # Errors
/// [`Error::Failed`] when the system refuses to tell about signals.
pub(crate) fn flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // The order matters: the way out is asked for before the flag of the same signal is set.
    flag::register_conditional_shutdown(SIGINT, INTERRUPTED_TWICE, Arc::clone(&stop))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&stop)))
        .and_then(|_| flag::register(SIGTERM, Arc::clone(&stop)))
        .map_err(|error| Error::Failed(format!("cannot listen for signals: {error}")))?;
    Ok(stop)
}
