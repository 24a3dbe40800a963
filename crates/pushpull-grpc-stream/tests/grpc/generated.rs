//! The committed code is what the committed description makes.

use std::{fs, path::Path};

use prost::Message;

const DESCRIPTOR: &str = "src/gen/pushpull.v1.bin";
const CODE: &str = "src/gen/pushpull.v1.rs";

/// Run it with `PUSHPULL_BLESS=1` after a change of the description.
#[test]
fn the_generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (descriptor, code) = generate(root);
    if std::env::var_os("PUSHPULL_BLESS").is_some() {
        fs::write(root.join(DESCRIPTOR), &descriptor).unwrap();
        fs::write(root.join(CODE), &code).unwrap();
    }
    assert!(fs::read(root.join(DESCRIPTOR)).unwrap() == descriptor, "{DESCRIPTOR} is not current");
    assert!(fs::read_to_string(root.join(CODE)).unwrap() == code, "{CODE} is not current");
}

fn generate(root: &Path) -> (Vec<u8>, String) {
    let proto = root.join("../pushpull-http/proto");
    let described = protox::compile([proto.join("pushpull/v1/pushpull.proto")], [proto]).unwrap();
    let out = tempdir();
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .extern_path(".pushpull.v1", "::pushpull_http::proto::v1")
        .out_dir(&out)
        .compile_fds(described.clone())
        .unwrap();
    let code = fs::read_to_string(out.join("pushpull.v1.rs")).unwrap();
    fs::remove_dir_all(&out).unwrap();
    let mut bare = described;
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    (bare.encode_to_vec(), code)
}

fn tempdir() -> std::path::PathBuf {
    let out = std::env::temp_dir().join(format!("pushpull-generated-{}", std::process::id()));
    fs::create_dir_all(&out).unwrap();
    out
}
