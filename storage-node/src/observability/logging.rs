//! Log lines, on standard error: for people on a terminal, JSON for whatever collects them.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, Logging};

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The levels do not parse.
    #[error("log_level: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("logging was started before: {0}")]
    Started(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Starts logging, once in a process.
pub fn start(logging: &Logging) -> Result<(), LoggingError> {
    let terminal = std::io::stderr().is_terminal();
    let subscriber = subscriber(logging, terminal, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(())
}

/// The same with lines going elsewhere. Colours are for terminals only, whatever the format.
fn subscriber<W>(
    logging: &Logging,
    terminal: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&logging.filter)?;
    let json = match logging.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !terminal,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(terminal).with_writer(writer);
    Ok(if json { Box::new(lines.json().flatten_event(true).finish()) } else { Box::new(lines.finish()) })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, terminal: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let logging = Logging { format, filter: "info".to_owned() };
        let subscriber = subscriber(&logging, terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(partition = 7, "leads");
            tracing::debug!("not to be seen");
        });
        String::from_utf8(lines.0.lock().clone()).unwrap()
    }

    #[test]
    fn a_collector_gets_json_and_a_person_does_not() {
        for json in [logged(LogFormat::Auto, false), logged(LogFormat::Json, true)] {
            let line: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(line["message"], "leads");
            assert_eq!(line["partition"], 7);
        }
        for plain in [logged(LogFormat::Auto, true), logged(LogFormat::Human, false)] {
            assert!(!plain.starts_with('{') && plain.contains("leads"), "{plain}");
        }
    }

    #[test]
    fn a_log_file_has_no_colours() {
        assert!(!logged(LogFormat::Human, false).contains('\u{1b}'));
    }
}
