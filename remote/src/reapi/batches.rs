//! Which blobs travel together in one message, and which alone in a stream.
//!
//! Pure: sizes in, plans out.

/// The bytes that a message needs for one blob besides its own: digest, tags and lengths.
const FRAMING_BYTES: u64 = 100;

/// The largest batch where the server names no limit or a larger one. The libraries of gRPC refuse messages
/// above 4,194,304 bytes, also on servers that say there is no limit.
const BATCH_BYTES_MAX: u64 = 4_000_000;

/// The most blobs in one batch, so that many tiny ones do not make one long request.
const BATCH_BLOBS_MAX: usize = 4_000;

/// The limit of one batch in bytes, framing included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchLimit(u64);

impl BatchLimit {
    /// Makes the limit of what the server advertises, where 0 means that it says nothing.
    pub(super) fn of_advertised(bytes: i64) -> BatchLimit {
        match u64::try_from(bytes) {
            Ok(bytes @ 1..) => BatchLimit(bytes.min(BATCH_BYTES_MAX)),
            _ => BatchLimit(BATCH_BYTES_MAX),
        }
    }

    /// Whether a blob of this size fits in a batch.
    pub(super) fn fits(self, size_bytes: u64) -> bool {
        size_bytes.saturating_add(FRAMING_BYTES) <= self.0
    }
}

/// Which items travel together. The numbers are positions in the list of sizes, each exactly once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The items of each batch.
    pub(super) batches: Vec<Vec<usize>>,
    /// The items that do not fit in any batch.
    pub(super) streams: Vec<usize>,
}

/// Plans batches for items of these sizes, in their order.
pub(super) fn plan(limit: BatchLimit, sizes: impl IntoIterator<Item = u64>) -> Plan {
    let mut plan = Plan::default();
    let mut bytes = 0;
    for (item, size_bytes) in sizes.into_iter().enumerate() {
        if !limit.fits(size_bytes) {
            plan.streams.push(item);
            continue;
        }
        let framed = size_bytes + FRAMING_BYTES;
        match plan.batches.last_mut() {
            Some(batch) if bytes + framed <= limit.0 && batch.len() < BATCH_BLOBS_MAX => {
                batch.push(item);
                bytes += framed;
            }
            _ => {
                plan.batches.push(vec![item]);
                bytes = framed;
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_the_server_says_and_never_more_than_messages_hold() {
        for (advertised, expected) in
            [(0, 4_000_000), (-1, 4_000_000), (65_536, 65_536), (4_193_280, 4_000_000), (i64::MAX, 4_000_000)]
        {
            assert_eq!(BatchLimit::of_advertised(advertised), BatchLimit(expected), "{advertised}");
        }
    }

    #[test]
    fn framing_counts() {
        let limit = BatchLimit::of_advertised(65_536);
        assert!(limit.fits(65_436) && !limit.fits(65_437) && !limit.fits(u64::MAX));
        let plan = plan(limit, [32_668, 32_668, 32_669]);
        assert_eq!(plan.batches, [vec![0, 1], vec![2]]);
        assert!(plan.streams.is_empty());
    }

    #[test]
    fn every_item_is_planned_once_and_no_batch_is_too_large() {
        for advertised in [0, 65_536, 50] {
            let limit = BatchLimit::of_advertised(advertised);
            let sizes: Vec<u64> = (0..500).map(|i| i * i * 37 % 90_000).collect();
            let plan = plan(limit, sizes.iter().copied());
            let framed = |batch: &Vec<usize>| batch.iter().map(|i| sizes[*i] + FRAMING_BYTES).sum::<u64>();
            assert!(plan.batches.iter().all(|batch| framed(batch) <= limit.0), "{advertised}");
            let mut items: Vec<usize> = plan.batches.concat();
            items.extend(&plan.streams);
            items.sort_unstable();
            assert_eq!(items, (0..500).collect::<Vec<_>>(), "{advertised}");
        }
        assert_eq!(plan(BatchLimit::of_advertised(0), vec![0; 10_000]).batches.len(), 3);
    }
}
