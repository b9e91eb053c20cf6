//! The URL of the weather API, checked once at the start. Pure: nothing is asked here.

use std::fmt;

use ureq::http::Uri;

/// The real service. Its answers are described at <https://www.weatherapi.com/docs/>.
pub(crate) const DEFAULT_ENDPOINT: &str = "https://api.weatherapi.com/v1/current.json";

/// An `http` or `https` URL with a host and without user, password and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Uri);

/// Why a text is no endpoint. The text itself is not repeated: a key may stand in its query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EndpointError {
    /// No URL at all.
    Malformed,
    /// A scheme that is not `http` or `https`, or none.
    Scheme,
    /// No host.
    Host,
    /// A user or a password before the host.
    User,
    /// The port is no number from 1 to 65535.
    Port,
    /// A query or a fragment; the bot writes the query itself.
    Query,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "it is no URL",
            Self::Scheme => "it does not begin with http:// or https://",
            Self::Host => "it has no host",
            Self::User => "it holds a user or a password",
            Self::Port => "its port is no number from 1 to 65535",
            Self::Query => "it holds a query or a fragment, which the bot writes itself",
        })
    }
}

impl Endpoint {
    /// Checks the text of the variable `WEATHER_API_URL`.
    pub(crate) fn parse(text: &str) -> Result<Self, EndpointError> {
        // The parser drops a fragment without a word.
        if text.contains('#') {
            return Err(EndpointError::Query);
        }
        let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(EndpointError::Scheme);
        }
        let authority = uri.authority().ok_or(EndpointError::Host)?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::User);
        }
        if authority.host().is_empty() {
            return Err(EndpointError::Host);
        }
        let has_port_text = authority.as_str().len() > authority.host().len();
        if has_port_text && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(EndpointError::Port);
        }
        if uri.query().is_some() {
            return Err(EndpointError::Query);
        }
        Ok(Self(uri))
    }

    /// The URL for a request.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_and_https_with_names_and_both_families_are_taken() {
        for text in [DEFAULT_ENDPOINT, "http://192.168.50.1:8080/v1/current.json", "http://[fd00::1]:80/", "http://w"] {
            assert!(Endpoint::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn each_malformed_url_is_refused_with_its_own_reason() {
        for (text, reason) in [
            ("", EndpointError::Malformed),
            ("http://", EndpointError::Malformed),
            ("http://two words/", EndpointError::Malformed),
            ("api.weatherapi.com", EndpointError::Scheme),
            ("/v1/current.json", EndpointError::Scheme),
            ("ftp://weather/", EndpointError::Scheme),
            ("http://user:word@weather/", EndpointError::User),
            ("http://:80/", EndpointError::Host),
            ("http://weather:0/", EndpointError::Port),
            ("http://weather:/", EndpointError::Port),
            ("http://weather:99999/", EndpointError::Port),
            ("http://weather/?key=0a1b", EndpointError::Query),
            ("http://weather/#top", EndpointError::Query),
        ] {
            assert_eq!(Endpoint::parse(text), Err(reason), "{text:?}");
        }
    }
}
