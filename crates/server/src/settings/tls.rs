//! The settings of TLS.

use std::path::PathBuf;

use super::parse::some_file;
use super::row::DefaultValue::Nothing;
use super::row::Mark::Protects;
use super::row::settings;
use super::values::Values;
use super::{SettingError, error};
use crate::listener::TlsFiles;

settings! {
    /// The files, as they were set: both or neither.
    struct TlsSettings, rows TLS: TlsRows;

    TLS_SECTION {
        /// a file with the certificate and its chain, in PEM; if set, FireFlow terminates TLS;
        /// reloaded when it changes
        certificate: Option<PathBuf> = "tls.certificate" [Protects] {
            parse: some_file,
            default: Nothing(|| None),
        }

        /// the file with the certificate's private key, in PEM; reloaded when it changes
        key: Option<PathBuf> = "tls.key" [Protects] {
            parse: some_file,
            default: Nothing(|| None),
        }
    }
}

pub(super) fn read(values: &Values) -> Result<Option<TlsFiles>, SettingError> {
    let requires = |row| format!("requires {row}");
    match TLS.read(values)? {
        TlsSettings { certificate: None, key: None } => Ok(None),
        TlsSettings { certificate: Some(certificate), key: Some(key) } => {
            Ok(Some(TlsFiles { certificate, key }))
        }
        TlsSettings { certificate: Some(_), key: None } => {
            let why = requires(TLS.key.setting.variable);
            Err(error(values.name(&TLS.certificate), why))
        }
        TlsSettings { certificate: None, key: Some(_) } => {
            let why = requires(TLS.certificate.setting.variable);
            Err(error(values.name(&TLS.key), why))
        }
    }
}
