//! Answers that are read slowly or not at all, however their clients keep the connection alive.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fireflow::listener::ConnectionLimits;
use fireflow_domain::actor::Role;
use poem::http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::admission::patient;
use crate::memory::{MIB, long_list, with_memory};
use crate::support::Api;

/// An HTTP/2 client that accepts a limited number of bytes of each answer.
struct Client {
    requests: h2::client::SendRequest<Bytes>,
    address: SocketAddr,
    token: String,
    /// Sends pings until it is dropped or the connection ends.
    living: JoinHandle<()>,
    driver: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.living.abort();
        self.driver.abort();
    }
}

impl Client {
    async fn connect(address: SocketAddr, token: String, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_window_size(window)
            // More than all streams of a test need together, so that no stream blocks another.
            .initial_connection_window_size(1024 * 1024)
            .handshake(stream)
            .await
            .unwrap();
        let mut pings = connection.ping_pong().unwrap();
        let driver = tokio::spawn(async move {
            // The tests check how it ends.
            let _ended = connection.await.is_ok();
        });
        let living = tokio::spawn(async move {
            while pings.ping(h2::Ping::opaque()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { requests, address, token, living, driver }
    }

    async fn ask(&mut self, path: &str) -> h2::client::ResponseFuture {
        let request = Request::get(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .body(())
            .unwrap();
        let mut ready = self.requests.clone().ready().await.unwrap();
        ready.send_request(request, true).unwrap().0
    }

    /// Whether the server has ended the connection.
    fn has_ended(&self) -> bool {
        self.driver.is_finished()
    }
}

/// The memory that answers have borrowed, as the metrics report it.
async fn borrowed_for_answers(api: &Api) -> u64 {
    let page = api.get("/metrics").await.text;
    let series = "fireflow_work_memory_bytes{purpose=\"answer\"} ";
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_of_one_connection_of_http_2_stay_within_a_share_of_the_memory() {
    let api = with_memory(32 * MIB).await;
    let path = long_list(&api).await;
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let ann = api.token_of("ann", &[Role::Viewer]);
    let mut client = Client::connect(address, ann, 0).await;
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(client.ask(&format!("{path}?page_size=1000")).await);
    }
    let (mut unread, mut refused) = (Vec::new(), 0);
    for answer in asked {
        let answer = answer.await.unwrap();
        match answer.status().as_u16() {
            200 => unread.push(answer),
            503 => {
                assert!(answer.headers().contains_key("retry-after"));
                refused += 1;
            }
            other => panic!("{other}"),
        }
        let borrowed = borrowed_for_answers(&api).await;
        assert!(borrowed <= 16 * MIB, "{borrowed}");
    }
    assert!(!unread.is_empty() && refused > 0, "{} of 100", unread.len());
    let borrowed = borrowed_for_answers(&api).await;
    assert!(borrowed >= 4 * MIB, "they are kept, and counted: {borrowed}");
    // Other subjects get their pages in the meantime.
    let bob = api.token_of("bob", &[Role::Viewer]);
    let page = api.send("GET", &format!("{path}?page_size=100"), &bob, &[], None).await;
    assert_eq!(page.expect(200)["items"].as_array().unwrap().len(), 100);
    // All of the memory is returned with the connection.
    drop((client, unread));
    api.nothing_is_borrowed().await;
}

/// Answers have a total of a few seconds, while connections may stall for minutes.
fn hurried() -> ConnectionLimits {
    ConnectionLimits { answer_timeout: Duration::from_secs(3), ..patient() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_trickles_is_given_up_with_what_it_holds() {
    let api = with_memory(32 * MIB).await;
    let path = long_list(&api).await;
    let (address, _stop, _served) = api.listen(hurried(), None).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET {path}?page_size=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        api.token()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut some = [0; 256];
    assert!(stream.read(&mut some).await.unwrap() > 0, "the answer has begun");
    // The client keeps taking small parts of it, which would last for minutes.
    let trickles = tokio::spawn(async move {
        while stream.read(&mut some).await.is_ok_and(|length| length > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    api.nothing_is_borrowed().await;
    trickles.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_do_not_keep_an_answer_that_nobody_takes() {
    let api = with_memory(32 * MIB).await;
    let path = long_list(&api).await;
    let (address, _stop, _served) = api.listen(hurried(), None).await;
    let mut client = Client::connect(address, api.token().to_owned(), 100_000).await;
    let answer = client.ask(&format!("{path}?page_size=1000")).await.await.unwrap();
    assert_eq!(answer.status(), 200);
    // A small answer on the same connection is read completely, which changes nothing.
    let mut small = client.ask("/whoami/").await.await.unwrap();
    while let Some(Ok(_)) = small.body_mut().data().await {}
    api.nothing_is_borrowed().await;
    while !client.has_ended() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(answer);
}
