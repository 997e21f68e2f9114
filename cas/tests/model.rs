//! Compares the composed store with a model that consists of a few maps.
//!
//! A test makes a random sequence of events: blobs and results are stored, read and promised, time
//! passes and goes back, maintenance runs, the store is closed and opened again. After every event
//! the store's answers must agree with the model, and every promise that the model remembers must
//! have been kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod model {
    pub(crate) mod life;
    pub(crate) mod world;
}

use model::life::lives;
use model::world::{Kind, World};
use proptest::prelude::*;

fn check(kind: Kind, life: &[model::life::Event]) -> Result<(), TestCaseError> {
    let mut world = World::new(kind);
    for (index, event) in life.iter().enumerate() {
        let lived = world.live(event);
        lived.map_err(|error| TestCaseError::fail(format!("event {index}, {event:?}: {error}")))?;
    }
    Ok(())
}

/// Runs this many sequences, or more: `PROPTEST_CASES=2560` makes ten times as many. A failure
/// prints the whole sequence; no file of seeds is kept.
fn config(cases: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = (cases * usual.cases / 256).max(1);
    ProptestConfig { cases, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config(64))]
    #[test]
    fn sto_02_03_04_06_the_store_in_memory_keeps_its_promises(life in lives(120)) {
        check(Kind::Memory, &life)?;
    }
}

// Few sequences, because each makes a new store and waits for the volume at the end of each epoch.
proptest! {
    #![proptest_config(config(8))]
    #[test]
    fn sto_02_03_04_06_the_store_on_disk_keeps_its_promises(life in lives(70)) {
        check(Kind::Disk, &life)?;
    }
}
