//! The weather of one place and the lines that tell it. Pure.

use serde_json::Number;

/// The line above and below a report.
const RULE: &str = "------------------------------";

/// The weather as the API gave it. The numbers keep their kind: 18.0 is told as 18.0 and 18 as 18.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    /// The name of the place.
    pub(crate) name: String,
    /// The country of the place.
    pub(crate) country: String,
    /// The condition in words.
    pub(crate) condition: String,
    /// The temperature in degrees Celsius.
    pub(crate) celsius: Number,
    /// The wind speed in kilometres per hour.
    pub(crate) wind_kph: Number,
    /// The relative humidity in per cent.
    pub(crate) humidity: Number,
    /// The UV index, without a unit.
    pub(crate) uv: Number,
}

impl Report {
    /// The lines of the answer in their order, one for each message. The values are not cleaned here.
    pub(crate) fn lines(&self) -> Vec<String> {
        vec![
            RULE.to_owned(),
            "Weather Information:".to_owned(),
            format!("Location: {}, {}", self.name, self.country),
            format!("Condition: {}", self.condition),
            format!("Temperature: {}°C", self.celsius),
            format!("Wind Speed: {} kph", self.wind_kph),
            format!("Humidity: {}%", self.humidity),
            format!("UV Index: {}", self.uv),
            RULE.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_answered_as_the_api_wrote_them() {
        let number = |text: &str| text.parse::<Number>().unwrap();
        let report = Report {
            name: "Paris".to_owned(),
            country: "France".to_owned(),
            condition: "Partly cloudy".to_owned(),
            celsius: number("18.0"),
            wind_kph: number("12.2"),
            humidity: number("63"),
            uv: number("4.0"),
        };
        assert_eq!(
            report.lines(),
            [
                "------------------------------",
                "Weather Information:",
                "Location: Paris, France",
                "Condition: Partly cloudy",
                "Temperature: 18.0°C",
                "Wind Speed: 12.2 kph",
                "Humidity: 63%",
                "UV Index: 4.0",
                "------------------------------",
            ]
        );
        let report = Report { celsius: number("-3"), ..report };
        assert_eq!(report.lines()[4], "Temperature: -3°C");
    }
}
