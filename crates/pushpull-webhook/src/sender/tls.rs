//! Targets by https.

use std::sync::{Arc, LazyLock};

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider},
};

static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
    // The provider is ring's own, which supports the default versions.
    Arc::new(config.unwrap_or_else(|error| unreachable!("ring supports TLS 1.2 and 1.3: {error}")))
});

/// TLS over `stream`, to whom a certificate says is `host`.
pub(super) async fn wrap(host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    TlsConnector::from(CONFIG.clone()).connect(name, stream).await.map_err(|error| error.to_string())
}
