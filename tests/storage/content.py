"""Small versions whose files all say which version they belong to, so that a mixture would be seen."""

from hashlib import sha256

from genrail.storage import DISK

NAMES = ("items.parquet", "model/codes.npy", "model/depth/weights.safetensors")


def content(tag):
    """Make the files of version `tag`: a few hundred bytes each, no two alike."""
    return {name: sha256(f"{tag} {name}".encode()).digest() * (3 + tag % 5) + str(tag).encode() for name in NAMES}


def fill(tag, files=DISK):
    """Make the callback that writes version `tag` through `files`."""

    def write(path):
        for name, data in content(tag).items():
            target = path / name
            missing = [folder for folder in reversed(target.relative_to(path).parents) if not (path / folder).exists()]
            for folder in missing:
                files.make_directory(path / folder)
            files.write(target, data)

    return write


def tag_of(version):
    """Read the tag back, checking that every file belongs to it."""
    tag = version.details["tag"]
    assert {name: (version.path / name).read_bytes() for name in NAMES} == content(tag)
    return tag


def tree(folder):
    """List everything in a folder by name and content, locks left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.suffix not in (".lock", ".owner")
    }
