//! Wall-clock time of what the kernel stamped with time since boot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sys;

/// The wall-clock time of an instant given in nanoseconds since boot, as the clocks stand now. A step of the wall clock
/// moves it; the event's own stamp is in the record as well.
#[must_use]
pub fn wall_clock(boot_ns: u64) -> SystemTime {
    let now = SystemTime::now();
    let Ok(up) = sys::boot_time() else { return now };
    let at = Duration::from_nanos(boot_ns);
    match up.checked_sub(at) {
        Some(ago) => now.checked_sub(ago).unwrap_or(now),
        None => now,
    }
}

/// RFC 3339 in UTC with nanoseconds.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_nanos()
    )
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Eras of 400 years that start on 1 March, so that leap days come last (Hinnant, "chrono-compatible low-level date
/// algorithms").
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        let table = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 1, "2000-02-28T23:59:59.000000001Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_200, 0, "2024-03-01T00:00:00.000000000Z"),
            (4_102_444_799, 999_999_999, "2099-12-31T23:59:59.999999999Z"),
        ];
        for (seconds, nanos, text) in table {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, nanos)), text);
        }
    }

    #[test]
    fn now_is_now() {
        let up = sys::boot_time().unwrap();
        let time = wall_clock(u64::try_from(up.as_nanos()).unwrap());
        let off = SystemTime::now().duration_since(time).unwrap_or_default();
        assert!(off < Duration::from_secs(5), "{off:?}");
    }
}
