//! A moment as text: Coordinated Universal Time to the millisecond (IRCv3 `server-time`). No clock is read here.

use std::time::Duration;

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// The time since 1970 as `YYYY-MM-DDThh:mm:ss.sssZ`.
pub(crate) fn utc(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / SECONDS_OF_A_DAY, since_1970.as_secs() % SECONDS_OF_A_DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_1970.subsec_millis())
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar.
fn date(mut day: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    // 400 years always have 146,097 days; what is left takes at most as many steps as there are years in it.
    year += day / 146_097 * 400;
    day %= 146_097;
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::utc;
    use std::time::Duration;

    #[test]
    fn moments_are_written_in_utc_with_milliseconds() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_007, "2000-03-01T00:00:00.007Z"),
            (1_319_042_451_620, "2011-10-19T16:40:51.620Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn the_end_of_all_time_is_written_as_well() {
        assert!(utc(Duration::MAX).ends_with("Z"));
    }
}
