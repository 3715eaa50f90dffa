//! A store inside an asynchronous service: a server that speaks a line of text at a time.
//!
//! ```text
//! put KEY VALUE    answer: ok        once it survives the loss of power
//! get KEY          answer: VALUE, or nothing
//! ```
//! The store's calls block, so they do not belong on the threads that serve connections. A synced
//! write waits for the disk: all of them go to one thread of their own, which takes what has gathered,
//! writes it as one batch with one sync, and answers everybody: a hundred clients pay for one sync. A
//! read seldom waits (for a page that is not in memory), but may: tokio moves it aside.

use alluvium::{Db, Durability, Result, Slice, WriteBatch, WriteOptions};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, block_in_place};

const CLIENTS: usize = 50;
const PUTS: usize = 40;
/// Writes that wait at most; who comes then waits before that.
const WAITING: usize = 1_000;

/// A write, and where to say that it is durable.
struct Put {
    key: String,
    value: String,
    done: oneshot::Sender<Result<()>>,
}

/// Writes what has gathered until everybody who may write has gone; how many batches that were.
fn write_all(db: &Db, mut puts: mpsc::Receiver<Put>) -> usize {
    let (mut waiting, mut batches) = (Vec::new(), 0);
    while puts.blocking_recv_many(&mut waiting, WAITING) != 0 {
        let mut batch = WriteBatch::new();
        for put in &waiting {
            batch.put(db, &put.key, &put.value);
        }
        let written = db.write(&batch, WriteOptions::new().durability(Durability::Synced));
        for put in waiting.drain(..) {
            // Who has gone does not wait for it.
            let _ = put.done.send(written.clone().map(drop));
        }
        batches += 1;
    }
    batches
}

async fn serve(mut stream: TcpStream, db: Db, puts: mpsc::Sender<Put>) -> std::io::Result<()> {
    let (input, mut output) = stream.split();
    let mut lines = BufReader::new(input).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["put", key, value] => put(&puts, key, value).await,
            ["get", key] => {
                let text = |value: Slice| String::from_utf8_lossy(&value).into_owned();
                block_in_place(|| db.get(key)).map(|value| value.map_or(String::new(), text))
            }
            _ => Ok("what?".to_owned()),
        };
        let answer = answer.unwrap_or_else(|error| format!("failed: {error}"));
        output.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn put(puts: &mpsc::Sender<Put>, key: &str, value: &str) -> Result<String> {
    let (done, is_done) = oneshot::channel();
    let put = Put {
        key: key.to_owned(),
        value: value.to_owned(),
        done,
    };
    puts.send(put)
        .await
        .expect("the writer outlives all who write");
    is_done.await.expect("the writer answers everybody")?;
    Ok("ok".to_owned())
}

/// A client: puts, and gets what it has put.
async fn client(address: std::net::SocketAddr, n: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let (input, mut output) = stream.split();
    let mut answers = BufReader::new(input).lines();
    for i in 0..PUTS {
        let ask = format!("put client{n}/{i} value {i} of {n}\nget client{n}/{i}\n");
        output.write_all(ask.as_bytes()).await?;
        assert_eq!(answers.next_line().await?.as_deref(), Some("ok"));
        let value = answers.next_line().await?;
        assert_eq!(value, Some(format!("value {i} of {n}")));
    }
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::temp_dir().join(format!("tokio-service-{}", std::process::id()));
    let db = Db::open(&directory)?;
    let (puts, written) = mpsc::channel(WAITING);
    let writer = std::thread::spawn({
        let db = db.clone();
        move || write_all(&db, written)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;

    let started = Instant::now();
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        clients.spawn(client(address, n));
    }
    let mut connections = JoinSet::new();
    for _ in 0..CLIENTS {
        let (stream, _) = listener.accept().await?;
        connections.spawn(serve(stream, db.clone(), puts.clone()));
    }
    for done in clients.join_all().await {
        done?;
    }
    for done in connections.join_all().await {
        done?;
    }
    drop(puts); // the last of those who may write: the writer ends
    let batches = writer.join().expect("it has not panicked");
    println!(
        "{} synced puts of {CLIENTS} clients in {batches} batches, {:.0?}",
        CLIENTS * PUTS,
        started.elapsed()
    );
    assert_eq!(db.iter().count(), CLIENTS * PUTS);
    db.close()?;
    Db::destroy(&directory)?;
    Ok(())
}
