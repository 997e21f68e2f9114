//! Reads from the DER of an X.509 certificate from when to when it is valid.
//!
//! Pure. It finds the two dates and ignores signatures, names and extensions, which the TLS
//! library checks. The library does not check the dates of the server's own certificate, and a
//! client that refuses an expired one reports that only in its own log.

use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;

/// The dates between which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The date "not before".
    pub begins: SystemTime,
    /// The date "not after".
    pub ends: SystemTime,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Reads the dates; `None` if the bytes are not a certificate.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields, VERSION)?.1;
    }
    // Skips the serial number, the signature algorithm and the issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    let (dates, _) = element(fields, SEQUENCE)?;
    let (begins, rest) = date(dates)?;
    let (ends, _) = date(rest)?;
    Some(Validity { begins, ends })
}

/// Splits off the DER element at the front: its content, and the bytes after it. `None` if it
/// does not have this tag.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    if found != tag {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = digits.iter().fold(0usize, |len, &digit| len << 8 | usize::from(digit));
            (len, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

fn date(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let tag = *der.first()?;
    let (text, rest) = element(der, tag)?;
    let year_digits = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    Some((parse_date(text, year_digits)?, rest))
}

/// Parses `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn parse_date(text: &[u8], year_digits: usize) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != year_digits + 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        digits[range].iter().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'))
    };
    let year = match number(0..year_digits) {
        // RFC 5280: two digits mean 1950 to 2049.
        year if year_digits == 2 && year < 50 => 2000 + year,
        year if year_digits == 2 => 1900 + year,
        year => year,
    };
    let at = |index: usize| number(year_digits + 2 * index..year_digits + 2 * index + 2);
    let [month, day, hour, minute, second] = [0, 1, 2, 3, 4].map(|index| i8::try_from(at(index)).ok());
    let moment = DateTime::new(i16::try_from(year).ok()?, month?, day?, hour?, minute?, second?, 0).ok()?;
    // `Timestamp` cannot hold the last second of the year 9999, which RFC 5280 uses for a
    // certificate that never expires, so the seconds are computed without a time zone.
    let seconds = moment.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs();
    let magnitude = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    if seconds < 0 { epoch.checked_sub(magnitude) } else { epoch.checked_add(magnitude) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        for (text, year_digits, expected) in [
            ("700101000000Z", 2, Some(0)),
            ("19700102000001Z", 4, Some(86_401)),
            ("000229120000Z", 2, Some(951_825_600)),
            ("20240301000000Z", 4, Some(1_709_251_200)),
            ("491231235959Z", 2, Some(2_524_607_999)),
            ("99991231235959Z", 4, Some(253_402_300_799)),
            ("700101000000", 2, None),
            ("7001010000Z", 2, None),
            ("70010100000xZ", 2, None),
            ("701301000000Z", 2, None),
            ("700001000000Z", 2, None),
            ("700230000000Z", 2, None),
            ("700101240000Z", 2, None),
        ] {
            let expected = expected.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(parse_date(text.as_bytes(), year_digits), expected, "{text}");
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(parse_date(b"691231235959Z", 2), Some(before));
    }

    #[test]
    fn the_dates_of_a_certificate_are_found_and_other_bytes_are_refused() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2060, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der().as_ref();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let expected = Validity { begins: at(1_582_934_400), ends: at(2_871_676_800) };
        assert_eq!(validity(der), Some(expected));
        for len in 0..der.len() {
            assert_eq!(validity(&der[..len]), None, "cut at {len}");
        }
        assert_eq!(validity(b"nonsense"), None);
        assert_eq!(validity(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(validity(&[SEQUENCE, 0x80]), None);
    }
}
