//! Settings from a YAML file.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::{ConfigError, Settings, known_names};

/// How unlike two names may be for one to be offered in place of the other, from 0 to 1.
const ALIKE: f64 = 0.7;

/// Reads a file. Its names are those of the flags, with `_` for `-`.
pub fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// The same from its text. A name that is not known is refused, because a setting that
/// silently does nothing is the worst kind. Each value is read by itself, so that whatever
/// is wrong with it can be told by its name.
pub fn parse(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let path = || path.to_owned();
    let entries = match serde_yaml::from_str(text) {
        Ok(Value::Null) => return Ok(Settings::default()),
        Ok(Value::Mapping(entries)) => entries,
        Ok(_) => return Err(ConfigError::NotSettings { path: path() }),
        Err(source) => return Err(ConfigError::Malformed { path: path(), source }),
    };
    let known = known_names();
    let mut settings = Settings::default();
    for (name, value) in entries {
        let Value::String(name) = name else {
            return Err(ConfigError::NotSettings { path: path() });
        };
        if !known.contains(&name) {
            let nearest = nearest(&name, &known);
            return Err(ConfigError::UnknownName { path: path(), name, nearest });
        }
        let alone = Mapping::from_iter([(Value::String(name.clone()), value)]);
        match serde_yaml::from_value::<Settings>(Value::Mapping(alone)) {
            Ok(one) => settings = settings.or(one),
            Err(source) => return Err(ConfigError::BadValue { path: path(), name, source }),
        }
    }
    Ok(settings)
}

fn nearest(name: &str, known: &[String]) -> Option<String> {
    let likeness = |candidate: &String| strsim::jaro_winkler(&name.replace('-', "_"), candidate);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then(|| best.clone())
}
