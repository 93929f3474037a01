//! Refusals that are sent while the client is still sending. They must reach a client that reads
//! nothing before it has sent everything, such as Python's `http.client`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fireflow::listener::{Certificate, TlsFiles};
use fireflow_domain::actor::Role;
use fireflow_storage::DatabaseKind;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::admission::patient;
use crate::support::Api;

/// More than the system's buffers for a connection hold.
const BODY_BYTES: usize = 11_000_000;

/// Sends a head and a whole body, and only then reads the answer.
async fn send_all<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, head: &str) -> String {
    let body = vec![b' '; BODY_BYTES];
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_to_end(&mut answer).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), exchange).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Heads whose bodies are refused, each with the status of its answer.
fn refused(api: &Api) -> Vec<(String, u16)> {
    let head = |method: &str, path: &str, token: &str, more: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {BODY_BYTES}\r\n{more}\r\n"
        )
    };
    let json = "Content-Type: application/json\r\n";
    let probe = api.token_of("eve", &[Role::HealthCheck]);
    vec![
        (head("POST", "/firewalls/", api.token(), json), 413),
        (head("POST", "/firewalls/", "a.b.c", json), 401),
        (head("POST", "/firewalls/", &probe, json), 403),
        (head("POST", "/nothing/", api.token(), json), 404),
        (head("PUT", "/health/ready", "", json), 405),
        (head("POST", "/firewalls/", api.token(), "Content-Type: text/plain\r\n"), 415),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_a_client_that_sends_everything_first() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let (address, _stop, _served) = api.listen(patient(), None).await;
    for (head, status) in refused(&api) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = send_all(&mut stream, &head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    // A head that is not HTTP, followed by more data.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = send_all(&mut stream, "NO HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_such_a_client_over_tls_too() {
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let of = |name: &str| folder.path().join(name);
    let files = TlsFiles { certificate: of("tls.crt"), key: of("tls.key") };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));

    let api = Api::new(DatabaseKind::Sqlite).await;
    let certificate = Certificate::read(files).unwrap();
    let (address, _stop, _served) = api.listen(patient(), Some(certificate)).await;
    for (head, status) in refused(&api) {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let answer = send_all(&mut stream, &head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

/// The status of an HTTP/2 POST whose body does not end, and the reason why its stream was reset.
async fn over_http_2(address: SocketAddr, token: &str) -> (u16, Option<h2::Reason>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = poem::http::Request::post(format!("http://{address}/firewalls/"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    // The refusal may be faster than the beginning of the body.
    let _sent = body.send_data(Bytes::from_static(b"{"), false).is_ok();
    let mut answer = answer.await.unwrap();
    while let Some(piece) = answer.body_mut().data().await {
        piece.unwrap();
    }
    assert!(answer.body().is_end_stream());
    let reset = std::future::poll_fn(|context| body.poll_reset(context));
    let reset = tokio::time::timeout(Duration::from_secs(60), reset).await.unwrap();
    driver.abort();
    (answer.status().as_u16(), reset.ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_a_refusal_ends_the_stream_and_says_that_no_more_is_wanted() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let probe = api.token_of("eve", &[Role::HealthCheck]);
    for (token, status) in [("a.b.c", 401), (probe.as_str(), 403)] {
        assert_eq!(over_http_2(address, token).await, (status, Some(h2::Reason::NO_ERROR)));
    }
}
