//! The places that the service knows, with fixed weather. Pure data, and the search in it.

/// One place and its weather.
#[derive(Debug, PartialEq)]
pub(crate) struct Place {
    /// The name, which is also what a question has to say.
    pub(crate) name: &'static str,
    /// The region within the country.
    pub(crate) region: &'static str,
    /// The country.
    pub(crate) country: &'static str,
    /// The latitude in degrees, north positive.
    pub(crate) latitude: f64,
    /// The longitude in degrees, east positive.
    pub(crate) longitude: f64,
    /// The time zone's name.
    pub(crate) time_zone: &'static str,
    /// The temperature in degrees Celsius.
    pub(crate) celsius: f64,
    /// The condition in words.
    pub(crate) condition: &'static str,
    /// The wind speed in kilometres per hour.
    pub(crate) wind_kph: f64,
    /// The relative humidity in per cent.
    pub(crate) humidity: u8,
    /// The UV index.
    pub(crate) uv: f64,
}

/// All of them.
pub(crate) const PLACES: &[Place] = &[
    Place {
        name: "Berlin",
        region: "Berlin",
        country: "Germany",
        latitude: 52.52,
        longitude: 13.4,
        time_zone: "Europe/Berlin",
        celsius: -2.5,
        condition: "Light snow",
        wind_kph: 20.5,
        humidity: 86,
        uv: 0.5,
    },
    Place {
        name: "London",
        region: "City of London, Greater London",
        country: "United Kingdom",
        latitude: 51.52,
        longitude: -0.11,
        time_zone: "Europe/London",
        celsius: 11.3,
        condition: "Light rain",
        wind_kph: 24.1,
        humidity: 88,
        uv: 1.0,
    },
    Place {
        name: "New York",
        region: "New York",
        country: "United States of America",
        latitude: 40.71,
        longitude: -74.01,
        time_zone: "America/New_York",
        celsius: 22.8,
        condition: "Sunny",
        wind_kph: 9.4,
        humidity: 41,
        uv: 7.0,
    },
    Place {
        name: "Paris",
        region: "Ile-de-France",
        country: "France",
        latitude: 48.87,
        longitude: 2.33,
        time_zone: "Europe/Paris",
        celsius: 18.0,
        condition: "Partly cloudy",
        wind_kph: 12.2,
        humidity: 63,
        uv: 4.0,
    },
    Place {
        name: "São Paulo",
        region: "São Paulo",
        country: "Brazil",
        latitude: -23.53,
        longitude: -46.62,
        time_zone: "America/Sao_Paulo",
        celsius: 27.1,
        condition: "Thundery outbreaks possible",
        wind_kph: 15.8,
        humidity: 74,
        uv: 9.0,
    },
    Place {
        name: "Tokyo",
        region: "Tokyo",
        country: "Japan",
        latitude: 35.69,
        longitude: 139.69,
        time_zone: "Asia/Tokyo",
        celsius: 16.4,
        condition: "Overcast",
        wind_kph: 6.1,
        humidity: 57,
        uv: 3.0,
    },
];

/// The place of that name; capitals and outer white space do not count.
pub(crate) fn find(name: &str) -> Option<&'static Place> {
    let wanted = name.trim().to_lowercase();
    PLACES.iter().find(|place| place.name.to_lowercase() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_however_it_is_capitalised() {
        for name in ["Paris", "PARIS", " paris "] {
            assert_eq!(find(name).map(|place| place.country), Some("France"), "{name:?}");
        }
        assert_eq!(find("SÃO PAULO").map(|place| place.country), Some("Brazil"));
    }

    #[test]
    fn no_part_of_a_name_finds_a_place() {
        for name in ["", "Par", "Paris, Texas", "New", "Atlantis"] {
            assert_eq!(find(name), None, "{name:?}");
        }
    }
}
