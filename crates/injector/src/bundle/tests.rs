//! Laid down whole, found changed, and put right.

use super::*;

/// A bundle of two files, as the builder packs it.
fn small() -> Bundle {
    let bootstrap = b"import sys\n".to_vec();
    let file = File { bytes: 11, sha256: digest(&bootstrap) };
    let manifest = Manifest {
        runtime: "cpython".to_owned(),
        pythons: vec!["3.9".to_owned()],
        packages: Vec::new(),
        files: BTreeMap::from([("bootstrap/sitecustomize.py".to_owned(), file)]),
    };
    let text = serde_json::to_vec(&manifest).unwrap();
    Bundle {
        manifest,
        identity: digest(&text),
        files: BTreeMap::from([
            ("bootstrap/sitecustomize.py".to_owned(), bootstrap),
            (MANIFEST.to_owned(), text),
        ]),
    }
}

#[test]
fn it_is_laid_down_once_and_put_right_when_it_was_changed() {
    let parent = tempfile::tempdir().unwrap();
    let bundle = small();
    let directory = bundle.lay_down(parent.path()).unwrap();
    assert_eq!(differences(&directory, Some(&bundle.identity)).unwrap(), [] as [String; 0]);
    let file = directory.join("bootstrap/sitecustomize.py");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o755);

    fs::remove_file(&file).unwrap();
    fs::write(&file, "import os\n").unwrap();
    fs::write(directory.join("more.py"), "").unwrap();
    fs::create_dir(directory.join("bootstrap/__pycache__")).unwrap();
    fs::write(directory.join("bootstrap/__pycache__/sitecustomize.cpython-311.pyc"), "").unwrap();
    assert_eq!(
        differences(&directory, None).unwrap(),
        ["more.py does not belong there", "bootstrap/sitecustomize.py was changed"]
    );

    assert_eq!(bundle.lay_down(parent.path()).unwrap(), directory);
    assert_eq!(differences(&directory, None).unwrap(), [] as [String; 0]);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_name_leads_to_the_newest_and_the_older_one_stays() {
    let parent = tempfile::tempdir().unwrap();
    let link = parent.path().join("agents/python");
    let older = small();
    let mut newer = small();
    newer.identity = "f".repeat(64);
    let first = older.install(&link).unwrap();
    assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(&first).unwrap());
    let second = newer.install(&link).unwrap();
    assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(&second).unwrap());
    assert!(first.join("bootstrap/sitecustomize.py").exists());
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    assert!(older.install(&link).is_err(), "a directory of somebody else's");
}

#[test]
fn another_bundle_is_told_apart() {
    let parent = tempfile::tempdir().unwrap();
    let directory = small().lay_down(parent.path()).unwrap();
    assert_eq!(
        differences(&directory, Some("0000")).unwrap(),
        ["manifest.json is that of another bundle"]
    );
    assert!(differences(parent.path(), None).is_err(), "no bundle");
}

#[test]
fn an_archive_that_is_cut_or_leads_outside_is_refused() {
    let pack = |tar: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(tar).unwrap();
        out.finish().unwrap()
    };
    let entry = |name: &str, size: &str| {
        let mut head = vec![0; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[124..124 + size.len()].copy_from_slice(size.as_bytes());
        head[156] = b'0';
        head
    };
    assert!(archive::read(&pack(&[0; 1024])).unwrap().is_empty());
    let one = [entry("a", "3"), b"abc".to_vec(), vec![0; 509], vec![0; 1024]].concat();
    assert_eq!(archive::read(&pack(&one)).unwrap()["a"], b"abc");
    assert!(archive::read(&pack(&one[..600])).is_err());
    for name in ["../a", "/a", "a/../../b"] {
        let outside = [entry(name, "0"), vec![0; 1024]].concat();
        assert!(archive::read(&pack(&outside)).is_err(), "{name}");
    }
}

#[test]
#[cfg(has_bundle)]
fn the_embedded_one_is_whole() {
    let parent = tempfile::tempdir().unwrap();
    let bundle = Bundle::embedded().unwrap().unwrap();
    let directory = bundle.lay_down(parent.path()).unwrap();
    assert_eq!(differences(&directory, Some(&bundle.identity)).unwrap(), [] as [String; 0]);
    assert!(bundle.manifest.packages.iter().any(|package| package.name == "openlit"));
}
