//! Targets by https.

use std::{process::Command, sync::Arc, time::Duration};

use pushpull_broker::Broker;
use pushpull_core::{Delivery, PushExt, Subscribe};
use pushpull_http::{Gate, Listener, TlsConfig};
use pushpull_testkit::require_or_skip;
use pushpull_webhook::{
    Receiver, ReceiverConfig, Registration, RetryPolicy, Secret, Webhooks, WebhooksConfig,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider};

use super::{publish, within};

/// A certificate for this machine, and its key.
fn certificate() -> Option<(Vec<u8>, Vec<u8>)> {
    let folder = std::env::temp_dir().join(format!("pushpull-webhook-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '))
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output();
    let read = made.ok().filter(|output| output.status.success());
    let pair = read.map(|_| (std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap()));
    std::fs::remove_dir_all(folder).unwrap();
    if pair.is_none() {
        require_or_skip(&["openssl"], "there is no openssl");
    }
    pair
}

fn trusting(certificate: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth()
}

#[tokio::test]
async fn it_speaks_tls_to_whom_it_trusts() {
    let Some((certificate, key)) = certificate() else { return };
    let (broker, secret) = (Broker::memory(), Secret::random().unwrap());
    let receiver = Receiver::new(secret.clone(), ReceiverConfig::default());
    let mut consumer = receiver.consume(Subscribe::to("a").unwrap()).await.unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let listener = listener.with_tls(TlsConfig::from_pem(&certificate, &key).unwrap());
    let drain = Gate::open().drain().clone();
    let served =
        tokio::spawn(listener.serve(receiver.service(), drain, std::future::pending(), Duration::ZERO));
    let policy = RetryPolicy::default().with_first(Duration::from_millis(20));
    let config = WebhooksConfig::default().with_policy(policy).with_allowed("127.0.0.1".parse().unwrap());
    let registration = Registration::new(url, Subscribe::to("a").unwrap().topics).with_secret(secret);
    let distrusting = Webhooks::new(Arc::new(broker.clone()), config.clone());
    let id = distrusting.register(registration.clone()).await.unwrap().id;
    publish(&broker, "a", "first").await;
    within(async {
        while distrusting.status(id).unwrap().failures < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let webhooks = Webhooks::new(Arc::new(broker.clone()), config.with_tls(trusting(&certificate)));
    webhooks.register(registration).await.unwrap();
    publish(&broker, "a", "second").await;
    let event = within(async {
        loop {
            if let Some(Ok(Delivery::Event(event))) = consumer.next().await {
                return event;
            }
        }
    })
    .await;
    assert_eq!(event.payload(), "second", "nothing was told to whom was not trusted");
    served.abort();
}
