//! nginx with Nchan, as Debian has it, answering on this crate's paths.

use std::{
    fs,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use super::peer::pinned;
use crate::{
    dialect::{Address, Dialect},
    folder::Folder,
    launch::Launch,
    process::Server,
    tls::{Files, Identity},
};

/// Where Debian's packages put what is needed.
const PROGRAM: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// How it is installed.
const INSTALL: &str = "apt-get install --no-install-recommends nginx-light libnginx-mod-nchan";
/// How long it may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections it makes room for, if as many files may be open.
const CONNECTIONS: u64 = 64_000;

/// Whether nginx and the module are there.
fn is_installed() -> bool {
    [PROGRAM, MODULE].iter().all(|path| Path::new(path).exists())
}

/// Starts it with so many worker processes, from a folder of its own, on a free port.
pub(crate) fn start(launch: &Launch) -> io::Result<Server> {
    let Launch { workers, tls, deflates, .. } = *launch;
    if !is_installed() {
        return Err(io::Error::other(format!("nginx with Nchan is not installed: {INSTALL}")));
    }
    let folder = Folder::new("nginx")?;
    let socket = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let is_root = fs::metadata("/proc/self")?.uid() == 0;
    let files = tls.map(Identity::files).transpose()?;
    let setup = Setup { socket, workers, descriptors: descriptors()?, is_root, deflates };
    fs::write(folder.join("nginx.conf"), setup.configuration(files.as_ref()))?;
    let log = fs::File::create(folder.join("said"))?;
    let mut nginx = pinned(PROGRAM, workers);
    nginx.arg("-p").arg(&*folder).args(["-c", "nginx.conf", "-e", "error.log"]);
    let child = nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
    let place = folder.to_owned();
    let mut server = Server::of(child, folder, Address { socket, dialect: Dialect::Nchan, tls });
    wait_for(&mut server, &place)?;
    Ok(server)
}

/// How many files it may have open, as far as this program may say.
fn descriptors() -> io::Result<u64> {
    Ok(rlimit::Resource::NOFILE.get()?.1.min(CONNECTIONS))
}

fn wait_for(server: &mut Server, folder: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address.socket).is_err() {
        if !server.is_running() || Instant::now() > deadline {
            let mut said = String::new();
            for name in ["said", "error.log"] {
                if let Ok(mut file) = fs::File::open(folder.join(name)) {
                    file.read_to_string(&mut said)?;
                }
            }
            return Err(io::Error::other(format!("nginx does not listen: {said}")));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What its configuration says that is not always the same.
struct Setup {
    socket: SocketAddr,
    workers: usize,
    descriptors: u64,
    is_root: bool,
    /// Whether WebSockets that ask for it are sent messages that are deflated, once each.
    deflates: bool,
}

impl Setup {
    fn configuration(&self, tls: Option<&Files>) -> String {
        let Self { socket, workers, descriptors, .. } = self;
        let user = if self.is_root { "user root;\n" } else { "" };
        let connections = descriptors - descriptors / 20;
        let (ssl, shown) = tls.map_or_else(Default::default, |files| (" ssl", shown(files)));
        let deflate = if self.deflates { " nchan_deflate_message_for_websocket on;" } else { "" };
        format!(
            "load_module {MODULE};
daemon off;
{user}worker_processes {workers};
worker_rlimit_nofile {descriptors};
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections {connections}; use epoll; multi_accept on; }}
http {{
  access_log off;
  gzip off;
  tcp_nodelay on;
  keepalive_requests 100000000;
  keepalive_timeout 3600s;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_body_buffer_size 64k;
  nchan_shared_memory_size 1024M;
  nchan_message_timeout 1h;
  nchan_message_buffer_length 20000;
  nchan_subscriber_timeout 0;
  server {{
    listen {socket}{ssl} backlog=4096;
{shown}    nchan_websocket_ping_interval 0;
    nchan_eventsource_ping_interval 0;
    location ~ ^/topics/([\\w.]+)$ {{ nchan_publisher;{deflate} nchan_channel_id $1; }}
{}    location = /status {{ nchan_stub_status; }}
  }}
}}
",
            locations()
        )
    }
}

/// Where subscribers and pollers come. A subscription begins with what comes, or with what is kept if `start=earliest`.
///
/// A poller without a place always begins with what is kept: the answer that would tell it where it stands waits for
/// a message.
fn locations() -> String {
    let location = |place: &str, ways: &str, kind: &str, first: &str| {
        format!(
            "    location = /{place} {{
{ways}      nchan_subscriber {kind};
      nchan_channel_id $arg_topic;
      nchan_subscriber_first_message {first};
    }}
"
        )
    };
    let subscriber = |name: &str, kind: &str| {
        let earliest = format!("      if ($arg_start = earliest) {{ rewrite ^ /{name}/earliest last; }}\n");
        let newest = location(name, &earliest, kind, "newest");
        newest + &location(&format!("{name}/earliest"), "      internal;\n", kind, "oldest")
    };
    [
        subscriber("ws", "websocket"),
        subscriber("sse", "eventsource"),
        location("longpoll", "", "longpoll", "oldest"),
        location("poll", "", "intervalpoll", "oldest"),
    ]
    .concat()
}

/// What it shows over TLS. As everywhere here a handshake is a whole one.
fn shown(files: &Files) -> String {
    let (certificate, key) = (files.certificate(), files.key());
    format!(
        "    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
",
        certificate.display(),
        key.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(deflates: bool) -> Setup {
        let socket = "127.0.0.1:8081".parse().unwrap();
        Setup { socket, workers: 1, descriptors: 20_000, is_root: false, deflates }
    }

    #[test]
    fn over_tls_it_shows_what_it_is_given() {
        let files = Identity::new().unwrap().files().unwrap();
        let told = setup(false).configuration(Some(&files));
        let (certificate, key) = (files.certificate(), files.key());
        assert!(certificate.exists() && key.exists());
        for line in [
            "    listen 127.0.0.1:8081 ssl backlog=4096;".to_owned(),
            format!("    ssl_certificate {};", certificate.display()),
            format!("    ssl_certificate_key {};", key.display()),
            "    nchan_websocket_ping_interval 0;".to_owned(),
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is not in {told}");
        }
        drop(files);
        assert!(!certificate.exists() && !key.exists());
    }

    #[test]
    fn a_configuration_names_its_place() {
        let told = setup(false).configuration(None);
        for line in [
            "    listen 127.0.0.1:8081 backlog=4096;",
            "worker_rlimit_nofile 20000;",
            "worker_processes 1;",
            "events { worker_connections 19000; use epoll; multi_accept on; }",
            "    location = /sse/earliest {",
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is not in {told}");
        }
        assert!(!told.contains("user root"));
    }

    #[test]
    fn who_is_asked_for_deflated_messages_makes_them() {
        let tells = |deflates| {
            setup(deflates).configuration(None).contains("nchan_deflate_message_for_websocket on;")
        };
        assert!(tells(true) && !tells(false));
    }
}
