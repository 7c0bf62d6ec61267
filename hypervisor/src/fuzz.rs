// SPDX-License-Identifier: Apache-2.0
//! Doors for the fuzz targets to what strangers on the network and guests can send; nothing else calls these.

/// Everything that a connection without a good signature carries inside TLS: it is answered with a refusal, or not at all.
pub fn api_request(bytes: &[u8]) {
    crate::api::fuzz::request(bytes);
}

/// The part of a target behind `?`.
pub fn api_query(text: &str) {
    crate::api::fuzz::query(text);
}

/// What a guest says, as it is shown to those who ask for its logs.
pub fn workload_log(bytes: &[u8]) {
    crate::api::fuzz::workload_log(bytes);
}

/// What a monitor says in `status.json`, whoever got hold of it: as long and as harmless as the hypervisor shows it.
pub fn monitor_status(bytes: &[u8]) {
    use crate::workload::folder::{MAX_LACKS, MAX_WORDS, read_status};
    let Some(status) = read_status(bytes) else {
        return;
    };
    assert!(status.lacks.len() <= MAX_LACKS);
    // Its texts are all that the state's name, numbers and the JSON around them leave room for.
    let state = serde_json::to_value(&status.state).expect("it was JSON");
    let texts = state
        .as_object()
        .expect("a state is an object")
        .values()
        .filter_map(|value| value.as_str());
    for text in texts.chain(status.lacks.iter().map(String::as_str)) {
        assert!(text.chars().count() <= MAX_WORDS && !text.contains(racklet_tell::text::is_hidden));
    }
}
