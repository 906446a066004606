//! The little HTTP that is needed to read a metric or ask for readiness.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::ClusterError;

const PATIENCE: Duration = Duration::from_secs(5);

/// An answer: its status and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200 when all is well.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// `GET` of a path at `HOST:PORT`. It asks by HTTP/1.0, so the body ends with the connection
/// and comes in one piece.
pub async fn get(address: &str, path: &str) -> Result<Response, ClusterError> {
    let url = format!("http://{address}{path}");
    let exchange = async {
        let mut connection = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = match timeout(PATIENCE, exchange).await {
        Ok(answer) => answer.map_err(ClusterError::io(format!("cannot read {url}")))?,
        Err(_) => return Err(ClusterError::TooLate { what: url, waited: PATIENCE }),
    };
    let answer = String::from_utf8_lossy(&answer);
    parse(&answer).ok_or_else(|| ClusterError::Unreadable(format!("{url} answered no HTTP")))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

/// The sum of all samples of a metric whose labels contain every one of `labels`, each given
/// as `name="value"`. None when there is no such metric at all.
pub fn metric(exposition: &str, name: &str, labels: &[&str]) -> Option<f64> {
    exposition
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (own, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let fits = labels.iter().all(|label| own.contains(label));
            fits.then(|| value.split_whitespace().next()?.parse::<f64>().ok()).flatten()
        })
        .reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPOSITION: &str = "\
# TYPE kvstore_operations_total counter
kvstore_operations_total{operation=\"put\",outcome=\"ok\"} 10
kvstore_operations_total{operation=\"put\",outcome=\"failed\"} 1
kvstore_operations_total{operation=\"get\",outcome=\"ok\"} 5
kvstore_operations_total_bytes 99
kvstore_log_fsyncs_total 7
";

    #[test]
    fn samples_are_summed_over_what_the_labels_leave_open() {
        let of = |labels| metric(EXPOSITION, "kvstore_operations_total", labels);
        assert_eq!(of(&[]), Some(16.0));
        assert_eq!(of(&["operation=\"put\""]), Some(11.0));
        assert_eq!(of(&["operation=\"put\"", "outcome=\"ok\""]), Some(10.0));
        assert_eq!(metric(EXPOSITION, "kvstore_log_fsyncs_total", &[]), Some(7.0));
        assert_eq!(metric(EXPOSITION, "kvstore_log", &[]), None);
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 7\r\n\r\njoining";
        assert_eq!(parse(answer), Some(Response { status: 503, body: "joining".to_owned() }));
        assert_eq!(parse("nonsense"), None);
    }
}
