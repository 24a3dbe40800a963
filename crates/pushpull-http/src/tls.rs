//! TLS for the listener.

use std::{fmt, sync::Arc};

use pushpull_core::Problem;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

/// How a [`Listener`](crate::Listener) speaks TLS: 1.2 and 1.3, HTTP/2 or HTTP/1.1 by ALPN. Cheap to clone (shared).
#[derive(Clone)]
pub struct TlsConfig(Arc<ServerConfig>);

impl TlsConfig {
    /// Takes a certificate chain and its key, both in PEM.
    ///
    /// # Errors
    /// If one of them is not what it should be, or they do not belong together; the parameter is `cert` or
    /// `key`.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Problem> {
        let wrong_chain =
            |error: &dyn fmt::Display| Problem::invalid("cert", format!("not a certificate chain: {error}"));
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong_chain(&error))?;
        if chain.is_empty() {
            return Err(wrong_chain(&"there is no certificate in it"));
        }
        let wrong_key =
            |error: &dyn fmt::Display| Problem::invalid("key", format!("not its private key: {error}"));
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong_key(&error))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = builder
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| wrong_key(&error))?;
        Ok(Self::from_config(config))
    }

    /// Takes a configuration; its ALPN protocols become `h2` and `http/1.1`.
    pub fn from_config(mut config: ServerConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.clone())
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}
