//! The payload of a log record, decoded as it is and as a batch, and in the record of a good segment,
//! which a database replays.
//!
//! Input: the payload.
#![no_main]

use alluvium::ErrorKind;
use alluvium::base::operation::Operations;
use alluvium::base::payload::{Payload, note_of_load};
use alluvium_fuzz::guard;
use libfuzzer_sys::fuzz_target;

/// Kind, keyspace and the length of the key: no operation is shorter.
const OPERATION_BYTES_MIN: usize = 3;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
    guard::within(data.len(), || decode(data));
    guard::within(data.len(), || decode_payload(data));
    alluvium_fuzz::database::replay(data);
}

/// What it is at all: a batch, or the note of a bulk load, which has one form.
fn decode_payload(data: &[u8]) {
    match Payload::decode(data) {
        Ok(Payload::Load(keyspaces)) => assert_eq!(note_of_load(keyspaces), data),
        Ok(Payload::Batch(operations)) => assert_ne!(operations.left(), 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption),
    }
}

fn decode(data: &[u8]) {
    let Ok(operations) = Operations::decode(data) else {
        assert!(data.len() < 4, "only a missing count is refused at once");
        return;
    };
    let stated = operations.left() as usize;
    let most = data.len() / OPERATION_BYTES_MIN + 1;
    let (mut decoded, mut bytes, mut failed) = (0, 0, false);
    for operation in operations {
        assert!(!failed, "one error ends it");
        match operation {
            Ok(operation) => {
                decoded += 1;
                bytes += operation.key.len() + operation.value.len();
            }
            Err(_) => failed = true,
        }
        assert!(decoded <= most && bytes <= data.len());
    }
    assert!(failed || decoded == stated);
}
