//! The promises: each a function over a harness (DESIGN, section 4).

mod attach;
mod crossing;
mod gaps;
mod order;
mod thin;

use std::{future::Future, pin::Pin};

use crate::{Capability, Failure, Harness, Verdict};

pub use crossing::{hand_over, published_for_all};

/// A promise, and what a harness needs to show it.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Its name.
    pub name: &'static str,
    /// What it needs.
    pub needs: &'static [Capability],
    run: Run,
}

type Run = for<'a> fn(&'a dyn Harness) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

impl Promise {
    /// Holds `harness` to it.
    pub async fn verify(&self, harness: &dyn Harness) -> Verdict {
        let lacks = self.needs.iter().find(|need| !harness.capabilities().has(**need));
        if let Some(need) = lacks {
            return Verdict::Skipped(format!("{} lacks {need:?}", harness.name()));
        }
        match (self.run)(harness).await {
            Ok(()) => Verdict::Kept,
            Err(failure) => Verdict::Failed(failure),
        }
    }

    /// The promise of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROMISES.iter().find(|promise| promise.name == name)
    }
}

macro_rules! promises {
    ($($module:ident::$name:ident [$($need:ident)*])*) => {
        /// Every promise there is.
        pub static PROMISES: &[Promise] = &[$(Promise {
            name: stringify!($name),
            needs: &[$(Capability::$need),*],
            run: |harness| Box::pin($module::$name(harness)),
        }),*];

        $(pub use $module::$name;)*

        /// One test for each promise: `conformance!(sse, make)` makes a module `sse` of tests, each of which
        /// calls the async function `make` for a harness.
        ///
        /// The calling crate needs tokio with `macros` and `rt-multi-thread`.
        #[macro_export]
        macro_rules! conformance {
            ($transport:ident, $make:path) => {
                mod $transport {
                    $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        let harness = $make().await;
                        let promise = $crate::Promise::named(stringify!($name)).expect("it is in the list");
                        promise.verify(&harness).await.settle(&[stringify!($transport), stringify!($name)]);
                    })*
                }
            };
        }
    };
}

promises! {
    order::order []
    order::each_once []
    order::survives_cuts [Cut]
    order::provable []
    order::acknowledged_is_readable []
    order::idempotent [Publish]
    order::batch_is_atomic [Publish]
    attach::first_word []
    attach::heartbeat [Heartbeat]
    attach::race_free_attach []
    attach::snapshot_is_a_unit [Snapshot]
    attach::snapshot_survives_cuts [Snapshot Cut]
    gaps::gap_is_told []
    gaps::overflow_closes []
    gaps::overflow_skips [OverflowLatest]
    gaps::unknown_cursor_is_reset []
    gaps::isolation []
    thin::conflation []
    thin::credit [Credit]
}
