//! Times as text, always in UTC, so that reports can be compared with each other and with logs of
//! machines in other time zones.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Formats a time as in RFC 3339, to the microsecond: `2026-11-21T04:43:22.123456Z`.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    timestamp(moment).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Formats a time for people: `2026-11-21 04:43:22 UTC`.
pub(super) fn for_people(moment: SystemTime) -> String {
    timestamp(moment).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Formats a time without its year: `11-21 04:43:22`.
pub(super) fn short(moment: SystemTime) -> String {
    timestamp(moment).strftime("%m-%d %H:%M:%S").to_string()
}

/// Converts a time. One before 1970 is shown as 1970, and one after the year 9999 as its end: such
/// times come from a clock that is wrong or from a damaged log.
fn timestamp(moment: SystemTime) -> Timestamp {
    Timestamp::try_from(moment.max(UNIX_EPOCH)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_formatted_in_utc_by_the_gregorian_calendar() {
        // As `date -u -d @N` says.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (68_169_600, "1972-02-29T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (1_795_236_202, "2026-11-21T04:43:22.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000000Z");
        let far = rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 40));
        assert!(far.starts_with("9999-12-30T"), "{far}");
        let moment = UNIX_EPOCH + Duration::from_nanos(1_795_236_202_000_007_999);
        assert_eq!(rfc3339(moment), "2026-11-21T04:43:22.000007Z");
        assert_eq!(for_people(moment), "2026-11-21 04:43:22 UTC");
        assert_eq!(short(moment), "11-21 04:43:22");
    }
}
