//! Where spans are sent to.

use std::fmt;
use std::str::FromStr;

use axum::http::Uri;

/// The address of a collector that speaks OTLP over gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

/// A text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a collector: write http://HOST:PORT, such as http://127.0.0.1:4317")]
pub struct BadOtlpEndpoint(String);

impl OtlpEndpoint {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OtlpEndpoint {
    type Err = BadOtlpEndpoint;

    fn from_str(text: &str) -> Result<Self, BadOtlpEndpoint> {
        let bad = || BadOtlpEndpoint(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| bad())?;
        let plain = uri.scheme_str() == Some("http")
            && uri.port_u16().is_some()
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.path() == "/"
            && uri.query().is_none();
        if plain { Ok(Self(text.trim().to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_an_address_with_its_port() {
        for good in ["http://127.0.0.1:4317", "http://collector.monitoring.svc:4317/", "http://[::1]:4317"] {
            assert!(good.parse::<OtlpEndpoint>().is_ok(), "{good}");
        }
        for bad in
            ["", "collector:4317", "http://collector", "https://a:4317", "http://u@a:1", "http://a:1/v1"]
        {
            assert!(bad.parse::<OtlpEndpoint>().is_err(), "{bad}");
        }
    }
}
