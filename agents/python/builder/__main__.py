"""`python -m builder WHEELS BUNDLE [ARCHIVE]`: makes a bundle, and an archive of it.

WHEELS holds the wheels that requirements.txt names, as pip downloaded and checked them; they are
checked again. The same wheels give the same bytes, on every machine.
"""

import pathlib
import shutil
import sys

from builder import archive, manifest, trim, wheels

HERE = pathlib.Path(__file__).resolve().parent.parent
# A package of ours in a bundle.
AGENT = "agent/sonde_agent"


def main() -> int:
    """Makes the bundle; what is in its place is replaced."""
    if len(sys.argv) not in (3, 4):
        sys.stderr.write(__doc__)
        return 64
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    packages = wheels.read(source, HERE / "requirements.txt")
    shims = tree(HERE / "shims")
    files = {f"bootstrap/{path}": text for path, text in tree(HERE / "bootstrap").items()}
    files |= {f"{AGENT}/{path}": text for path, text in tree(HERE / AGENT).items()}
    vendored = trim.vendored(packages, shims)
    files |= {f"{AGENT}/vendor/{path}": text for path, text in vendored.items()}
    for package in packages:
        for name, text in package.licences.items():
            files[f"licences/{package.name}-{name}"] = text
    files["sbom.cdx.json"] = manifest.bill(packages)
    files["manifest.json"] = manifest.manifest(packages, files)
    if target.exists():
        shutil.rmtree(target)
    for path, content in sorted(files.items()):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(content)
    if len(sys.argv) == 4:
        archive.write(files, pathlib.Path(sys.argv[3]))
    return 0


def tree(top: pathlib.Path) -> dict[str, bytes]:
    """The files of ours below a directory, by their path in it."""
    return {
        path.relative_to(top).as_posix(): path.read_bytes() for path in sorted(top.rglob("*.py"))
    }


if __name__ == "__main__":
    sys.exit(main())
