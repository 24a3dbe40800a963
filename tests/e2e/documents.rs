//! What a reader clicks: every link of the README and of `docs` leads to a file of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the README's links begin with: it is read on docs.rs and crates.io too, where relative ones lead nowhere.
const HERE: [&str; 2] = [
    "https://github.com/pushpull-rs/pushpull/blob/main/",
    "https://raw.githubusercontent.com/pushpull-rs/pushpull/main/",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of `docs`, but for those of its folders.
fn pages() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("docs")).expect("there is a folder of docs");
    let pages = files.map(|file| file.expect("it can be listed").path());
    pages.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

/// What stands between `](` and `)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
}

#[test]
fn the_readme_links_whole_urls_of_files_that_are_there() {
    let readme = read(&root().join("README.md"));
    assert_eq!(
        links(&readme).find(|link| !link.starts_with("https://")),
        None,
        "dead outside the repository"
    );
    let defined: Vec<_> =
        readme.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect();
    assert!(defined.len() > 10, "{defined:?}");
    for (name, url) in defined {
        let path = HERE.iter().find_map(|here| url.strip_prefix(here)).expect(url);
        assert!(root().join(path).is_file(), "{name}: {url}");
        assert!(readme.contains(&format!("][{name}]")), "nothing links to {name}");
    }
}

#[test]
fn the_readme_finds_every_page() {
    let readme = read(&root().join("README.md"));
    for page in pages() {
        let name = page.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(readme.contains(&format!("/docs/{name}\n")), "no link to docs/{name}");
    }
}

#[test]
fn the_pages_link_files_that_are_there() {
    for page in pages() {
        let text = read(&page);
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().expect("a split has a first");
            assert!(page.with_file_name(file).exists(), "{}: {link}", page.display());
        }
    }
}
