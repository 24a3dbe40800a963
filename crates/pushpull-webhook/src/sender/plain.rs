//! No https: such a target is no target.

use tokio::net::TcpStream;

#[derive(Clone, Default)]
pub(super) struct Tls(());

impl Tls {
    pub(super) async fn wrap(&self, _: &str, _: TcpStream) -> Result<TcpStream, String> {
        Err("https needs the feature `tls`".to_owned())
    }
}
