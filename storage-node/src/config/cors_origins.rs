//! Which pages may use REST.

/// Origins of pages whose scripts may read answers and ask for changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All there are.
    Any,
    /// These, beside the node's own.
    These(Vec<String>),
}

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin: write SCHEME://HOST or SCHEME://HOST:PORT, such as https://shop.example, or *"
)]
pub struct BadOrigin(String);

impl CorsOrigins {
    /// Of a list as it is given.
    pub fn parse(names: &[String]) -> Result<Self, BadOrigin> {
        let named: Vec<&str> = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        if named.contains(&"*") {
            return Ok(Self::Any);
        }
        let good = |name: &str| {
            let authority = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://"));
            let plain =
                |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@' | '"' | '\\' | '*');
            authority.is_some_and(|authority| !authority.is_empty() && authority.chars().all(plain))
        };
        match named.iter().find(|name| !good(name)) {
            Some(bad) => Err(BadOrigin((*bad).to_owned())),
            // Browsers write them in small letters.
            None => Ok(Self::These(named.iter().map(|name| name.to_ascii_lowercase()).collect())),
        }
    }

    /// The list that leads here.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Any => vec!["*".to_owned()],
            Self::These(origins) => origins.clone(),
        }
    }

    /// Whether a page of this origin is allowed.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(names: &str) -> Result<CorsOrigins, BadOrigin> {
        CorsOrigins::parse(&names.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn origins_are_listed_or_any() {
        let shop = parse("https://Shop.example, http://localhost:3000").unwrap();
        assert!(shop.allow("https://shop.example") && shop.allow("http://localhost:3000"));
        assert!(!shop.allow("https://other.example") && !shop.allow("null"));
        assert_eq!(CorsOrigins::parse(&shop.names()), Ok(shop));
        assert_eq!(parse("*"), Ok(CorsOrigins::Any));
        assert_eq!(parse(""), Ok(CorsOrigins::These(Vec::new())));
        for bad in ["shop.example", "https://", "https://a/b", "ftp://a", "https://*.example"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
