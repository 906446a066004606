//! What nodes of cluster version 1 would not understand, and so must not be told: they would pass
//! over it and do something else.

use proto::v1::{Failure, Operation, ScanRequest, modify_request::Change, operation::Operation as Kind};

use super::failure;

/// The first cluster version with paths, patches, filters and touches.
pub const SINCE_VERSION: u32 = 2;

/// Refuses an operation with something in it that is newer than the cluster version.
pub fn check(kind: &Kind, version: u32) -> Result<(), Failure> {
    if version >= SINCE_VERSION || !is_newer(kind) { Ok(()) } else { Err(too_new()) }
}

/// Refuses a scan with something in it that is newer than the cluster version.
pub fn check_scan(scan: &ScanRequest, version: u32) -> Result<(), Failure> {
    let newer = !scan.filter.is_empty() || !scan.paths.is_empty() || scan.snapshot_ms > 0;
    if version >= SINCE_VERSION || !newer { Ok(()) } else { Err(too_new()) }
}

fn is_newer(kind: &Kind) -> bool {
    let any = |operations: &[Operation]| {
        operations.iter().filter_map(|operation| operation.operation.as_ref()).any(is_newer)
    };
    match kind {
        Kind::Get(get) => !get.paths.is_empty() || get.touch_ms > 0,
        Kind::Modify(modify) => {
            let newer = match &modify.change {
                Some(Change::MergePatch(_) | Change::JsonPatch(_)) => true,
                Some(Change::Renew(renew)) => renew.quietly,
                _ => false,
            };
            newer || modify.condition.is_some()
        }
        Kind::Batch(batch) => any(&batch.operations),
        Kind::Txn(txn) => any(&txn.then) || any(&txn.otherwise),
        Kind::Put(_) | Kind::Delete(_) | Kind::Exists(_) | Kind::Copy(_) | Kind::Clear(_) => false,
    }
}

fn too_new() -> Failure {
    let what = "values can be read, changed and filtered by path, and touched, and snapshots held,";
    failure::needs_version(what, SINCE_VERSION)
}

#[cfg(test)]
mod tests {
    use proto::v1::{GetRequest, ModifyRequest, TxnRequest};

    use super::*;

    #[test]
    fn what_is_new_is_found_wherever_it_is() {
        let patch = Kind::Modify(ModifyRequest {
            change: Some(Change::MergePatch("{}".into())),
            ..ModifyRequest::default()
        });
        let add = Kind::Modify(ModifyRequest { change: Some(Change::Add(1)), ..ModifyRequest::default() });
        let parts = Kind::Get(GetRequest { paths: vec!["$".to_owned()], ..GetRequest::default() });
        let within = |kind| {
            let otherwise = vec![Operation { operation: Some(kind) }];
            Kind::Txn(TxnRequest { otherwise, ..TxnRequest::default() })
        };
        for newer in [patch.clone(), parts, within(patch)] {
            assert!(check(&newer, 1).is_err());
            assert!(check(&newer, 2).is_ok());
        }
        assert!(check(&add, 1).is_ok());
        assert!(check_scan(&ScanRequest { filter: "$".to_owned(), ..ScanRequest::default() }, 1).is_err());
        assert!(check_scan(&ScanRequest::default(), 1).is_ok());
    }
}
