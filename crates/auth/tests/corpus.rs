//! Runs the stored inputs of the fuzz targets through the checks of those targets.

use std::path::Path;

use fireflow_auth::testing::TARGETS;
use fireflow_domain::testing::corpus::faults;

#[test]
fn stored_inputs_keep_every_promise_and_are_what_their_names_say() {
    let faults = faults(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"), &TARGETS);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
