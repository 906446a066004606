//! A connection that knows no commands: bytes go out, and whole replies come in as they are.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reply::{Reply, shown};

/// How long a reply may take. A leader's loss is the longest that a command waits for.
const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// A connection to a server that speaks RESP2.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What came and was not taken yet.
    received: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends bytes, whatever they are.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// The next reply with its bytes.
    pub async fn reply(&mut self) -> anyhow::Result<(Reply, Vec<u8>)> {
        let Self { stream, received } = self;
        timeout(REPLY_WITHIN, next(stream, received)).await.context("no reply came")?
    }

    /// Sends a pipeline and takes that many replies, both at once: a server may stop reading
    /// while nobody takes its answers.
    pub async fn pipeline(&mut self, bytes: &[u8], replies: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let Self { stream, received } = self;
        let (mut from, mut to) = stream.split();
        let send = async { to.write_all(bytes).await.context("cannot send") };
        let take = async {
            let mut taken = Vec::with_capacity(replies);
            for number in 0..replies {
                let reply = timeout(REPLY_WITHIN, next(&mut from, received)).await;
                let reply = reply.context("no reply came").and_then(|reply| reply);
                let (_, raw) = reply.with_context(|| format!("reply {} of {replies}", number + 1))?;
                taken.push(raw);
            }
            anyhow::Ok(taken)
        };
        let (sent, taken) = tokio::join!(send, take);
        let taken = taken?;
        sent.map(|()| taken)
    }

    /// Sends one command and gives its reply.
    pub async fn ask(&mut self, words: &[&str]) -> anyhow::Result<Reply> {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.ask_words(&words).await
    }

    /// The same with words of any bytes.
    pub async fn ask_words(&mut self, words: &[Vec<u8>]) -> anyhow::Result<Reply> {
        let told = async {
            self.send(&encode(words)).await?;
            self.reply().await
        };
        let (reply, _) = told.await.with_context(|| line(words))?;
        Ok(reply)
    }

    /// All that comes until the other side closes, which it must do in that time.
    pub async fn until_closed(&mut self, within: Duration) -> anyhow::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.received);
        let closed = timeout(within, self.stream.read_to_end(&mut rest)).await;
        // A reset is as good as an end.
        let _ = closed.with_context(|| format!("it is still open, and said {}", shown(&rest)))?;
        Ok(rest)
    }

    /// The stream itself, for those who read slowly or not at all.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

async fn next(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> anyhow::Result<(Reply, Vec<u8>)> {
    loop {
        if let Some((reply, length)) = Reply::parse(received)? {
            let rest = received.split_off(length);
            return Ok((reply, std::mem::replace(received, rest)));
        }
        received.reserve(16 << 10);
        let more = stream.read_buf(received).await?;
        ensure!(more > 0, "the connection was closed after {}", shown(received));
    }
}

/// A command as clients send it.
pub fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// A command as a person would type it into netcat, every word in quotes.
pub fn encode_inline(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words {
        bytes.push(b'"');
        for byte in word {
            match byte {
                b'"' | b'\\' => bytes.extend([b'\\', *byte]),
                b' '..=b'~' => bytes.push(*byte),
                other => bytes.extend(format!("\\x{other:02x}").as_bytes()),
            }
        }
        bytes.extend(b"\" ");
    }
    bytes.extend(b"\r\n");
    bytes
}

/// A command to be shown.
pub fn line(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" ")
}
