//! TLS as clients speak it: rustls, the machine's own certificate authorities.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate authorities.
    #[error(
        "no certificate authorities are installed here ({0}); install ca-certificates, or name a file in SSL_CERT_FILE"
    )]
    NoRoots(String),
    /// The file named in the environment can't be used. The library would take others in its place.
    #[error("SSL_CERT_FILE={path}: {why}; name a file of certificates in PEM, or leave it unset")]
    File {
        /// As it is named.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Not a name that a certificate can bear.
    #[error("{0}: not a name that a certificate can bear; give the right one with --host")]
    Name(String),
    /// The library.
    #[error("TLS: {0}")]
    Setup(tokio_rustls::rustls::Error),
}

/// What a handshake needs.
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether the file that is named, if one is, has a certificate in it.
fn named_file(path: Option<&OsStr>) -> Result<(), TlsError> {
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(()) };
    let wrong = |why: String| TlsError::File { path: path.to_string_lossy().into_owned(), why };
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let begins = b"-----BEGIN CERTIFICATE-----";
    if text.windows(begins.len()).any(|part| part == begins) {
        return Ok(());
    }
    Err(wrong("no certificate is in it".to_owned()))
}

impl Tls {
    /// For servers whose certificate bears `name`. Sessions aren't resumed: each new connection is a new client's.
    ///
    /// # Errors
    /// When there are no certificate authorities, or `name` is none.
    pub fn new(name: &str) -> Result<Self, TlsError> {
        named_file(std::env::var_os("SSL_CERT_FILE").as_deref())?;
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(TlsError::NoRoots(errors.join(", ")));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// A handshake.
    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_named_and_of_no_use_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, good) = (folder.path().join("empty.pem"), folder.path().join("good.pem"));
        std::fs::write(&empty, "nothing").unwrap();
        std::fs::write(&good, "# a comment\n-----BEGIN CERTIFICATE-----\n").unwrap();
        for wrong in [folder.path().join("nope"), empty] {
            let error = named_file(Some(wrong.as_os_str())).unwrap_err().to_string();
            assert!(error.contains(&format!("SSL_CERT_FILE={}", wrong.display())), "{error}");
        }
        assert!(named_file(Some(good.as_os_str())).is_ok() && named_file(None).is_ok());
    }
}
