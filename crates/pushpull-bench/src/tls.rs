//! A certificate that is made for one run of this program, and who trusts it and nothing else.

use std::{
    fmt, fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::Arc,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, UnbufferedClientConnection},
    crypto::ring,
    pki_types::ServerName,
    version::TLS13,
};

use crate::folder::Folder;

/// A server's certificate and key, and what its clients need to trust it.
pub(crate) struct Identity {
    certificate: String,
    key: String,
    trust: Arc<ClientConfig>,
}

/// What is spoken under TLS, as ALPN (RFC 7301) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The certificate and its key in files, which go with this.
#[derive(Debug)]
pub(crate) struct Files {
    folder: Folder,
}

impl Identity {
    /// Makes a certificate for this machine's loopback addresses, which stays as long as the program runs.
    pub(crate) fn new() -> io::Result<&'static Self> {
        let names = [Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).map_err(io::Error::other)?;
        let trust = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?;
        let mut trust = trust.with_root_certificates(roots).with_no_client_auth();
        // Every handshake is a whole one.
        trust.resumption = Resumption::disabled();
        let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
        Ok(Box::leak(Box::new(Self { certificate, key, trust: Arc::new(trust) })))
    }

    /// Begins a session with a server at `address` that has this certificate.
    pub(crate) fn session(
        &self,
        address: IpAddr,
        protocol: Protocol,
    ) -> io::Result<UnbufferedClientConnection> {
        let name = ServerName::from(address);
        let session =
            UnbufferedClientConnection::new_with_alpn(self.trust.clone(), name, vec![protocol.name()]);
        session.map_err(io::Error::other)
    }

    /// What a server of a test shows.
    #[cfg(test)]
    pub(crate) fn server_config(&self, protocols: &[&[u8]]) -> rustls::ServerConfig {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// Writes certificate and key to files that nobody else may read, in PEM.
    pub(crate) fn files(&self) -> io::Result<Files> {
        let files = Files { folder: Folder::new("tls")? };
        fs::write(files.certificate(), &self.certificate)?;
        let key = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(files.key());
        key?.write_all(self.key.as_bytes())?;
        Ok(files)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Protocol {
    fn name(self) -> Vec<u8> {
        match self {
            Self::Http1 => b"http/1.1".to_vec(),
            Self::Http2 => b"h2".to_vec(),
        }
    }
}

impl Files {
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_else_may_read_the_key() {
        let identity = Identity::new().unwrap();
        let files = identity.files().unwrap();
        assert_eq!(fs::read_to_string(files.key()).unwrap(), identity.key);
        assert_eq!(fs::metadata(files.key()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
