//! Moments as text, in UTC: a report is compared with others, and with logs of machines in
//! other places.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// `2026-11-21T04:43:22.123456Z`, as RFC 3339 has it. Moments before 1970 are shown as 1970.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = since_epoch.subsec_micros();
    format!("{}T{}.{micros:06}Z", date(since_epoch.as_secs()), time_of_day(since_epoch.as_secs()))
}

/// `2026-11-21 04:43:22 UTC`.
pub(super) fn for_people(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{} {} UTC", date(seconds), time_of_day(seconds))
}

/// `11-21 04:43:22`, where the year is plain.
pub(super) fn short(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{} {}", &date(seconds)[5..], time_of_day(seconds))
}

fn time_of_day(seconds: u64) -> String {
    let second = seconds % DAY_S;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// The date in the Gregorian calendar. Years are counted from March, so that the day that
/// leap years add is the last of its year.
fn date(seconds: u64) -> String {
    const DAYS_FROM_YEAR_0_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = seconds / DAY_S + DAYS_FROM_YEAR_0_TO_1970;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
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
        let moment = UNIX_EPOCH + Duration::from_micros(1_795_236_202_000_007);
        assert_eq!(rfc3339(moment), "2026-11-21T04:43:22.000007Z");
        assert_eq!(for_people(moment), "2026-11-21 04:43:22 UTC");
        assert_eq!(short(moment), "11-21 04:43:22");
    }
}
