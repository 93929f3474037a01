//! TLS that ends at the service, and a certificate that changes while the service runs.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fireflow::listener::{self, Certificate, ConnectionLimits, TlsFiles};
use fireflow_storage::DatabaseKind;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use crate::service::{PATIENCE, Place, Service, binary, run, text};
use crate::support::Api;

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        max_connections: 16,
        max_head_bytes: 8 * 1024,
        head_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        answer_timeout: listener::ANSWER_TIMEOUT,
    }
}

struct Files {
    folder: TempDir,
    roots: Mutex<Vec<CertificateDer<'static>>>,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), roots: Mutex::default() }
    }

    fn paths(&self) -> TlsFiles {
        let of = |name: &str| self.folder.path().join(name);
        TlsFiles { certificate: of("tls.crt"), key: of("tls.key") }
    }

    /// Writes a new certificate and its key, and returns the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let TlsFiles { certificate, key } = self.paths();
        std::fs::write(certificate, cert.pem()).unwrap();
        std::fs::write(key, signing_key.serialize_pem()).unwrap();
        let der = cert.der().clone();
        self.roots.lock().unwrap().push(der.clone());
        der
    }

    /// The answer of the service at an address, and its certificate.
    async fn ask(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<(String, CertificateDer<'static>)> {
        let mut roots = RootCertStore::empty();
        for root in self.roots.lock().unwrap().iter() {
            roots.add(root.clone()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let request = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, session) = stream.get_ref();
        Ok((answer, session.peer_certificates().unwrap()[0].clone()))
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_read_again_when_it_changes() {
    let files = Files::new();
    let first = files.renew();
    let certificate = Certificate::read(files.paths()).unwrap();
    let api = Api::new(DatabaseKind::Sqlite).await;
    let (address, _stop, _served) = api.listen(limits(), Some(certificate.clone())).await;
    let reload = certificate.reload_handle();
    let watcher = tokio::spawn(certificate.watch(Duration::from_secs(86_400)));
    for version in BOTH {
        let (answer, shown) = files.ask(address, &[version]).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(shown, first);
    }
    // A key that does not match the certificate changes nothing.
    let good = std::fs::read(files.paths().key).unwrap();
    std::fs::write(files.paths().key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    reload.reload_and_wait().await;
    assert_eq!(files.ask(address, &BOTH).await.unwrap().1, first);
    std::fs::write(files.paths().key, good).unwrap();

    let second = files.renew();
    reload.reload_and_wait().await;
    assert_eq!(files.ask(address, &BOTH).await.unwrap().1, second);
    watcher.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_no_tls_gets_nothing_and_holds_nothing() {
    let files = Files::new();
    files.renew();
    let certificate = Certificate::read(files.paths()).unwrap();
    let api = Api::new(DatabaseKind::Sqlite).await;
    let limits = ConnectionLimits { head_timeout: Duration::from_millis(500), ..limits() };
    let (address, _stop, _served) = api.listen(limits, Some(certificate)).await;
    for text in ["GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", ""] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        // The connection is closed or reset, at the latest after the handshake timeout.
        let _ended = tokio::time::timeout(PATIENCE, read).await.unwrap().is_ok();
        assert!(!String::from_utf8_lossy(&bytes).contains("HTTP/1.1 200"));
    }
}

#[test]
fn files_that_cannot_be_used_are_told_apart() {
    let files = Files::new();
    let fault = || Certificate::read(files.paths()).unwrap_err().to_string();
    assert!(fault().contains("tls.crt cannot be read"), "{}", fault());
    files.renew();
    let TlsFiles { certificate, key } = files.paths();
    let (good_certificate, good_key) =
        (std::fs::read(&certificate).unwrap(), std::fs::read_to_string(&key).unwrap());
    std::fs::write(&certificate, "nonsense").unwrap();
    assert!(fault().ends_with("tls.crt contains no certificate in PEM"), "{}", fault());
    std::fs::write(&certificate, good_certificate).unwrap();
    std::fs::write(&key, "nonsense").unwrap();
    assert!(fault().ends_with("tls.key contains no private key in PEM"), "{}", fault());
    files.renew();
    std::fs::write(&key, &good_key).unwrap();
    let mismatch = fault();
    assert!(mismatch.contains("do not match"), "{mismatch}");
    let body: String = good_key.lines().nth(1).unwrap().chars().take(20).collect();
    assert!(!mismatch.contains(&body), "{mismatch}");
}

#[tokio::test]
async fn the_binary_serves_and_asks_for_its_health_with_tls() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let files = Files::new();
    files.renew();
    let TlsFiles { certificate, key } = files.paths();
    let settings = [
        ("FIREFLOW_TLS__CERTIFICATE", certificate.to_str().unwrap()),
        ("FIREFLOW_TLS__KEY", key.to_str().unwrap()),
    ];
    let mut command = binary(folder);
    command.envs(settings).env("FIREFLOW_DATABASE_URL", &place.url);
    let service = Service::spawn(folder, command.stderr(Stdio::null()));
    let mut health = settings.to_vec();
    health.push(("FIREFLOW_LISTEN", &service.address));
    assert_eq!(run(folder, &["healthcheck"], &health).status.code(), Some(0));
    let plain = [("FIREFLOW_LISTEN", service.address.as_str())];
    assert_eq!(run(folder, &["healthcheck"], &plain).status.code(), Some(1));
    let alone = [("FIREFLOW_TLS__KEY", key.to_str().unwrap())];
    let refused = run(folder, &["serve"], &alone);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("requires FIREFLOW_TLS__CERTIFICATE"));
}
