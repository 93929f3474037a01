//! Terminates TLS 1.2 and 1.3, with a certificate that is reloaded when its files change.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fireflow_auth::ReloadHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig};

/// The files of the certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by the intermediate certificates up to its root.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used; never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not contain what it should.
    #[error("{} contains no {what} in PEM", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should contain.
        what: &'static str,
    },
    /// The certificate and the key do not match.
    #[error("the certificate and the key do not match: {0}")]
    Mismatch(String),
}

/// A certificate and its key. A clone is cheap and shares the certificate, so a reload applies to
/// all clones.
#[derive(Clone)]
pub struct Certificate {
    files: TlsFiles,
    acceptor: Arc<RwLock<TlsAcceptor>>,
    reload: ReloadHandle,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// Returns [`TlsError`] if a file cannot be read or has no PEM of its kind, or if the
    /// certificate and the key do not match.
    pub fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let acceptor = acceptor(&files, &Texts::read(&files)?)?;
        let acceptor = Arc::new(RwLock::new(acceptor));
        Ok(Self { files, acceptor, reload: ReloadHandle::default() })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A handle that makes [`Self::watch`] read the files at once.
    #[must_use]
    pub fn reload_handle(&self) -> ReloadHandle {
        self.reload.clone()
    }

    /// Reads the files at this interval, and uses the certificate when they change. If the new
    /// files cannot be used, the current certificate stays, since the two files may change one
    /// after the other. Each fault is logged only once.
    pub async fn watch(self, every: Duration) {
        let mut known: Option<Texts> = None;
        let mut told = String::new();
        loop {
            let files = self.files.clone();
            let read = tokio::task::spawn_blocking(move || Texts::read(&files)).await;
            let made = match read {
                Ok(Ok(texts)) if known.as_ref() == Some(&texts) => Ok(()),
                Ok(Ok(texts)) => acceptor(&self.files, &texts).map(|acceptor| {
                    let is_first = known.is_none();
                    *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                    known = Some(texts);
                    if !is_first {
                        tracing::info!("the certificate has changed");
                    }
                }),
                Ok(Err(error)) => Err(error),
                Err(error) => Err(TlsError::Mismatch(error.to_string())),
            };
            let fault = made.err().map(|error| error.to_string()).unwrap_or_default();
            if fault != told {
                if !fault.is_empty() {
                    tracing::error!(%fault, "the current certificate stays in use");
                }
                told = fault;
            }
            self.reload.pass_ended(every).await;
        }
    }
}

#[derive(PartialEq, Eq)]
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Texts {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source })
        };
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }
}

fn acceptor(files: &TlsFiles, texts: &Texts) -> Result<TlsAcceptor, TlsError> {
    let no = |path: &PathBuf, what| TlsError::Content { path: path.clone(), what };
    let chain = CertificateDer::pem_slice_iter(&texts.certificate)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| no(&files.certificate, "certificate"))?;
    let key =
        PrivateKeyDer::from_pem_slice(&texts.key).map_err(|_| no(&files.key, "private key"))?;
    // Named explicitly: the default provider depends on what else the process links.
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(DEFAULT_VERSIONS)
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| TlsError::Mismatch(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
