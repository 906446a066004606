//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// Starts logging. A filter that cannot be read is refused.
pub fn start(format: LogFormat, level: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let lines =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(level)?).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Human => lines.init(),
    }
    Ok(())
}
